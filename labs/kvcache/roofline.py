"""The roofline of this machine, and where prefill and decoding stand under it (Williams et al. 2009).

A pass does some FLOPs and must read some bytes. It can be no faster than peak FLOPs and bandwidth allow, so its rate is
at most min(peak, intensity * bandwidth), with intensity = FLOPs / bytes. Where the two meet stands the ridge. One token
uses each weight once, 2 FLOPs for the bytes of one number; T tokens at once use it T times for the same bytes.

Bytes are those that cannot be avoided, each weight and each cached number once; FLOPs are those of the products.

Shapes: T new tokens, S attended by the last of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from llmquiz.lab.sdk import Report, interleaved_medians, median_seconds

from .ways import Bench

MATRIX = {"cpu": 512, "cuda": 8192, "mps": 2048}  # the side of the squares whose product is timed
PREFILL = 3.0  # least ratio of the rates of prefill and decoding


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass through the model: what it must do, and the seconds that it took."""

    name: str
    flops: float
    read: float
    seconds: float

    @property
    def intensity(self) -> float:
        """FLOPs per byte."""
        return self.flops / self.read

    @property
    def rate(self) -> float:
        """FLOPs per second."""
        return self.flops / self.seconds


def report_roofline(bench: Bench, decoding: float, bandwidth: float, report: Report) -> None:
    """Which limit decoding and prefill meet; `decoding` in seconds a token, `bandwidth` in bytes per second."""
    peak = matmul_peak(bench)
    ridge = peak / bandwidth
    decode, *_, prefill = passes = [work(bench, "decode", 1, bench.longest, decoding), *prefills(bench)]
    report.metric("matmul_peak", peak / 1e9)
    report.metric("ridge", ridge)
    report.metric("decode_intensity", decode.intensity)
    report.claim("decode-memory-bound", measured=decode.intensity, expected=ridge / 2, relation="at most")
    report.metric("prefill_intensity", prefill.intensity)
    report.metric("prefill_fraction", prefill.rate / min(peak, prefill.intensity * bandwidth))
    report.metric("prefill_rate_ratio", prefill.rate / decode.rate)
    report.claim("prefill-reuses", measured=prefill.rate / decode.rate, expected=PREFILL, relation="at least")
    rows = []
    for one in passes:
        roof = min(peak, one.intensity * bandwidth)
        bound = "memory" if one.intensity < ridge else "arithmetic"
        rows.append((one.name, one.intensity, one.rate / 1e9, roof / 1e9, one.rate / roof, bound))
    columns = ("pass", "FLOPs/byte", "GFLOP/s", "at most", "of that", "bound by")
    report.table(f"roofline: {peak / 1e9:.0f} GFLOP/s, {bandwidth / 1e9:.0f} GB/s, ridge {ridge:.1f}", columns, rows)


def matmul_peak(bench: Bench) -> float:
    """FLOPs per second of a product of two squares: what arithmetic reaches at best, where nothing waits for memory."""
    side = MATRIX[bench.params.device]
    a, b = (torch.ones(side, side, dtype=bench.dtype, device=bench.tokens.device) for _ in range(2))
    seconds = median_seconds(partial(torch.mm, a, b), device=bench.params.device, warmup=2, clock=bench.clock)
    return 2 * side**3 / seconds


def prefills(bench: Bench) -> list[Pass]:
    """Prompts of a fourth of a fourth ... of the longest context, shortest first, fed to an empty cache at once."""
    lengths = [bench.longest >> k for k in range(6, -1, -2) if bench.longest >> k > 1]
    works = {T: partial(bench.recompute, bench.tokens[:, :T]) for T in lengths}
    seconds = interleaved_medians(works, device=bench.params.device, repeats=3, clock=bench.clock)
    return [work(bench, f"prefill {T}", T, T, seconds[T]) for T in lengths]


def work(bench: Bench, name: str, new: int, attended: int, seconds: float) -> Pass:
    """What `new` tokens need: 2 FLOPs a weight and token, and 4 for each pair of query and key, channel by channel.

    The head is applied to the last token alone, and the embedding is looked up.
    """
    config = bench.model.config
    head = config.vocab_size * config.hidden_size
    layers = config.num_parameters() - head * (1 if config.tie_embeddings else 2)
    pairs = new * attended - new * (new - 1) / 2
    flops = 2 * (layers * new + head) + 4 * config.num_layers * config.num_heads * config.head_dim * pairs
    return Pass(name, flops, bench.model.weight_bytes_read() + bench.cache_bytes(attended), seconds)
