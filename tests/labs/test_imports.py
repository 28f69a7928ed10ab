"""A lab stands on the SDK and the LLM library alone, so that the engine behind it can change."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from llmquiz import locations

ALLOWED = ("llmquiz.lab.sdk", "llmquiz.llm")
LABS = sorted(locations.shipped("labs").glob("*/*.py"))


def imported(path: Path) -> set[str]:
    """Every module that the file names in an import, wherever it stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", LABS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_labs_import_the_sdk_and_the_library_only(path: Path) -> None:
    ours = {name for name in imported(path) if name.split(".")[0] == "llmquiz"}
    assert {name for name in ours if not name.startswith(ALLOWED)} == set()
    assert path.name != "lab.py" or any(name.startswith("llmquiz.lab.sdk") for name in ours)
