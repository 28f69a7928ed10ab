"""LSTM or Transformer: remembering the first token of a text.

Both read T random tokens and must then name the first. The LSTM has to carry it through T updates of its state, and the
gradient that should teach it so comes back the same way; attention reads it in one step. So before anything is trained
the gradient that reaches the first token is measured, and after it the share of tokens recalled at two distances.

Shapes: B batch, T tokens, V vocabulary, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.lab.sdk import LabError, Params, Report, growth_exponent, interleaved_medians, quiet_clock
from llmquiz.llm.model.block import Design, TransformerLM
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.lstm import LSTM, LSTMCell, LSTMLanguageModel
from llmquiz.llm.train.device import fused_adamw
from llmquiz.llm.train.schedule import warmup_cosine

from .guest import invite_guest, report_guest

VOCABULARY = 16
HELD_OUT, SAMPLES = 512, 64  # texts of the examination; texts whose gradients are averaged
RATE = 1e-2
DESIGN = Design(activation="relu", positions="sinusoidal")
LSTM_NAME, BIASED, TRANSFORMER = "LSTM", "LSTM, forget bias 1", "Transformer"


@dataclass(frozen=True, slots=True)
class Size:
    hidden: int
    batch: int
    steps: int


SIZES = {"tiny": Size(16, 8, 20), "small": Size(32, 32, 400), "base": Size(256, 128, 3000)}


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    if params.short >= params.long:
        raise LabError(f"--short {params.short} is not shorter than --long {params.long}; choose two distances")
    guest = invite_guest(params)
    check_against_torch(params, report)
    measure_gradients(params, report)
    count_sequential(params, report)
    recall_all(params, report)
    if guest:
        report_guest(guest, report)


def make_models(params: Params) -> dict[str, Callable[[], nn.Module]]:
    """Each of the same width, newly seeded when called."""
    hidden = SIZES[params.size].hidden
    shape = ModelConfig(VOCABULARY, hidden, 1, 2, 2, hidden // 2, 4 * hidden, max_position=params.long + 1)

    def recurrent(forget_bias: float = 0.0) -> nn.Module:
        torch.manual_seed(params.seed)
        model = LSTMLanguageModel(VOCABULARY, hidden)
        with torch.no_grad():
            for cell in model.lstm.cells:
                cell.bias_ih[hidden : 2 * hidden] += forget_bias
        return model.to(params.device)

    return {
        LSTM_NAME: recurrent,
        BIASED: partial(recurrent, 1.0),
        TRANSFORMER: lambda: TransformerLM(shape, DESIGN, seed=params.seed).to(params.device),
    }


def texts(batch: int, length: int, generator: torch.Generator, device: str) -> Tensor:  # [B, T]
    return torch.randint(VOCABULARY, (batch, length), generator=generator).to(device)


def check_against_torch(params: Params, report: Report) -> None:
    """One step and a whole text, with torch's weights in our cell; then the time of a text."""
    hidden = SIZES[params.size].hidden
    cell, theirs = LSTMCell(hidden, hidden), nn.LSTMCell(hidden, hidden)
    cell.load_state_dict(theirs.state_dict())
    lstm, whole = LSTM(hidden, hidden), nn.LSTM(hidden, hidden, batch_first=True)
    lstm.load_state_dict({f"cells.0.{name.removesuffix('_l0')}": w for name, w in whole.state_dict().items()})
    x = torch.randn(16, params.long, hidden)
    state = (torch.randn(16, hidden), torch.randn(16, hidden))
    with torch.no_grad():
        step = max(
            float((a - b).abs().max()) for a, b in zip(cell(x[:, 0], state), theirs(x[:, 0], state), strict=True)
        )
        text = float((lstm(x)[0] - whole(x)[0]).abs().max())
        works = {"own": partial(lstm, x), "torch": partial(whole, x)}
        seconds = interleaved_medians(works, repeats=9, clock=quiet_clock("cpu", 1))
    report.claim("same-as-torch", measured=max(step, text), expected=1e-5, relation="at most")
    rows = [("one step", step, None), (f"{params.long} steps", text, seconds["own"] / seconds["torch"])]
    report.table("our LSTM beside torch's", ("what", "largest difference", "time x torch's"), rows)


def measure_gradients(params: Params, report: Report) -> None:
    """How much the last logits of an untrained model move with an embedding, by its distance; 1 at distance 1."""
    tokens = texts(SAMPLES, params.long + 1, torch.Generator().manual_seed(params.seed), params.device)
    factors = {}
    for name, make in make_models(params).items():
        norms = gradient_by_distance(make(), tokens)
        for distance in range(1, params.long + 1):
            report.point("gradient", x=distance, y=max(norms[distance] / norms[1], 1e-30), series=name)
        factors[name] = (norms[params.long] / norms[1]) ** (1 / (params.long - 1))
    report.metric("lstm_factor", factors[LSTM_NAME])
    report.metric("biased_factor", factors[BIASED])
    report.metric("transformer_factor", factors[TRANSFORMER])
    report.metric("gradient_left", factors[LSTM_NAME] ** (params.long - 1))
    report.claim("lstm-fades", measured=factors[LSTM_NAME], expected=0.75, relation="at most")
    report.claim("bias-helps", measured=factors[BIASED] - factors[LSTM_NAME], expected=0.1, relation="at least")
    report.claim("attention-does-not", measured=factors[TRANSFORMER], expected=0.9, relation="at least")


