"""How often Python looks for garbage that only a search can find."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collected_seldom() -> Iterator[None]:
    """Rows hold no cycles: to look for some among a hundred thousand takes a twentieth of an import."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 50, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
