"""KV cache: recompute or remember.

Four ways to decode walk over the same random tokens side by side: no cache, a growing cache, a preallocated one, and
transformers with its own. Their logits must agree at every step; only then are their times worth comparing. A greedy
walk would prove less: random weights soon repeat one token, and equal keys hide a wrong position.

Times are medians of repeats that take turns. On the CPU with one thread they are CPU time, which a busy machine does
not stretch: what a quiet one would take. Shapes: T tokens, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from statistics import median
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor

from llmquiz.lab.sdk import (
    LabError,
    Params,
    Report,
    growth_exponent,
    memory_available,
    quiet_clock,
    read_bandwidth,
    timed,
)
from llmquiz.llm.cache.base import Cache
from llmquiz.llm.cache.growing import GrowingCache
from llmquiz.llm.cache.static import StaticCache
from llmquiz.llm.decode.generate import generate, store_transposed
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder, random_decoder
from llmquiz.llm.model.load import find_checkpoint, load_checkpoint, read_config

NO_CACHE, GROWING, STATIC, TRANSFORMERS = "no cache", "growing", "static", "transformers"
SIZES = {
    "tiny": ModelConfig(2048, 128, 4, 4, 2, 32, 344),
    "small": ModelConfig(2048, 256, 4, 4, 2, 64, 688),
    "base": ModelConfig(8192, 512, 12, 8, 4, 64, 1408),
}
LOGIT_TOLERANCE = {"float32": 1e-5, "bfloat16": 0.1, "float16": 0.01}  # of the largest logit
STEPWISE = 256  # contexts up to here are walked token by token, longer ones in chunks between the timed steps,
WALK_SECONDS = 12.0  # if the walk takes no longer than that
SHORTEST = 16  # of the contexts, if that leaves two
ROUNDS, STEPS = 5, 3  # turns of each way at a context, and steps a turn, of which the first only warms up
RACE_SECONDS = 3.0  # for the timed recomputing at one context
GENERATION_SECONDS = 20.0  # for a whole generation without a cache
FLAT_TOKENS, FLAT_SAMPLES, FLAT_SECONDS = 256, 45, 2.0  # the growth of the decoding time is judged at least up to here
SMALL_CACHE = 0.25  # of the bytes of the weights: up to there decoding counts as flat

R = TypeVar("R")
Latencies: TypeAlias = dict[str, dict[int, float]]  # way to decode -> context -> seconds a token


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(params.threads)
    with model_errors_in_words(), torch.inference_mode():
        bench = prepare(params, report)
        walk = Walk(bench)
        latencies = race_all(walk, report)
        report_cache(walk, report)
        report_decoding(bench, latencies, report)
        prefill = time_prefill(bench)
        report.metric("prefill_latency", 1e3 * prefill[STATIC])
        speed = generate_whole(bench, latencies[NO_CACHE], report)
        held = {NO_CACHE: 0, **{name: way.held() for name, way in walk.ways.items()}}
        rows = []
        for name, seconds in latencies.items():
            times = (1e3 * prefill[name], 1e3 * seconds[bench.longest])
            rows.append((name, *times, speed[name], speed[name] / speed[NO_CACHE], held[name] / 2**20))
        columns = ("mode", "prefill ms", "decode ms/token", "tokens/s", "x no cache", "cache MiB")
        report.table(f"{bench.longest} tokens", columns, rows)


@dataclass(frozen=True, slots=True)
class Way:
    """A way to decode that remembers: `feed` takes new tokens [1, T], gives the last logits [V]; `held` tells bytes."""

    feed: Callable[[Tensor], Tensor]
    held: Callable[[], int]


@dataclass(frozen=True, slots=True)
class Bench:
    """One model, its twin in transformers if there is one, and the tokens [1, T] that all are fed."""

    model: Decoder
    twin: Any
    tokens: Tensor
    params: Params
    started: tuple[float, float]  # wall and CPU seconds

    @property
    def longest(self) -> int:
        """The longest context that is compared."""
        return int(self.params.new_tokens)

    @property
    def dtype(self) -> torch.dtype:
        return self.model.embed_tokens.weight.dtype

    @property
    def clock(self) -> Callable[[], float]:
        return quiet_clock(self.params.device, self.params.threads)

    def cache_bytes(self, tokens: int) -> int:
        return self.model.config.cache_bytes(tokens, itemsize=self.dtype.itemsize)

    def caches(self) -> dict[str, Cache]:
        static = StaticCache(self.model.config, self.longest, dtype=self.dtype, device=self.tokens.device)
        return {GROWING: GrowingCache(self.model.config), STATIC: static}

    def ways(self) -> dict[str, Way]:
        """Each with an empty cache of its own."""
        from llmquiz.llm.model import reference

        ways = {name: self.own(cache) for name, cache in self.caches().items()}
        return ways if self.twin is None else {**ways, TRANSFORMERS: Way(*reference.cached_decoding(self.twin))}

    def stretch(self) -> float:
        """How much longer the machine takes than its CPU works, since others use it too."""
        wall, cpu = time.perf_counter() - self.started[0], time.process_time() - self.started[1]
        return max(1.0, wall / max(cpu, 1e-3))

    def recompute(self, text: Tensor) -> Tensor:  # [1, T] -> [V]
        logits: Tensor = self.model(text, last_only=True)[0, -1]
        return logits

    def timed(self, work: Callable[..., R], *args: Any) -> tuple[R, float]:
        """The result of `work(*args)` and the seconds that it took."""
        return timed(work, *args, device=self.params.device, clock=self.clock)

    def own(self, cache: Cache) -> Way:
        """Our decoder with this cache."""
        return Way(lambda new: self.model(new, cache, last_only=True)[0, -1], cache.reserved_bytes)


def prepare(params: Params, report: Report) -> Bench:
    """The model on its device with its twin beside it, everything run once to be warm."""
    folder = find_checkpoint(params.model) if params.model else None
    config = read_config(folder) if folder else SIZES[params.size]
    report.note(f"a model of {config.num_parameters() / 1e6:.1f} million parameters in {params.dtype}")
    if params.device == "cpu":
        clock = "CPU time: what a quiet machine would take" if params.threads == 1 else "wall time"
        report.note(f"threads: {params.threads}; all times are {clock}")
    from llmquiz.llm.model import reference  # transformers takes seconds to import, where the process is not warm

    check_fit(config, params, copies=2 if reference.AVAILABLE else 1)
    dtype = getattr(torch, params.dtype)
    twin = None
    if folder:
        model = load_checkpoint(folder, dtype=dtype, device=params.device)
    else:
        model = random_decoder(config, params.seed).to(params.device, dtype)
    if not reference.AVAILABLE:
        report.note("transformers is not installed; it was left out of the comparison")
    elif folder:
        twin = reference.load_with_transformers(folder, dtype=dtype, device=params.device)
    else:
        twin = reference.to_transformers(model)
    if params.device == "cpu":
        store_transposed(model)
    generator = torch.Generator().manual_seed(params.seed)
    length = min(max(params.new_tokens, FLAT_TOKENS), config.max_position)
    tokens = torch.randint(config.vocab_size, (1, length), generator=generator).to(params.device)
    bench = Bench(model, twin, tokens, params, (time.perf_counter(), time.process_time()))
    for feed in (bench.recompute, *(way.feed for way in bench.ways().values())):
        for new in (tokens[:, :4], tokens[:, :1], tokens[:, :1]):
            feed(new)
    return bench


def check_fit(config: ModelConfig, params: Params, *, copies: int) -> None:
    """Refuse what cannot work before a byte of it is loaded."""
    if params.new_tokens > config.max_position:
        raise LabError(f"the model has {config.max_position} positions; use no more --new-tokens than that")
    itemsize = getattr(torch, params.dtype).itemsize
    caches = (2 + copies) * config.cache_bytes(params.new_tokens, itemsize=itemsize)
    logits = STEPWISE * config.vocab_size * 4
    needed, free = copies * config.num_parameters() * itemsize + caches + logits, memory_available(params.device)
    if needed > 0.8 * free:
        raise LabError(
            f"the model needs about {needed / 2**30:.1f} GiB here and {free / 2**30:.1f} GiB are free; "
            "choose a smaller model, fewer --new-tokens or --dtype bfloat16"
        )


class Walk:
    """All ways to decode at one position of the same tokens, their logits compared with recomputing.

    `expected` holds the logits [V] of each context up to STEPWISE: by causality, row t of one pass over a text is what
    recomputing its first t + 1 tokens gives. Longer contexts join as they are recomputed.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench, self.ways, self.position = bench, bench.ways(), 0
        self.stepwise = min(STEPWISE, bench.longest)
        self.expected = dict(enumerate(bench.model(bench.tokens[:, : self.stepwise])[0], start=1))
        self.error = torch.zeros((), device=bench.tokens.device)

    def advance(self, context: int) -> None:
        """Feed every way up to `context`, untimed: token by token up to `stepwise`, then in one chunk."""
        stops = sorted({self.position, *range(self.position, min(context, self.stepwise)), context})
        for way in self.ways.values():
            for start, end in pairwise(stops):
                self._step(way, start, end)
        self.position = context

    def race(self, context: int, turns: int) -> dict[str, float]:
        """Median seconds a token of each way over the last `turns` * STEPS tokens of `context`."""
        self.advance(context - turns * STEPS)
        seconds: dict[str, list[float]] = {name: [] for name in (NO_CACHE, *self.ways)}
        for _ in range(turns):
            text = self.bench.tokens[:, :context]
            self.expected[context], recomputing = self.bench.timed(self.bench.recompute, text)
            seconds[NO_CACHE].append(recomputing)
            stops = range(self.position, self.position + STEPS + 1)
            for name, way in self.ways.items():
                seconds[name] += [self._step(way, start, end) for start, end in pairwise(stops)][1:]
            self.position += STEPS
        latencies = {name: median(times) for name, times in seconds.items()}
        token = sum(latencies[name] for name in self.ways)
        self.stepwise = min(self.stepwise, max(self.position, int(WALK_SECONDS / self.bench.stretch() / token)))
        return latencies

    def relative_error(self) -> float:
        """The largest difference of a logit so far, as a part of the largest logit."""
        return float(self.error / torch.stack(list(self.expected.values())).abs().max())

    def _step(self, way: Way, start: int, end: int) -> float:
        logits, seconds = self.bench.timed(way.feed, self.bench.tokens[:, start:end])
        if end in self.expected:
            self.error = torch.maximum(self.error, (logits - self.expected[end]).abs().max())
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


