"""Markdown as plain lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmquiz.study.prose import lines, one_line


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("plain", ["plain"]),
        ("**bold** and `code`", ["bold and code"]),
        ("one\ntwo\n\nthree", ["one two", "three"]),
        ("- a\n- b\n  - c", ["- a", "- b", "  - c"]),
        ("3. a\n4. b", ["3. a", "4. b"]),
        ("```python\nx = 1\n\ny = 2\n```", ["    x = 1", "    ", "    y = 2"]),
        ("[paper](https://a.org) <https://b.org>", ["paper (https://a.org) https://b.org"]),
        ("$\\sqrt{d_k}$ is `$x$`", ["√dₖ is $x$"]),
        ("a * b_c_d", ["a * b_c_d"]),
        ("", []),
    ],
)
def test_lines(markdown: str, expected: list[str]) -> None:
    assert lines(markdown) == expected


def test_one_line_joins_all() -> None:
    assert one_line("- a\n- b\n\n中文") == "- a - b 中文"


@given(st.text(max_size=80))
def test_any_text_can_be_read(text: str) -> None:
    assert "\n" not in one_line(text)
