"""All ways at one position of the same tokens: their logits compared with recomputing, their steps timed.

Shapes: T tokens, V vocabulary.
"""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import TypeAlias

import torch
from torch import Tensor

from llmquiz.lab.sdk import Report

from .ways import NO_CACHE, RING, STEPWISE, Bench, Way

WALK_SECONDS = 12.0  # steps are walked one by one as long as the walk takes no longer than that
SHORTEST = 16  # of the contexts, if that leaves two
ROUNDS, STEPS = 5, 3  # turns of each way at a context, and steps a turn, of which the first only warms up
RACE_SECONDS = 3.0  # for the timed recomputing at one context
FLAT_SAMPLES, FLAT_SECONDS = 30, 2.0

Latencies: TypeAlias = dict[str, dict[int, float]]  # way to decode -> context -> seconds a token


class Walk:
    """All ways to decode at one position of the same tokens, their logits compared with recomputing.

    `full` and `windowed` hold the logits [V] to expect at each context up to STEPWISE: by causality, row t of one pass
    over a text is what recomputing its first t + 1 tokens gives. Longer contexts join as they are recomputed.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench, self.ways, self.position = bench, bench.ways(), 0
        self.stepwise = min(STEPWISE, bench.longest)
        text = bench.tokens[:, : self.stepwise]
        self.full = dict(enumerate(bench.model(text)[0], start=1))
        self.windowed = dict(enumerate(bench.windowed(text)[0], start=1))
        self.errors = {name: torch.zeros((), device=text.device) for name in self.ways}

    def advance(self, context: int) -> None:
        """Feed every way up to `context`, untimed: token by token up to `stepwise`, then in one chunk."""
        stops = sorted({self.position, *range(self.position, min(context, self.stepwise)), context})
        for name in self.ways:
            for start, end in pairwise(stops):
                self._step(name, start, end)
        self.position = context

    def race(self, context: int, turns: int) -> dict[str, float]:
        """Median seconds a token of each way over the last `turns` * STEPS tokens of `context`."""
        self.advance(context - turns * STEPS)
        seconds: dict[str, list[float]] = {name: [] for name in (NO_CACHE, *self.ways)}
        text = self.bench.tokens[:, :context]
        if context not in self.windowed:
            self.windowed[context] = self.bench.windowed(text, last_only=True)[0, -1]
        for _ in range(turns):
            self.full[context], recomputing = self.bench.timed(self.bench.recompute, text)
            seconds[NO_CACHE].append(recomputing)
            stops = range(self.position, self.position + STEPS + 1)
            for name in self.ways:
                seconds[name] += [self._step(name, start, end) for start, end in pairwise(stops)][1:]
            self.position += STEPS
        latencies = {name: median(times) for name, times in seconds.items()}
        token = sum(latencies[name] for name in self.ways)
        self.stepwise = min(self.stepwise, max(self.position, int(WALK_SECONDS / self.bench.stretch() / token)))
        return latencies

    def relative_error(self, name: str) -> float:
        """The largest difference of a logit so far, as a part of the largest logit."""
        return float(self.errors[name] / torch.stack(list(self._expected(name).values())).abs().max())

    def _expected(self, name: str) -> dict[int, Tensor]:
        return self.windowed if name == RING else self.full

    def _step(self, name: str, start: int, end: int) -> float:
        logits, seconds = self.bench.timed(self.ways[name].feed, self.bench.tokens[:, start:end])
        expected = self._expected(name)
        if end in expected:
            self.errors[name] = torch.maximum(self.errors[name], (logits - expected[end]).abs().max())
        return seconds


def race_all(walk: Walk, report: Report) -> Latencies:
    """Walk to each context and time every way there."""
    latencies: Latencies = {}
    turns = ROUNDS
    for context in report.progress(contexts(walk.bench.longest), unit="context"):
        fitting = (context - walk.position) // STEPS
        for name, seconds in walk.race(context, max(1, min(turns, fitting))).items():
            latencies.setdefault(name, {})[context] = seconds
            report.point("decode_latency", x=context, y=1e3 * seconds, series=name)
        next_recomputing = 4 * latencies[NO_CACHE][context]  # at most: attention grows with the square of the context
        turns = min(ROUNDS, int(RACE_SECONDS / next_recomputing))
    return latencies


def contexts(longest: int) -> list[int]:
    """Halves of the longest context, shortest first."""
    shortest = min(SHORTEST, longest // 2)
    return [longest >> k for k in range(13, -1, -1) if longest >> k >= shortest]


def race_contexts(bench: Bench, lengths: list[int]) -> list[tuple[float, float]]:
    """Median seconds a token of the preallocated cache at each mean context; the contexts take turns, so that a machine
    that changes its speed changes it for all."""
    seconds: dict[int, list[float]] = {n: [] for n in lengths}
    turns = min(lengths) - 1
    while len(seconds[lengths[0]]) < FLAT_SAMPLES and sum(map(sum, seconds.values())) < FLAT_SECONDS:
        ways: dict[int, Way] = {n: bench.own(bench.static(n)) for n in lengths}
        for n, way in ways.items():
            way.feed(bench.tokens[:, : n - turns])
        for _ in range(turns):
            for n, way in ways.items():
                seconds[n].append(bench.timed(way.feed, bench.tokens[:, :1])[1])
    return [(n - (turns - 1) / 2, median(times)) for n, times in seconds.items()]