def report_cache(walk: Walk, report: Report) -> None:
    """At the end of the walk: are the logits those of recomputing, and the bytes those of the formula?"""
    bench, error = walk.bench, walk.relative_error()
    report.metric("max_logit_error", error)
    report.claim("same-logits", measured=error, expected=0.0, tolerance=LOGIT_TOLERANCE[bench.params.dtype])
    if bench.longest > walk.stepwise:
        report.note(f"logits were compared at every step up to {walk.stepwise} tokens, then around each context")
    held = walk.ways[GROWING].held()
    report.metric("cache_bytes", held)
    report.metric("cache_bytes_per_token", held / bench.longest)
    report.claim("bytes-formula", measured=held, expected=bench.cache_bytes(bench.longest))


def report_decoding(bench: Bench, latencies: Latencies, report: Report) -> None:
    """How the speed of decoding grows with the context, and how near it comes to the memory's bandwidth."""
    decoding, recomputing, longest = latencies[STATIC], latencies[NO_CACHE], bench.longest
    weights = bench.model.weight_bytes_read()
    reach = contexts(bench.tokens.size(1))
    flat = [n for n in reach if bench.cache_bytes(n) <= SMALL_CACHE * weights]
    if len(flat) < len(reach):
        report.note(f"flat-decode is judged up to {max(flat)} tokens: beyond, the cache is not small to the weights")
    growth = growth_exponent(race_contexts(bench, flat))
    report.metric("decode_exponent", growth)
    report.claim("flat-decode", measured=growth, expected=0.0, tolerance=0.2)
    report.metric("recompute_exponent", growth_exponent(recomputing.items()))
    report.metric("decode_latency", 1e3 * decoding[longest])
    report.metric("recompute_latency", 1e3 * recomputing[longest])
    report.metric("speedup_at_longest", recomputing[longest] / decoding[longest])
    if TRANSFORMERS in latencies:
        report.metric("speedup_over_transformers", latencies[TRANSFORMERS][longest] / decoding[longest])
    read = weights + bench.cache_bytes(longest)
    bandwidth = read_bandwidth(bench.params.device, clock=bench.clock)
    report.metric("memory_bandwidth", bandwidth / 1e9)
    report.metric("bandwidth_fraction", read / decoding[longest] / bandwidth)


