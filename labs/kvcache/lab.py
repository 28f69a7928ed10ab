"""KV cache: recompute or remember, and in which form.

Ways to decode walk over the same random tokens side by side: no cache, a growing cache, a preallocated one, one in
blocks, and transformers with its own. Their logits must agree at every step; only then are their times worth comparing.
A greedy walk would prove less: random weights soon repeat one token, and equal keys hide a wrong position. Two more
walk along that are not to agree: a ring, beside a model with a sliding window, and four bits, which round.

Times are medians of repeats that take turns. On the CPU with one thread they are CPU time, which a busy machine does
not stretch: what a quiet one would take. `ways.py` has the model and its caches, `walk.py` the walk and its times,
`generation.py` whole generations, `storage.py` bytes and blocks, `roofline.py` the limits of the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from llmquiz.lab.sdk import LabError, Params, Report, growth_exponent, read_bandwidth
from llmquiz.llm.errors import ModelError

from .generation import generate_whole, time_prefill
from .roofline import report_roofline
from .storage import report_blocks, report_storage
from .walk import Latencies, Walk, contexts, race_all, race_contexts
from .ways import EXACT, NO_CACHE, STATIC, TRANSFORMERS, Bench, prepare

LOGIT_TOLERANCE = {"float32": 1e-5, "bfloat16": 0.1, "float16": 0.01}  # of the largest logit
SMALL_CACHE = 0.25  # of the bytes of the weights: up to there decoding counts as flat


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(params.threads)
    with model_errors_in_words(), torch.inference_mode():
        bench = prepare(params, report)
        walk = Walk(bench)
        latencies = race_all(walk, report)
        report_logits(walk, report)
        report_storage(walk, latencies, report)
        report_blocks(params, report)
        bandwidth = report_decoding(bench, latencies, report)
        prefill = time_prefill(bench)
        report.metric("prefill_latency", 1e3 * prefill[STATIC])
        report_roofline(bench, latencies[STATIC][bench.longest], bandwidth, report)
        speed = generate_whole(bench, latencies[NO_CACHE], report)
        held = {NO_CACHE: 0, **{name: way.held() for name, way in walk.ways.items()}}
        rows = []
        for name, tokens_a_second in speed.items():
            times = (1e3 * prefill[name], 1e3 * latencies[name][bench.longest])
            rows.append((name, *times, tokens_a_second, tokens_a_second / speed[NO_CACHE], held[name] / 2**20))
        columns = ("mode", "prefill ms", "decode ms/token", "tokens/s", "x no cache", "cache MiB")
        report.table(f"{bench.longest} tokens", columns, rows)


def report_logits(walk: Walk, report: Report) -> None:
    """At the end of the walk: are the logits those of recomputing?"""
    bench, error = walk.bench, max(walk.relative_error(name) for name in walk.ways if name in EXACT)
    report.metric("max_logit_error", error)
    report.claim("same-logits", measured=error, expected=0.0, tolerance=LOGIT_TOLERANCE[bench.params.dtype])
    if bench.longest > walk.stepwise:
        report.note(f"logits were compared at every step up to {walk.stepwise} tokens, then around each context")


def report_decoding(bench: Bench, latencies: Latencies, report: Report) -> float:
    """How the speed of decoding grows with the context, and how near it comes to the memory's bandwidth, which is
    returned in bytes per second."""
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
    return bandwidth


@contextmanager
def model_errors_in_words() -> Iterator[None]:
    """A model that does not fit is the user's to mend: one line, not a traceback."""
    try:
        yield
    except ModelError as error:
        raise LabError(str(error)) from error
