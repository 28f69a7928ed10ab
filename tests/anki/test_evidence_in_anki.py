"""What this machine measured, in the real Anki: pictures, guesses, updates in place, sub-decks and `since`."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from llmquiz.anki.exporting.evidence import number
from llmquiz.anki.exporting.export import Extras, export, since
from llmquiz.anki.exporting.pictures import Labels, draw
from llmquiz.core.card import Card as LlmquizCard
from llmquiz.core.card import CardText, Frequency, Kind, Lang, Level, NoteFace
from llmquiz.core.day import Calendar
from llmquiz.core.errors import ExportError, UsageError
from llmquiz.core.options import Options
from llmquiz.core.rating import Rating
from llmquiz.store import PredictionRecord, RunRecord, Store
from llmquiz.study.session import Session

from .conftest import DAY, Desk

BOTH = tuple(Lang)
NOW = time.time()
LONG_AGO = NOW - 30 * DAY
SERIES = [
    {"metric": "decode_latency", "series": name, "points": [[2**step, (step + 1) * factor] for step in range(6)]}
    for name, factor in (("no cache", 3.0), ("preallocated", 0.5))
]
LABELS = Labels(
    "KV cache: $ & <remember>", "decode_latency", "context (tokens)", "time per token", ("x", "y"), {"speedup": "x"}
)


def run(days_ago: float, series: object = SERIES, outcome: str = "ok", **params: str) -> RunRecord:
    return RunRecord("kvcache", NOW - days_ago * DAY, 2.0, outcome, params, "cpu: a & b", series=series)


@pytest.fixture
def shelf(store: Store, make: type) -> Store:
    store.sync([make.deck(make.card("kv"), make.predict("guess"), make.choice("pick"))], now=LONG_AGO)
    return store


@pytest.mark.slow
def test_results_come_as_pictures_and_update_in_place(shelf: Store, desk: Callable[..., Desk], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    anki, out = desk(), tmp_path / "out.apkg"
    extras = Extras(labels={"kvcache": LABELS}.get, draw=draw)
    assert export(shelf, [], out, langs=BOTH, extras=extras).media == 0
    assert anki.take(out)["new"] == 3

    shelf.add_run(run(3, outcome="failed"))
    run_id = shelf.add_run(run(2, new_tokens="256"))
    shelf.add_run(run(1, new_tokens="512"))
    shelf.add_prediction(PredictionRecord("guess", "speedup", 3.0, NOW - 2 * DAY, run_id, 12.4, "off"))
    shelf.add_prediction(PredictionRecord("guess", "speedup", 9.0, NOW - DAY))
    report = export(shelf, [], out, langs=BOTH, extras=extras)
    assert (report.media, report.undrawn) == (1, 0)
    assert anki.take(out) == {"new": 0, "updated": 1, "duplicate": 2, "conflicting": 0}
    answer = anki.card("guess").render_output().answer_text
    (picture,) = re.findall(r'<img src="(llmquiz-[0-9a-f]{20}\.png)" alt="KV cache: \$ &amp; &lt;remember&gt;"', answer)
    assert (Path(anki.col.media.dir()) / picture).read_bytes()[:4] == b"\x89PNG"
    day = date.fromordinal(Calendar().day(NOW - 2 * DAY)).isoformat()
    assert f"You guessed 3, this machine measured 12.4 x ({day}, cpu: a &amp; b)." in answer
    assert f"你预测 3，本机实测 12.4 x（{day}, cpu: a &amp; b）。" in answer
    assert picture not in anki.card("guess").question()
    check = anki.col.media.check()
    assert (list(check.missing), list(check.unused)) == ([], [])

    before = out.read_bytes()
    export(shelf, [], out, langs=BOTH, extras=extras)
    assert out.read_bytes() == before
    assert anki.take(out)["updated"] == 0


def test_without_what_draws_the_export_goes_on(shelf: Store, tmp_path: Path) -> None:
    shelf.add_run(run(1))
    report = export(shelf, [], tmp_path / "out.apkg")
    assert (report.media, report.undrawn) == (0, 1)


def test_a_result_without_curves_gives_no_picture(shelf: Store, tmp_path: Path) -> None:
    shelf.add_run(run(1, series=[]))
    shelf.add_run(run(2, series=[{"metric": "m", "series": "s", "points": [[1, float("nan")]]}]))
    assert export(shelf, [], tmp_path / "out.apkg", extras=Extras(draw=draw)).media == 0


def test_topics_as_decks(store: Store, make: type, desk: Callable[..., Desk], tmp_path: Path) -> None:
    cards = make.card("a", topic="paging"), make.card("b", topic="unknown::one"), make.card("c", topic="paging")
    store.sync([make.deck(*cards)], now=LONG_AGO)
    topics = {"paging": {Lang.EN: "Paged caches", Lang.ZH: "分页"}}
    options = Options(desired_retention=0.88, new_per_day=7, learning_steps=(120,))
    report = export(store, [], tmp_path / "out.apkg", with_schedule=True, options=options, extras=Extras(topics=topics))
    anki = desk()
    anki.take(report.path)
    names = [anki.col.decks.name(anki.card(card_id).did) for card_id in "abc"]
    paged = "llmquiz::KV cache::Paged caches"
    assert names == [paged, "llmquiz::KV cache::unknown: one", paged]
    preset = anki.col.decks.config_dict_for_deck_id(anki.col.decks.id_for_name(paged))
    assert (preset["name"], preset["desiredRetention"]) == ("llmquiz", pytest.approx(0.88))
    assert preset["fsrsParams6"] == pytest.approx(options.parameters)
    assert (preset["new"]["perDay"], preset["new"]["delays"]) == (7, [2.0])


def test_only_what_is_new_changed_or_reviewed_since(
    store: Store, make: type, desk: Callable[..., Desk], tmp_path: Path
) -> None:
    cards = [make.card(name) for name in ("old", "reviewed", "edited")]
    store.sync([make.deck(*cards), make.deck(make.card("far", deck="x"), deck_id="x", title="X")], now=LONG_AGO)
    session = Session(store, Options(), clock=lambda: NOW - 20 * DAY)
    for _ in range(4):
        session.next()
        session.rate(Rating.EASY, duration_ms=1000)
    with store.transaction() as connection:
        connection.execute("UPDATE card SET changed_at = ? WHERE id = 'edited'", (int(NOW - DAY),))
        part = connection.execute("SELECT id FROM schedule WHERE card = 'reviewed'").fetchone()[0]
        connection.execute(
            "INSERT INTO review SELECT ?, schedule, day, rating, 2, 1, 1, 3, 3, 1, 9, NULL, NULL FROM review"
            " WHERE schedule = ?",
            (int(NOW * 1000) - DAY * 1000, part),
        )
    week = since("7d", Calendar(), NOW)
    report = export(store, [], tmp_path / "out.apkg", with_schedule=True, extras=Extras(since=week))
    assert (report.notes, report.reviews, report.decks) == (2, 3, 1)
    anki = desk()
    anki.take(report.path)
    assert {note["Id"] for note in map(anki.col.get_note, anki.col.find_notes(""))} == {"reviewed", "edited"}
    assert {deck.name for deck in anki.col.decks.all_names_and_ids()} == {"Default", "llmquiz", "llmquiz::KV cache"}
    with pytest.raises(ExportError, match="nothing to export since then"):
        export(store, [], tmp_path / "none.apkg", extras=Extras(since=NOW + DAY))


def test_when_since_is() -> None:
    calendar = Calendar()
    today = calendar.day(NOW)
    assert since("7d", calendar, NOW) == calendar.start(today - 7)
    assert since(date.fromordinal(today).isoformat(), calendar, NOW) == calendar.start(today)
    for bad, words in (("soon", "is no date; write one like"), ("2999-01-01", "lies ahead"), ("2026-02-30", "no date")):
        with pytest.raises(UsageError, match=words):
            since(bad, calendar, NOW)


def test_notes_of_other_programs_have_a_card_for_each_face(
    store: Store, make: type, desk: Callable[..., Desk], tmp_path: Path
) -> None:
    faces = tuple(NoteFace(ordinal, f"Front {ordinal} $x_{ordinal}$", f"**Back** {ordinal}") for ordinal in (0, 1, 9))
    faces += (NoteFace(2, "![a plot](plot.png) ![gone](gone.png)", "[x](plot.png) <script>"),)
    text = CardText("Front", "", faces=faces)
    note = LlmquizCard("csv-1", "csv-x", "t", Kind.NOTE, Level.L1, Frequency.LOW, {Lang.EN: text}, tags=("my tag",))
    store.sync([make.deck(note, deck_id="csv-x", title="Table")], now=LONG_AGO)
    with store.transaction() as connection:
        connection.execute("INSERT INTO media VALUES ('plot.png', '', 1)")
        connection.execute("INSERT INTO media VALUES ('other.png', '', 1)")
    (tmp_path / "plot.png").write_bytes(b"plot")
    report = export(store, [], tmp_path / "out.apkg", with_schedule=True, extras=Extras(media_folder=tmp_path))
    assert (report.notes, report.cards, report.media) == (2, 4, 1)
    anki = desk()
    anki.take(report.path)
    cards = anki.cards("csv-1")
    assert [card.ord for card in cards] == [0, 1, 2]
    assert "Front 1 \\(x_1\\)" in cards[1].question()
    assert "<strong>Back</strong> 1" in cards[1].answer()
    assert '<img src="plot.png" alt="a plot"' in cards[2].question()
    assert "![gone](gone.png)" in cards[2].question() or "gone" in cards[2].question()
    assert "<script>" not in cards[2].answer()
    assert [card.ord for card in anki.cards("csv-1/1")] == [1]
    assert anki.note("csv-1").tags == ["my-tag"]
    check = anki.col.media.check()
    assert (list(check.missing), list(check.unused)) == ([], [])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (3.0, "3"),
        (12.4, "12.4"),
        (8192.0, "8,192"),
        (0.031257, "0.03126"),
        (1e-7, "1e-07"),
        (1.5e15, "1.5e+15"),
    ],
)
def test_numbers(value: float, shown: str) -> None:
    assert number(value) == shown
