"""The line mode, driven by the lines that a person or a pipe would send."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from llmquiz.core.card import Card
from llmquiz.core.errors import ExitCode, LabError
from llmquiz.core.options import Options
from llmquiz.core.rating import Rating
from llmquiz.study import plain
from llmquiz.study.plain import Tools
from tests.store.notes import REVERSED, add_note, add_notetype
from tests.study.collection import DAY, NOON, Collection


class Keyboard(io.StringIO):
    """Input from a person, as far as `isatty` tells."""

    def isatty(self) -> bool:
        return True


class Interrupted(io.StringIO):
    """A person who answers one card and presses Ctrl+C at the next."""

    def readline(self, size: int | None = -1, /) -> str:
        line = super().readline()
        if not line:
            raise KeyboardInterrupt
        return line


def study(
    collection: Collection, *typed: str, language: str = "en", tools: Tools | None = None, **scope: object
) -> list[str]:
    """What is said when `typed` are the lines of a pipe."""
    stdout = io.StringIO()
    stdin = io.StringIO("".join(line + "\n" for line in typed))
    session = collection.session(**scope)
    assert plain.run(session, stdin, stdout, language, tools=tools, clock=collection.clock) is ExitCode.OK
    return stdout.getvalue().splitlines()


def reviews(collection: Collection) -> list[tuple[str, int]]:
    sql = "SELECT card, rating FROM live_review JOIN schedule ON schedule.id = schedule ORDER BY live_review.id"
    return collection.store.connection.execute(sql).fetchall()


def test_a_whole_card_reads_one_thing_a_line(collection: Collection) -> None:
    assert study(collection, "", "3", card="scale") == [
        "1 new, 0 learning, 0 to review",
        "",
        "Card 1 scale, attention, L1, asked often, new",
        "Question: Why divide by √dₖ?",
        "Answer: It keeps the variance at one.",
        "- softmax stays soft",
        "- gradients live",
        "    scores / d_k**0.5",
        "Symbols:",
        "- dₖ: width of a head",
        "Key points:",
        "1. variance is d_k",
        "2. softmax saturates",
        "3. gradients vanish",
        "Pitfall: It is not for speed.",
        "Sources:",
        "- Vaswani et al. 2017, https://arxiv.org/abs/1706.03762",
        "1 Again, 1 min",
        "2 Hard, 6 min",
        "3 Good, 10 min",
        "4 Easy, 8 days",
        "Good; next in 10 min.",
        "",
        "Card 2 scale, attention, L1, asked often, learning",
        "Question: Why divide by √dₖ?",
        "1 answer in this session.",
    ]
    assert reviews(collection) == [("scale", Rating.GOOD)]


def test_a_note_from_anki_says_what_its_templates_make_of_its_fields(collection: Collection) -> None:
    with collection.store.transaction() as connection:
        add_notetype(connection, REVERSED)
        add_note(connection, "anki-dog", "el <b>perro</b>", "the dog")
    said = study(collection, "", "4", "", "4", card="anki-dog")
    assert [line for line in said if line.startswith(("Question", "Answer"))] == [
        "Question: el perro",
        "Answer: the dog",
        "Question: Which? the dog",
        "Answer: el perro (one two of Languages::Spanish)",
    ]


@pytest.mark.parametrize("typed", ["1", "again", "AGAIN", "重来"])
def test_a_rating_may_be_a_number_or_a_word(collection: Collection, typed: str) -> None:
    study(collection, "", typed, card="scale")
    assert reviews(collection) == [("scale", Rating.AGAIN)]


def test_a_rating_before_the_answer_is_refused(collection: Collection) -> None:
    said = study(collection, "3", card="scale")
    assert "Enter shows the answer first." in said
    assert reviews(collection) == []


def test_ticked_points_suggest_a_rating_that_enter_takes(collection: Collection) -> None:
    said = study(collection, "", "p 1,3", "", card="scale")
    assert "2 of 3 points: Hard suggested." in said
    assert reviews(collection) == [("scale", Rating.HARD)]


def test_points_that_do_not_exist_are_refused(collection: Collection) -> None:
    assert "Points are numbered 1 to 3: p 1 3" in study(collection, "", "p 4", card="scale")
    assert "This card has no key points." in study(collection, "", "p 1", card="weights")


def test_enter_without_a_suggestion_asks_again(collection: Collection) -> None:
    said = study(collection, "", "", card="scale")
    assert "How well did you know it?" in said
    assert reviews(collection) == []


def test_a_choice_is_picked_by_its_number(collection: Collection) -> None:
    asked = study(collection, card="cache-size")
    right = next(line[0] for line in asked if line.endswith(". 128 KiB"))
    said = study(collection, "9", right, "", card="cache-size")
    assert "Choices are numbered 1 to 3." in said
    assert "Right: Good suggested." in said
    assert any(line.endswith("Wrong: 512 KiB - Counts the query heads.") for line in said)
    assert reviews(collection) == [("cache-size", Rating.GOOD)]


def test_a_gap_is_filled_in_and_compared(collection: Collection) -> None:
    said = study(collection, "soft max", "", card="weights")
    assert "Weights are the [function] of scores." in said
    assert "As hidden: Good suggested." in said
    assert "Answer: Weights are the softmax of scores." in said
    assert reviews(collection) == [("weights", Rating.GOOD)]


def test_a_guess_is_made_before_the_lab_runs(collection: Collection) -> None:
    calls = []

    def measure(card: Card, guess: float | None, say: Callable[[str], None]) -> Rating | None:
        calls.append((card.id, guess))
        say("measured")
        return Rating.EASY

    said = study(collection, "l", "many", "1e1", "l", "", "", tools=Tools(measure=measure), card="speedup")
    assert "Your guess for speedup first:" in said
    assert "Not a number above zero: many" in said
    assert calls == [("speedup", 10.0)]
    assert "measured" in said
    assert reviews(collection) == [("speedup", Rating.EASY)]


def test_a_lab_that_fails_leaves_the_card(collection: Collection) -> None:
    def measure(card: Card, guess: float | None, say: Callable[[str], None]) -> Rating | None:
        raise LabError("lab toy broke; run it again")

    said = study(collection, "", "l", "3", tools=Tools(measure=measure), card="speedup")
    assert "llmquiz: error: lab toy broke; run it again" in said
    assert reviews(collection) == [("speedup", Rating.GOOD)]


def test_undo_takes_an_answer_back_and_shows_its_card(collection: Collection) -> None:
    said = study(collection, "", "4", "u", "", "1", decks=("transformer",))
    assert "Undone: scale, Easy." in said
    assert reviews(collection) == [("scale", Rating.AGAIN)]


def test_the_last_answer_can_be_undone_too(collection: Collection) -> None:
    said = study(collection, "", "4", "u", card="speedup")
    assert "Done for now." in said
    assert reviews(collection) == []


def test_nothing_to_undo(collection: Collection) -> None:
    assert "Nothing to undo." in study(collection, "u", card="scale")


def test_suspend_bury_and_flag(collection: Collection) -> None:
    said = study(collection, "f 3", "s", "b", decks=("transformer",))
    assert "Flag 3." in said
    assert "Suspended: it will not come back until you unsuspend it." in said
    assert "Buried until tomorrow." in said
    (scale,) = collection.store.progress_of("scale")
    (weights,) = collection.store.progress_of("weights")
    assert (scale.flag, scale.suspended) == (3, True)
    assert weights.buried_on == collection.calendar.day(NOON)


@pytest.mark.parametrize("flag", ["8", "x", "-1", "12"])
def test_a_flag_that_does_not_exist_is_refused(collection: Collection, flag: str) -> None:
    assert "Flags are numbered 0 to 7: f 1" in study(collection, f"f {flag}", card="scale")


def test_an_edit_shows_the_card_anew(collection: Collection) -> None:
    edited = []

    def edit(card: Card, say: Callable[[str], None]) -> None:
        edited.append(card.id)

    said = study(collection, "", "e", tools=Tools(edit=edit), card="scale")
    assert edited == ["scale"]
    assert said.count("Question: Why divide by √dₖ?") == 2


def test_what_is_missing_here_is_said(collection: Collection) -> None:
    assert "The card cannot be edited here." in study(collection, "e", card="scale")
    assert "This card has no lab." in study(collection, "l", card="scale")


@pytest.mark.parametrize(
    ("card", "line"),
    [
        ("scale", "Enter: show the answer"),
        ("cache-size", "1 to 3: choose that option"),
        ("speedup", "a number: your guess"),
        ("weights", "any words: your answer, compared when shown"),
    ],
)
def test_help_fits_the_card(collection: Collection, card: str, line: str) -> None:
    said = study(collection, "?", card=card)
    assert line in said
    assert "1 again, 2 hard, 3 good, 4 easy: rate the card" not in said


def test_help_after_the_answer_names_the_ratings(collection: Collection) -> None:
    said = study(collection, "", "help", card="scale")
    assert "1 again, 2 hard, 3 good, 4 easy: rate the card" in said


def test_an_unknown_command_is_named(collection: Collection) -> None:
    assert "Not a command: make tea. ? lists the commands." in study(collection, "make tea", card="scale")


def test_both_languages_one_after_the_other(collection: Collection) -> None:
    said = study(collection, "", language="both", card="scale")
    assert said.index("Question: Why divide by √dₖ?") < said.index("问题：为什么除以 √dₖ？")
    assert "答案：使方差保持为一。" in said


def test_chinese_interface_with_a_card_in_english_only(collection: Collection) -> None:
    said = study(collection, "", "4", language="zh", card="weights")
    assert any(line.startswith("第 1 张 weights") for line in said)
    assert "Answer: Weights are the softmax of scores." in said
    assert "1 重来，1 分钟" in said


def test_time_from_question_to_rating_is_kept(collection: Collection) -> None:
    class Slow(io.StringIO):
        def readline(self, size: int | None = -1, /) -> str:
            collection.clock.now += 2
            return super().readline()

    plain.run(collection.session(card="scale"), Slow("\n3\n"), io.StringIO(), clock=collection.clock)
    (spent,) = collection.store.connection.execute("SELECT duration_ms FROM review").fetchone()
    assert spent == 4000


def test_nothing_due_says_when_something_is(collection: Collection) -> None:
    for card in ("scale", "weights", "cache-size", "speedup"):
        collection.answer(card, Rating.EASY)
    said = study(collection)
    assert said[0] == "Nothing is due now."
    assert said[1].startswith("The next card is due on 2026-")
    collection.clock.now += 30 * DAY
    assert study(collection)[0] == "0 new, 0 learning, 4 to review"


def test_a_learning_card_that_is_far_off_is_announced(collection: Collection) -> None:
    collection.options = Options(fuzz=False, learning_steps=(7200,), new_per_day=0)
    collection.answer("scale", Rating.AGAIN)
    assert "The next card is due in 2 h 00 min." in study(collection, topics=("attention",))


def test_new_cards_that_the_day_does_not_allow_come_tomorrow(collection: Collection) -> None:
    collection.options = Options(fuzz=False, new_per_day=1)
    collection.answer("scale", Rating.EASY)
    assert "New cards come back tomorrow." in study(collection)


def test_an_empty_collection_says_so(collection: Collection) -> None:
    collection.store.sync([], now=NOON, gone={"transformer", "inference"})
    assert study(collection)[0] == "There are no cards here yet."


def test_ctrl_c_keeps_what_was_answered(collection: Collection) -> None:
    stdout = io.StringIO()
    code = plain.run(collection.session(), Interrupted("\n3\n"), stdout, clock=collection.clock)
    assert code is ExitCode.INTERRUPTED
    assert stdout.getvalue().endswith("Stopped; every answer is kept.\n1 answer in this session.\n")
    assert len(reviews(collection)) == 1


def test_prompts_are_for_people_only(collection: Collection) -> None:
    stdout = io.StringIO()
    plain.run(collection.session(card="scale"), Keyboard("\nq\n"), stdout, clock=collection.clock)
    assert "Enter shows the answer, ? lists the commands.\n> " in stdout.getvalue()
    assert "p 1 3 ticks the points that you named.\n> " in stdout.getvalue()
    assert not any(line.startswith(">") for line in study(collection, "", card="scale"))


def test_no_line_carries_a_control_character(collection: Collection) -> None:
    said = study(collection, "", "3", "", "3", "", "3", "", "3")
    assert all(line.isprintable() for line in said)
