"""Best of n: what more draws buy.

The problems are sums and products in lines like `3 + 4 = 7`, after three solved ones. The chance p that one draw writes
the right line is known exactly: the product of its tokens' probabilities, from one pass over the true text. So what is
drawn can be held against 1 - (1 - p)^n without estimating p from the draws themselves.

Shapes: P tokens of a prompt, A of its answer, n draws, V vocabulary.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from statistics import fmean

import torch
from torch import Tensor

from llmquiz.lab.sdk import LabError, Params, Report, interleaved_medians, quiet_clock
from llmquiz.llm.base.load import base_model
from llmquiz.llm.base.tokenizer import Tokenizer
from llmquiz.llm.cache.growing import GrowingCache
from llmquiz.llm.data.corpus import documents
from llmquiz.llm.decode.best_of_n import Candidates, best_of_n, pass_at_k
from llmquiz.llm.decode.generate import generate
from llmquiz.llm.decode.processors import Temperature
from llmquiz.llm.decode.sampling import Sampler, SamplingParams
from llmquiz.llm.decode.stopping import StopStrings
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.decoder import Decoder
from llmquiz.llm.model.gpt2 import GPT2

SHOWN, LINE_TOKENS = 3, 7  # solved examples before a problem; tokens of an answer at most
GROUP, K = 8, 4  # draws that are judged together, and how many of them an estimate is for
TEMPERATURES = [30.0 * 0.98**step for step in range(230)]  # down to 0.3
SEED_STRIDE = 1000  # between problems: draws i of two problems with seeds closer than that would share their luck
HELD_OUT_SEED = 70_000  # the shipped model was trained on other seeds
SENTENCES, SENTENCE_DRAWS, SENTENCE_TOKENS = 12, 16, 32
PROMPT = 64  # tokens of the prompt whose positions are counted
SEEDED = 4  # problems that are drawn again with other seeds


@dataclass(frozen=True, slots=True)
class Problem:
    """A prompt and the line that solves it, with the logits [A, V] that the model gives on that line's tokens [A]."""

    prompt: Tensor  # [1, P]
    answer: str
    answer_ids: Tensor
    logits: Tensor

    def chance(self, temperature: float) -> float:
        """The probability that one draw at this temperature is the answer."""
        log_p = (self.logits / temperature).log_softmax(-1).gather(-1, self.answer_ids[:, None])
        return float(log_p.sum().exp())


@dataclass(frozen=True, slots=True)
class Bench:
    """The model that answers."""

    model: Decoder | GPT2
    tokenizer: Tokenizer
    begin: int
    params: Params

    def ids(self, text: str) -> Tensor:  # [T]
        return torch.tensor(self.tokenizer.encode(text), device=self.params.device)

    def prompt(self, text: str) -> Tensor:  # [1, P]
        return torch.cat((torch.tensor([self.begin], device=self.params.device), self.ids(text)))[None]

    def draw(self, prompt: Tensor, index: int, n: int, temperature: float, *stops: str) -> Candidates:
        """`n` continuations up to the end of a line or one of `stops`, with seeds that no other index has."""
        return best_of_n(
            self.model,
            prompt,
            SENTENCE_TOKENS if stops else LINE_TOKENS,
            n,
            cache=GrowingCache(self.model.config),
            params=SamplingParams(temperature=temperature),
            seed=SEED_STRIDE * (index + SEED_STRIDE * self.params.seed),
            stop=StopStrings(self.tokenizer, ["\n", *stops]),
        )

    def texts(self, made: Candidates) -> list[str]:
        rows = zip(made.tokens.tolist(), made.lengths.tolist(), strict=True)
        return [self.tokenizer.decode(tokens[:length]) for tokens, length in rows]


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    bench = prepare(params)
    with torch.inference_mode():
        easy = [make_problem(bench, "+", (1, 9), index) for index in range(params.problems)]
        hard = [make_problem(bench, "×", (11, 99), index) for index in range(params.problems)]
        temperature = temperature_for(easy, params.chance)
        report.metric("temperature", temperature)
        drawn, right, chances = [], [], []
        for index, problem in enumerate(report.progress(easy + hard, unit="problem")):
            drawn.append(bench.draw(problem.prompt, index, params.draws, temperature))
            right.append([text == problem.answer for text in bench.texts(drawn[-1])])
            chances.append(problem.chance(temperature))
        report_law(chances, right, report)
        report_estimates(chances[: len(easy)], right[: len(easy)], report)
        report_rankings(bench, drawn[: len(easy)], right[: len(easy)], report)
        report_seeds(bench, easy, drawn, temperature, report)
        report_prompt(bench, report)
        report_lengths(bench, report)


