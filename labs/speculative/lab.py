"""Speculative decoding: acceptance, tokens a pass, and what must not change.

First where everything is known: logits that do not depend on the text. A draft whose distribution q overlaps with the
target's p by a = sum min(p, q) is then accepted with probability a at every place, independently, and a pass yields
1 + a + ... + a^g tokens. The same numbers again where easy and hard passages alternate: acceptances come in runs, and
the formula promises too much. Then the tokens themselves are counted, by the right rule and by two wrong ones.

The last part is the shipped model as the target, greedily, with drafts that cost nothing, less or as much as itself.
Shapes: V vocabulary, g tokens ahead.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from llmquiz.lab.sdk import LabError, Params, Report, interleaved_medians, quiet_clock
from llmquiz.llm.base.load import LanguageModel, base_model
from llmquiz.llm.cache.growing import GrowingCache
from llmquiz.llm.cache.static import StaticCache
from llmquiz.llm.data.corpus import documents
from llmquiz.llm.decode.generate import generate, store_transposed
from llmquiz.llm.decode.peers import look_up_prompt
from llmquiz.llm.decode.speculative import (
    Choice,
    Draft,
    Judge,
    ModelDraft,
    NGramDraft,
    Speculation,
    draw,
    judge,
    speculate,
)
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder
from llmquiz.llm.model.load import find_checkpoint
from llmquiz.llm.tune.nf4 import dequantize, quantize

VOCABULARY = 24
MIDDLING, FAR = "middling", "far"
MIXTURES = {"close": 0.1, MIDDLING: 0.4, FAR: 0.9}  # draft -> how much of it is noise
STAY = 0.97  # probability that a passage goes on being easy or hard
HARD = 0.9  # how much the draft expects a hard passage to end; in easy ones it is the target
EXAM = 600  # tokens, at most, in a simulated text: its attention-free model reads all of it at every pass
NGRAM, TRUNCATED, ROUNDED = "n-grams of the text", "first layers", "in four bits"


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    report_formula(params, report)
    report_passages(params, report)
    report_distribution(params, report)
    report_base(params, report)


class Bigrams(nn.Module):
    """A model whose next token depends on the last one alone: a row of probabilities [V, V] for each. No cache."""

    def __init__(self, probabilities: Tensor) -> None:
        super().__init__()
        self.config = ModelConfig(len(probabilities), 2, 1, 1, 1, 2, 2, max_position=1 << 30)
        self.probabilities, self.logits = probabilities, probabilities.log()

    def forward(self, tokens: Tensor, cache: Any = None, *, last_only: bool = False, **_: Any) -> Tensor:
        logits: Tensor = self.logits[tokens[:, -1:] if last_only else tokens]
        return logits


@dataclass(frozen=True, slots=True)
class World:
    """A target and a draft of known overlap."""

    target: Bigrams
    draft: Bigrams

    def run(self, params: Params, ahead: int, judge: Judge = judge) -> list[Speculation]:
        """Texts of `params.tokens` tokens in all."""
        choice = Choice(torch.Generator().manual_seed(params.seed))
        draft, start = ModelDraft(self.draft, GrowingCache(self.draft.config)), torch.tensor([[0]])
        texts, left = [], params.tokens
        while left > 0:
            length = min(EXAM, left) + ahead
            texts.append(speculate(self.target, draft, start, length, tokens_ahead=ahead, choice=choice, judge=judge))
            left -= length
        return texts


def random_world(noise: float, params: Params) -> World:
    """Logits that no token changes; the draft mixes the target with another distribution."""
    generator = torch.Generator().manual_seed(params.seed)
    p, other = torch.randn(2, VOCABULARY, generator=generator).mul(1.5).softmax(-1)
    q = (1 - noise) * p + noise * other
    return World(*(Bigrams(row.expand(VOCABULARY, -1)) for row in (p, q)))


def overlap(p: Tensor, q: Tensor) -> Tensor:  # [..., V] -> [...]
    return torch.minimum(p, q).sum(-1)


def tokens_a_pass(a: float, ahead: int) -> float:
    """1 + a + a^2 + ... + a^g: (1 - a^(g+1)) / (1 - a), also at a = 1."""
    return sum(a**k for k in range(ahead + 1))


def measured(texts: list[Speculation], ahead: int) -> tuple[float, float]:
    """The part of the judged proposals that was accepted, and the tokens of a pass, where all `ahead` were proposed.

    Proposals behind the first rejected one are never judged.
    """
    full = [turn for text in texts for turn in text.rounds if turn.proposed == ahead]
    accepted = sum(turn.accepted for turn in full)
    judged = sum(min(turn.accepted + 1, ahead) for turn in full)
    return accepted / judged, accepted / len(full) + 1


def report_formula(params: Params, report: Report) -> None:
    """Three drafts, and several distances ahead."""
    rows, near = [], params.tokens_ahead
    runs = [*((name, near) for name in MIXTURES), *((MIDDLING, ahead) for ahead in sorted({1, 2, 2 * near} - {near}))]
    for name, ahead in report.progress(runs, unit="draft"):
        world = random_world(MIXTURES[name], params)
        a = float(overlap(world.target.probabilities[0], world.draft.probabilities[0]))
        rate, tokens = measured(world.run(params, ahead), ahead)
        expected = tokens_a_pass(a, ahead)
        rows.append((name, ahead, a, rate, expected, tokens))
        report.point("tokens_a_pass", x=ahead, y=tokens, series=f"{name} draft")
        report.claim("overlap", measured=rate, expected=a, tolerance=0.07)
        report.claim("formula", measured=tokens / expected, expected=1.0, tolerance=0.15)
        if (name, ahead) == (MIDDLING, near):
            report.metric("acceptance", rate)
            report.metric("tokens_a_pass", tokens)
    columns = ("draft", "tokens ahead", "sum min(p, q)", "accepted", "formula", "tokens a pass")
    report.table("acceptances that are independent", columns, rows)


def report_passages(params: Params, report: Report) -> None:
    """Half of the tokens are easy and half hard, in passages: the last token says which it is."""
    V, half = VOCABULARY, VOCABULARY // 2
    generator = torch.Generator().manual_seed(params.seed)
    kinds = torch.arange(V) < half
    same = kinds[:, None] == kinds  # [V, V]: does the passage go on?
    weights = torch.randn(V, V, generator=generator).softmax(-1)
    inside, outside = ((weights * part) / (weights * part).sum(-1, keepdim=True) for part in (same, ~same))
    p = STAY * inside + (1 - STAY) * outside
    q = torch.where(kinds[:, None], p, (1 - HARD) * p + HARD * outside)
    ahead = params.tokens_ahead
    texts = World(Bigrams(p), Bigrams(q)).run(params, ahead)
    last = torch.cat([text.tokens[0] for text in texts])
    a = float(overlap(p, q)[last].mean())
    _, tokens = measured(texts, ahead)
    report.metric("passages", tokens / tokens_a_pass(a, ahead))
    report.claim("in-passages", measured=tokens / tokens_a_pass(a, ahead), expected=0.95, relation="at most")
    rows = [("easy and hard passages", ahead, a, tokens_a_pass(a, ahead), tokens)]
    report.table("acceptances in runs", ("", "tokens ahead", "sum min(p, q)", "formula", "tokens a pass"), rows)


def report_distribution(params: Params, report: Report) -> None:
    """Chi-square of all tokens against p, over its degrees of freedom: about 1 if they are distributed as p."""
    world = random_world(MIXTURES[FAR], params)
    p = world.target.probabilities[0]
    judges = {"right": judge, "accept everything": accept_everything, "draw again from p": draw_again}
    rows = []
    for name, rule in judges.items():
        tokens = torch.cat([text.tokens[0] for text in world.run(params, params.tokens_ahead, rule)])
        counts, expected = torch.bincount(tokens, minlength=VOCABULARY), len(tokens) * p
        chi_square = float(((counts - expected).square() / expected).sum()) / (VOCABULARY - 1)
        rows.append((name, chi_square))
        if name == "right":
            report.metric("chi_square", chi_square)
            report.claim("same-distribution", measured=chi_square, expected=2.2, relation="at most")
        else:
            report.claim("wrong-rules", measured=chi_square, expected=3.0, relation="at least")
    report.table("are the tokens the target's?", ("rule", "chi-square over degrees of freedom"), rows)


def accept_everything(token: int, p: Tensor, q: Tensor, generator: torch.Generator | None) -> int:
    return token


def draw_again(token: int, p: Tensor, q: Tensor, generator: torch.Generator | None) -> int:
    """In place of a rejected token another one from p, where it should be from what q leaves of p."""
    accepted = float(torch.rand((), generator=generator)) < float(p[token] / q[token])
    return token if accepted else draw(p, generator)


def report_base(params: Params, report: Report) -> None:
    """The shipped model on unfinished texts: stories, and lists that are said again."""
    language = base_model(params.model, device=params.device)
    target = language.model
    if not isinstance(target, Decoder):
        raise LabError("a draft is cut from our decoder; use a model of the Llama family")
    if params.device == "cpu":
        store_transposed(target)
    texts = {kind: prompt(language, kind, params) for kind in ("story", "recall")}
    drafts: dict[str, Decoder | None] = {NGRAM: None, TRUNCATED: first_layers(target), ROUNDED: in_four_bits(target)}
    rows, wrong = [], 0
    for kind, text in texts.items():
        alone = generate_alone(target, text, params)
        works: dict[str, Callable[[], Any]] = {"no draft": partial(generate_alone, target, text, params)}
        for name, model in drafts.items():
            works[name] = partial(speculated, target, model, text, params)
        made = {name: works[name]() for name in drafts}
        wrong += sum(not torch.equal(each.tokens, alone) for each in made.values())
        one = text[:, :1]
        works |= {f"pass of {name}": partial(model, one) for name, model in drafts.items() if model is not None}
        works["pass"] = partial(target, one)
        clock = quiet_clock(params.device, 1)
        seconds = interleaved_medians(works, device=params.device, repeats=3, warmup=0, clock=clock)
        for name, each in made.items():
            tokens = params.new_tokens / each.passes
            cost = seconds.get(f"pass of {name}", 0.0) / seconds["pass"]
            promised, faster = tokens / (params.tokens_ahead * cost + 1), seconds["no draft"] / seconds[name]
            rows.append((kind, name, 100 * each.accepted / max(each.proposed, 1), tokens, cost, promised, faster))
            if (kind, name) in (("recall", NGRAM), ("story", ROUNDED)):
                report.metric("copied" if name == NGRAM else "rounded", tokens)
        report_peer(target, text, alone, params, report)
    report.claim("same-tokens", measured=wrong, expected=0)
    report.claim("fewer-passes", measured=min(rows[2][3], rows[5][3]), expected=1.5, relation="at least")
    columns = ("text", "draft", "% of proposals accepted", "tokens a pass", "draft's cost", "x promised", "x measured")
    report.table(f"{language.name}, greedy, {params.tokens_ahead} ahead", columns, rows)


def prompt(language: LanguageModel, kind: str, params: Params) -> Tensor:
    """The first half of a document [1, P] that is long enough."""
    for document in documents(60_000 + params.seed, kinds=(kind,)):
        tokens = language.tokenizer.encode(document.text, special=True)
        if len(tokens) >= 60:
            return torch.tensor([tokens[: len(tokens) // 2]], device=params.device)
    raise LabError(f"no document of kind {kind} is long enough for this tokenizer; use another model")


def first_layers(model: Decoder) -> Decoder:
    """The model without the later half of its layers; the weights are shared."""
    depth = (model.config.num_layers + 1) // 2
    with torch.device("meta"):
        draft = Decoder(replace(model.config, num_layers=depth))
    draft.embed_tokens, draft.norm, draft.lm_head = model.embed_tokens, model.norm, model.lm_head
    draft.layers, draft.rotary = model.layers[:depth], model.rotary
    return draft


def in_four_bits(model: Decoder) -> Decoder:
    """The model with every layer's weights rounded to NF4: near to itself. Here it costs as much, since the weights are
    unpacked once; a kernel that reads four bits would read an eighth."""
    draft = copy.deepcopy(model)
    for linear in (module for module in draft.layers.modules() if isinstance(module, nn.Linear)):
        linear.weight.data = dequantize(quantize(linear.weight.data.contiguous()))
    return draft


def generate_alone(target: Decoder, text: Tensor, params: Params) -> Tensor:
    return generate(target, text, params.new_tokens, cache=cache_for(target, text, params)).tokens


def speculated(target: Decoder, model: Decoder | None, text: Tensor, params: Params) -> Speculation:
    vocab_size = target.config.vocab_size
    draft: Draft = NGramDraft(vocab_size) if model is None else ModelDraft(model, cache_for(model, text, params))
    cache = cache_for(target, text, params)
    return speculate(target, draft, text, params.new_tokens, tokens_ahead=params.tokens_ahead, cache=cache)


def cache_for(model: Decoder, text: Tensor, params: Params) -> StaticCache:
    weight = model.embed_tokens.weight
    return StaticCache(model.config, text.size(1) + params.new_tokens, dtype=weight.dtype, device=weight.device)


def report_peer(target: Decoder, text: Tensor, alone: Tensor, params: Params, report: Report) -> None:
    from llmquiz.llm.model import reference  # takes seconds to import, where the process is not warm

    if not reference.AVAILABLE:
        report.note("transformers is not installed: it was left out of the comparison")
        return
    folder = find_checkpoint(params.model) if params.model else None
    if folder is None:
        twin = reference.to_transformers(target)
    else:
        twin = reference.load_with_transformers(folder, dtype=target.embed_tokens.weight.dtype, device=params.device)
    theirs = look_up_prompt(twin, text, params.new_tokens, params.tokens_ahead)
    report.claim("same-tokens", measured=(theirs != alone).sum(), expected=0)
