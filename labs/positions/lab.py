"""Positions: what breaks without them, what breaks past the trained length, and what stretching mends.

Three small models learn the same text, a character a token, on windows of T tokens, and read windows of several times
T. Held-out loss by position shows what each makes of places that it has never seen. Then one of them, the RoPE model,
is stretched in three ways without training, and in one with a little; and it is given ALiBi's bias in place of its
rotation, which is not a repair: how order comes in is chosen before training.

Shapes: B batch, T trained length, D head_dim, V vocabulary.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.lab.sdk import Params, Report
from llmquiz.llm.data.corpus import documents
from llmquiz.llm.model.block import Design, Positions, TransformerLM
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.positions import RotaryEmbedding, rope_frequencies, rotate
from llmquiz.llm.model.rope_scaling import RopeScaling, yarn
from llmquiz.llm.train.device import fused_adamw
from llmquiz.llm.train.schedule import warmup_cosine

TRAINED: tuple[Positions, ...] = ("rope", "alibi", "sinusoidal")
STORIES, HELD_OUT = 1000, 32  # documents; windows of the examination
RATE, BATCH = 7e-3, 16
SHIFT = 1000  # tokens that a text is moved by, to see that RoPE does not mind
WINDOWS = 32  # points of a curve


@dataclass(frozen=True, slots=True)
class Size:
    hidden: int
    layers: int
    heads: int
    steps: int
    tuning: int  # steps after stretching


SIZES = {"tiny": Size(32, 1, 2, 10, 2), "small": Size(64, 2, 4, 150, 30), "base": Size(384, 6, 6, 3000, 200)}


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    bench = Bench(params, report)
    order_of_tokens(bench)
    shifted_text(bench)
    slow_pairs(bench)
    stretched_pairs(bench)
    losses: dict[str, Tensor] = {}
    for kind in TRAINED:
        model = bench.train(bench.model(kind), bench.size.steps, params.trained, BATCH, RATE, kind)
        losses[kind] = bench.losses(model, kind)
        if kind == "rope":
            losses |= stretched(bench, model)
    judge(bench, losses)


class Bench:
    """The text as character ids, and models of one shape that differ in how order comes in."""

    def __init__(self, params: Params, report: Report) -> None:
        self.params, self.report, self.size = params, report, SIZES[params.size]
        text = "\n".join(it.text for it in islice(documents(params.seed, ["story"]), STORIES) if it.lang == "en")
        known = sorted(set(text))
        self.ids = torch.tensor([known.index(letter) for letter in text])
        self.reach = params.trained * params.factor
        self.generator = torch.Generator().manual_seed(params.seed)
        self.held_out = self.windows(HELD_OUT, self.reach, held_out=True)
        hidden, heads = self.size.hidden, self.size.heads
        width, dim = 2 * hidden, hidden // heads
        self.config = ModelConfig(
            len(known), hidden, self.size.layers, heads, heads, dim, width, max_position=self.reach
        )

    def model(self, kind: Positions, layers: int | None = None) -> TransformerLM:
        config = replace(self.config, num_layers=layers or self.config.num_layers)
        return TransformerLM(config, Design(positions=kind), seed=self.params.seed).to(self.params.device)

    def windows(self, count: int, length: int, *, held_out: bool = False) -> Tensor:  # [B, T + 1]
        """From random places of the first nine tenths of the text, or of the last."""
        split = self.ids.numel() * 9 // 10
        first, last = (split, self.ids.numel()) if held_out else (0, split)
        starts = torch.randint(first, last - length, (count, 1), generator=self.generator)
        return self.ids[starts + torch.arange(length + 1)].to(self.params.device)

    def train(self, model: TransformerLM, steps: int, length: int, batch: int, rate: float, name: str) -> TransformerLM:
        optimizer = fused_adamw(model.parameters(), lr=rate, device=self.params.device, betas=(0.9, 0.99))
        for step in self.report.progress(range(steps), unit="step", label=name):
            for group in optimizer.param_groups:
                group["lr"] = warmup_cosine(step, warmup=min(10, steps // 3), total=steps, peak=rate)
            texts = self.windows(batch, length)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(texts[:, :-1]).transpose(1, 2), texts[:, 1:])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return model

    @torch.no_grad()
    def losses(self, model: nn.Module, name: str) -> Tensor:  # [factor * T]
        """Mean held-out loss at each position, drawn as a curve."""
        texts = self.held_out
        loss = F.cross_entropy(model(texts[:, :-1]).transpose(1, 2), texts[:, 1:], reduction="none").mean(dim=0).cpu()
        for part in torch.arange(self.reach).chunk(WINDOWS):
            self.report.point("loss", x=float(part.float().mean()) + 1, y=float(loss[part].mean()), series=name)
        return loss


def order_of_tokens(bench: Bench) -> None:
    """One untrained layer: what the last token makes of the others when they change places."""
    tokens = bench.windows(1, 31)
    order = torch.cat((torch.randperm(31, generator=bench.generator), torch.tensor([31])))
    rows: list[tuple[str, float, float]] = []
    for kind in ("none", *TRAINED):
        model = bench.model(kind, layers=1)
        rows.append((kind, change(model, tokens, order), twin_rows(model, tokens)))
    wrong = bench.model("none", layers=1)
    wrong.positions = ByRow(bench.config.hidden_size, bench.params.device)
    rows.append(("sliced by the wrong axis", change(wrong, tokens, order), twin_rows(wrong, tokens)))
    columns = ("positions", "last logits move when the past is shuffled", "same text twice in a batch differs by")
    bench.report.table("order of tokens, one untrained layer", columns, rows)
    shuffled = {name: moved for name, moved, _ in rows}
    bench.report.metric("shuffled_without", shuffled["none"])
    bench.report.metric("shuffled_least", min(shuffled[kind] for kind in TRAINED))
    bench.report.claim("bag-of-tokens", measured=shuffled["none"], expected=1e-4, relation="at most")
    least = min(shuffled[kind] for kind in TRAINED)
    bench.report.claim("positions-order", measured=least, expected=1e-2, relation="at least")
    bench.report.claim("wrong-axis", measured=rows[-1][1], expected=1e-4, relation="at most")
    bench.report.claim("wrong-axis", measured=rows[-1][2], expected=1e-2, relation="at least")


class ByRow(nn.Module):
    """The fault: a table [P, 1, D] sliced by the batch's size and added to [B, T, D]. It runs."""

    def __init__(self, hidden_size: int, device: str) -> None:
        super().__init__()
        self.table = torch.randn(8, 1, hidden_size, generator=torch.Generator().manual_seed(0)).to(device)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, D] -> same
        return x + self.table[: x.size(0)]