def prepare(params: Params) -> Bench:
    try:
        language_model = base_model(params.model, device=params.device)
    except ModelError as error:
        raise LabError(str(error)) from error
    model, tokenizer = language_model.model, language_model.tokenizer
    if not isinstance(model, Decoder | GPT2):
        raise LabError(f"{language_model.name} has no cache that forks; use a model of the Llama family or GPT-2")
    try:
        begin = tokenizer.token_id("<|bos|>")
    except ModelError:
        begin = tokenizer.token_id("<|eos|>")  # GPT-2 and its like begin a text with what ended the one before
    return Bench(model, tokenizer, begin, params)


def make_problem(bench: Bench, sign: str, between: tuple[int, int], index: int) -> Problem:
    """A line to complete, after lines that are easy and right."""
    rng = random.Random(f"{bench.params.seed} {sign} {index}")
    shown = [(rng.randint(1, 9), rng.randint(1, 9)) for _ in range(SHOWN)]
    a, b = rng.randint(*between), rng.randint(*between)
    answer = f" {a + b if sign == '+' else a * b}\n"
    prompt = bench.prompt("".join(f"{x} + {y} = {x + y}\n" for x, y in shown) + f"{a} {sign} {b} =")
    ids = bench.ids(answer)
    logits = bench.model(torch.cat((prompt[0], ids))[None])[0, prompt.size(1) - 1 : -1].float()
    return Problem(prompt, answer, ids, logits)


def temperature_for(problems: list[Problem], chance: float) -> float:
    """The highest temperature at which a draw solves a problem with this chance, on average."""
    means = []
    for temperature in TEMPERATURES:
        means.append(fmean(problem.chance(temperature) for problem in problems))
        if means[-1] >= chance:
            return temperature
    raise LabError(f"one draw solves at most {max(means):.0%} of the easy problems; lower --chance or change --model")


def report_law(chances: list[float], right: list[list[bool]], report: Report) -> None:
    """Problems solved in n draws: measured, by each problem's own chance, and by the mean chance."""
    draws, pooled_chance, rows = len(right[0]), fmean(chances), []
    for n in [1 << power for power in range(draws.bit_length())]:
        measured = 100 * fmean(pass_at_k(draws, sum(row), n) for row in right)
        law = 100 * fmean(1 - (1 - p) ** n for p in chances)
        pooled = 100 * (1 - (1 - pooled_chance) ** n)
        rows.append((n, measured, law, pooled))
        for series, value in (("measured", measured), ("each problem's p", law), ("mean p", pooled)):
            report.point("solved", x=n, y=value, series=series)
    report.table(f"{len(right)} problems, solved, %", ("draws", "measured", "1-(1-p)^n", "the same with mean p"), rows)
    report.claim("law", measured=max(abs(row[1] - row[2]) for row in rows) / 100, expected=0.0, tolerance=0.08)
    eight = next(row for row in rows if row[0] == GROUP)
    report.metric("pass_at_8", eight[1])
    report.metric("pooled_excess", eight[3] - eight[1])
    report.claim("pooled", measured=eight[3] - eight[1], expected=8.0, relation="at least")


def groups(row: list[bool]) -> list[range]:
    """The draws in eights, as if no more had been made."""
    return [range(start, start + GROUP) for start in range(0, len(row) - GROUP + 1, GROUP)]


def report_estimates(chances: list[float], right: list[list[bool]], report: Report) -> None:
    """pass@4 of the easy problems from eight draws, in two ways."""
    counts = [sum(row[i] for i in group) for row in right for group in groups(row)]
    law = 100 * fmean(1 - (1 - p) ** K for p in chances)
    unbiased = 100 * fmean(pass_at_k(GROUP, count, K) for count in counts)
    plug_in = 100 * fmean(1 - (1 - count / GROUP) ** K for count in counts)
    rows = [("law", law), ("1 - C(n-c, k) / C(n, k)", unbiased), ("1 - (1 - c/n)^k", plug_in)]
    report.table(f"pass@{K} from {GROUP} draws, easy problems, %", ("estimate", "value"), rows)
    report.metric("plug_in_shortfall", unbiased - plug_in)
    report.claim("unbiased", measured=abs(unbiased - law) / 100, expected=0.0, tolerance=0.15)
    report.claim("unbiased", measured=unbiased - plug_in, expected=4.0, relation="at least")


def report_rankings(bench: Bench, drawn: list[Candidates], right: list[list[bool]], report: Report) -> None:
    """Which of eight answers to show where nobody can check them; no claim, for it depends on the model."""
    picks: dict[str, list[bool]] = {"the first": [], "most frequent": [], "highest mean log-probability": [], "any": []}
    for made, row in zip(drawn, right, strict=True):
        texts = bench.texts(made)
        for group in groups(row):
            frequent = Counter(texts[i] for i in group).most_common(1)[0][0]
            picks["the first"].append(row[group[0]])
            picks["most frequent"].append(row[texts.index(frequent)])
            picks["highest mean log-probability"].append(row[max(group, key=lambda i: float(made.scores[i]))])
            picks["any"].append(any(row[i] for i in group))
    rows = [(name, 100 * fmean(hits)) for name, hits in picks.items()]
    report.table(f"one of {GROUP} answers, easy problems, right in %", ("chosen", "right"), rows)


