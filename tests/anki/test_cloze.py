"""Deletions in Anki's notation, and nothing else that looks like them."""

from __future__ import annotations

import pytest

from llmquiz.anki.exporting import cloze


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("the {{c1::cache}}", "the {{c1::cache}}"),
        ("the {{c12::cache::what?}}", "the {{c12::cache::what?}}"),
        ("{{c1::$\\sqrt{d_k}$}}", "{{c1::\\(\\sqrt{d_k}\\)}}"),
        ("{{c1::$x_{a_{b} }$}}", "{{c1::\\(x_{a_{b} }\\)}}"),
        ("$\\frac{{{c1::a}}}{b}$", "\\(\\frac{{{c1::a}}}{b}\\)"),
        ("{{c1::std::sort::name}}", "{{c1::std&#58;&#58;sort::name}}"),
        ("a::b {{c1::x}}", "a&#58;&#58;b {{c1::x}}"),
        ("{{c1::`{x}`}} `{{y}}`", "{{c1::<code>{x}</code>}} <code>{<!-- -->{y}<!-- -->}</code>"),
        ("**{{c1::bold}}**", "<strong>{{c1::bold}}</strong>"),
        ("{{c1::**bold**}}", "{{c1::<strong>bold</strong>}}"),
        ("{{c1::<b>}}", "{{c1::&lt;b&gt;}}"),
        ("{{c1::甲}}和{{c2::乙}}", "{{c1::甲}}和{{c2::乙}}"),
    ],
)
def test_field(source: str, expected: str) -> None:
    assert cloze.field(source) == expected


def test_marks_of_ours_in_the_text_are_dropped() -> None:
    assert cloze.field("\ue000\ue101{{c1::x}}\ue001") == "{{c1::x}}"
