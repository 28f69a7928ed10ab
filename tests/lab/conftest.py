"""Small labs without torch, and what tests ask of them."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmquiz.lab.catalog import Catalog, Lab
from llmquiz.lab.runner import run_blocking
from llmquiz.lab.state import RunState

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    """The labs in tests/lab/fixtures."""
    return Catalog([(FIXTURES, True)])


@pytest.fixture
def lab(catalog: Catalog) -> Callable[[str], Lab]:
    """The fixture lab of a name."""
    return catalog.find


@pytest.fixture
def run(catalog: Catalog) -> Callable[..., RunState]:
    """Runs a fixture lab to its end: ``run("quick", count=3, budget=...)``."""

    def run(name: str, **options: Any) -> RunState:
        state = RunState()
        own = {key: options.pop(key) for key in ("device", "seed", "budget", "server") if key in options}
        run_blocking(catalog.find(name), options, state.apply, **own)
        return state

    return run


@pytest.fixture
def ends() -> Callable[[int], bool]:
    """Whether a process, ours or not, is gone within five seconds."""

    def ends(pid: int) -> bool:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            return bool(select.select([descriptor], [], [], 5.0)[0])
        finally:
            os.close(descriptor)

    if not hasattr(os, "pidfd_open"):
        pytest.skip("needs Linux to wait for processes of others")
    return ends


@pytest.fixture
def write_lab(tmp_path: Path) -> Callable[..., Path]:
    """Writes a lab into a folder and returns that folder: ``write_lab("mine", 'title = …')``."""

    def write(name: str, manifest: str | bytes, script: str | None = "def run(params, report): ...\n") -> Path:
        folder = tmp_path / "labs" / name
        folder.mkdir(parents=True)
        content = manifest.encode() if isinstance(manifest, str) else manifest
        (folder / "lab.toml").write_bytes(content)
        if script is not None:
            (folder / "lab.py").write_text(script)
        return folder

    return write
