"""The words of a note: the line that stands for it in lists, and what a search finds."""

from __future__ import annotations

import html
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmquiz.notes import clozes, glance
from llmquiz.notes.words import front, words
from tests.notes.test_markdown import BOMBS, FORBIDDEN, HOSTILE, LENGTH, PIECES

TAG = re.compile(r"</?([a-z][^\s/<>]*)[^<>]*>")
INLINE = {"b", "i", "s", "sup", "code", "span", "a"}

SHAPE = "{{c1::image-occlusion:rect:left=.1:top=.2}}<br>{{c2::image-occlusion:ellipse:left=.1:top=.2:oi=1}}"


@pytest.mark.parametrize(
    ("field", "line"),
    [
        ("What  is\n KV?", "What is KV?"),
        ("<div><b>a</b>b &lt;i&gt; &amp;amp;</div><p>c<ul><li>d</ul>", "ab <i> &amp; c d"),
        ("{{c1::std::vector}} of {{c2::a {{c1::b::h}} c::why}} }}", "std of a b c }}"),
        ("{{c1::open {{c2::closed}}", "{{c1::open closed"),
        ("a[sound:x.mp3] <img src=y.png alt='a &quot;graph&quot;'>", 'a a "graph"'),
        (r"\(\frac{a}{b}\) and \[c<br>d\], [latex]$e$[/latex] [$]f[/$]", r"$\frac{a}{b}$ and $c d$, $e$ $f$"),
        ("<anki-mathjax>x^2</anki-mathjax>", "$x^2$"),
        ("a <script>b</script><!-- c --><style>d</style>e < f <b title='x>g", "a e < f <b title='x>g"),
        ("<IMG SRC=x><SPAN>H</SPAN><SUB>2</SUB>O", "H2O"),
        ("a\x1b[31mb&#27;[0m\u202ec", "ab[0mc"),
    ],
)
def test_a_front_is_a_line_of_plain_text(field: str, line: str) -> None:
    assert front([field], 0, "T") == line


def test_the_first_field_that_says_something_stands_for_a_note() -> None:
    assert front(["a", "b"], 1, "T") == "b"
    assert front(["<br>", "b"], 0, "T") == front(["", "b"], 7, "T") == "b"
    assert front(["<img src=x.png>[sound:y.mp3]", SHAPE, "b"], 0, "T") == "b"
    assert front(["<img src=x.png>"], 0, "\x1b[31m Basic\n\u202e") == "Basic"
    assert front([], 0, "T") == "T"


def test_a_long_front_is_cut_and_a_field_of_megabytes_not_read() -> None:
    assert front(["word " * 99], 0, "T") == "word " * 39 + "word…"
    assert front(["x" * 200], 0, "T") == "x" * 200
    assert front([f"<div style='{'a: b; ' * 200}'>late</div>"], 0, "T") == "late"
    assert front(["{{c1::" + "long " * 300 + "::hint}}"], 0, "T") == "long " * 39 + "long…"
    start = time.process_time()
    assert front([f"<img src='data:image/png;base64,{'A' * 20_000_000}'>", "b"], 0, "T") == "b"
    assert front(["<b>a</b> " * 2_000_000], 0, "T") == "a " * 99 + "a…"
    assert time.process_time() - start < 0.5


def test_the_words_of_a_note_are_lines_without_markup() -> None:
    fields = (
        "<b>Attention</b> is<div>all &amp; <i>every</i>thing</div>",
        "all &amp; everything<br>{{c1::you::who}} need",
        "",
        SHAPE,
        "<img src='heart.png' alt='a heart'>[sound:beat.mp3]<img src='data:image/png;base64,AA'>",
        r"<table><tr><td>x</td><td>\(\sqrt{d}\)</td></tr></table>",
        "<!-- never closed",
        "last",
    )
    assert words("\x1f".join(fields)).split("\n") == [
        *("Attention is", "all & everything", "you need", "a heart heart.png ♪ beat.mp3", "x", r"$\sqrt{d}$", "last"),
    ]


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(st.lists(PIECES, max_size=12).map("".join), max_size=3))
def test_a_search_finds_what_a_card_shows(fields: list[str]) -> None:
    shown = [html.unescape(TAG.sub(lambda it: "" if it[1] in INLINE else "\n", field)) for field in fields]
    lines = {line: None for text in shown for it in text.split("\n") if (line := it.strip())}
    assert words("\x1f".join(fields)).split("\n") == (list(lines) or [""])


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(HOSTILE, max_size=3))
def test_nothing_hostile_stays_in_words(fields: list[str]) -> None:
    line = front(fields, 1, fields[0] if fields else "")
    assert len(line) <= 200
    assert not FORBIDDEN.search(line)
    assert "\n" not in line
    assert not FORBIDDEN.search(words("\x1f".join(fields)))


@pytest.mark.slow
def test_time_is_linear() -> None:
    for bomb in BOMBS:
        field = bomb * (LENGTH // len(bomb))
        start = time.process_time()
        words(field)
        front([field] * 5, 0, "T")
        clozes.numbers(field)
        clozes.filled(field)
        glance.surely_shows(field)
        assert time.process_time() - start < 1.0, bomb
