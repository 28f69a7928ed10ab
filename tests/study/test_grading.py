"""What an answer suggests as its rating."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmquiz.core.card import Lang
from llmquiz.core.rating import Rating
from llmquiz.study import grading
from tests.study.collection import CHOICE, CLOZE, OPEN


@pytest.mark.parametrize(
    ("ticked", "total", "rating"),
    [
        (0, 3, Rating.AGAIN),
        (1, 3, Rating.AGAIN),
        (2, 3, Rating.HARD),
        (3, 3, Rating.GOOD),
        (2, 4, Rating.HARD),
        (3, 4, Rating.GOOD),
        (5, 6, Rating.GOOD),
        (4, 6, Rating.HARD),
        (2, 6, Rating.AGAIN),
        (1, 1, Rating.GOOD),
    ],
)
def test_key_points(ticked: int, total: int, rating: Rating) -> None:
    assert grading.key_points_rating(ticked, total) is rating


@given(st.integers(1, 12).flatmap(lambda total: st.tuples(st.integers(0, total - 1), st.just(total))))
def test_one_more_point_never_lowers_the_suggestion(points: tuple[int, int]) -> None:
    ticked, total = points
    assert grading.key_points_rating(ticked, total) <= grading.key_points_rating(ticked + 1, total)


@pytest.mark.parametrize(("ticked", "total"), [(-1, 3), (4, 3), (0, 0)])
def test_impossible_points_are_refused(ticked: int, total: int) -> None:
    with pytest.raises(ValueError, match="cannot be ticked"):
        grading.key_points_rating(ticked, total)


def test_the_picked_number_is_that_of_the_shown_order() -> None:
    order = (2, 0, 1)
    assert grading.picked(CHOICE, order, 2, Lang.EN).right
    wrong = grading.picked(CHOICE, order, 1, Lang.EN)
    assert (wrong.choice.text, wrong.rating) == ("64 KiB", Rating.AGAIN)


@pytest.mark.parametrize("number", [0, 4, -1])
def test_a_number_that_no_option_has_is_refused(number: int) -> None:
    with pytest.raises(ValueError, match="not one of 1-3"):
        grading.picked(CHOICE, (0, 1, 2), number, Lang.EN)


def test_an_open_card_has_nothing_to_pick() -> None:
    with pytest.raises(ValueError, match="choice 1"):
        grading.picked(OPEN, (), 1, Lang.EN)


@pytest.mark.parametrize(
    ("typed", "hidden", "rating"),
    [
        ("softmax", ("softmax",), Rating.GOOD),
        ("  Soft-Max ", ("soft-max",), Rating.GOOD),
        ("ｓｏｆｔｍａｘ", ("**softmax**",), Rating.GOOD),
        ("softmx", ("softmax",), Rating.HARD),
        ("sigmoid", ("softmax",), Rating.AGAIN),
        ("", ("softmax",), Rating.AGAIN),
        ("keys, values", ("keys", "values"), Rating.GOOD),
        ("16", ("16",), Rating.GOOD),
        ("15", ("16",), Rating.AGAIN),
        ("0.5", ("5",), Rating.AGAIN),
        ("键", ("键",), Rating.GOOD),
    ],
)
def test_typed_answers_are_compared_by_what_counts(typed: str, hidden: tuple[str, ...], rating: Rating) -> None:
    assert grading.typed_rating(typed, hidden) is rating


def test_hidden_words_leave_the_hint_out() -> None:
    assert grading.hidden_words(CLOZE, 1, Lang.EN) == ("softmax",)
    assert grading.hidden_words(CLOZE, 2, Lang.EN) == ()


GUESSES = [("12.5", 12.5), ("3e9", 3e9), ("1,000", 1000.0), ("30%", 0.3), (" 45 % ", 0.45)]


@pytest.mark.parametrize(("text", "number"), GUESSES)
def test_guesses(text: str, number: float) -> None:
    assert grading.guess(text) == number


@pytest.mark.parametrize("text", ["", "ten", "0", "-3", "nan", "inf"])
def test_what_is_no_guess(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        grading.guess(text)
