"""Home, summary, search, statistics, help, palette: what they show and where their keys lead."""

from __future__ import annotations

from datetime import timedelta

import pytest
from textual.command import CommandPalette

from llmquiz.tui.bindings import KEYS
from llmquiz.tui.screens.card import CardScreen
from llmquiz.tui.screens.help import HelpModal
from llmquiz.tui.screens.home import HomeScreen
from llmquiz.tui.screens.search import SearchScreen
from llmquiz.tui.screens.stats import StatsScreen
from llmquiz.tui.screens.summary import SummaryScreen

from .conftest import Desk
from .seen import press, screen_text, study, told


async def test_home_lists_decks_with_what_they_have_today(desk: Desk) -> None:
    async with desk.home().run_test() as pilot:
        text = screen_text(pilot.app)
        assert "7 to do today" in text
        assert [line.split()[1:3] for line in text.splitlines() if "▸" in line] == [["Attention", "5"]]


async def test_enter_studies_the_deck_under_the_cursor(desk: Desk) -> None:
    async with desk.home().run_test() as pilot:
        await press(pilot, "j", "enter")
        assert study(pilot.app).turn.card.deck == "serving"


async def test_a_studies_all_decks_and_q_comes_home_with_new_counts(desk: Desk) -> None:
    async with desk.home().run_test() as pilot:
        await press(pilot, "a", "space", "4", "q")
        assert isinstance(pilot.app.screen, HomeScreen)
        assert "6 to do today" in screen_text(pilot.app)
        assert "1 reviewed today" in screen_text(pilot.app)


async def test_home_counts_the_days_in_a_row(desk: Desk) -> None:
    for _ in range(2):
        async with desk.study("sdpa-scale").run_test() as pilot:
            await press(pilot, "space", "4")
        desk.clock.pass_seconds(timedelta(days=1).total_seconds())
    async with desk.home().run_test() as pilot:
        assert "2 day streak" in screen_text(pilot.app)


async def test_q_quits_from_home(desk: Desk) -> None:
    app = desk.home()
    async with app.run_test() as pilot:
        await press(pilot, "q")
        assert not app.is_running


async def test_escape_on_home_does_not_quit(desk: Desk) -> None:
    app = desk.home()
    async with app.run_test() as pilot:
        await press(pilot, "escape")
        assert app.is_running


async def test_ctrl_c_gives_a_hint_and_does_not_quit(desk: Desk) -> None:
    app = desk.home()
    async with app.run_test(notifications=True) as pilot:
        await press(pilot, "ctrl+c")
        assert app.is_running
        await told(pilot, "q leaves")


async def test_the_session_ends_in_a_summary_that_leads_home(desk: Desk) -> None:
    async with desk.study("kv-holds").run_test() as pilot:
        desk.clock.pass_seconds(8)
        await press(pilot, "space", "4")
        text = screen_text(pilot.app)
        assert "Session complete" in text
        assert "8 s" in text
        assert "6 still waiting today" in text
        await press(pilot, "enter")
        assert isinstance(pilot.app.screen, HomeScreen)


async def test_a_session_without_cards_says_so_at_once(desk: Desk) -> None:
    async with desk.study("kv-holds").run_test() as pilot:
        await press(pilot, "space", "4")
    desk.store.set_suspended("kv-holds", True, now=desk.clock())
    async with desk.study("kv-holds").run_test() as pilot:
        assert isinstance(pilot.app.screen, SummaryScreen)
        assert "Nothing to study right now" in screen_text(pilot.app)


@pytest.mark.parametrize(("query", "found"), [("softmax", "turns scores"), ("键值头", "query heads"), ("缓存", "KV")])
async def test_search_finds_as_one_types_in_both_languages(desk: Desk, query: str, found: str) -> None:
    async with desk.home().run_test() as pilot:
        await press(pilot, "slash")
        assert isinstance(pilot.app.screen, SearchScreen)
        for character in query:
            await press(pilot, character)
        assert found in screen_text(pilot.app)


async def test_search_without_a_hit_says_what_was_sought(desk: Desk) -> None:
    async with desk.home().run_test() as pilot:
        await press(pilot, "slash", *"zebra")
        assert "No card says “zebra”" in screen_text(pilot.app)
        await press(pilot, "enter", "down", "escape")
        assert isinstance(pilot.app.screen, HomeScreen)


