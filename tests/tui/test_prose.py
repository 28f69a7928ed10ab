"""Markdown on the screen: hanging bullets, kept code, tables that fit, marks beside Chinese punctuation."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from llmquiz.tui import prose
from llmquiz.tui.prose import MARK, UNMARK, blocks, set_lines

SAMPLE = """Keys and **values** of `every` layer.

- a first point that is long enough to wrap
- 第二条要点，也足够长，需要换行

1. one
2. two

```python
def f(x):
    return x
```

| a | b |
|---|---|
| a cell that must wrap to fit | 中文 |

> quoted
"""


def plain(markdown: str, width: int) -> list[str]:
    return [line.plain for line in set_lines(blocks(markdown), width)]


@pytest.mark.parametrize("width", [12, 24, 40, 80])
def test_every_line_fits(width: int) -> None:
    assert all(cell_len(line) <= width for line in plain(SAMPLE, width))


def test_the_second_line_of_a_bullet_hangs_below_its_text() -> None:
    assert plain("- alpha beta gamma", 12) == ["• alpha beta", "  gamma"]


def test_items_are_numbered_and_lists_are_set_apart() -> None:
    assert plain("- a\n\n1. b\n2. c", 20) == ["• a", "", "1. b", "2. c"]


def test_nested_lists_indent() -> None:
    assert plain("- a\n  - b", 20) == ["• a", "  • b"]


def test_code_keeps_its_spaces_and_its_lines() -> None:
    assert [line.rstrip() for line in plain("```\nif x:\n    y\n```", 20)] == [" if x:", "     y"]


def test_markdown_marks_are_gone_and_styles_remain() -> None:
    (line,) = set_lines(blocks("a **b** `c`"), 20)
    assert line.plain == "a b c"
    assert [(span.start, span.end, span.style) for span in line.spans] == [(2, 3, "bold"), (4, 5, "$code")]


def test_marked_words_take_the_style_of_strong_text_beside_chinese_punctuation() -> None:
    (line,) = set_lines(blocks(f"变成{MARK}（权重）{UNMARK}，", strong="bold $accent"), 40)
    assert line.plain == "变成（权重），"
    assert [(span.start, span.end) for span in line.spans] == [(2, 6)]


def test_only_web_links_become_links() -> None:
    (line,) = set_lines(blocks("[a](https://example.org) [b](file:///etc/passwd)"), 40)
    assert [line.plain[span.start : span.end] for span in line.spans if getattr(span.style, "link", None)] == ["a"]


def test_html_is_shown_not_obeyed() -> None:
    assert plain("<script>x</script>", 40) == ["<script>x</script>"]


def test_the_codes_of_an_address_are_not_decoded_into_escapes() -> None:
    assert plain("see <https://x.org/%1B]0;a%E2%80%AE>", 60) == ["see https://x.org/%1B]0;a%E2%80%AE"]


def test_nothing_is_nothing() -> None:
    assert plain("", 40) == []


@given(st.text("ab 1_-.,()#*=+√，（中", max_size=24), st.integers(8, 40))
def test_words_alone_look_as_the_parser_shows_them(text: str, width: int) -> None:
    unmarked = prose._UNMARKED
    shown = plain(text, width)
    blocks.cache_clear()
    prose._UNMARKED = re.compile("(?!)")
    try:
        assert plain(text, width) == shown
    finally:
        prose._UNMARKED = unmarked
        blocks.cache_clear()
