"""A store with the small collection in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmquiz.store import Store
from tests.study.collection import DECKS, NOON, Collection


@pytest.fixture
def collection(tmp_path: Path) -> Iterator[Collection]:
    with Store.open(tmp_path / "study.db") as store:
        store.sync(DECKS, now=NOON)
        yield Collection(store)
