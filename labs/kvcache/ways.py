"""One model, its twins, and the ways to decode with it.

The ring needs a model with a sliding window. A window is no weight, so its model shares the tensors of the first and
differs in its config alone; what it computes differs, and so it has logits of its own to agree with.

Shapes: T tokens, V vocabulary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from llmquiz.lab.sdk import LabError, Params, Report, memory_available, quiet_clock, timed
from llmquiz.llm.cache.base import Cache
from llmquiz.llm.cache.growing import GrowingCache
from llmquiz.llm.cache.paged import PagedCache
from llmquiz.llm.cache.quantized import QuantizedCache
from llmquiz.llm.cache.ring import RingCache
from llmquiz.llm.cache.static import StaticCache
from llmquiz.llm.decode.generate import store_transposed
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder, random_decoder
from llmquiz.llm.model.load import build, find_checkpoint, load_checkpoint, read_config

NO_CACHE, GROWING, STATIC, PAGED, RING, INT4, TRANSFORMERS = (
    "no cache",
    "growing",
    "static",
    "paged",
    "ring",
    "int4",
    "transformers",
)
EXACT = (GROWING, STATIC, PAGED, RING, TRANSFORMERS)
SIZES = {
    "tiny": ModelConfig(2048, 128, 4, 4, 2, 32, 344),
    "small": ModelConfig(2048, 256, 4, 4, 2, 64, 688),
    "base": ModelConfig(8192, 512, 12, 8, 4, 64, 1408),
}
STEPWISE = 64  # contexts up to here are walked token by token, longer ones in chunks between the timed steps
FLAT_TOKENS = 256  # the growth of the decoding time is judged at least up to here
WINDOW = 4  # times fit into the longest context
BLOCK, GROUP = 16, 32  # tokens of a block; numbers that share a scale

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Way:
    """A way to decode that remembers.

    Attributes:
        feed: takes new tokens [1, T], gives the last logits [V].
        held: bytes of the keys and values that it remembers.
        cache: if it is one of ours.
    """

    feed: Callable[[Tensor], Tensor]
    held: Callable[[], int]
    cache: Cache | None = None


@dataclass(frozen=True, slots=True)
class Bench:
    """One model with its twins, and the tokens [1, T] that all are fed.

    Attributes:
        windowed: the same weights with a sliding window.
        twin: the same model in transformers, if that is installed.
        started: wall and CPU seconds.
    """

    model: Decoder
    windowed: Decoder
    twin: Any
    tokens: Tensor
    params: Params
    started: tuple[float, float]

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

    @property
    def group(self) -> int:
        """Numbers that share a scale: GROUP, or what of it divides a head."""
        return math.gcd(GROUP, self.model.config.head_dim)

    def cache_bytes(self, tokens: int) -> int:
        return self.model.config.cache_bytes(tokens, itemsize=self.dtype.itemsize)

    def caches(self) -> dict[str, Cache]:
        """An empty one of each kind that `generate_whole` compares."""
        return {GROWING: GrowingCache(self.model.config), STATIC: self.static(self.longest)}

    def static(self, capacity: int) -> StaticCache:
        return StaticCache(self.model.config, capacity, dtype=self.dtype, device=self.tokens.device)

    def ways(self) -> dict[str, Way]:
        """Each with an empty cache of its own."""
        from llmquiz.llm.model import reference

        config, dtype, device = self.model.config, self.dtype, self.tokens.device
        blocks = math.ceil(self.longest / BLOCK)
        ways = {
            **{name: self.own(cache) for name, cache in self.caches().items()},
            PAGED: self.own(PagedCache(config, blocks, block_size=BLOCK, dtype=dtype, device=device)),
            RING: self.own(RingCache(self.windowed.config, dtype=dtype, device=device), self.windowed),
            INT4: self.own(QuantizedCache(config, bits=4, group=self.group)),
        }
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

    def own(self, cache: Cache, model: Decoder | None = None) -> Way:
        """Our decoder with this cache."""
        decoder = model or self.model
        return Way(lambda new: decoder(new, cache, last_only=True)[0, -1], cache.bytes, cache)


def prepare(params: Params, report: Report) -> Bench:
    """The model on its device with its twins beside it, everything run once to be warm."""
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
    windowed = with_window(model, max(2, params.new_tokens // WINDOW))
    bench = Bench(model, windowed, twin, tokens, params, (time.perf_counter(), time.process_time()))
    for feed in (bench.recompute, *(way.feed for way in bench.ways().values())):
        for new in (tokens[:, :4], tokens[:, :1], tokens[:, :1]):
            feed(new)
    return bench


def with_window(model: Decoder, window: int) -> Decoder:
    """The same tensors with a sliding window, unless the model has one."""
    if model.config.sliding_window is not None:
        return model
    return build(replace(model.config, sliding_window=window), model.state_dict()).to(model.embed_tokens.weight.device)


def check_fit(config: ModelConfig, params: Params, *, copies: int) -> None:
    """Refuse what cannot work before a byte of it is loaded."""
    if params.new_tokens > config.max_position:
        raise LabError(f"the model has {config.max_position} positions; use no more --new-tokens than that")
    itemsize = getattr(torch, params.dtype).itemsize
    caches = (4 + copies) * config.cache_bytes(params.new_tokens, itemsize=itemsize)
    logits = 2 * STEPWISE * config.vocab_size * 4
    needed, free = copies * config.num_parameters() * itemsize + caches + logits, memory_available(params.device)
    if needed > 0.8 * free:
        raise LabError(
            f"the model needs about {needed / 2**30:.1f} GiB here and {free / 2**30:.1f} GiB are free; "
            "choose a smaller model, fewer --new-tokens or --dtype bfloat16"
        )
