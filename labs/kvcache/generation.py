"""A prompt at once, and whole generations from one token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import accumulate
from statistics import median

from llmquiz.lab.sdk import LabError, Report, growth_exponent
from llmquiz.llm.cache.base import Cache
from llmquiz.llm.decode.generate import generate
from llmquiz.llm.model.decoder import Decoder

from .walk import contexts
from .ways import GROWING, NO_CACHE, STATIC, TRANSFORMERS, Bench

COMPARED = (NO_CACHE, GROWING, STATIC, TRANSFORMERS)
GENERATION_SECONDS = 20.0  # for a whole generation without a cache


def time_prefill(bench: Bench) -> dict[str, float]:
    """Median seconds to take in all the tokens at once and give the first logits."""
    times: dict[str, list[float]] = {}
    while not times or (len(times[NO_CACHE]) < 3 and sum(times[NO_CACHE]) < 1.0):
        for name, feed in {NO_CACHE: bench.recompute, **{name: way.feed for name, way in bench.ways().items()}}.items():
            if name in COMPARED:
                times.setdefault(name, []).append(bench.timed(feed, bench.tokens[:, : bench.longest])[1])
    return {name: median(values) for name, values in times.items()}


def generate_whole(bench: Bench, recomputing: dict[int, float], report: Report) -> dict[str, float]:
    """Tokens per second of whole greedy generations from one token; of transformers by its own `generate`."""
    length = affordable(recomputing, GENERATION_SECONDS / bench.stretch())
    caches = bench.caches()
    ways = (NO_CACHE, *caches, *(() if bench.twin is None else (TRANSFORMERS,)))
    seconds = {}
    for name in report.progress(ways, unit="generation"):
        if name == TRANSFORMERS:
            seconds[name] = transformers_seconds(bench, length)
        elif name == NO_CACHE:
            with counted_positions(bench.model) as fed:
                seconds[name] = generation_seconds(bench, length, None)
        else:
            seconds[name] = generation_seconds(bench, length, caches[name])
    positions = list(accumulate(fed))  # to make 1, 2, 3, ... tokens
    growth = growth_exponent([(T, positions[T - 1]) for T in contexts(length)])
    report.claim("quadratic-recompute", measured=growth, expected=2.0, tolerance=0.1)
    copied = caches[GROWING].copied_bytes
    expected = bench.cache_bytes(length * (length - 1) // 2)
    report.claim("quadratic-copies", measured=copied + caches[STATIC].copied_bytes, expected=expected)
    if length == bench.longest:
        report.metric("positions_recomputed", positions[-1])
        report.metric("copied_bytes", copied)
        report.metric("speedup_total", seconds[NO_CACHE] / seconds[STATIC])
    else:
        report.note(
            f"without a cache, {bench.longest} tokens would take too long here: whole generations stop at {length}, "
            "and their metrics are left out"
        )
    return {name: length / taken for name, taken in seconds.items()}


def affordable(recomputing: dict[int, float], budget: float) -> int:
    """The longest context that a generation without a cache reaches in time, at half of its last token's cost each."""
    fitting = [n for n, seconds in recomputing.items() if n * seconds / 2 <= budget]
    return max(fitting, default=min(recomputing))


def generation_seconds(bench: Bench, length: int, cache: Cache | None) -> float:
    """Seconds of a greedy generation by our loop."""
    return bench.timed(partial(generate, bench.model, bench.tokens[:, :1], length, cache=cache))[1]


def transformers_seconds(bench: Bench, length: int) -> float:
    """Seconds of a greedy generation by transformers' `generate`."""
    from llmquiz.llm.model import reference

    made, seconds = bench.timed(reference.generate_greedily, bench.twin, bench.tokens[:, :1], length)
    if made.size(1) != length:
        raise LabError(f"transformers made {made.size(1)} tokens, not {length}; its time cannot be compared")
    return seconds


@contextmanager
def counted_positions(model: Decoder) -> Iterator[list[int]]:
    """A list that gets the number of positions of each pass through the model."""
    passes: list[int] = []
    handle = model.layers[0].register_forward_pre_hook(lambda _, inputs: passes.append(inputs[0].size(1)))
    try:
        yield passes
    finally:
        handle.remove()
