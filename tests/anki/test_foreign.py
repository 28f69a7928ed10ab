"""Notes that came from Anki go back as they were: note types, fields, decks, presets, media, cards and log."""

from __future__ import annotations

import json
import sqlite3
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from llmquiz.anki.exporting import foreign, progress
from llmquiz.anki.exporting.export import Extras, export
from llmquiz.anki.exporting.progress import CardState
from llmquiz.core.card import Card, CardText, Deck, Frequency, Kind, Lang, Level, NoteFace
from llmquiz.core.day import Calendar
from llmquiz.core.options import Options
from llmquiz.core.schedule import Memory, Schedule, State
from llmquiz.store import Store
from llmquiz.store.codec import encode_card

from .conftest import Desk, anki_collection
from .test_progress import kept_of

CALENDAR, OPTIONS = Calendar(), Options(fuzz=False)
MEMORY = '{"pos":7,"s":12.3456,"d":5.678,"dr":0.85,"decay":0.2,"lrt":LAST,"cd":"{\\"a\\":1}"}'
PNG = b"\x89PNG\r\n\x1a\n picture"


def filled(anki: Desk) -> Desk:
    """Notes of two types in decks of three levels, one of them empty, a preset, media, and cards in every state."""
    col = anki.col
    custom = col.models.new("Vocabulary ∂")
    for name in ("Word", "Meaning", "Note"):
        col.models.add_field(custom, col.models.new_field(name))
    for name, front, back in (
        ("Forth", "{{Word}}", "{{FrontSide}}<hr>{{Meaning}}"),
        ("Back", "{{Meaning}}", "{{Word}}"),
    ):
        template = col.models.new_template(name) | {"qfmt": f"<b>{front}</b>", "afmt": back}
        col.models.add_template(custom, template)
    custom["css"] = ".card { color: teal; background: url('_paper.png') }"
    col.models.add(custom)
    preset = col.decks.add_config("Slow")
    preset["fsrsParams6"], preset["desiredRetention"] = [0.3, *OPTIONS.parameters[1:]], 0.85
    col.decks.update_config(preset)
    deck = col.decks.get(col.decks.id("Languages::French::Food"))
    deck["conf"] = preset["id"]
    col.decks.update(deck)
    for name in ("œuf 1.png", "_paper.png", "salut.mp3"):
        (Path(col.media.dir()) / name).write_bytes(PNG + name.encode())
    for number in range(12):
        note = col.new_note(col.models.by_name("Vocabulary ∂" if number % 2 else "Cloze"))
        picture = '<img src="œuf 1.png">' if number == 1 else "[sound:salut.mp3]" if number == 3 else ""
        values = (
            (f"<i>mot</i> {number} &amp; {picture}", f"word {number}", "")
            if number % 2
            else ("{{c1::a}} {{c3::b}}", "")
        )
        for index, value in enumerate(values):
            note.fields[index] = value
        note.tags = ["verb", f"n::{number}"]
        col.add_note(note, col.decks.id("Languages::French::Food" if number % 3 else "Languages"))
    studied(anki)
    return anki


def studied(anki: Desk) -> None:
    """Cards in every state, with what Anki alone knows of them."""
    col, now = anki.col, int(time.time())
    for number, card_id in enumerate(col.find_cards("")):
        memory = MEMORY.replace("LAST", str(now - 900))
        states = {
            1: (2, 2, col.sched.today + 3, 9, 2150, 4, 1, 0, memory),
            2: (1, 1, now + 300, 0, 0, 1, 0, 2002, memory),
            3: (3, 3, col.sched.today + 2, 3, 1900, 8, 2, 1001, memory),
            4: (2, -1, col.sched.today - 2, 40, 2500, 9, 0, 0, "{}"),
            5: (2, -2, col.sched.today, 5, 2500, 3, 0, 0, memory),
            6: (1, -1, now + 60, 0, 0, 1, 0, 1001, memory),
        }
        if number in states:
            values = *states[number], number % 8, now - 50, card_id
            col.db.execute(
                "UPDATE cards SET type=?, queue=?, due=?, ivl=?, factor=?, reps=?, lapses=?, left=?, data=?, flags=?,"
                " mod=? WHERE id=?",
                *values,
            )
            for ago, ease, kind, factor in ((900, 3, 1, 512), (5000, 0, 4, 0), (9000, 2, 3, 0)):
                row = ((now - ago) * 1000 + number, card_id, -1, ease, 5, 3, factor, 4000, kind)
                col.db.execute("INSERT INTO revlog VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", *row)


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Store, Path]]:
    """A collection, a store that holds what an import of it would have put there, and the media folder."""
    folder = tmp_path_factory.mktemp("moved")
    media = folder / "media"
    media.mkdir()
    with pytest.MonkeyPatch.context() as patch, Store.open(folder / "llmquiz.db") as store:
        patch.setenv("ANKI_TEST_MODE", "1")
        anki = filled(Desk(folder / "anki"))
        options = anki_collection.ExportAnkiPackageOptions(
            with_scheduling=True, with_deck_configs=True, with_media=True, legacy=True
        )
        anki.col.export_anki_package(out_path=str(folder / "theirs.apkg"), options=options, limit=None)
        with zipfile.ZipFile(folder / "theirs.apkg") as zipped:
            for number, name in json.loads(zipped.read("media")).items():
                (media / name).write_bytes(zipped.read(number))
            zipped.extract("collection.anki21", folder)
        with closing(sqlite3.connect(folder / "collection.anki21")) as theirs:
            take_in(theirs, store, [path.name for path in media.iterdir()])
        yield anki, store, media
        anki.col.close()