@torch.no_grad()
def change(model: nn.Module, tokens: Tensor, order: Tensor) -> float:
    return float((model(tokens[:, :32])[:, -1] - model(tokens[:, order])[:, -1]).abs().max())


@torch.no_grad()
def twin_rows(model: nn.Module, tokens: Tensor) -> float:
    first, second = model(tokens.repeat(2, 1))
    return float((first - second).abs().max())


def shifted_text(bench: Bench) -> None:
    """RoPE's scores of one text at positions 0, 1, ... and of the same text further on."""
    rotary, head_dim = RotaryEmbedding(bench.config), bench.config.head_dim
    q, k = torch.randn(2, 1, 1, 64, head_dim, generator=bench.generator)
    here, there = (rotary(start, q[0]) for start in (0, SHIFT))
    scores, shifted = (rotate(q, *at) @ rotate(k, *at).mT / math.sqrt(head_dim) for at in (here, there))
    error = float((scores - shifted).abs().max())
    bench.report.metric("shift_error", error)
    bench.report.claim("relative", measured=error, expected=1e-3, relation="at most")


def slow_pairs(bench: Bench) -> None:
    """Pairs that do not come full circle within the trained length: further on, their angles are new."""
    length, pairs = bench.params.trained, bench.config.head_dim // 2
    cos, sin = (table[:, :pairs] for table in RotaryEmbedding(bench.config)(0, torch.zeros(1, length + 1, 1)))
    steps = (cos[1:] * cos[:-1] + sin[1:] * sin[:-1]).clamp(-1, 1).double().acos()  # each below half a turn
    slow = int((steps.sum(dim=0) < 2 * math.pi).sum())
    last_fast = pairs * math.log(length / (2 * math.pi)) / math.log(bench.config.rope_theta)
    bench.report.metric("slow_pairs", slow)
    bench.report.claim("slow-pairs", measured=slow, expected=pairs - 1 - math.floor(last_fast))


def stretches(bench: Bench) -> dict[str, RopeScaling]:
    """Of NTK, the factor that `dynamic` takes for a text of the whole length: one that just reaches it falls short."""
    factor = float(bench.params.factor)
    return {
        "linear": RopeScaling("linear", factor),
        "ntk": RopeScaling("ntk", factor * factor - (factor - 1)),
        "yarn": yarn(factor, bench.params.trained),
    }


