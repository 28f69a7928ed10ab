"""The encoder-decoder: what the causal mask, the positions and cross-attention are each there for.

The task is to write a source backwards. One target token in five is replaced by any token, so nobody who sees only what
a decoder may see gets below the entropy of that noise: a training loss below the floor is a proof of leakage, whatever
the curve looks like. Three models train on the same batches: a right one, one without the causal mask, and one without
positions. Then each writes by itself, where the future that the second one read does not exist.

Shapes: B batch, S source and target tokens, V vocabulary with the start token 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.lab.sdk import LabError, Params, Report
from llmquiz.llm.model.block import Design
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.encoder_decoder import EncoderDecoder
from llmquiz.llm.train.device import fused_adamw
from llmquiz.llm.train.schedule import warmup_cosine

VOCABULARY, START, NOISE = 17, 0, 0.2
HELD_OUT = 256  # pairs
RIGHT, LEAKY, UNORDERED = "right", "no causal mask", "no positions"
DESIGN = Design(norm="layer", activation="relu", positions="sinusoidal")


@dataclass(frozen=True, slots=True)
class Size:
    hidden: int
    layers: int
    heads: int
    batch: int
    steps: int


SIZES = {"tiny": Size(16, 1, 1, 8, 30), "small": Size(32, 1, 1, 32, 400), "base": Size(256, 3, 4, 256, 2000)}


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    if params.length < 2:
        raise LabError("a source of one token has no order to reverse; use --length 2 or more")
    task = Task(params)
    report.metric("floor_loss", task.floor)
    models = {
        RIGHT: make_model(params, DESIGN, causal=True),
        LEAKY: make_model(params, DESIGN, causal=False),
        UNORDERED: make_model(params, replace(DESIGN, positions="none"), causal=True),
    }
    source, given, noisy, clean = task.batch(HELD_OUT, torch.Generator().manual_seed(params.seed + 1))
    rows = []
    for name, model in models.items():
        train(model, name, task, params, report)
        with torch.no_grad():
            loss = float(F.cross_entropy(model(source, given).flatten(0, 1), noisy.flatten()))
        written = model.generate(source, start=START, tokens=params.length)
        accuracy = float((written == clean).float().mean())
        rows.append(
            (
                name,
                loss,
                loss - task.best(noisy, clean),
                accuracy,
                leak(model, source, given),
                antidiagonal(model, source, given),
            )
        )
    columns = ("model", "nats a token, teacher forcing", "above the floor", "accuracy, writing", "leak", "antidiagonal")
    report.table("reversing", columns, rows)
    judge({row[0]: row for row in rows}, params, report)
    count_cached(models[RIGHT], source, report)


def judge(rows: dict[str, tuple[str, float, float, float, float, float]], params: Params, report: Report) -> None:
    _, loss, above, accuracy, unseen, mass = rows[RIGHT]
    _, fooled, _, unable, seen, _ = rows[LEAKY]
    for name, value in {
        "loss": loss,
        "accuracy": accuracy,
        "antidiagonal_mass": mass,
        "leaky_loss": fooled,
        "leaky_accuracy": unable,
        "leaky_change": seen,
        "unordered_accuracy": rows[UNORDERED][3],
    }.items():
        report.metric(name, value)
    report.claim("learns", measured=accuracy, expected=0.95, relation="at least")
    report.claim("never-below-floor", measured=above, expected=-0.03, relation="at least")
    report.claim("no-leak", measured=unseen, expected=0.0)
    report.claim("leak-shows", measured=seen, expected=0.1, relation="at least")
    report.claim("loss-is-fooled", measured=fooled, expected=0.5 * (loss - above), relation="at most")
    report.claim("writing-fails", measured=unable, expected=0.5, relation="at most")
    report.claim("reads-backwards", measured=mass, expected=0.8, relation="at least")
    report.claim("order-needed", measured=rows[UNORDERED][3], expected=0.5, relation="at most")


class Task:
    """Sources of random tokens, and the same backwards with noise.

    Attributes:
        floor: nats a token that remain for who reverses without fault: the entropy of the noise.
    """

    def __init__(self, params: Params) -> None:
        self.length, self.device = params.length, params.device
        choices = VOCABULARY - 1
        wrong = NOISE / choices
        right = 1 - NOISE + wrong
        self.floor = -right * math.log(right) - (choices - 1) * wrong * math.log(wrong)
        self.nats = (-math.log(right), -math.log(wrong))  # of a token that was kept, of one that was replaced

    def best(self, noisy: Tensor, clean: Tensor) -> float:
        """Nats a token on these very targets for who reverses without fault and knows how often noise strikes."""
        kept = float((noisy == clean).float().mean())
        return kept * self.nats[0] + (1 - kept) * self.nats[1]

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Source, what the decoder is given (shifted right), what it must predict, and that without noise: [B, S]."""
        source = torch.randint(1, VOCABULARY, (size, self.length), generator=generator)
        clean = source.flip(1)
        any_token = torch.randint(1, VOCABULARY, clean.shape, generator=generator)
        noisy = torch.where(torch.rand(clean.shape, generator=generator) < NOISE, any_token, clean)
        given = torch.cat((torch.full((size, 1), START), noisy[:, :-1]), dim=1)
        return (source.to(self.device), given.to(self.device), noisy.to(self.device), clean.to(self.device))


