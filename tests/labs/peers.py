"""A machine on which the libraries that a lab compares with are not installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import pytest

PEERS = ("bitsandbytes", "peft", "transformers")
ROOMS = ("llmquiz.llm.model", "llmquiz.llm.tune")


@contextmanager
def without_peers() -> Iterator[None]:
    """No peer can be found, and what looks for them has not looked yet."""
    with pytest.MonkeyPatch.context() as patch:
        for name in PEERS:
            patch.setitem(sys.modules, name, None)
        for room in ROOMS:
            patch.delitem(sys.modules, f"{room}.reference", raising=False)
            patch.delattr(import_module(room), "reference", raising=False)
        yield
        for room in ROOMS:  # what was imported meanwhile
            sys.modules.pop(f"{room}.reference", None)
            vars(import_module(room)).pop("reference", None)
