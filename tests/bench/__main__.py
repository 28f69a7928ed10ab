"""Run the benchmarks: all of them, or those that are named (`python -m tests.bench startup store`)."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main(names: list[str]) -> None:
    """Run each benchmark's `main()` under a heading."""
    known = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
    for name in names or known:
        if name not in known:
            sys.exit(f"bench: error: no benchmark '{name}'; there are {', '.join(known)}")
        print(f"\n── {name} " + "─" * (70 - len(name)), flush=True)
        importlib.import_module(f"tests.bench.bench_{name}").main()


if __name__ == "__main__":
    main(sys.argv[1:])