def gradient_by_distance(model: nn.Module, tokens: Tensor) -> list[float]:  # [B, T + 1] -> a norm a distance
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, embeddings: Tensor) -> None:
        seen.append(embeddings)

    hook = model.get_submodule("embed_tokens").register_forward_hook(keep)
    direction = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(0)).to(tokens.device)
    last = model(tokens)[:, -1] @ direction
    (gradient,) = torch.autograd.grad(last.sum(), seen)
    hook.remove()
    return [float(norm) for norm in gradient.norm(dim=-1).mean(dim=0).flip(0)]  # distance 0 first


def count_sequential(params: Params, report: Report) -> None:
    """The longest chain of operations that wait for each other, in the graph that autograd recorded."""
    models = make_models(params)
    exponents: dict[str, float] = {}
    rows: list[tuple[str, int, int]] = []
    for name in (LSTM_NAME, TRANSFORMER):
        depths: list[int] = []
        for length in (params.short, params.long):
            tokens = texts(1, length, torch.Generator().manual_seed(params.seed), params.device)
            depths.append(longest_chain(models[name]()(tokens)))
            report.point("chain", x=length, y=depths[-1], series=name)
        exponents[name] = growth_exponent(report.series("chain", name))
        rows.append((name, depths[0], depths[1]))
    report.metric("lstm_chain", rows[0][2])
    report.metric("transformer_chain", rows[1][2])
    report.claim("sequential", measured=exponents[LSTM_NAME], expected=1.0, tolerance=0.2)
    report.claim("parallel", measured=exponents[TRANSFORMER], expected=0.0)
    columns = ("model", f"{params.short} tokens", f"{params.long} tokens")
    report.table("longest chain of operations", columns, rows)


def longest_chain(result: Tensor) -> int:
    depth: dict[Any, int] = {}
    waiting = [result.grad_fn]
    while waiting:
        node: Any = waiting[-1]
        inputs = [parent for parent, _ in node.next_functions if parent is not None]
        unknown = [parent for parent in inputs if parent not in depth]
        if unknown:
            waiting += unknown
        else:
            depth[waiting.pop()] = 1 + max((depth[parent] for parent in inputs), default=0)
    return depth[result.grad_fn]


def recall_all(params: Params, report: Report) -> None:
    models, rows = make_models(params), []
    shares: dict[tuple[str, int], float] = {}
    for name in (LSTM_NAME, TRANSFORMER):
        for length in (params.short, params.long):
            shares[name, length] = train(models[name](), name, length, params, report)
        parameters = sum(p.numel() for p in models[name]().parameters())
        rows.append((name, parameters, shares[name, params.short], shares[name, params.long]))
    report.table("share of first tokens recalled", ("model", "parameters", str(params.short), str(params.long)), rows)
    judge(shares, params, report)


def judge(shares: Mapping[tuple[str, int], float], params: Params, report: Report) -> None:
    report.metric("lstm_short", shares[LSTM_NAME, params.short])
    report.metric("lstm_long", shares[LSTM_NAME, params.long])
    report.metric("transformer_short", shares[TRANSFORMER, params.short])
    report.metric("transformer_long", shares[TRANSFORMER, params.long])
    near = shares[LSTM_NAME, params.short]
    report.claim("near-is-recalled", measured=near, expected=5 / VOCABULARY, relation="at least")
    report.claim("far-is-lost", measured=shares[LSTM_NAME, params.long], expected=0.25, relation="at most")
    least = min(shares[TRANSFORMER, length] for length in (params.short, params.long))
    report.claim("attention-recalls", measured=least, expected=0.95, relation="at least")


def train(model: nn.Module, name: str, length: int, params: Params, report: Report) -> float:
    """The share of first tokens that the trained model names after `length` tokens."""
    size = SIZES[params.size]
    optimizer = fused_adamw(model.parameters(), lr=RATE, device=params.device, betas=(0.9, 0.999))
    generator, losses = torch.Generator().manual_seed(params.seed), []
    series = f"{name} {length}"
    for step in report.progress(range(size.steps), unit="step", label=series):
        for group in optimizer.param_groups:
            group["lr"] = warmup_cosine(step, warmup=20, total=size.steps, peak=RATE)
        tokens = texts(size.batch, length, generator, params.device)
        optimizer.zero_grad()
        loss = F.cross_entropy(model(tokens)[:, -1], tokens[:, 0])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
        if step % 10 == 9:
            report.point("training_loss", x=step + 1, y=fmean(losses[-10:]), series=series)
    tokens = texts(HELD_OUT, length, generator, params.device)
    with torch.no_grad():
        return float((model(tokens)[:, -1].argmax(-1) == tokens[:, 0]).float().mean())