def race_contexts(bench: Bench, lengths: list[int]) -> list[tuple[float, float]]:
    """Median seconds a token of the preallocated cache at each mean context; the contexts take turns, so that a machine
    that changes its speed changes it for all."""
    seconds: dict[int, list[float]] = {n: [] for n in lengths}
    turns = min(lengths) - 1
    while len(seconds[lengths[0]]) < FLAT_SAMPLES and sum(map(sum, seconds.values())) < FLAT_SECONDS:
        caches = {n: StaticCache(bench.model.config, n, dtype=bench.dtype, device=bench.tokens.device) for n in lengths}
        feeds = {n: bench.own(cache).feed for n, cache in caches.items()}
        for n, feed in feeds.items():
            feed(bench.tokens[:, : n - turns])
        for _ in range(turns):
            for n, feed in feeds.items():
                seconds[n].append(bench.timed(feed, bench.tokens[:, :1])[1])
    return [(n - (turns - 1) / 2, median(times)) for n, times in seconds.items()]


def time_prefill(bench: Bench) -> dict[str, float]:
    """Median seconds to take in all the tokens at once and give the first logits."""
    times: dict[str, list[float]] = {}
    while not times or (len(times[NO_CACHE]) < 3 and sum(times[NO_CACHE]) < 1.0):
        feeds = {NO_CACHE: bench.recompute, **{name: way.feed for name, way in bench.ways().items()}}
        for name, feed in feeds.items():
            times.setdefault(name, []).append(bench.timed(feed, bench.tokens[:, : bench.longest])[1])
    return {name: median(values) for name, values in times.items()}


