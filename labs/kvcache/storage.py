"""What the caches hold at the end of the walk, and what blocks save where sequences differ in length."""

from __future__ import annotations

import math
import random
from statistics import fmean

from llmquiz.lab.sdk import Params, Report
from llmquiz.llm.cache.blocks import BlockPool, BlockTable
from llmquiz.llm.model.config import ModelConfig

from .walk import Latencies, Walk
from .ways import BLOCK, GROWING, INT4, RING, Bench

SEQUENCES = 512
SLACK = 1.5  # tokens: the mean of SEQUENCES random rests is within a seventh of that


def report_storage(walk: Walk, latencies: Latencies, report: Report) -> None:
    """Bytes of each cache against its formula, and what they cost in time and in precision."""
    bench, ways, window = walk.bench, walk.ways, walk.bench.windowed.config.sliding_window
    held = {name: way.held() for name, way in ways.items()}
    report.metric("cache_bytes", held[GROWING])
    report.metric("cache_bytes_per_token", held[GROWING] / bench.longest)
    report.claim("bytes-formula", measured=held[GROWING], expected=bench.cache_bytes(bench.longest))
    attended = min(bench.longest, window or bench.longest)
    report.metric("ring_bytes", held[RING])
    report.claim("ring-bounded", measured=held[RING], expected=bench.cache_bytes(attended))
    report.metric("int4_ratio", held[GROWING] / held[INT4])
    report.claim("quantized-bytes", measured=held[INT4], expected=int4_bytes(bench))
    report.metric("int4_logit_error", walk.relative_error(INT4))
    rows = []
    for name, way in ways.items():
        reserved = held[name] if way.cache is None else way.cache.reserved_bytes()
        sees = attended if name == RING else bench.longest
        times = (1e3 * latencies[name][bench.longest], walk.relative_error(name))
        rows.append((name, sees, held[name] / 2**20, reserved / 2**20, *times))
    columns = ("cache", "tokens attended", "MiB held", "MiB reserved", "decode ms/token", "logits off by")
    report.table(f"caches at {bench.longest} tokens", columns, rows)


def int4_bytes(bench: Bench) -> float:
    """Four bits and a share of 32 for each number in a whole group; the rest as it came."""
    config, group, itemsize = bench.model.config, bench.group, bench.dtype.itemsize
    rounded = bench.longest // group * group
    return numbers(config, rounded) * (4 + 32 / group) / 8 + numbers(config, bench.longest - rounded) * itemsize


def numbers(config: ModelConfig, tokens: int) -> int:
    """Keys and values of that many tokens, counted one by one."""
    return config.cache_bytes(tokens, itemsize=1)


def report_blocks(params: Params, report: Report) -> None:
    """Sequences of random lengths in blocks, beside reserving the longest for each of them."""
    longest, draw = params.new_tokens, random.Random(params.seed)
    lengths = [draw.randint(1, longest) for _ in range(SEQUENCES)]
    pool = BlockPool(SEQUENCES * math.ceil(longest / BLOCK), BLOCK)
    for length in lengths:
        pool.extend([BlockTable()], length)
    taken, remembered = pool.num_taken * BLOCK, sum(lengths)
    waste = (taken - remembered) / SEQUENCES
    report.metric("paged_waste", waste)
    report.metric("paged_utilization", remembered / taken)
    expected = fmean(-length % BLOCK for length in range(1, longest + 1))
    report.claim("paged-waste", measured=waste, expected=expected, tolerance=SLACK)
    reserved = SEQUENCES * longest
    rows = [
        ("the longest for each", reserved, (reserved - remembered) / SEQUENCES, remembered / reserved),
        (f"blocks of {BLOCK}", taken, waste, remembered / taken),
    ]
    columns = ("reserving", "tokens reserved", "wasted a sequence", "used")
    report.table(f"{SEQUENCES} sequences of 1 to {longest} tokens", columns, rows)
