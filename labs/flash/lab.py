"""FlashAttention: the same numbers and the same operations from fewer bytes.

Three ways compute attention on the same tensors. Plain: scores, softmax, sum, each a whole matrix. Tiled: our loop with
an online softmax, which is FlashAttention without its GPU kernel. Torch: its kernels, each by itself. Operations are
counted by torch's dispatcher, which knows of no intention; memory by the tensors alive; errors against fp64.

Shapes: T tokens, H heads, D head width, t side of a tile, n = T / t.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import ceil
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from llmquiz.lab.sdk import (
    LabError,
    Params,
    Report,
    growth_exponent,
    interleaved_medians,
    memory_available,
    quiet_clock,
)
from llmquiz.llm.model.attention import scaled_dot_product, visibility
from llmquiz.llm.model.backends import BACKENDS, default_backend, reasons_against, run_backend
from llmquiz.llm.model.tiled import Work, tiled_attention
from llmquiz.llm.train.device import peak_memory

PLAIN, TILED, TORCH = "plain", "tiled", "torch"
EXACT_TOKENS = 300  # for errors: no multiple of a tile
HALVINGS, TURNS = 4, 5

Attend: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    needed, free = 8 * 4 * params.heads * params.tokens**2, memory_available(params.device)
    if needed > 0.8 * free:
        raise LabError(f"{params.tokens} tokens need {needed / 2**30:.1f} GiB without tiles; choose fewer --tokens")
    compare_numbers(params, report)
    count_operations(params, report)
    measure_memory(params, report)
    measure_traffic(params, report)
    measure_time(params, report)


def draw(params: Params, tokens: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """q, k, v, each [1, H, T, D], that want a gradient; the same numbers in every dtype, but for rounding."""
    generator = torch.Generator().manual_seed(params.seed)
    shape = (3, 1, params.heads, tokens, params.head_dim)
    numbers = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return tuple(part.to(params.device).requires_grad_() for part in numbers)


def forward_and_backward(attend: Attend, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The output, and the gradients of half its square."""
    attended = attend(*inputs)
    return attended.detach(), *torch.autograd.grad(attended, inputs, attended.detach())


def compare_numbers(params: Params, report: Report) -> None:
    """Output and gradients of every way against fp64, causal."""
    tiled: Attend = partial(tiled_attention, causal=True, tile=params.tile)
    seen = visibility(EXACT_TOKENS, EXACT_TOKENS, causal=True, device=torch.device(params.device))
    plain: Attend = partial(scaled_dot_product, visible=seen)
    double = draw(params, EXACT_TOKENS)
    exact = forward_and_backward(partial(run_backend, "math", causal=True), double)
    report.claim("exact", measured=worst(forward_and_backward(tiled, double), exact), expected=0, tolerance=1e-12)
    rows, errors = [], {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        inputs = draw(params, EXACT_TOKENS, dtype)
        truth = forward_and_backward(partial(run_backend, "math", causal=True), as_double(inputs))
        ways: dict[str, Attend] = {PLAIN: plain, TILED: tiled}
        for backend, reason in reasons_against(*inputs, causal=True).items():
            if not reason:
                ways[f"torch, {backend}"] = partial(run_backend, backend, causal=True)
        for way, attend in ways.items():
            found = forward_and_backward(attend, inputs)
            errors[name, way] = worst(found[:1], truth[:1])
            rows.append((name, way, errors[name, way], worst(found[1:], truth[1:])))
    report.table(f"error against fp64, {EXACT_TOKENS} tokens", ("numbers", "way", "output", "gradients"), rows)
    ratio = errors["fp32", TILED] / errors["fp32", PLAIN]
    report.metric("error_over_plain", ratio)
    report.claim("exact", measured=ratio, expected=3.0, relation="at most")


def as_double(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(part.detach().double().requires_grad_() for part in inputs)


def worst(found: tuple[Tensor, ...], exact: tuple[Tensor, ...]) -> float:
    """The largest difference, of the largest number."""
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, exact, strict=True))