def take_in(theirs: sqlite3.Connection, store: Store, media: list[str]) -> None:
    created, models, decks, presets = theirs.execute("SELECT crt, models, decks, dconf FROM col").fetchone()
    first_day = CALENDAR.day(created)
    store.sync([Deck("anki-all", {Lang.EN: "All"}, (), builtin=False)], now=1)
    with store.transaction() as ours:
        ours.execute("UPDATE deck SET origin = 'anki'")
        for table, content in (("anki_notetype", models), ("anki_preset", presets)):
            rows = [(int(number), json.dumps(entry)) for number, entry in json.loads(content).items()]
            ours.executemany(f"INSERT INTO {table} VALUES (?, ?)", rows)
        ours.executemany(
            "INSERT INTO anki_deck VALUES (?, 'anki-all', ?)",
            [(int(number), json.dumps(entry)) for number, entry in json.loads(decks).items()],
        )
        ours.executemany("INSERT INTO media VALUES (?, '', 1)", [(name,) for name in media])
        for note in theirs.execute("SELECT id, guid, mid, mod, tags, flds FROM notes").fetchall():
            take_note(theirs, ours, note, first_day)


def take_note(theirs: sqlite3.Connection, ours: sqlite3.Connection, note: tuple, first_day: int) -> None:
    cards = theirs.execute("SELECT * FROM cards WHERE nid = ? ORDER BY ord", (note[0],)).fetchall()
    faces = tuple(NoteFace(card[3], "front", "back") for card in cards)
    card_id = f"anki-{note[0]}"
    content = encode_card(
        Card(card_id, "anki-all", "t", Kind.NOTE, Level.L1, Frequency.MEDIUM, {Lang.EN: CardText("f", "", faces=faces)})
    )
    ours.execute(
        "INSERT INTO card (id, deck, topic, kind, level, frequency, position, digest, added_at, changed_at, content)"
        " VALUES (?, 'anki-all', 't', 'note', 'L1', 'medium', ?, '', 1, 1, ?)",
        (card_id, note[0] % 100000, content),
    )
    ours.execute("INSERT INTO anki_note VALUES (?, ?, ?, ?, ?, ?, ?)", (card_id, *note))
    for row in cards:
        number, _, deck, ordinal, _, _, kind, queue, due, ivl, factor, reps, lapses, left, _, _, flags, data = row
        in_days = progress.counts_days(kind, queue)
        at = first_day + due if in_days else due
        memory = json.loads(data or "{}")
        schedule = Schedule(
            State(kind),
            at if kind == 2 or not in_days else int(CALENDAR.start(at)),
            ivl,
            left % 1000 if kind in (1, 3) else 0,
            Memory(memory.get("s", 3.0), memory.get("d", 4.0)) if kind else None,
            memory.get("lrt"),
            reps,
            lapses,
        )
        columns = CardState(
            kind, queue, at - progress.CREATED_ON if in_days else due, ivl, factor, reps, lapses, left, flags, data
        )
        kept = kept_of(columns, schedule)
        known = schedule.memory
        cursor = ours.execute(
            "INSERT INTO schedule (card, ordinal, state, due, interval, steps_left, stability, difficulty, last_review,"
            " reps, lapses, suspended, buried_on, flag) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                card_id, ordinal, kind, schedule.due, ivl, schedule.steps_left, known and known.stability,
                known and known.difficulty, schedule.last_review, reps, lapses, int(queue == -1),
                CALENDAR.day(time.time()) if queue < -1 else None, flags & 7,
            ),
        )  # fmt: skip
        part = cursor.lastrowid
        ours.execute("INSERT INTO anki_card VALUES (?, ?, ?, ?, ?)", (part, number, deck, factor, kept))
        for at, _, _, ease, after, before, ease_factor, duration, type_ in theirs.execute(
            "SELECT * FROM revlog WHERE cid = ?", (number,)
        ):
            if ease:
                ours.execute(
                    "INSERT INTO review VALUES (?, ?, 1, ?, 2, ?, ?, 0, 0, NULL, ?, ?, ?)",
                    (at, part, ease, after, before, duration, type_, ease_factor),
                )
            else:
                ours.execute(
                    "INSERT INTO anki_reschedule VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (at, part, after, before, ease_factor, duration, type_),
                )


def give_back(store: Store, out: Path, media: Path, **wanted: object) -> Path:
    options = {"with_schedule": True, "calendar": CALENDAR, "options": OPTIONS} | wanted
    report = export(store, [], out, extras=Extras(media_folder=media), **options)
    assert report.missing == ()
    return out