def make_model(params: Params, design: Design, *, causal: bool) -> EncoderDecoder:
    size = SIZES[params.size]
    hidden, heads = size.hidden, size.heads
    shape = ModelConfig(
        VOCABULARY, hidden, size.layers, heads, heads, hidden // heads, 4 * hidden, max_position=params.length
    )
    return EncoderDecoder(shape, design, seed=params.seed, causal=causal).to(params.device)


def train(model: EncoderDecoder, name: str, task: Task, params: Params, report: Report) -> None:
    size = SIZES[params.size]
    optimizer = fused_adamw(model.parameters(), lr=params.rate, device=params.device)
    generator, losses = torch.Generator().manual_seed(params.seed), []
    for step in report.progress(range(size.steps), unit="step", label=name):
        for group in optimizer.param_groups:
            group["lr"] = warmup_cosine(step, warmup=20, total=size.steps, peak=params.rate)
        source, given, noisy, _ = task.batch(size.batch, generator)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(source, given).flatten(0, 1), noisy.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
        if step % 10 == 9:
            report.point("training_loss", x=step + 1, y=fmean(losses[-10:]), series=name)


@torch.no_grad()
def leak(model: EncoderDecoder, source: Tensor, given: Tensor) -> float:
    """Largest change of the earlier logits when the last target token is another one."""
    other = given.clone()
    other[:, -1] = other[:, -1] % (VOCABULARY - 1) + 1
    return float((model(source, given) - model(source, other))[:, :-1].abs().max())


@torch.no_grad()
def antidiagonal(model: EncoderDecoder, source: Tensor, given: Tensor) -> float:
    """Share of the cross-attention of target token t that reads source token S - 1 - t: of the head with the most."""
    per_head = [
        weights.flip(-1).diagonal(dim1=-2, dim2=-1).mean(dim=(0, 2))  # [B, H, T, S] -> [H]
        for weights in model.cross_attention(source, given)
    ]
    return float(torch.cat(per_head).max())


@torch.no_grad()
def count_cached(model: EncoderDecoder, source: Tensor, report: Report) -> None:
    """Writing with kept keys and values against computing all again: the same tokens from how many positions?"""
    source = source[:1]
    steps = source.size(1)

    def rewrite() -> Tensor:
        target = torch.full_like(source[:, :1], START)
        for _ in range(steps):
            target = torch.cat((target, model(source, target)[:, -1:].argmax(-1)), dim=1)
        return target[:, 1:]

    kept, kept_counts = count_positions(model, lambda: model.generate(source, start=START, tokens=steps))
    again, again_counts = count_positions(model, rewrite)
    report.metric("source_positions", kept_counts[0])
    report.metric("source_positions_again", again_counts[0])
    report.claim("same-tokens", measured=int((kept != again).sum()), expected=0)
    report.claim("source-read-once", measured=again_counts[0] / kept_counts[0], expected=steps)
    rows = [("kept", *kept_counts), ("computed again", *again_counts)]
    report.table(f"writing {steps} tokens", ("keys and values", "source positions", "target positions"), rows)


def count_positions(model: EncoderDecoder, write: Callable[[], Tensor]) -> tuple[Tensor, tuple[int, int]]:
    """What was written, and positions whose keys the first decoder layer computed: of the source, of the target."""
    counts = {"cross": 0, "self": 0}

    def counter(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def count(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            counts[name] += inputs[0].size(1)

        return count

    first = model.decoder[0]
    hooks = [
        first.cross_attn.k_proj.register_forward_pre_hook(counter("cross")),
        first.self_attn.k_proj.register_forward_pre_hook(counter("self")),
    ]
    written = write()
    for hook in hooks:
        hook.remove()
    return written, (counts["cross"], counts["self"])
