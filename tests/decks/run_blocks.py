"""Runs code blocks one after the other, each in an empty namespace, so that a deck pays the import of torch once.

Reads {name: code} as JSON from stdin and writes {name: [error or "", CPU seconds of the slowest run]}. Every block runs
under several seeds: an example that holds for most random numbers would fail for some reader.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
import warnings

import torch

SEEDS = range(5)


def run(name: str, code: str) -> tuple[str, float]:
    """The last line of the traceback, if any, and the CPU seconds of the slowest run."""
    compiled, slowest = compile(code, name, "exec", dont_inherit=True), 0.0  # annotations as a reader has them
    for seed in SEEDS:
        torch.manual_seed(seed)
        start = time.process_time()
        try:
            exec(compiled, {"__name__": name})
        except Exception:  # noqa: BLE001  a card may raise anything; the test says what
            return f"seed {seed}: {traceback.format_exc(limit=-1)}", 0.0
        slowest = max(slowest, time.process_time() - start)
    return "", slowest


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    blocks = json.load(sys.stdin)
    json.dump({name: run(name, code) for name, code in blocks.items()}, sys.stdout)
