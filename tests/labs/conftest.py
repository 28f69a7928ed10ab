"""Labs set torch's threads; that must not outlive a test, and two threads on busy cores are slower than one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from llmquiz.lab.catalog import Catalog
from llmquiz.lab.server import ForkServer

from .running import LABS


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    """Has the labs' packages loaded, so that a run starts in a moment."""
    with ForkServer(Catalog([(LABS, True)]).warm_modules()) as server:
        yield server


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One torch thread in a lab that runs in this process."""
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
