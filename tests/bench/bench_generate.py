"""Our decode loop beside transformers' `generate`, and both beside the memory's bandwidth, on Llama-shaped models.

All rows of a table take turns within one run, so a busy moment hits each; the bandwidth is measured in the same turns.
Prefill is kept apart in every row: where it is mixed in for one side only, speed-ups of 2 to 4 appear that are none.
Every token is stamped as it is handed out, so the time to the first one holds all that comes before it: the making of
the cache as well. With one thread times are CPU time, which a busy machine stretches less than the wall clock.

The limit of a row is the bytes that its own step reads, weights and cache, over the bandwidth. `SIZES=50M THREADS=1
BATCHES=1,4 ROUNDS=3 python -m tests.bench generate` for less than the whole.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median, quantiles
from typing import Any

import torch

from llmquiz.lab.sdk import quiet_clock
from llmquiz.llm.cache.static import StaticCache
from llmquiz.llm.decode.fused import pack_for_decoding
from llmquiz.llm.decode.generate import generate
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder, random_decoder
from llmquiz.llm.model.reference import to_transformers
from llmquiz.llm.quant.packed import FORMS

SHAPES = {
    "10M": ModelConfig(8192, 256, 8, 4, 2, 64, 704),
    "50M": ModelConfig(8192, 512, 14, 8, 4, 64, 1408),
    "125M": ModelConfig(16384, 768, 16, 12, 4, 64, 2048),
}
PROMPT, TOKENS = 64, 16  # short turns, so that rows meet the same busy moments
PROBE_BYTES = 1 << 28
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
PEER = "transformers fp32"
GOALS = {"ours fp32": 1.6, "ours fp16": 2.5, "ours int8": 3.5, "ours int4": 4.0}  # times PEER, at 50M on one thread
NO_SLOWER = 1.0  # times PEER to the first token; in fp32 both multiply by the same kernel, so noise decides

Clock = Callable[[], float]


@dataclass(slots=True)
class Row:
    """One way to generate: `run(prompt, tick)` calls `tick` after every token and returns the tokens [B, N].

    `bytes_read` is what a step reads; `first` and `later` are seconds to the first token, and from one to the next.
    """

    run: Callable[[Any, Callable[[Any], None]], Any]
    bytes_read: int
    first: list[float] = field(default_factory=list)
    later: list[float] = field(default_factory=list)
    made: Any = None

    def take_turn(self, prompt: Any, clock: Clock, counted: bool) -> None:
        stamps = [clock()]
        self.made = self.run(prompt, lambda _: stamps.append(clock()))
        gaps = [after - before for before, after in pairwise(stamps)]
        if counted:
            self.first.append(gaps[0])
            self.later += gaps[1:]


class Ticks:
    """What transformers calls a streamer: it gets the prompt, then each token."""

    def __init__(self, tick: Callable[[Any], None]) -> None:
        self.tick, self.prompt_seen = tick, False

    def put(self, value: Any) -> None:
        if self.prompt_seen:
            self.tick(value)
        self.prompt_seen = True

    def end(self) -> None:
        """Nothing is left to flush."""


def main() -> None:
    """Batch 1 on every size with one thread and two, then batches at 50M; the parts can be chosen."""
    sizes, threads = _chosen("SIZES", list(SHAPES)), [int(n) for n in _chosen("THREADS", ["1", "2"])]
    batches, rounds = [int(n) for n in _chosen("BATCHES", ["1", "4", "16"])], int(os.environ.get("ROUNDS", "5"))
    for size in sizes:
        model = random_decoder(SHAPES[size], seed=0)
        for batch in batches:
            for number in threads:
                if batch == 1 or (size == "50M" and number == 1) or "BATCHES" in os.environ:
                    race(size, model, batch, number, rounds)


def race(size: str, model: Decoder, batch: int, threads: int, rounds: int) -> None:
    """Let all rows take turns and print the table."""
    torch.set_num_threads(threads)
    clock = quiet_clock("cpu", threads)
    rows = contestants(model, batch)
    prompt = torch.randint(model.config.vocab_size, (batch, PROMPT), generator=torch.Generator().manual_seed(0))
    probe, bandwidths = torch.ones(PROBE_BYTES // 4), []
    for turn in range(rounds + 1):  # the first is a warm-up
        for row in rows.values():
            row.take_turn(prompt, clock, counted=turn > 0)
        start = clock()
        probe.sum()
        bandwidths.append(PROBE_BYTES / (clock() - start))
    print(
        f"\n{size}: {model.config.num_parameters() / 1e6:.1f}M parameters, batch {batch}, {threads} thread(s), "
        f"{PROMPT} + {TOKENS} tokens, {rounds} rounds, {median(bandwidths) / 1e9:.1f} GB/s"
    )
    print_table(rows, median(bandwidths), batch)
    if (size, batch, threads) == ("50M", 1, 1):
        print_goals(rows)
    del rows
    gc.collect()


def contestants(model: Decoder, batch: int) -> dict[str, Row]:
    """transformers in three dtypes and with a static cache, our readable decoder, and our packed forms."""
    config, twin = model.config, to_transformers(model)
    twin.generation_config.eos_token_id = None
    length = PROMPT + TOKENS // 2  # of the cache, on average

    def read(weights: int, itemsize: int) -> int:
        return weights + config.cache_bytes(length, batch=batch, itemsize=itemsize)

    rows = {}
    for name, dtype in DTYPES.items():
        theirs = twin if name == "fp32" else deepcopy(twin).to(dtype)
        size = read(model.weight_bytes_read() * dtype.itemsize // 4, dtype.itemsize)
        rows[f"transformers {name}"] = Row(_in_transformers(theirs, None), size)
        if name == "fp32":
            static = config.cache_bytes(PROMPT + TOKENS, batch=batch)
            rows["transformers fp32 static"] = Row(_in_transformers(twin, "static"), model.weight_bytes_read() + static)
    rows["our Decoder fp32"] = Row(_in_ours(model, batch), read(model.weight_bytes_read(), 4))
    for form in FORMS:
        packed = pack_for_decoding(model, form)
        rows[f"ours {form}"] = Row(_in_ours(packed, batch), read(packed.weight_bytes_read(), 4))
    return rows


def _in_ours(model: Any, batch: int) -> Callable[[Any, Callable[[Any], None]], Any]:
    def run(prompt: Any, tick: Callable[[Any], None]) -> Any:
        cache = StaticCache(model.config, PROMPT + TOKENS, batch=batch)
        return generate(model, prompt, TOKENS, cache=cache, on_tokens=tick).tokens

    return run


def _in_transformers(model: Any, cache: str | None) -> Callable[[Any, Callable[[Any], None]], Any]:
    from transformers import GenerationConfig

    settings = GenerationConfig(max_new_tokens=TOKENS, do_sample=False, pad_token_id=0, cache_implementation=cache)

    def run(prompt: Any, tick: Callable[[Any], None]) -> Any:
        mask = torch.ones_like(prompt)
        made = model.generate(prompt, attention_mask=mask, generation_config=settings, streamer=Ticks(tick))
        return made[:, PROMPT:]

    return run


def print_table(rows: dict[str, Row], bandwidth: float, batch: int) -> None:
    """First token and later ones apart, each as a ratio to transformers in fp32, and to it in the same dtype."""
    peer = rows[PEER]
    print(
        f"{'':25}{'first token':^16}|{'ms a later token':^23}|{'':8}|{'times as fast as theirs':^24}|\n"
        f"{'':25}{'ms':>8}{'x fp32':>8}|{'p50':>7}{'p95':>8}{'p99':>8}|{'tok/s':>8}|"
        f"{'fp32':>12}{'same dtype':>12}| limit"
    )
    for name, row in rows.items():
        first, later = median(row.first), median(row.later)
        cuts = quantiles(row.later, n=100)
        same = rows.get(f"transformers {name.split()[-1]}") if name.startswith("our") else None
        alike = f"{median(same.later) / later:12.2f}" if same else f"{'':12}"
        print(
            f"{name:25}{1e3 * first:8.1f}{median(peer.first) / first:8.2f}|{1e3 * later:7.2f}{1e3 * cuts[94]:8.2f}"
            f"{1e3 * cuts[98]:8.2f}|{batch / later:8.1f}|{median(peer.later) / later:12.2f}{alike}|"
            f"{row.bytes_read / bandwidth / later:6.0%}"
        )
    for name in ("transformers fp32 static", "our Decoder fp32", "ours fp32"):
        alike = (rows[name].made == peer.made).float().mean().item()
        if alike < 1:
            print(f"{name}: {alike:.0%} of the tokens are those of {PEER}")


def print_goals(rows: dict[str, Row]) -> None:
    """What was promised of this table, and whether it holds."""
    peer = rows[PEER]
    for name, goal in GOALS.items():
        decode, prefill = (
            median(getattr(peer, part)) / median(getattr(rows[name], part)) for part in ("later", "first")
        )
        held = "held" if decode >= goal and prefill >= NO_SLOWER else "NOT held"
        print(
            f"{name}: decodes {decode:.2f} x {PEER} (at least {goal}), first token {prefill:.2f} x "
            f"(at least {NO_SLOWER}): {held}"
        )


def _chosen(name: str, default: list[str]) -> list[str]:
    return os.environ[name].split(",") if os.environ.get(name) else default


if __name__ == "__main__":
    started = time.perf_counter()
    main()
    print(f"{time.perf_counter() - started:.0f} s")
