"""Honest measurements on a machine that others use too: medians of interleaved repeats, and the limit to compare with.

One timing says nothing on a shared machine. Repeats of the things to compare take turns, so that a busy moment hits
all of them; the median then forgets it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from statistics import fmean, median
from typing import Any, TypeAlias, TypeVar

from llmquiz.core.errors import LabError
from llmquiz.lab.sdk.device import synchronize

K = TypeVar("K")
R = TypeVar("R")
Clock: TypeAlias = Callable[[], float]
PROBE_BYTES = 256 * 2**20  # well beyond a last-level cache


def quiet_clock(device: str, threads: int) -> Clock:
    """CPU time for one thread on the CPU, which a busy machine does not stretch; wall time everywhere else."""
    return time.thread_time if device == "cpu" and threads == 1 else time.perf_counter


def timed(work: Callable[..., R], *args: Any, device: str = "cpu", clock: Clock = time.perf_counter) -> tuple[R, float]:
    """The result of `work(*args)` and its seconds by `clock`, with the device's queue drained before and after."""
    synchronize(device)
    start = clock()
    result = work(*args)
    synchronize(device)
    return result, clock() - start


def median_seconds(
    work: Callable[[], object],
    *,
    device: str = "cpu",
    repeats: int = 5,
    warmup: int = 1,
    clock: Clock = time.perf_counter,
) -> float:
    """The median time of one call of `work`, in seconds."""
    return interleaved_medians({0: work}, device=device, repeats=repeats, warmup=warmup, clock=clock)[0]


def interleaved_medians(
    works: Mapping[K, Callable[[], object]],
    *,
    device: str = "cpu",
    repeats: int = 5,
    warmup: int = 1,
    clock: Clock = time.perf_counter,
) -> dict[K, float]:
    """The median time of one call of each of `works`, in seconds; their repeats take turns.

    The first `warmup` rounds are not counted: they pay for lazy initialisation, caches and clock ramps.
    """
    seconds: dict[K, list[float]] = {name: [] for name in works}
    for turn in range(warmup + repeats):
        for name, work in works.items():
            _, taken = timed(work, device=device, clock=clock)
            if turn >= warmup:
                seconds[name].append(taken)
    return {name: median(times) for name, times in seconds.items()}


def read_bandwidth(
    device: str = "cpu", *, num_bytes: int = PROBE_BYTES, repeats: int = 7, clock: Clock = time.perf_counter
) -> float:
    """Bytes per second that a sum over a buffer much larger than any cache reads: the roof for batch-1 decoding.

    A sum is bound by reading, as a matrix-vector product is. On the CPU it uses as many threads as torch does.
    """
    import torch

    buffer = torch.ones(num_bytes // 4, dtype=torch.float32, device=device)
    return buffer.nbytes / median_seconds(buffer.sum, device=device, repeats=repeats, warmup=2, clock=clock)


def growth_exponent(points: Iterable[tuple[float, float]]) -> float:
    """The p of y = c x^p that fits the points best: least squares in log-log.

    Raises:
        LabError: if there are fewer than two different x, or a coordinate is not positive.
    """
    pairs = list(points)
    if any(x <= 0 or y <= 0 for x, y in pairs):
        raise LabError("a growth exponent needs positive points; leave out those at zero")
    logs = [(math.log(x), math.log(y)) for x, y in pairs]
    if len({x for x, _ in logs}) < 2:
        raise LabError("a growth exponent needs at least two different x; measure more lengths")
    mean_x, mean_y = fmean(x for x, _ in logs), fmean(y for _, y in logs)
    covariance = sum((x - mean_x) * (y - mean_y) for x, y in logs)
    return covariance / sum((x - mean_x) ** 2 for x, _ in logs)
