"""Card text in plain terminals: no markup, formulas as Unicode, lines that fit, Chinese measured in cells."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from llmquiz.core.card import Lang
from llmquiz.deck import plain
from llmquiz.deck.parse import parse_text
from llmquiz.deck.wrap import wrap
from tests.support.making import make_note


@pytest.mark.parametrize(
    ("markdown", "shown"),
    [
        ("**bold** and *it* and `code_x`", "bold and it and `code_x`"),
        (r"$\frac{a+b}{c}$ and $a_{\text{model}}$", "(a + b)/c and a_model"),
        ("<https://a.org> and [text](https://b.org)", "https://a.org and text <https://b.org>"),
        ("- a\n- b\n  - c\n\nnext", "- a\n- b\n  - c\n\nnext"),
        ("1. a\n2. b", "1. a\n2. b"),
        ("```python\nx = 1\n\n    y\n```", "    x = 1\n\n        y"),
        ("> quoted\n> more", "> quoted more"),
        ("one\ntwo", "one two"),
        ("第一行，\n第二行。", "第一行，第二行。"),
        ("a\\\nb", "a\nb"),
        ("# heading\n\ntext", "heading\n\ntext"),
        ("| a | `b` |\n| --- | --- |\n| 1 | 2 |\n\nbelow", "a | `b`\n1 | 2\n\nbelow"),
        ("- one\n\n  | a |\n  | --- |\n  | 1 |", "- one\n\n  a\n  1"),
        ("", ""),
    ],
)
def test_markdown_becomes_text(markdown: str, shown: str) -> None:
    assert plain.to_plain(markdown) == shown


def test_breaks_chinese_by_cells_and_keeps_punctuation_off_line_starts() -> None:
    assert wrap("注意力分数，除以（根号）。", 10) == ["注意力分", "数，除以", "（根号）。"]


def test_cuts_a_word_that_no_line_holds() -> None:
    assert wrap("ab abcdefghij", 4, first="> ", rest="  ") == ["> ab", "  ab", "  cd", "  ef", "  gh", "  ij"]


def test_a_long_line_takes_linear_time() -> None:
    start = time.process_time()
    assert len(wrap("中 b" * 50_000, 10_000_000)) == 1
    wrap("x" * 20_000, 40)
    assert time.process_time() - start < 2


def test_indents_what_follows_the_first_line() -> None:
    assert wrap("aa bb cc dd", 7, first="- ", rest="  ") == ["- aa bb", "  cc dd"]


@given(st.text("ab，。（）中文字 \n", max_size=60), st.integers(6, 30))
def test_lines_fit_and_no_letter_is_lost(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_shows_a_whole_card() -> None:
    deck = parse_text(
        "# T\n\n"
        "## Size of $d_k$? {#size topic=kv-cache kind=choice lab=kv lab.x=2}\n\nRight because.\n\n"
        "### Choices\n- [x] 128 KiB\n- [ ] 512 KiB\n  Counts `q` heads.\n\n"
        "### Pitfall\nNo.\n\n### Follow-ups\n- other\n",
        Path("t.en.md"),
        Lang.EN,
    )
    assert plain.card(deck.cards[0], Lang.ZH, 40).split("\n\n") == [
        "size  (t · kv-cache · choice · L1 · medium)",
        "Size of dₖ?",
        "Right because.",
        "* A. 128 KiB\n  B. 512 KiB\n     Counts `q` heads.",
        "误区\nNo.",
        "Lab: kv x=2",
        "追问\n- other",
    ]


def test_a_note_shows_all_of_its_faces() -> None:
    note = make_note("anki-1", ("red", "rot"), ("rot", "red"))
    assert plain.card(note).splitlines()[2::2] == ["red", "rot", "rot", "red"]


def test_a_cloze_is_shown_whole() -> None:
    deck = parse_text(
        "# T\n\n## Cache {#c topic=t kind=cloze}\n\nHolds {{c1::keys::hint}}.\n", Path("t.en.md"), Lang.EN
    )
    assert "Holds keys." in plain.card(deck.cards[0])


@pytest.mark.parametrize(
    ("markdown", "expected"),
    [
        ("one\ntwo\n\nthree", ["one two", "three"]),
        ("- a\n- b\n  - c", ["- a", "- b", "  - c"]),
        ("```python\nx = 1\n\ny = 2\n```", ["    x = 1", "    y = 2"]),
        ("$\\sqrt{d_k}$ is `$x$`", ["√dₖ is `$x$`"]),
        ("", []),
    ],
)
def test_lines_are_paragraphs_and_items(markdown: str, expected: list[str]) -> None:
    assert plain.lines(markdown) == expected


@given(st.text(max_size=80))
def test_any_text_fits_on_one_line(text: str) -> None:
    assert "\n" not in plain.one_line(text)
