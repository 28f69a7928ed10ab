"""Every test has a home of its own; none touches the user's folders. The real Anki, where one asks it, has no fuzz."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["ANKI_TEST_MODE"] = "1"  # read once a process, by whichever test wakes Anki first


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty LLMQUIZ_HOME."""
    folder = tmp_path / "home"
    monkeypatch.setenv("LLMQUIZ_HOME", str(folder))
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(variable, raising=False)
    return folder
