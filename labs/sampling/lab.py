"""Sampling: who may be drawn.

The model reads held-out stories once; each position gives the distribution of a next token, and all that follows works
on these logits. Nothing is generated, so every setting sees the same contexts: a setting that writes its own text also
changes what it is asked next.

Shapes: D stories, T tokens of each, N contexts, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise

import torch
from torch import Tensor

from llmquiz.lab.sdk import LabError, Params, Report, interleaved_medians, quiet_clock
from llmquiz.llm.base.load import LanguageModel, base_model
from llmquiz.llm.data.corpus import documents
from llmquiz.llm.decode.processors import (
    MinP,
    PresencePenalty,
    Processor,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
    Typical,
    occurrences,
)
from llmquiz.llm.decode.sampling import Mirostat, Sampler, SamplingParams
from llmquiz.llm.errors import ModelError

HELD_OUT_SEED = 70_000  # the shipped model was trained on other seeds
STORIES, LENGTH, FIRST = 12, 96, 8  # the first tokens have too little context to say anything
LOGITS = 1 << 25  # numbers at most, so that a large vocabulary gets fewer stories
TEMPERATURES = (0.25, 0.5, 0.7, 1.0, 1.4)  # and the hot one, and its square root of two
COLD = 0.001
TOP_K, PENALTY, SHIFT = 40, 1.3, 10.0
RATE, BURN_IN = 0.5, 0.2  # of mirostat; the part of the contexts in which mu still finds its place
WITHIN = (0.25, 0.5, 0.75)  # targets, as parts of the way from the least surprise to the entropy
EVERY = 16  # the penalties are judged at every such position
BITS = 1 / math.log(2)


@dataclass(frozen=True, slots=True)
class Contexts:
    """What was read and what the model said: tokens [D, T] and logits [D, T, V]."""

    tokens: Tensor
    logits: Tensor

    @property
    def flat(self) -> Tensor:  # [N, V]
        return self.logits[:, FIRST:].flatten(0, 1)


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    try:
        language_model = base_model(params.model, device=params.device)
    except ModelError as error:
        raise LabError(str(error)) from error
    for note in language_model.notes:
        report.note(note)
    with torch.inference_mode():
        contexts = read(language_model, params)
        report.note(
            f"{contexts.flat.size(0)} contexts of {language_model.name}, {contexts.flat.size(1)} tokens to choose"
        )
        heat(contexts.flat, params, report)
        report_order_and_cold(contexts.flat, params, report)
        report_mirostat(Temperature(params.temperature)(contexts.tokens, contexts.flat), params, report)
        report_penalties(contexts, report)
        compare_with_transformers(contexts, params, report)


def read(language_model: LanguageModel, params: Params) -> Contexts:
    """The stories that are long enough, cut to one length, in one pass each."""
    tokenizer = language_model.tokenizer
    rows: list[Tensor] = []
    wanted = max(2, min(STORIES, LOGITS // (LENGTH * tokenizer.vocab_size)))
    for document in islice(documents(HELD_OUT_SEED + params.seed, ("story",)), 200):
        ids = tokenizer.encode(document.text, special=True)
        if len(ids) >= LENGTH and len(rows) < wanted:
            rows.append(torch.tensor(ids[:LENGTH], device=params.device))
    if len(rows) < wanted:
        raise LabError(f"only {len(rows)} stories have {LENGTH} tokens of this model; use another --model")
    return Contexts(torch.stack(rows), torch.stack([language_model.model(row[None])[0].float() for row in rows]))


def entropy(logits: Tensor) -> Tensor:  # [N, V] -> [N], bits
    log_p = logits.log_softmax(-1)
    return -(log_p.exp() * log_p).nansum(-1) * BITS


def count(processor: Processor, logits: Tensor) -> float:
    """Tokens that a filter leaves, on average."""
    return float(processor(logits[:, :0].long(), logits).isfinite().sum(-1).float().mean())


def heat(logits: Tensor, params: Params, report: Report) -> None:
    """Entropy and candidates over the temperature, the temperature first."""
    filters: dict[str, Processor] = {
        f"top-k {TOP_K}": TopK(TOP_K),
        f"top-p {params.top_p:g}": TopP(params.top_p),
        f"min-p {params.min_p:g}": MinP(params.min_p),
        f"typical {params.top_p:g}": Typical(params.top_p),
    }
    rows: dict[float, list[float]] = {}
    temperatures = sorted({*TEMPERATURES, params.temperature, params.temperature * math.sqrt(2)})
    for temperature in report.progress(temperatures, unit="temperature"):
        heated = logits / temperature
        rows[temperature] = [float(entropy(heated).mean())]
        for name, keep in filters.items():
            rows[temperature].append(count(keep, heated))
            report.point("candidates", x=temperature, y=rows[temperature][-1], series=name)
    columns = ("temperature", "entropy, bits", *filters)
    report.table("temperature first, then the filter", columns, [(t, *row) for t, row in rows.items()])
    steps = [after[0] - before[0] for before, after in pairwise(rows.values())]
    report.claim("entropy-rises", measured=min(steps), expected=0.0, relation="at least")
    neutral, hot = rows[1.0], rows[params.temperature]
    report.metric("entropy", neutral[0])
    report.metric("entropy_hot", hot[0])
    report.metric("nucleus_growth", hot[2] / neutral[2])
    report.metric("min_p_growth", hot[3] / neutral[3])
    growth = (hot[2] / neutral[2]) / (hot[3] / neutral[3])
    report.claim("nucleus-widens", measured=growth, expected=1.2, relation="at least")


def report_order_and_cold(logits: Tensor, params: Params, report: Report) -> None:
    """What heating after the filter changes (nothing about who is in), and what the cold end of the scale is."""
    nothing, heated = logits[:, :0].long(), Temperature(params.temperature)
    before = count(TopP(params.top_p), logits)
    after = float(heated(nothing, TopP(params.top_p)(nothing, logits)).isfinite().sum(-1).float().mean())
    report.claim("order", measured=after, expected=before)
    drawn = sampler(params)(logits / COLD)
    agreement = 100 * float((drawn == logits.argmax(-1)).float().mean())
    undefined = 100 * float((logits / 0).softmax(-1).isnan().any(-1).float().mean())
    report.metric("cold_agreement", agreement)
    report.claim("cold", measured=agreement, expected=99.0, relation="at least")
    report.claim("cold", measured=undefined, expected=100.0)
    rows = [
        ("top-p, temperature 1", before),
        ("temperature, then top-p", count(TopP(params.top_p), heated(nothing, logits))),
        ("top-p, then temperature", after),
    ]
    report.table("the order of two settings", ("chain", "candidates"), rows)


def sampler(params: Params) -> Sampler:
    return Sampler.seeded(params.seed, 1, params.device)


def report_mirostat(logits: Tensor, params: Params, report: Report) -> None:
    """Targets within the reach of these contexts, below and above it."""
    surprise = -logits.log_softmax(-1) * BITS
    least, most = float(surprise.amin(-1).mean()), float(entropy(logits).mean())
    report.metric("least_surprise", least)
    inside = [least + part * (most - least) for part in WITHIN]
    rows = []
    for target in report.progress([least / 2, *inside, 1.5 * most], unit="target"):
        mirostat = Mirostat(target, sampler(params), rate=RATE)
        drawn = torch.cat([mirostat(row[None]) for row in logits])  # mu is known only after the draw before
        kept = surprise.gather(-1, drawn[:, None])[int(BURN_IN * len(drawn)) :]
        rows.append((target, float(kept.mean()), "yes" if target in inside else "no", float(mirostat.mu or 0)))
    report.table("mirostat, bits a token", ("target", "measured", "within reach", "mu at the end"), rows)
    error = max(abs(measured - target) for target, measured, *_ in rows[1:-1])
    report.metric("mirostat_error", error)
    report.metric("mirostat_shortfall", rows[-1][0] - rows[-1][1])
    report.claim("mirostat-reaches", measured=error, expected=0.2 * (most - least), relation="at most")
    report.claim("mirostat-limits", measured=rows[0][1] - rows[0][0], expected=least / 4, relation="at least")
    report.claim("mirostat-limits", measured=rows[-1][0] - rows[-1][1], expected=most / 4, relation="at least")


def divide_all(tokens: Tensor, logits: Tensor) -> Tensor:
    """The wrong way: negative logits are divided like positive ones."""
    return torch.where(occurrences(tokens, logits.size(-1)) > 0, logits / PENALTY, logits)


def report_penalties(contexts: Contexts, report: Report) -> None:
    """What each rule does to the tokens that were said, and whether it minds where zero is."""
    rules: dict[str, Processor] = {
        f"repetition {PENALTY:g}": RepetitionPenalty(PENALTY),
        "all divided (wrong)": divide_all,
        "presence 1": PresencePenalty(1.0),
    }
    places = range(EVERY - 1, LENGTH, EVERY)
    said = [(contexts.tokens[:, : place + 1], contexts.logits[:, place]) for place in places]
    rows = {}
    for name, rule in rules.items():
        gains, moved = [], []
        for tokens, logits in said:
            changed = rule(tokens, logits)
            negative = (occurrences(tokens, logits.size(-1)) > 0) & (logits < 0)
            gains.append((changed - logits)[negative])  # of log odds, over a token that was not said
            shifted = rule(tokens, logits + SHIFT).softmax(-1)
            moved.append((shifted - changed.softmax(-1)).abs().sum(-1) / 2)
        rows[name] = (float(torch.cat(gains).mean().exp()), 100 * float(torch.cat(moved).mean()))
    columns = ("rule", "odds of a said token with negative logit, factor", f"moved by adding {SHIFT:g} to all, %")
    report.table("penalties", columns, [(name, *row) for name, row in rows.items()])
    right, wrong, presence = rows.values()
    seen = [logits[occurrences(tokens, logits.size(-1)) > 0] for tokens, logits in said]
    report.metric("negative_share", 100 * float((torch.cat(seen) < 0).float().mean()))
    report.metric("shift_change", right[1])
    report.claim("penalty-sign", measured=right[0], expected=0.9, relation="at most")
    report.claim("penalty-sign", measured=wrong[0], expected=1.1, relation="at least")
    report.claim("penalty-shift", measured=right[1], expected=1.0, relation="at least")
    report.claim("penalty-shift", measured=presence[1], expected=0.0, tolerance=0.01)


def compare_with_transformers(contexts: Contexts, params: Params, report: Report) -> None:
    """All settings at once, on the contexts of one place in every story."""
    from transformers.generation import logits_process as peer

    tokens, logits = contexts.tokens, contexts.logits[:, -1]
    settings = SamplingParams(
        temperature=params.temperature,
        top_k=TOP_K,
        top_p=params.top_p,
        min_p=params.min_p / 10,
        typical_p=params.top_p,
        repetition_penalty=PENALTY,
    )
    theirs = [
        peer.RepetitionPenaltyLogitsProcessor(PENALTY),
        peer.TemperatureLogitsWarper(params.temperature),
        peer.TopKLogitsWarper(TOP_K),
        peer.TopPLogitsWarper(params.top_p),
        peer.MinPLogitsWarper(params.min_p / 10),
        peer.TypicalLogitsWarper(params.top_p),
    ]
    chains: dict[str, Sequence[Processor]] = {"ours": settings.processors(), "transformers": theirs}
    left = {name: apply(chain, tokens, logits) for name, chain in chains.items()}
    difference = float((left["ours"].softmax(-1) - left["transformers"].softmax(-1)).abs().max())
    report.claim("same-as-transformers", measured=difference, expected=0.0, tolerance=1e-6)
    ours, generator = sampler(params), torch.Generator(params.device).manual_seed(params.seed)
    probs = left["transformers"].softmax(-1)
    other = sum(
        int((ours(left["ours"]) != torch.multinomial(probs, 1, generator=generator)[:, 0]).sum()) for _ in range(20)
    )
    report.claim("same-as-transformers", measured=other, expected=0)
    works = {name: partial(apply, chain, tokens, logits) for name, chain in chains.items()}
    clock = quiet_clock(params.device, 1)
    seconds = interleaved_medians(works, device=params.device, repeats=9, clock=clock)
    report.metric("transformers_ratio", seconds["transformers"] / seconds["ours"])
    rows = [(name, 1e3 * taken, seconds["transformers"] / taken) for name, taken in seconds.items()]
    report.table(f"six settings on {len(tokens)} rows", ("library", "ms", "x transformers"), rows)


def apply(chain: Sequence[Processor], tokens: Tensor, logits: Tensor) -> Tensor:
    for process in chain:
        logits = process(tokens, logits)
    return logits
