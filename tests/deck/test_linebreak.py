"""Line ends: widths hold for any text, nothing is lost, and Chinese punctuation stays where it belongs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from llmquiz.deck.linebreak import balanced, wrap

TEXT = st.text(alphabet=st.sampled_from("ab cKV缓存，。（）「」x̂ 1.5%—"), max_size=80)


def lines(text: str, width: int) -> list[str]:
    return [text[start:end] for start, end in wrap(text, width)]


@given(TEXT, st.integers(2, 40))
def test_no_line_is_wider_than_asked_and_only_blanks_are_lost(text: str, width: int) -> None:
    got = lines(text, width)
    assert all(cell_len(line) <= width for line in got)
    assert "".join(got).replace(" ", "") == text.replace(" ", "")


def test_latin_breaks_at_spaces() -> None:
    assert lines("time to first token", 11) == ["time to", "first token"]


def test_chinese_breaks_between_characters_but_not_before_a_comma() -> None:
    assert lines("缓存保存键和值，查询用完即弃", 14) == ["缓存保存键和", "值，查询用完即", "弃"]


def test_an_opening_bracket_goes_with_what_it_opens() -> None:
    assert lines("只算新的（token）", 10) == ["只算新的", "（token）"]


def test_a_word_longer_than_a_line_is_cut() -> None:
    assert lines("scaled_dot_product", 7) == ["scaled_", "dot_pro", "duct"]


@pytest.mark.parametrize("text", ["", " ", "   "])
def test_blank_text_is_one_empty_line(text: str) -> None:
    assert lines(text, 10) == [""]


@given(TEXT, st.integers(24, 60))
def test_balancing_takes_no_more_lines(text: str, width: int) -> None:
    assert len(balanced(text, width)) == len(wrap(text, width))


def test_balancing_leaves_no_lone_last_word() -> None:
    text = "Why does decoding with a cache take the same time per token whatever the context is?"
    widths = [end - start for start, end in balanced(text, 80)]
    assert min(widths) > 30