def count_operations(params: Params, report: Report) -> None:
    """Of matrix products, as the dispatcher sees them; our own count must say the same."""
    inputs = draw(params, params.tokens, torch.float32)
    work, causal = Work(), Work()
    plain = count(scaled_dot_product, inputs)
    tiled = count(partial(tiled_attention, tile=params.tile, work=work), inputs)
    tiled_attention(*inputs, causal=True, tile=params.tile, work=causal)
    shorter = count(partial(tiled_attention, tile=params.tile), draw(params, params.tokens // 2, torch.float32))
    for name, here in (("forward", 0), ("backward", 1)):
        report.metric(f"{name}_ratio", tiled[here] / plain[here])
    report.claim("same-operations", measured=tiled[0], expected=plain[0])
    report.claim("same-operations", measured=work.forward_flops, expected=plain[0])
    report.claim(
        "same-operations", measured=tiled[0] / shorter[0], expected=(params.tokens / (params.tokens // 2)) ** 2
    )
    report.claim("recomputes", measured=tiled[1] / plain[1], expected=1.25, tolerance=1e-9)
    n = ceil(params.tokens / params.tile)
    report.metric("causal_share", causal.pairs / work.pairs)
    expected = (n + 1) / (2 * n)
    tolerance = 1e-9 if params.tokens % params.tile == 0 else 1 / n  # the last tiles are smaller
    report.claim("causal-half", measured=causal.pairs / work.pairs, expected=expected, tolerance=tolerance)
    rows = [
        (PLAIN, plain[0] / 1e6, plain[1] / 1e6),
        (TILED, tiled[0] / 1e6, tiled[1] / 1e6),
        ("tiled, causal", causal.forward_flops / 1e6, None),
    ]
    report.table(f"MFLOPs of matrix products, {params.tokens} tokens", ("way", "forward", "backward"), rows)


def count(attend: Attend, inputs: tuple[Tensor, ...]) -> tuple[int, int]:
    """Operations of the forward and of the backward pass."""
    with FlopCounterMode(display=False) as forward:
        attended = attend(*inputs)
    with FlopCounterMode(display=False) as backward:
        torch.autograd.grad(attended, inputs, torch.ones_like(attended))
    return int(forward.get_total_flops()), int(backward.get_total_flops())


def measure_memory(params: Params, report: Report) -> None:
    """Scores alive in the tiled forward pass, and the most memory that each way holds at ever longer sequences."""
    ways: dict[str, Attend] = {
        PLAIN: scaled_dot_product,
        TILED: partial(tiled_attention, tile=params.tile),
        TORCH: lambda q, k, v: run_backend(default_backend(q, k, v), q, k, v),
    }
    for tokens in [params.tokens >> halving for halving in reversed(range(HALVINGS))]:
        inputs = draw(params, tokens, torch.float32)
        for way, attend in ways.items():
            with peak_memory(params.device) as peak:
                forward_and_backward(attend, inputs)
            report.point("peak_memory", x=tokens, y=peak.bytes / 2**20, series=way)
    work = Work()
    with torch.no_grad():
        tiled_attention(*inputs, tile=params.tile, work=work)
    side, whole = min(params.tile, params.tokens), 4 * params.heads * params.tokens**2
    report.metric("score_bytes", work.score_bytes)
    report.claim("one-tile", measured=work.score_bytes, expected=4 * params.heads * side**2)
    report.metric("score_ratio", whole / work.score_bytes)
    longest = {way: report.series("peak_memory", way)[-2:] for way in ways}
    exponents = {way: growth_exponent(points) for way, points in longest.items()}
    report.metric("peak_exponent", exponents[TILED])
    report.claim("linear-memory", measured=exponents[TILED], expected=1.2, relation="at most")
    report.claim("linear-memory", measured=exponents[PLAIN], expected=1.5, relation="at least")
    rows = [(way, points[-1][1], exponents[way]) for way, points in longest.items()]
    report.table(f"peak memory, {params.tokens} tokens", ("way", "MiB", "growth with the length"), rows)


def measure_traffic(params: Params, report: Report) -> None:
    """What the plain way reads and writes, operation by operation, beside the tiles that the loop fetches."""
    inputs, work = draw(params, params.tokens, torch.float32), Work()
    with torch.no_grad():
        with Traffic() as traffic:
            scaled_dot_product(*inputs)
        tiled_attention(*inputs, tile=params.tile, work=work)
    report.metric("moved_ratio", traffic.bytes / work.moved_bytes)
    report.claim("fewer-bytes", measured=traffic.bytes / work.moved_bytes, expected=2.0, relation="at least")


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes that operations read and write; an operation that returns a view of its input does neither."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {id(leaf): leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        places = {tensor.untyped_storage().data_ptr() for tensor in given.values()}
        new = [t for t in tree_leaves(made) if isinstance(t, Tensor) and t.untyped_storage().data_ptr() not in places]
        if new:
            self.bytes += sum(tensor.nbytes for tensor in (*new, *given.values()))
        return made


def measure_time(params: Params, report: Report) -> None:
    """Causal attention, forward alone and with the backward pass, in every way that runs here."""
    inputs, T = draw(params, params.tokens, torch.float32), params.tokens
    seen = visibility(T, T, causal=True, device=torch.device(params.device))
    ways: dict[str, Attend] = {
        PLAIN: partial(scaled_dot_product, visible=seen),
        TILED: partial(tiled_attention, causal=True, tile=params.tile),
    }
    reasons = reasons_against(*inputs, causal=True)
    ways |= {name: partial(run_backend, name, causal=True) for name in BACKENDS if not reasons[name]}
    clock = quiet_clock(params.device, 1)
    timing = partial(interleaved_medians, device=params.device, repeats=TURNS, clock=clock)
    forward = timing({name: partial(attend, *inputs) for name, attend in ways.items()})
    both = timing({name: partial(forward_and_backward, attend, inputs) for name, attend in ways.items()})
    chosen = default_backend(*inputs, causal=True)
    report.metric("speedup_tiled", forward[PLAIN] / forward[TILED])
    report.metric("speedup_torch", forward[PLAIN] / forward[chosen])
    report.claim("faster", measured=forward[PLAIN] / forward[chosen], expected=1.5, relation="at least")
    rows: list[tuple[object, ...]] = [
        (
            f"torch, {name}" if name in BACKENDS else name,
            1e3 * forward[name],
            1e3 * both[name],
            "torch's choice" * (name == chosen),
        )
        for name in ways
    ]
    rows += [(f"torch, {name}", None, None, reason) for name, reason in reasons.items() if reason]
    report.table(f"causal, {T} tokens", ("way", "forward, ms", "with backward, ms", "remark"), rows)