def test_everything_goes_back_as_it_was(moved: tuple, desk: Callable[..., Desk], tmp_path: Path) -> None:
    anki, store, media = moved
    again = desk()
    assert again.take(give_back(store, tmp_path / "back.apkg", media))["new"] == 12
    for table, columns in (
        ("notes", "id, guid, mid, mod, tags, flds, sfld, csum"),
        ("cards", "id, nid, ord, type, queue, due, ivl, factor, reps, lapses, left, flags, data"),
        ("revlog", "id, cid, ease, ivl, lastIvl, factor, time, type"),
    ):
        sql = f"SELECT {columns} FROM {table} ORDER BY id"
        assert [tuple(row) for row in again.col.db.all(sql)] == [tuple(row) for row in anki.col.db.all(sql)], table
    for card_id in anki.col.find_cards(""):
        mine, theirs = again.col.get_card(card_id), anki.col.get_card(card_id)
        assert again.col.decks.name(mine.did) == anki.col.decks.name(theirs.did)
        assert mine.render_output().question_text == theirs.render_output().question_text
    names = {deck.name for deck in anki.col.decks.all_names_and_ids()}
    assert names == {deck.name for deck in again.col.decks.all_names_and_ids()}
    assert again.col.models.by_name("Vocabulary ∂")["css"] == anki.col.models.by_name("Vocabulary ∂")["css"]
    preset = again.col.decks.config_dict_for_deck_id(again.col.decks.id("Languages::French::Food"))
    assert (preset["name"], preset["desiredRetention"]) == ("Slow", pytest.approx(0.85))
    assert preset["fsrsParams6"][0] == pytest.approx(0.3)
    check = again.col.media.check()
    assert (list(check.missing), list(check.unused)) == ([], [])
    assert len(list(Path(again.col.media.dir()).iterdir())) == 3
    assert again.col.fix_integrity() == anki.col.fix_integrity()


def test_without_a_schedule_all_is_new(moved: tuple, desk: Callable[..., Desk], tmp_path: Path) -> None:
    again = desk()
    again.take(give_back(moved[1], tmp_path / "back.apkg", moved[2], with_schedule=False))
    assert again.col.db.list("SELECT DISTINCT type FROM cards") == [0]
    assert again.col.db.scalar("SELECT count() FROM revlog") == 0


def test_a_second_import_finds_the_same_notes(moved: tuple, tmp_path: Path) -> None:
    anki, store, media = moved
    assert anki.take(give_back(store, tmp_path / "back.apkg", media)) == {
        "new": 0, "updated": 0, "duplicate": 12, "conflicting": 0,
    }  # fmt: skip


def test_only_what_was_studied_here_is_new(moved: tuple, desk: Callable[..., Desk], tmp_path: Path) -> None:
    """Comes last: it changes the store that the others share."""
    anki, store, media = moved
    with store.transaction() as connection:
        part, number = connection.execute(
            "SELECT schedule, anki_card.id FROM anki_card JOIN schedule ON schedule.id = schedule WHERE state = 2"
            " AND suspended = 0 ORDER BY 1"
        ).fetchone()
        connection.execute("UPDATE schedule SET due = due + 20, interval = 23, reps = reps + 1 WHERE id = ?", (part,))
        connection.execute("UPDATE schedule SET suspended = 1 WHERE state = 3")
    again = desk()
    again.take(give_back(store, tmp_path / "back.apkg", media))
    card, before = again.col.get_card(number), anki.col.get_card(number)
    assert (card.ivl, card.reps, card.factor, card.due) == (23, 5, 2150, before.due + 20)
    assert card.desired_retention == pytest.approx(OPTIONS.desired_retention)
    assert json.loads(card.custom_data) == {"a": 1}
    relearning = again.col.db.first("SELECT queue, left FROM cards WHERE type = 3")
    assert list(relearning) == [-1, 1001]


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ('<img src="a b.png">', {"a b.png"}),
        ("<img src='a%20b.png' alt=x>[sound:c.mp3]", {"a%20b.png", "a b.png", "c.mp3"}),
        ("<img src=a&amp;b.png >", {"a&b.png"}),
        ('<img src="https://x.org/y.png"> [sound', set()),
    ],
)
def test_media_that_fields_name(fields: str, names: set[str]) -> None:
    assert foreign.named(fields) == names


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<b>1 &lt; 2</b> > 0 ", "1 < 2 > 0"),
        ("<IMG alt='a' src = \"b c.png\" width=3>d<img src=e.png>", "b c.png d e.png"),
        ('<a href="x"><img data-src="" alt></a> <imgs src=x>', ""),
        ("a < b", "a < b"),
        *[
            (f"<img {endless * 50_000}", f"<img {endless * 50_000}".strip())
            for endless in ("<img ", "src=", "src = a ")
        ],
    ],
)
def test_a_field_as_anki_compares_it(html: str, text: str) -> None:
    assert foreign.bare(html) == text


def test_a_deck_without_its_preset_gets_the_default_one(store: Store) -> None:
    entry = {"name": "x", "conf": 77}
    assert foreign.presets(store.connection, [entry]) == {}
    assert entry["conf"] == 1
