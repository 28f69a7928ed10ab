"""Why scores are divided by sqrt(d): the spread of a dot product, and what it does to a softmax and its gradient.

Queries and keys are random, as in a network that has learnt nothing yet. Both ways see the same ones. That the softmax
would overflow is the answer that is heard most often; the lab tries it, with scores a thousand times as large.

Shapes: R queries, T keys, d head width.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor
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
from llmquiz.llm.model.attention import scaled_dot_product

WIDTHS = (16, 64, 256, 1024)
QUERIES = 256
SCALED, UNSCALED = "divided by √d", "not divided"
TIMED_WIDTH, HALVINGS, TURNS = 64, 3, 5


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    needed, free = 6 * 4 * params.longest**2, memory_available(params.device)
    if needed > 0.8 * free:
        raise LabError(f"{params.longest} tokens need {needed / 2**30:.1f} GiB of scores; choose a smaller --longest")
    measure_widths(params, report)
    check_gradient(params, report)
    try_to_overflow(params, report)
    measure_lengths(params, report)


def draw(params: Params, width: int) -> Tensor:  # -> [R, T]
    """Scores of random queries and keys whose components have mean 0 and variance 1."""
    generator = torch.Generator().manual_seed(params.seed)
    q = torch.randn(QUERIES, width, generator=generator)
    k = torch.randn(params.tokens, width, generator=generator)
    return q.to(params.device) @ k.to(params.device).T


def measure_widths(params: Params, report: Report) -> None:
    """Spread, entropy, largest weight and gradient at each width."""
    rows = []
    for width in report.progress(sorted({*WIDTHS, params.head_dim}), unit="width"):
        scores = draw(params, width)
        report.point("score_std", x=width, y=scores.std())
        for way, divided in ((SCALED, scores / math.sqrt(width)), (UNSCALED, scores)):
            p = divided.softmax(-1)
            entropy = -(p * divided.log_softmax(-1)).sum(-1).mean()
            gradient = (p * (1 - p)).sum(-1).mean()
            report.point("entropy", x=width, y=entropy, series=way)
            rows.append((width, way, divided.std(), entropy, p.amax(-1).mean(), gradient))
    columns = ("head width", "scores", "standard deviation", "entropy", "largest weight", "sum of p(1-p)")
    report.table(f"softmax over {params.tokens} keys", columns, rows)
    scaled, unscaled = ({row[0]: row for row in rows if row[1] == way} for way in (SCALED, UNSCALED))
    report_spread(params, report)
    report.metric("entropy_scaled", scaled[params.head_dim][3])
    report.metric("entropy_unscaled", unscaled[params.head_dim][3])
    law = math.log(params.tokens) - 0.5
    worst = max((row[3] for row in scaled.values()), key=lambda entropy: abs(float(entropy) - law))
    report.claim("entropy-law", measured=worst, expected=law, tolerance=0.1)
    for narrow, wide in pairwise(WIDTHS):
        report.claim("saturates", measured=unscaled[wide][3] / unscaled[narrow][3], expected=0.8, relation="at most")
    report.metric("gradient_scaled", scaled[params.head_dim][5])
    report.metric("gradient_unscaled", unscaled[params.head_dim][5])
    lost = scaled[WIDTHS[-1]][5] / unscaled[WIDTHS[-1]][5]
    report.metric("gradient_lost", lost)
    report.claim("gradient-dies", measured=lost, expected=3.0, relation="at least")


def report_spread(params: Params, report: Report) -> None:
    spreads = dict(report.series("score_std"))
    report.metric("score_std", spreads[params.head_dim])
    expected = math.sqrt(params.head_dim)
    report.claim("spread", measured=spreads[params.head_dim], expected=expected, tolerance=0.08 * expected)
    exponent = growth_exponent(spreads.items())
    report.metric("std_exponent", exponent)
    report.claim("spread", measured=exponent, expected=0.5, tolerance=0.05)


def check_gradient(params: Params, report: Report) -> None:
    """The formula beside what autograd finds, on one row of scores: the diagonal of its Jacobian."""
    scores = draw(params, params.head_dim)[0].double() / math.sqrt(params.head_dim)
    weights = partial(torch.softmax, dim=-1)
    jacobian = torch.autograd.functional.jacobian(weights, scores)  # type: ignore[no-untyped-call]  # [T, T]
    p = scores.softmax(-1)
    worst = (jacobian.diagonal() - p * (1 - p)).abs().max()
    report.claim("gradient-dies", measured=worst, expected=0.0, tolerance=1e-12)


def try_to_overflow(params: Params, report: Report) -> None:
    """exp alone overflows beyond 88; softmax subtracts first, so its largest exponent is 0."""
    large = 1000 * draw(params, WIDTHS[-1])
    spoiled = int((~large.softmax(-1).isfinite()).sum())
    report.claim("no-overflow", measured=spoiled, expected=0)
    rows = [
        ("exp(score)", large.abs().max(), int((~large.exp().isfinite()).sum())),
        ("softmax, which subtracts the largest score", large.abs().max(), spoiled),
    ]
    report.table("scores a thousand times too large", ("computed", "largest score", "numbers that overflowed"), rows)


def measure_lengths(params: Params, report: Report) -> None:
    """Operations and time of plain attention, one head, on ever longer sequences."""
    lengths = [params.longest >> halving for halving in reversed(range(HALVINGS))]
    works, flops = {}, {}
    for T in lengths:
        q, k, v = torch.randn(3, 1, 1, T, TIMED_WIDTH, device=params.device).unbind(0)
        works[T] = partial(scaled_dot_product, q, k, v)
        with FlopCounterMode(display=False) as counter:
            works[T]()
        flops[T] = counter.get_total_flops()
    clock = quiet_clock(params.device, 1)
    seconds = interleaved_medians(works, device=params.device, repeats=TURNS, clock=clock)
    exponent, counted = growth_exponent(seconds.items()), growth_exponent(flops.items())
    report.metric("time_exponent", exponent)
    report.metric("flops_exponent", counted)
    report.claim("quadratic", measured=counted, expected=2.0, tolerance=1e-9)
    report.claim("quadratic", measured=exponent, expected=2.0, tolerance=0.6)
    rows = [(T, flops[T] / 1e6, 4 * T * T / 2**20, 1e3 * seconds[T]) for T in lengths]
    report.table(f"one head of {TIMED_WIDTH}", ("tokens", "MFLOPs", "scores, MiB", "ms"), rows)