def generate_whole(bench: Bench, recomputing: dict[int, float], report: Report) -> dict[str, float]:
    """Tokens per second of whole greedy generations from one token; of transformers by its own `generate`."""
    length = affordable(recomputing, GENERATION_SECONDS / bench.stretch())
    with counted_positions(bench.model) as fed:
        seconds = {NO_CACHE: [generation_seconds(bench, length, None)]}
    positions = list(accumulate(fed))  # to make 1, 2, 3, ... tokens
    growth = growth_exponent([(T, positions[T - 1]) for T in contexts(length)])
    report.claim("quadratic-recompute", measured=growth, expected=2.0, tolerance=0.1)
    repeats = 3 if sum(seconds[NO_CACHE]) < GENERATION_SECONDS / bench.stretch() / 4 else 1
    for _ in report.progress(range(repeats), unit="generation"):
        caches = bench.caches()
        for name, cache in caches.items():
            seconds.setdefault(name, []).append(generation_seconds(bench, length, cache))
        if bench.twin is not None:
            seconds.setdefault(TRANSFORMERS, []).append(transformers_seconds(bench, length))
    copied = caches[GROWING].copied_bytes
    expected = bench.cache_bytes(length * (length - 1) // 2)
    report.claim("quadratic-copies", measured=copied + caches[STATIC].copied_bytes, expected=expected)
    totals = {name: median(values) for name, values in seconds.items()}
    if length == bench.longest:
        report.metric("positions_recomputed", positions[-1])
        report.metric("copied_bytes", copied)
        report.metric("speedup_total", totals[NO_CACHE] / totals[STATIC])
    else:
        report.note(
            f"without a cache, {bench.longest} tokens would take too long here: whole generations stop at {length}, "
            "and their metrics are left out"
        )
    return {name: length / total for name, total in totals.items()}


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


@contextmanager
def model_errors_in_words() -> Iterator[None]:
    """A model that does not fit is the user's to mend: one line, not a traceback."""
    try:
        yield
    except ModelError as error:
        raise LabError(str(error)) from error
