"""A store in a file of its own, and cards to put into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmquiz.store import Store
from tests.store.crash_child import Children


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "llmquiz.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store.open(path) as opened:
        yield opened


@pytest.fixture(scope="session")
def children() -> Iterator[Children]:
    """A process that forks others, which may be killed."""
    with Children() as server:
        yield server
