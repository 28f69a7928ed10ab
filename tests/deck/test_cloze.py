"""Deletions hide, reveal, and agree with the notation that cards are scheduled by."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmquiz.core.card import CLOZE
from llmquiz.deck.cloze import ClozeError, deletions, hide, plain, reveal
from llmquiz.deck.plain import lines

TEXT = "The {{c1::KV cache}} holds {{c2::keys and values::two words}}, not {{c1::queries}}."


def test_hides_all_deletions_of_a_number_and_shows_the_rest() -> None:
    assert hide(TEXT, 1) == r"The \[...\] holds keys and values, not \[...\]."
    assert hide(TEXT, 2) == r"The KV cache holds \[two words\], not queries."


def test_reveals_in_bold() -> None:
    assert reveal(TEXT, 2) == "The KV cache holds **keys and values**, not queries."
    assert plain(TEXT) == "The KV cache holds keys and values, not queries."


@pytest.mark.parametrize("side", [hide, reveal])
def test_no_asterisk_is_seen_beside_chinese(side: Callable[[str, int], str]) -> None:
    sentence = r"除以{{c1::$\sqrt{d_k}$}}再归一，是{{c2::缩放}}点积。"
    assert not any("*" in line for ordinal in (1, 2) for line in lines(side(sentence, ordinal)))


def test_hides_formulas_and_code_whole() -> None:
    assert hide(r"is {{c1::$\sqrt{d_k}$}}, `f(x)`", 1) == r"is \[...\], `f(x)`"


@pytest.mark.parametrize(
    "text",
    [
        "{{c1::a",
        "{{c0::a}}",
        "{{c100::a}}",
        "{{c1::}}",
        "{{c1::a {{c2::b}}}}",
        r"{{c1::$\sqrt{\frac{a}{b}}$}}",
        "{{cx::a}}",
        "{{c1:a}}",
    ],
)
def test_refuses_what_is_no_deletion(text: str) -> None:
    with pytest.raises(ClozeError):
        deletions(text)


@given(
    st.lists(
        st.sampled_from(["a", ":", "::", "}", " ", "{{c1::", "{{c12::", "}}", "hint", "$x_{1}$"]), max_size=12
    ).map("".join)
)
def test_agrees_with_the_pattern_that_cards_are_scheduled_by(text: str) -> None:
    try:
        found = deletions(text)
    except ClozeError:
        return
    theirs = [(int(match["index"]), match["text"], match["hint"] or "") for match in CLOZE.finditer(text)]
    assert [(it.index, it.text, it.hint) for it in found] == theirs