def stretched_pairs(bench: Bench) -> None:
    """By how much each method slows the fastest and the slowest pair; and the same from transformers, if it is here."""
    plain, rows, worst = rope_frequencies(bench.config), [], 0.0
    for name, scaling in stretches(bench).items():
        slower = plain / rope_frequencies(replace(bench.config, rope_scaling=scaling))
        fastest, slowest = float(slower[0]), float(slower[-1])
        expected = (scaling.factor if name == "linear" else 1.0, scaling.factor)
        worst = max(worst, abs(fastest / expected[0] - 1), abs(slowest / expected[1] - 1))
        rows.append((name, scaling.factor, fastest, slowest, scaling.attention_factor**2))
    columns = ("method", "factor", "fastest pair slowed by", "slowest pair slowed by", "scores times")
    bench.report.table("what stretching does to the pairs", columns, rows)
    bench.report.claim("stretched-pairs", measured=worst, expected=1e-5, relation="at most")
    if find_spec("transformers") is None:
        bench.report.note("transformers is not installed: its frequencies were left out of the comparison")
        return
    error = difference_from_transformers(bench)
    bench.report.metric("library_error", error)
    bench.report.claim("stretched-pairs", measured=error, expected=1e-5, relation="at most")


def difference_from_transformers(bench: Bench) -> float:
    """The largest relative difference of a frequency, or of the factor on the scores; NTK is a larger theta there."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    worst = 0.0
    for name in ("linear", "yarn"):
        scaling = stretches(bench)[name]
        rope = {"rope_type": name, "rope_theta": bench.config.rope_theta, "factor": scaling.factor}
        config = LlamaConfig(
            hidden_size=bench.config.hidden_size,
            num_attention_heads=bench.config.num_heads,
            max_position_embeddings=bench.reach,
            rope_parameters=rope
            | ({"original_max_position_embeddings": bench.params.trained} if name == "yarn" else {}),
        )
        expected, attention = ROPE_INIT_FUNCTIONS[name](config, "cpu")
        ours = rope_frequencies(replace(bench.config, rope_scaling=scaling))
        worst = max(worst, float((ours / expected - 1).abs().max()), abs(scaling.attention_factor / attention - 1))
    return worst


def stretched(bench: Bench, model: TransformerLM) -> dict[str, Tensor]:
    """The trained RoPE model, stretched; after more training; and with ALiBi in RoPE's place."""
    losses = {name: bench.losses(rescaled(model, scaling), name) for name, scaling in stretches(bench).items()}
    tuned = rescaled(model, stretches(bench)["linear"])
    batch = max(1, BATCH // bench.params.factor)
    bench.train(tuned, bench.size.tuning, bench.reach, batch, RATE / 2, "linear, trained on")
    swapped = copy.deepcopy(model)
    swapped.rotary, swapped.design = None, Design(positions="alibi")
    return losses | {
        "linear, trained on": bench.losses(tuned, "linear, trained on"),
        "rope -> alibi": bench.losses(swapped, "rope -> alibi"),
    }


def rescaled(model: TransformerLM, scaling: RopeScaling) -> TransformerLM:
    copied = copy.deepcopy(model)
    copied.rotary = RotaryEmbedding(replace(model.config, rope_scaling=scaling))
    return copied


def judge(bench: Bench, losses: Mapping[str, Tensor]) -> None:
    report, trained = bench.report, bench.params.trained
    near = {name: float(loss[trained // 2 : trained].mean()) for name, loss in losses.items()}
    past = {name: float(loss[trained:].mean()) for name, loss in losses.items()}
    far = {name: float(loss[-trained:].mean()) for name, loss in losses.items()}
    report.table(f"held-out loss, trained on {trained} tokens", *table(bench, near, past, far))
    for kind in TRAINED:
        report.metric(f"{kind}_growth", past[kind] / near[kind])
    report.metric("loss_near", near["rope"])
    report.metric("ntk_far", far["ntk"] / far["rope"])
    report.metric("yarn_far", far["yarn"] / far["rope"])
    report.metric("linear_near", near["linear"] / near["rope"])
    report.metric("tuned_past", past["linear, trained on"] / past["linear"])
    report.metric("swapped_near", near["rope -> alibi"] / near["rope"])
    report.claim("alibi-flat", measured=past["alibi"] / near["alibi"], expected=1.4, relation="at most")
    for kind in ("rope", "sinusoidal"):
        report.claim("others-break", measured=past[kind] / near[kind], expected=1.6, relation="at least")
    for name in ("ntk", "yarn"):
        report.claim("stretching-helps", measured=far[name] / far["rope"], expected=0.95, relation="at most")
    report.claim("linear-blurs", measured=near["linear"] / near["rope"], expected=1.5, relation="at least")
    tuned = past["linear, trained on"] / past["linear"]
    report.claim("linear-trained-on", measured=tuned, expected=0.8, relation="at most")
    swapped = near["rope -> alibi"] / near["rope"]
    report.claim("no-swapping", measured=swapped, expected=1.5, relation="at least")


def table(bench: Bench, *losses: Mapping[str, float]) -> tuple[tuple[str, ...], Iterator[tuple[Any, ...]]]:
    near, past, far = losses
    trained, reach = bench.params.trained, bench.reach
    columns = ("model", f"at {trained // 2}-{trained}", f"at {trained}-{reach}", f"at {reach - trained}-{reach}")
    return columns, ((name, near[name], past[name], far[name]) for name in near)