async def test_a_found_card_is_read_and_studied(desk: Desk) -> None:
    async with desk.home().run_test() as pilot:
        await press(pilot, "slash", *"decoder", "enter")
        assert isinstance(pilot.app.screen, CardScreen)
        assert "The keys and values of every earlier position" in screen_text(pilot.app)
        await press(pilot, "space")
        assert study(pilot.app).turn.card.id == "kv-holds"


async def test_a_card_is_put_away_for_good_and_taken_back(desk: Desk) -> None:
    async with desk.home().run_test() as pilot:
        await press(pilot, "slash", *"decoder", "enter", "exclamation_mark")
        assert desk.store.is_suspended("kv-holds")
        await press(pilot, "exclamation_mark")
        assert not desk.store.is_suspended("kv-holds")


async def test_a_wide_search_shows_the_card_beside_the_hits(desk: Desk) -> None:
    async with desk.home().run_test(size=(120, 40)) as pilot:
        await press(pilot, "slash", *"softmax")
        first = screen_text(pilot.app)
        await press(pilot, "down")
        assert screen_text(pilot.app) != first
        assert isinstance(pilot.app.screen, SearchScreen)


async def test_statistics_tell_what_was_studied(desk: Desk) -> None:
    async with desk.study("kv-holds").run_test() as pilot:
        await press(pilot, "space", "3")
    async with desk.home().run_test(size=(120, 40)) as pilot:
        await press(pilot, "s")
        assert isinstance(pilot.app.screen, StatsScreen)
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
        assert "Today" in screen_text(pilot.app)
        await press(pilot, "escape")
        assert isinstance(pilot.app.screen, HomeScreen)


@pytest.mark.parametrize("language", ["en", "zh"])
async def test_help_names_every_key(desk: Desk, language: str) -> None:
    async with desk.home(language=language).run_test(size=(100, 100)) as pilot:
        await press(pilot, "question_mark")
        assert isinstance(pilot.app.screen, HelpModal)
        text = screen_text(pilot.app).replace(" ", "")
        missing = [key.id for key in KEYS if key.text[pilot.app.lang].replace(" ", "") not in text]
        assert missing == []
        await press(pilot, "question_mark")
        assert isinstance(pilot.app.screen, HomeScreen)


async def test_the_palette_studies_decks_and_changes_themes(desk: Desk) -> None:
    async with desk.home().run_test() as pilot:
        await press(pilot, "colon")
        assert isinstance(pilot.app.screen, CommandPalette)
        await press(pilot, *"llmquiz-light")
        await pilot.app.workers.wait_for_complete()
        await press(pilot, "down", "enter")
        await pilot.pause()
        assert pilot.app.theme == "llmquiz-light"


async def test_the_palette_offers_what_can_be_done_here(desk: Desk) -> None:
    async with desk.study("kv-holds").run_test() as pilot:
        from llmquiz.tui.commands import QuizCommands

        offered = [hit.text async for hit in QuizCommands(pilot.app.screen).discover()]
        assert "Study: Serving" in offered
        assert "Put the card away until tomorrow" in offered
        assert "Cards in English and Chinese" in offered
        assert "Study this deck" not in offered


async def test_a_click_on_a_hint_is_its_key(desk: Desk) -> None:
    async with desk.home().run_test() as pilot:
        row = screen_text(pilot.app).splitlines()[-1]
        await pilot.click("#hints", offset=(row.index("search"), 0))
        await pilot.pause()
        assert isinstance(pilot.app.screen, SearchScreen)


async def test_a_lab_runs_by_itself_from_the_palette_and_escape_leaves_it(desk: Desk) -> None:
    async with desk.home().run_test(size=(80, 40)) as pilot:
        from llmquiz.tui.commands import QuizCommands

        hits = [hit async for hit in QuizCommands(pilot.app.screen).discover()]
        next(hit for hit in hits if "Tiny" in hit.text).command()
        await pilot.pause()
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
        assert "✓ held" in screen_text(pilot.app)
        (run,) = desk.store.runs()
        assert (run.lab, run.card) == ("tiny", None)
        await press(pilot, "escape")
        assert isinstance(pilot.app.screen, HomeScreen)