def report_seeds(
    bench: Bench, problems: list[Problem], drawn: list[Candidates], temperature: float, report: Report
) -> None:
    """One seed for all, a seed each, and fewer draws with the same seeds."""
    same, own, changed = [], [], 0
    for index, (problem, made) in enumerate(islice(zip(problems, drawn, strict=False), SEEDED)):
        generators = [torch.Generator(bench.params.device).manual_seed(index) for _ in range(GROUP)]
        repeated = generate(
            bench.model,
            problem.prompt,
            LINE_TOKENS,
            cache=GrowingCache(bench.model.config),
            processors=[Temperature(temperature)],
            sample=Sampler(generators),
            fork=GROUP,
        ).tokens
        same.append(len({tuple(row) for row in repeated.tolist()}))
        own.append(len(set(bench.texts(made)[:GROUP])))
        sixteen, four = (bench.texts(bench.draw(problem.prompt, index, n, temperature)) for n in (16, 4))
        changed += sum(one != other for one, other in zip(sixteen[:4], four, strict=True))
    report.metric("distinct_one_seed", max(same))
    report.metric("distinct_own_seeds", fmean(own))
    report.claim("one-seed", measured=max(same), expected=1)
    report.claim("one-seed", measured=fmean(own), expected=2.0, relation="at least")
    report.claim("same-whatever-n", measured=changed, expected=0)


@contextmanager
def counted_positions(model: Decoder | GPT2) -> Iterator[list[int]]:
    """A list that gets the positions of each pass through the model: rows times tokens."""
    passes: list[int] = []
    handle = model.register_forward_pre_hook(lambda _, inputs: passes.append(inputs[0].numel()))
    try:
        yield passes
    finally:
        handle.remove()


def report_prompt(bench: Bench, report: Report) -> None:
    """Eight draws with the prompt computed once, and with a row of the prompt for each."""
    prompt = stories(bench, 1, PROMPT)[0]
    repeated = prompt.expand(GROUP, -1)

    def draw(rows: Tensor, fork: int, tokens: int = 1) -> Tensor:
        cache, sampler = GrowingCache(bench.model.config), Sampler.seeded(bench.params.seed, GROUP, bench.params.device)
        return generate(bench.model, rows, tokens, cache=cache, sample=sampler, fork=fork).tokens

    works: dict[str, Callable[..., Tensor]] = {
        "prompt once": partial(draw, prompt, GROUP),
        f"prompt {GROUP} times": partial(draw, repeated, 1),
    }
    computed = {}
    for name, work in works.items():
        with counted_positions(bench.model) as passes:
            work(tokens=8)
        computed[name] = sum(passes)
    clock = quiet_clock(bench.params.device, 1)
    seconds = interleaved_medians(works, device=bench.params.device, repeats=9, clock=clock)
    once, each = works
    rows = [(name, computed[name], 1e3 * seconds[name]) for name in works]
    report.table(f"{GROUP} draws of 8 tokens", ("", "positions computed", "ms to the first token"), rows)
    report.metric("positions_saved", computed[each] - computed[once])
    report.metric("prefill_speedup", seconds[each] / seconds[once])
    report.claim("prompt-once", measured=computed[each] - computed[once], expected=(GROUP - 1) * prompt.size(1))


def stories(bench: Bench, count: int, length: int | None = None) -> list[Tensor]:  # [1, P] each
    """Beginnings of held-out stories: `length` tokens, or else two sentences."""
    found: list[Tensor] = []
    for document in documents(HELD_OUT_SEED + bench.params.seed, ("story",)):
        stop = ". " if document.lang == "en" else "。"
        text = document.text if length else stop.join(document.text.split(stop)[:2]) + stop.rstrip()
        prompt = bench.prompt(text)[:, :length]
        if length in (None, prompt.size(1)):
            found.append(prompt)
        if len(found) == count:
            break
    return found


def report_lengths(bench: Bench, report: Report) -> None:
    """The next sentence of stories: how long are the ones that two rankings prefer?"""
    lengths: dict[str, list[float]] = {"all": [], "by sum": [], "by mean": []}
    for index, prompt in enumerate(stories(bench, SENTENCES)):
        made = bench.draw(prompt, index, SENTENCE_DRAWS, 1.0, ".", "。")
        lengths["all"].append(float(made.lengths.float().mean()))
        lengths["by sum"].append(float(made.lengths[made.logprob_sums.argmax()]))
        lengths["by mean"].append(float(made.lengths[made.scores.argmax()]))
    rows = [(name, fmean(values)) for name, values in lengths.items()]
    report.table(f"sentences, best of {SENTENCE_DRAWS}", ("ranked", "mean length, tokens"), rows)
    ratio = fmean(lengths["by sum"]) / fmean(lengths["by mean"])
    report.metric("length_ratio", ratio)
    report.claim("short-answers", measured=ratio, expected=0.8, relation="at most")
