"""Studying with the keyboard: reveal, rate, undo and the rest, seen on the screen and in the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from llmquiz.core.rating import Rating
from llmquiz.tui.screens.dialog import ErrorModal
from llmquiz.tui.screens.summary import SummaryScreen
from llmquiz.tui.widgets.card import CardPane
from llmquiz.tui.widgets.guess import NumberInput
from llmquiz.tui.widgets.key_points import KeyPoints
from tests.support.making import make_deck, make_note

from .conftest import Desk
from .seen import press, screen_text, study, told


async def test_space_shows_the_answer_and_space_again_takes_good(desk: Desk) -> None:
    async with desk.study("sdpa-scale").run_test() as pilot:
        assert "variance" not in screen_text(pilot.app)
        await press(pilot, "space")
        assert "keeps the scores at variance 1" in screen_text(pilot.app)
        assert desk.reviews() == []
        await press(pilot, "space")
    assert desk.reviews() == [("sdpa-scale", Rating.GOOD)]


async def test_ratings_are_refused_before_the_reveal(desk: Desk) -> None:
    async with desk.study("sdpa-scale").run_test() as pilot:
        await press(pilot, "3")
        assert not study(pilot.app).turn.revealed
    assert desk.reviews() == []


async def test_each_number_is_its_rating(desk: Desk) -> None:
    for number, card in enumerate(("sdpa-scale", "kv-holds", "batch-limit", "patience"), 1):
        async with desk.study(card).run_test() as pilot:
            await press(pilot, "enter", str(number))
        desk.clock.pass_seconds(1)
    assert [rating for _, rating in desk.reviews()] == [1, 2, 3, 4]


async def test_intervals_stand_below_the_ratings(desk: Desk) -> None:
    async with desk.study("sdpa-scale").run_test() as pilot:
        await press(pilot, "space")
        last = [line.split() for line in screen_text(pilot.app).splitlines() if "10m" in line]
        assert last == [["1m", "6m", "10m", "8d"]]


async def test_undo_brings_the_card_back_and_takes_the_answer_from_the_store(desk: Desk) -> None:
    async with desk.study().run_test() as pilot:
        first = study(pilot.app).turn.card.id
        await press(pilot, "space", "4")
        assert study(pilot.app).turn.card.id != first
        await press(pilot, "u")
        assert study(pilot.app).turn.card.id == first
    assert desk.reviews() == []


async def test_undo_works_from_the_summary_too(desk: Desk) -> None:
    async with desk.study("sdpa-scale").run_test() as pilot:
        await press(pilot, "space", "4")
        assert isinstance(pilot.app.screen, SummaryScreen)
        assert "100%" in screen_text(pilot.app)
        await press(pilot, "u")
        assert study(pilot.app).turn.card.id == "sdpa-scale"
        assert study(pilot.app).results.answers == []
    assert desk.reviews() == []


async def test_suspending_takes_the_card_out_and_undo_brings_it_back(desk: Desk) -> None:
    async with desk.study().run_test() as pilot:
        first = study(pilot.app).turn.card.id
        await press(pilot, "exclamation_mark")
        assert study(pilot.app).turn.card.id != first
        assert [part.suspended for part in desk.store.progress_of(first)] == [True]
        await press(pilot, "u")
        assert study(pilot.app).turn.card.id == first


async def test_burying_puts_the_card_off_until_tomorrow(desk: Desk) -> None:
    async with desk.study().run_test() as pilot:
        first = study(pilot.app).turn.card.id
        await press(pilot, "minus")
        assert study(pilot.app).turn.card.id != first
        assert desk.store.progress_of(first)[0].buried_on == desk.services().today


async def test_flags_go_round_in_words_and_colours(desk: Desk) -> None:
    async with desk.study("sdpa-scale").run_test() as pilot:
        seen = []
        for _ in range(5):
            await press(pilot, "f")
            seen.append(desk.store.progress_of("sdpa-scale")[0].flag)
            assert ("⚑" in screen_text(pilot.app)) == bool(seen[-1])
        assert seen == [1, 2, 3, 4, 0]


async def test_a_letter_picks_an_option_and_says_why_the_others_are_wrong(desk: Desk) -> None:
    async with desk.study("kv-bytes").run_test() as pilot:
        turn = study(pilot.app).turn
        wrong = next(n for n, place in enumerate(turn.prompt.choice_order, 1) if place == 1)
        await press(pilot, "abcd"[wrong - 1])
        text = screen_text(pilot.app)
        assert "Counts the 32 query heads" in text
        assert "✓" in text
        assert "✗" in text
        assert turn.suggested is Rating.AGAIN
        await press(pilot, "space")
    assert desk.reviews() == [("kv-bytes", Rating.AGAIN)]


async def test_a_number_picks_an_option_before_the_reveal(desk: Desk) -> None:
    async with desk.study("kv-bytes").run_test() as pilot:
        turn = study(pilot.app).turn
        right = turn.prompt.choice_order.index(0) + 1
        await press(pilot, str(right))
        assert turn.picked == right
        assert turn.suggested is Rating.GOOD
    assert desk.reviews() == []


async def test_a_click_picks_an_option(desk: Desk) -> None:
    async with desk.study("kv-bytes").run_test() as pilot:
        await pilot.click("#card-options", offset=(4, 2))
        await pilot.pause()
        assert study(pilot.app).turn.picked == 3


async def test_a_cloze_card_hides_its_words_until_the_reveal(desk: Desk) -> None:
    async with desk.study("softmax-is").run_test() as pilot:
        assert "weights that sum to one" not in screen_text(pilot.app)
        assert "[…]" in screen_text(pilot.app)
        await press(pilot, "space")
        assert "weights that sum to one" in screen_text(pilot.app)


async def test_a_note_shows_its_face_with_tables_and_pictures_by_name(desk: Desk) -> None:
    front, back = "Which row?\n\n| a | b |\n| --- | --- |\n| 1 | 2 |", "The first.\n\n![rows.png](rows.png)"
    desk.store.sync([make_deck(make_note("anki-1", (front, back)))], now=desk.clock())
    async with desk.study("anki-1").run_test(notifications=True) as pilot:
        rows = [line.split() for line in screen_text(pilot.app).splitlines()]
        assert [row for row in rows if row in (["a", "b"], ["1", "2"], ["Which", "row?"])] == [
            ["Which", "row?"],
            ["a", "b"],
            ["1", "2"],
        ]
        assert "rows.png" not in screen_text(pilot.app)
        await press(pilot, "space")
        assert "▣ rows.png" in screen_text(pilot.app)
        await press(pilot, "e")
        await told(pilot, "card 'anki-1' was imported")
        await press(pilot, "3")
    assert desk.reviews() == [("anki-1", Rating.GOOD)]


async def test_ticked_key_points_suggest_the_rating(desk: Desk) -> None:
    async with desk.study("kv-holds").run_test() as pilot:
        await press(pilot, "space", "x")
        turn = study(pilot.app).turn
        assert (turn.ticked, turn.suggested) == ({0}, Rating.AGAIN)
        await press(pilot, "x")
        assert turn.suggested is Rating.HARD
        await press(pilot, "x")
        assert turn.suggested is Rating.GOOD
        await press(pilot, "j", "x")
        assert turn.ticked == {0, 2}


async def test_a_click_ticks_a_point(desk: Desk) -> None:
    async with desk.study("kv-holds").run_test() as pilot:
        await press(pilot, "space")
        await pilot.click(KeyPoints, offset=(6, 2))
        await pilot.pause()
        assert study(pilot.app).turn.ticked == {1}


async def test_a_click_rates(desk: Desk) -> None:
    async with desk.study("kv-holds").run_test() as pilot:
        await press(pilot, "space")
        await pilot.click("#ratings", offset=(2, 0))
        await pilot.pause()
    assert desk.reviews() == [("kv-holds", Rating.AGAIN)]


async def test_a_predict_card_takes_a_number_and_leaves_other_keys_alone(desk: Desk) -> None:
    async with desk.study("tiny-speedup").run_test() as pilot:
        await press(pilot, "1", ".", "5", "f")
        assert pilot.app.screen.query_one(NumberInput).value == "1.5"
        assert study(pilot.app).turn.prompt.flag == 1
        await press(pilot, "enter")
        assert study(pilot.app).turn.guess == 1.5
        assert study(pilot.app).turn.revealed


async def test_a_guess_that_is_no_number_is_not_taken(desk: Desk) -> None:
    async with desk.study("tiny-speedup").run_test(notifications=True) as pilot:
        await press(pilot, "minus", "3", "enter")
        assert not study(pilot.app).turn.revealed
        await told(pilot, "number above zero")


async def test_a_predict_card_can_be_revealed_without_a_guess(desk: Desk) -> None:
    async with desk.study("tiny-speedup").run_test() as pilot:
        await press(pilot, "enter")
        assert study(pilot.app).turn.revealed
        assert study(pilot.app).turn.suggested is None


async def test_the_card_turns_from_english_to_chinese_to_both_in_place(desk: Desk) -> None:
    async with desk.study("sdpa-scale").run_test() as pilot:
        await press(pilot, "space", "t")
        assert "点积的方差" in screen_text(pilot.app)
        assert "良好" in screen_text(pilot.app)
        assert study(pilot.app).turn.revealed
        await press(pilot, "t")
        assert "Why are attention scores" in screen_text(pilot.app)
        assert "为什么注意力分数" in screen_text(pilot.app)
        await press(pilot, "t")
        assert "为什么注意力分数" not in screen_text(pilot.app)


async def test_y_copies_the_card_without_our_marks(desk: Desk) -> None:
    async with desk.study("softmax-is").run_test() as pilot:
        await press(pilot, "space", "y")
        assert "# What softmax turns scores into" in pilot.app.clipboard
        assert "weights that sum to one" in pilot.app.clipboard
        assert "\ue000" not in pilot.app.clipboard


async def test_the_answer_can_be_selected_as_text(desk: Desk) -> None:
    async with desk.study("kv-holds").run_test() as pilot:
        await press(pilot, "space")
        pilot.app.screen.query_one("#card-answer").text_select_all()
        assert "The keys and values" in (pilot.app.screen.get_selected_text() or "")


async def test_a_rating_that_cannot_be_written_is_told_and_the_card_stays(desk: Desk) -> None:
    async with desk.study("kv-holds").run_test() as pilot:
        await press(pilot, "space")
        desk.store.connection.execute("PRAGMA query_only = ON")
        await press(pilot, "3")
        assert isinstance(pilot.app.screen, ErrorModal)
        assert "not saved" in screen_text(pilot.app)
        await press(pilot, "enter")
        assert study(pilot.app).turn.card.id == "kv-holds"
        desk.store.connection.execute("PRAGMA query_only = OFF")
        await press(pilot, "3")
    assert desk.reviews() == [("kv-holds", Rating.GOOD)]


async def test_a_card_that_was_answered_elsewhere_is_not_answered_twice(desk: Desk) -> None:
    async with desk.study("kv-holds").run_test(notifications=True) as pilot:
        await press(pilot, "space")
        other = sqlite3.connect(desk.store.path)
        other.execute("UPDATE schedule SET reps = 7 WHERE card = 'kv-holds'")
        other.commit()
        other.close()
        await press(pilot, "3")
        await told(pilot, "changed elsewhere")
    assert desk.reviews() == []


async def test_the_time_on_the_card_is_kept(desk: Desk) -> None:
    async with desk.study("kv-holds").run_test() as pilot:
        desk.clock.pass_seconds(12.5)
        await press(pilot, "space", "3")
    (duration,) = desk.store.connection.execute("SELECT duration_ms FROM review").fetchone()
    assert duration == 12_500


async def test_an_edit_is_read_back_into_the_card(
    desk: Desk, own_deck: Callable[[str], Path], monkeypatch, tmp_path: Path
) -> None:
    path = own_deck(
        "# Mine\n\nMine.\n\n## Old question? {#mine-a topic=t}\n\nAnswer.\n\n### Key points\n- one\n- two\n- three\n"
    )
    editor = tmp_path / "editor.sh"
    editor.write_text('#!/bin/sh\nfor last; do :; done\nsed -i "s/Old/New/" "$last"\n')
    editor.chmod(0o755)
    app = desk.study("mine-a", editor=str(editor))
    async with app.run_test() as pilot:
        # A headless terminal cannot be lent out; lending it is Textual's, what happens in between is ours.
        monkeypatch.setattr(type(app._driver), "can_suspend", property(lambda self: True))
        for name in ("suspend_application_mode", "resume_application_mode"):
            monkeypatch.setattr(type(app._driver), name, lambda self: None)
        await press(pilot, "e")
        assert "New question?" in screen_text(app)
    assert "New question?" in path.read_text()


async def test_without_a_terminal_to_lend_an_edit_names_the_file(desk: Desk) -> None:
    async with desk.study("kv-holds").run_test(notifications=True) as pilot:
        await press(pilot, "e")
        await told(pilot, "attention.en.md")


async def test_long_cards_scroll_with_the_arrows(desk: Desk) -> None:
    async with desk.study("sdpa-scale").run_test(size=(60, 16)) as pilot:
        await press(pilot, "space", "down", "down")
        pane = pilot.app.screen.query_one(CardPane)
        assert pane.scroll_y == 2
        await press(pilot, "end")
        assert pane.scroll_y == pane.max_scroll_y
        await press(pilot, "home", "pagedown")
        assert 0 < pane.scroll_y < pane.max_scroll_y


async def test_a_new_card_starts_at_its_top(desk: Desk) -> None:
    async with desk.study().run_test(size=(60, 14)) as pilot:
        await press(pilot, "space", "end", "4")
        assert pilot.app.screen.query_one(CardPane).scroll_y == 0
