"""Collections read as records: the same from every format that Anki writes, and from files that lie, an error or less.

The real Anki exports one collection in both of its schemas; what is read must be the same to the last key. The kept
files of `corpus` once made a reader hang, fail in its own words, or speak in escape sequences.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from contextlib import closing
from datetime import UTC
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmquiz.anki.archive import untrusted
from llmquiz.anki.archive.limits import MB, Limits
from llmquiz.anki.archive.package import opened
from llmquiz.anki.archive.reading import reading
from llmquiz.anki.archive.records import ReviewRow
from llmquiz.anki.importing.arriving import arriving
from llmquiz.core.day import Calendar
from llmquiz.core.errors import ImportFileError
from llmquiz.core.options import Options

from .test_package import CORPUS, LIMITS, NEW, OLD, zipped

WEIGHTS = [0.3, 1.1, 2.5, 9.0, 6.2, 0.8, 3.0, 0.01, 1.9, 0.15, 0.8, 1.5, 0.06, 0.26, 1.6, 0.6, 1.9, 0.54, 0.1, 0.1, 0.2]
BASIC = 1_795_343_881_929  # the first note type of the kept packages


class Note(NamedTuple):
    """A note as it is staged; tags parted by spaces."""

    id: int
    guid: str
    notetype: int
    modified: int
    tags: str
    fields: tuple[str, ...]


class Read(NamedTuple):
    """All that a package gives: definitions as records, rows as they are staged for the store.

    Cards are `_CARD`, then what only Anki knows of them; `findings` those that tell what was left out.
    """

    head: tuple[Any, ...]
    notetypes: dict
    decks: dict
    presets: dict
    notes: list[Note]
    cards: list[tuple[Any, ...]]
    reviews: list[ReviewRow]
    findings: list[str]


_CARD = "number, note, anki_deck, ordinal, factor"
_KEPT = ("type", "queue", "ivl", "reps", "lapses", "left", "flags", "data")
_REVIEW = "id, part, rating, interval, last_interval, factor, duration_ms, type"


def everything(path: Path, limits: Limits = LIMITS) -> Read:
    with opened(path, limits) as package, reading(package, limits) as tables:
        head = (tables.created_at, tables.rollover_hour, tables.minutes_west, tables.scheduler, tables.counts)
        definitions = (dict(tables.notetypes), dict(tables.decks), dict(tables.presets))
    with arriving(path, limits, calendar=Calendar(zone=UTC), options=Options()) as incoming:
        assert incoming.staged is not None
        notes = [Note._make((*it.anki[:5], tuple(it.anki[5].split("\x1f")))) for it in incoming.staged.notes if it.anki]
        cards = [
            (*row[:-1], *map(json.loads(row[-1]).get, _KEPT))
            for row in staged(incoming.staged.parts(), f"SELECT {_CARD}, kept FROM part WHERE kept IS NOT NULL")
        ]
        reviews = [ReviewRow._make(row) for row in staged(incoming.staged.log(), f"SELECT {_REVIEW} FROM review")]
        findings = [line for line in incoming.findings if ": left out, " in line]
    return Read(head, *definitions, notes, cards, reviews, findings)


def staged(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Read]:
    """Reads a package made of files."""

    def one(files: dict[str, bytes] | bytes, limits: Limits = LIMITS) -> Read:
        path = tmp_path / "deck.apkg"
        path.write_bytes(files if isinstance(files, bytes) else zipped(files))
        return everything(path, limits)

    return one


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., dict[str, bytes]]:
    """A kept package after some statements on its collection."""

    def change(*statements: str, parameters: tuple = (), new: bool = False) -> dict[str, bytes]:
        name = "collection.anki21b" if new else "collection.anki21"
        path = tmp_path / "changed.db"
        path.write_bytes(zstandard.decompress(NEW[name], 1 << 24) if new else OLD[name])
        connection = sqlite3.connect(path, isolation_level=None)
        connection.create_collation("unicase", lambda one, other: (one > other) - (one < other))
        for statement in statements:
            connection.execute(statement, parameters if "?" in statement else ())
        connection.close()
        data = path.read_bytes()
        return {**NEW, name: zstandard.compress(data)} if new else {**OLD, name: data}

    return change


def refusal(read: Callable[..., Read], files: dict[str, bytes] | bytes, limits: Limits = LIMITS) -> str:
    """What the one line says, without the path before it and the advice after it."""
    with pytest.raises(ImportFileError) as caught:
        read(files, limits)
    line = str(caught.value)
    assert line.isprintable()
    return line.split("deck.apkg: ", 1)[1].removesuffix("; in Anki, use Tools > Check Database and export it again")


class TestAgainstAnki:
    @pytest.fixture(scope="class")
    def exported(self, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
        """One collection in every format that Anki still writes."""
        folder = tmp_path_factory.mktemp("anki")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ANKI_TEST_MODE", "1")
            return export(folder)

    @pytest.mark.parametrize("kind", ["apkg", "colpkg"])
    def test_both_schemas_give_the_same(self, exported: dict[str, Path], kind: str) -> None:
        new, old = everything(exported[f"new.{kind}"]), everything(exported[f"old.{kind}"])
        assert new == old
        assert not new.findings
        assert (len(new.notes), len(new.cards), len(new.reviews)) == (*new.head[-1], 5) == (6, 8, 5)

    def test_what_was_set_is_there(self, exported: dict[str, Path]) -> None:
        found = everything(exported["new.apkg"])
        deck = next(deck for deck in found.decks.values() if deck.name == "A::B::C")
        preset = found.presets[deck.preset]
        assert (preset.name, preset.desired_retention) == ("Mine", 0.85)
        assert preset.parameters == tuple(WEIGHTS)
        assert preset.legacy["new"]["delays"] == [1, 10, 1440]
        assert preset.legacy["addon"] == preset.legacy["rev"]["addon"] == "kept"
        assert deck.legacy["addon"] == {"x": 1}
        assert deck.legacy["desiredRetention"] == 88
        basic = next(notetype for notetype in found.notetypes.values() if notetype.name == "Basic")
        assert basic.legacy["flds"][0] | {"font": "Times", "rtl": True} == basic.legacy["flds"][0]
        assert basic.legacy["tmpls"][0] | {"bqfmt": "BQ", "addon": "q"} == basic.legacy["tmpls"][0]
        assert (basic.fields, basic.templates[0].front, basic.is_cloze) == (("Front", "Back"), "{{Front}}", False)
        assert sum(notetype.is_cloze for notetype in found.notetypes.values()) == 2
        assert [deck.name for deck in found.decks.values() if deck.is_filtered] == ["Filtered"]
        assert {card[2] for card in found.cards} == {deck.id}  # also those that the filtered deck has borrowed
        assert {note.tags for note in found.notes} == {"a::b x"}

    def test_rows_are_those_of_anki(self, exported: dict[str, Path]) -> None:
        found, expected = everything(exported["new.colpkg"]), json.loads(exported["rows"].read_text())
        at_home = [
            (*row[:2], row[15] or row[2], row[3], row[10], row[6], row[6] if row[15] else row[7], row[9], *row[11:14],
             *row[16:])
            for row in expected["cards"]
        ]  # fmt: skip
        assert sorted(found.cards) == at_home
        assert any(row[15] for row in expected["cards"])
        assert sorted(map(list, found.reviews)) == [[*row[:2], *row[3:]] for row in expected["revlog"]]
        notes = [[note.id, note.guid, note.notetype, note.modified, "\x1f".join(note.fields)] for note in found.notes]
        assert notes == [[*row[:4], row[6]] for row in expected["notes"]]

    def test_a_collection_brings_its_rollover_hour(self, exported: dict[str, Path]) -> None:
        assert everything(exported["new.colpkg"]).head[1] == everything(exported["old.colpkg"]).head[1] == 6


def export(folder: Path) -> dict[str, Path]:
    from anki.collection import Collection, ExportAnkiPackageOptions

    col = Collection(str(folder / "collection.anki2"))
    col.set_config("fsrs", True)
    col.set_config("rollover", 6)
    deck_id = fill(col)
    for notetype in col.models.all():
        note = col.new_note(notetype)
        note.fields = [f"{{{{c1::field {number}}}}}<br>图" for number in range(len(note.fields))]
        note.tags = ["a::b", "x"]
        col.add_note(note, deck_id)
    filtered = col.decks.get(col.decks.new_filtered("Filtered"))
    filtered |= {"terms": [["tag:x is:new", 2, 1], ["deck:A", 1, 2]], "resched": False}
    col.decks.save(filtered)
    col.sched.rebuild_filtered_deck(filtered["id"])
    col.decks.select(deck_id)
    for number in range(5):
        card = col.get_card(col.sched.get_queued_cards().cards[0].card.id)
        card.start_timer()
        col.sched.answerCard(card, 1 + number % 4)
    rows = {name: col.db.all(f"SELECT * FROM {name} ORDER BY id") for name in ("notes", "cards", "revlog")}
    paths = {name: folder / name for name in ("new.apkg", "old.apkg", "new.colpkg", "old.colpkg", "rows")}
    paths["rows"].write_text(json.dumps(rows))
    for age in ("new", "old"):
        chosen = ExportAnkiPackageOptions(with_scheduling=True, with_deck_configs=True, legacy=age == "old")
        col.export_anki_package(out_path=str(paths[f"{age}.apkg"]), options=chosen, limit=None)
        col.export_collection_package(str(paths[f"{age}.colpkg"]), include_media=False, legacy=age == "old")
        if not col.db:
            col.reopen()
    col.close()
    return paths


def fill(col: Any) -> int:
    """A note type, a preset and a deck with all that can be set about them; the deck's id."""
    preset = col.decks.add_config("Mine")
    preset |= {"desiredRetention": 0.85, "fsrsParams6": WEIGHTS, "fsrsParams5": [0.2] * 19, "addon": "kept"}
    preset |= {"easyDaysPercentages": [1, 0.5, 0, 1, 1, 1, 1], "autoplay": False, "timer": 1, "replayq": False}
    preset["new"] |= {"delays": [1, 10, 1440], "order": 0, "perDay": 7, "bury": True}
    preset["rev"] |= {"ease4": 1.35, "maxIvl": 99, "addon": "kept"}
    preset["lapse"] |= {"delays": [], "mult": 0.15, "leechAction": 0}
    col.decks.update_config(preset)
    deck = col.decks.get(col.decks.id("A::B::C"))
    deck |= {"conf": preset["id"], "desc": "<b>x</b>", "md": True, "desiredRetention": 88, "addon": {"x": 1}}
    deck |= {"newLimit": 7, "reviewLimitToday": {"limit": 5, "today": 3}, "extendNew": 2}
    col.decks.save(deck)
    notetype = col.models.by_name("Basic")
    notetype |= {"latexPre": "PRE", "latexsvg": True, "addon": [1], "sortf": 1}
    notetype["flds"][0] |= {"rtl": True, "font": "Times", "size": 13, "sticky": True, "addon": 5}
    notetype["flds"][1] |= {"description": "words", "plainText": True, "collapsed": True}
    notetype["tmpls"][0] |= {"bqfmt": "BQ", "bfont": "Mono", "bsize": 9, "did": deck["id"], "addon": "q"}
    col.models.update_dict(notetype)
    return deck["id"]


class TestOldCollections:
    """What clients of ten years ago wrote into schema 11."""

    def test_without_fsrs(self, read, changed) -> None:
        dconf = {
            "1": {"id": "1", "name": "Default", "new": {}},
            "7": {"id": 7, "name": "Old", "fsrsWeights": [0.5] * 17},
        }
        decks = {"1": {"id": 1, "name": "Default", "conf": 1.0}, "5": {"id": 5, "name": "Cram", "dyn": 1, "terms": []}}
        files = changed("UPDATE col SET dconf = ?", parameters=(json.dumps(dconf),))
        with_decks = changed("UPDATE col SET decks = ?", "UPDATE cards SET data = ''", parameters=(json.dumps(decks),))
        found = read(files)
        assert found.presets[1].desired_retention is None
        assert found.presets[1].parameters == ()
        assert found.presets[7].parameters == (0.5,) * 17
        found = read(with_decks)
        assert (found.decks[5].is_filtered, found.decks[5].preset, found.decks[1].preset) == (True, 1, 1)
        assert {card[-1] for card in found.cards} == {""}

    def test_with_fractions_of_days(self, read, changed) -> None:
        found = read(changed("UPDATE cards SET ivl = 3.7, due = 12.5", "UPDATE revlog SET factor = 2500.5"))
        assert {card[7] for card in found.cards} == {3}
        assert {review.factor for review in found.reviews} == {2500}
        assert not found.findings

    def test_with_ids_as_text_and_without_places(self, read, changed) -> None:
        models = json.loads(sqlite_value(OLD, "models"))
        entry = models[str(BASIC)]
        entry |= {"id": str(BASIC), "flds": [{"name": "F"}, {"name": "B"}], "sortf": 9, "vers": [], "tags": []}
        found = read(changed("UPDATE col SET models = ?", parameters=(json.dumps({str(BASIC): entry}),)))
        notetype = found.notetypes[BASIC]
        assert (notetype.id, notetype.fields, notetype.sort_field) == (BASIC, ("F", "B"), 0)
        assert notetype.legacy["id"] == BASIC

    def test_of_the_first_package(self, read) -> None:
        assert read({"collection.anki2": OLD["collection.anki21"], "0": OLD["0"], "media": OLD["media"]}) == read(OLD)

    def test_that_kept_a_write_ahead_log(self, read, changed) -> None:
        assert read(changed("PRAGMA journal_mode = WAL")) == read(OLD)

    def test_of_the_first_scheduler(self, read, changed) -> None:
        assert read(changed("UPDATE col SET conf = '{}'")).head[1:4] == (4, None, 1)

    def test_without_a_media_map_or_a_default_deck(self, read, changed) -> None:
        files = changed("UPDATE col SET decks = '{}'")
        del files["media"]
        assert [deck.name for deck in read(files).decks.values()] == ["Default"]


def sqlite_value(files: dict[str, bytes], column: str, source: str = "col") -> Any:
    connection = sqlite3.connect(":memory:")
    connection.deserialize(files["collection.anki21"])
    (value,) = connection.execute(f"SELECT {column} FROM {source}").fetchone()
    connection.close()
    return value


class TestRows:
    def test_that_no_anki_writes_are_left_out(self, read, changed) -> None:
        found = read(
            changed(
                "UPDATE revlog SET ease = 'good' WHERE rowid = (SELECT min(id) FROM revlog)",
                "INSERT INTO revlog VALUES (1, 2, 0, 3, 4611686018427387904, 1, 0, 0, 0)",
                "INSERT INTO revlog VALUES (253402300800000, 2, 0, 3, 1, 1, 0, 0, 0)",
                "INSERT INTO revlog VALUES (-5, 2, 0, 3, 1, 1, 0, 0, 0)",
                "INSERT INTO revlog VALUES (3, 2, 0, 9, 1, 1, 0, 0, 0)",
                "INSERT INTO revlog VALUES (4, 2, 0, 3, 1, 9e999, 0, 0, 0)",
                "UPDATE cards SET due = x'00' WHERE rowid = (SELECT min(id) FROM cards)",
                "INSERT INTO cards SELECT 9, nid, did, ord, mod, usn, type, queue, due, ivl, factor, reps, lapses,"
                " left, odue, odid, flags, x'ff' FROM cards WHERE rowid = (SELECT max(id) FROM cards)",
            )
        )
        assert (len(found.cards), len(found.reviews)) == (7, 4)
        assert found.head[-1] == (6, 9)
        unwritten = "left out, a column has a value that no Anki writes"
        assert found.findings[-1] == f"answer -5 and 5 more: {unwritten}"
        assert found.findings[0] == f"card {min(everything(CORPUS / 'schema11.apkg').cards)[0]}: {unwritten}"
        assert found.findings[1].endswith("left out, its note has that card already")

    def test_text_columns_are_not_compared_as_text(self, read, changed) -> None:
        columns = ", ".join(f"{name} text" for name in ("usn", "ease", "ivl", "lastIvl", "factor", "time", "type"))
        found = read(
            changed(
                "DROP TABLE revlog",
                f"CREATE TABLE revlog (id text, cid text, {columns})",
                "INSERT INTO revlog VALUES ('39999999999999999999', '1', '0', '3zz', '1', '1', '0', '0', '0')",
            )
        )
        assert found.reviews == []

    def test_notes_that_cannot_be_shown_are_left_out(self, read, changed) -> None:
        found = read(
            changed(
                "UPDATE notes SET mid = 5 WHERE id = (SELECT min(id) FROM notes)",
                "UPDATE notes SET flds = x'00' WHERE id = (SELECT max(id) FROM notes)",
            )
        )
        assert len(found.notes) == 4
        assert [finding.split(": ")[1] for finding in found.findings] == [
            "left out, a column has a value that no Anki writes",
            "left out, its note type is not there",
        ]

    def test_an_id_that_is_no_number_is_told_without_its_controls(self, read, changed) -> None:
        loose = "CREATE TABLE loose (id, guid, mid, mod, usn, tags, flds, sfld, csum, flags, data)"
        files = changed(loose, "INSERT INTO loose SELECT * FROM notes", "DROP TABLE notes",
                        "ALTER TABLE loose RENAME TO notes", "UPDATE notes SET id = char(27) || '[2Jevil'")  # fmt: skip
        found = read(files)
        assert found.findings == ["note evil and 5 more: left out, a column has a value that no Anki writes"]

    def test_fields_are_as_many_as_the_note_type_has(self, read, changed) -> None:
        few = "UPDATE notes SET flds = 'one' WHERE mid = ?"
        many = "UPDATE notes SET flds = 'one' || x'1f' || 'two' || x'1f' || 'three' WHERE mid = ?"
        (note,) = (it for it in read(changed(few, parameters=(BASIC,))).notes if it.notetype == BASIC)
        assert note.fields == ("one", "")
        (note,) = (it for it in read(changed(many, parameters=(BASIC,))).notes if it.notetype == BASIC)
        assert note.fields == ("one", "two; three")

    def test_bytes_that_are_no_text(self, read, changed) -> None:
        found = read(changed("UPDATE notes SET flds = CAST(x'ff41' AS TEXT), tags = CAST(x'20fe' AS TEXT)"))
        assert {note.fields[0] for note in found.notes} == {"\ufffdA"}

    def test_a_long_field(self, read, changed) -> None:
        files = changed("UPDATE notes SET flds = ? WHERE id = (SELECT min(id) FROM notes)", parameters=("图" * 400,))
        assert len(read(files, Limits(field_kb=2)).notes) == 6
        found = read(files, Limits(field_kb=1))
        assert len(found.notes) == 5
        assert found.findings[0].endswith("left out, a field has more than 1 KiB (limits.field_kb)")

    def test_a_long_row(self, read, changed) -> None:
        files = changed("UPDATE notes SET flds = ?", parameters=("x" * MB + "\x1f" + "y" * 100_000,))
        assert "a row of the collection is too long" in refusal(read, files, Limits(field_kb=1, definitions_mb=1))

    @pytest.mark.parametrize("what", ["notes", "cards", "reviews"])
    def test_too_many(self, read, what: str) -> None:
        count = {"notes": 6, "cards": 8, "reviews": 5}[what]
        read(OLD, Limits(**{what: count}))
        assert (
            refusal(read, OLD, Limits(**{what: count - 1})) == f"{count} {what}, more than {count - 1} (limits.{what})"
        )

    def test_names_are_neutral(self, read, changed) -> None:
        evil = "a\x1b[2J\x1b]0;x\x07b\u202ec\x9b31m\n"
        decks = {"1": {"name": f"{evil}::::{evil}"}, "2": {"name": "\x1b"}}
        files = changed("UPDATE col SET decks = ?", parameters=(json.dumps(decks),))
        assert [deck.name for deck in read(files).decks.values()] == ["abc::blank::abc", "blank"]
        assert read(files).decks[1].legacy["name"] == "abc::blank::abc"
        files = changed("UPDATE notes SET tags = ?", parameters=(f" {evil} \x1b \u3000图 ",))
        assert {note.tags for note in read(files).notes} == {"abc 图"}
        files = changed("UPDATE notetypes SET name = name || ?", "UPDATE fields SET name = name || ?",
                        "UPDATE templates SET name = name || ?", parameters=(evil,), new=True)  # fmt: skip
        for notetype in read(files).notetypes.values():
            assert all(map(str.isprintable, (notetype.name, *notetype.fields, notetype.templates[0].name)))

    def test_a_reader_may_stop_early(self) -> None:
        with arriving(CORPUS / "schema11.apkg", LIMITS, calendar=Calendar(zone=UTC), options=Options()) as incoming:
            assert incoming.staged is not None
            notes = iter(incoming.staged.notes)
            assert next(notes).ordinals
        del notes


class TestHostileDatabases:
    @pytest.mark.parametrize(
        ("statements", "problem"),
        [
            (["DROP TABLE revlog"], "there is no table 'revlog'"),
            (["DROP TABLE col"], "there is no table 'col'"),
            (["DELETE FROM col"], "schema unknown of the collection is not known"),
            (["UPDATE col SET ver = 19"], "schema 19 of the collection is not known; open it in a current Anki"),
            (["UPDATE col SET ver = 'x'"], "schema unknown of the collection is not known"),
            (["UPDATE col SET crt = 'x'"], "its creation time is no time"),
            (["UPDATE col SET crt = 99999999999999"], "its creation time is no time"),
            (["ALTER TABLE notes RENAME COLUMN flds TO f"], "no such column: flds"),
            (["ALTER TABLE cards DROP COLUMN data"], "no such column: data"),
            (["ALTER TABLE revlog RENAME TO r", "CREATE VIEW revlog AS WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL"
              " SELECT n + 1 FROM t) SELECT n id, n cid FROM t"], "'revlog' is no plain table"),
            (["DROP TABLE revlog", "CREATE VIRTUAL TABLE revlog USING fts5(id)"], "'revlog' is no plain table"),
            (["DROP TABLE revlog", "CREATE TABLE revlog (id integer primary key, type AS (hex(zeroblob(9e8))))"],
             "'revlog' has computed columns"),
        ],
    )  # fmt: skip
    def test_tables(self, read, changed, statements: list[str], problem: str) -> None:
        assert problem in refusal(read, changed(*statements))

    def test_checks_triggers_and_indexes_are_not_run(self, read, changed) -> None:
        heavy = "length(hex(zeroblob(10000000))) > 0"
        columns = "id integer primary key, cid, usn, ease, ivl, lastIvl, factor, time"
        found = read(
            changed(
                "DROP TABLE revlog",
                f"CREATE TABLE revlog ({columns}, type CHECK ({heavy}))",
                "PRAGMA ignore_check_constraints = ON",
                "INSERT INTO revlog SELECT 100 + value, (SELECT min(id) FROM cards), 0, 3, 1, 1, 0, 0, 0"
                " FROM json_each('[1,2,3,4,5,6,7,8,9]')",
                "CREATE TRIGGER t BEFORE INSERT ON revlog BEGIN DELETE FROM notes; END",
            )
        )
        assert len(found.reviews) == 9

    @pytest.mark.parametrize(
        ("column", "value", "problem"),
        [
            ("models", None, "its note types cannot be read: no text"),
            ("models", b"\x00\xff", "its note types cannot be read: no text"),
            ("models", "[]", "its note types are no JSON object"),
            ("decks", "{", "its decks cannot be read: no JSON at character 1"),
            ("decks", '{"1":' * 40_000, "its decks cannot be read: too deeply nested"),
            ("dconf", "[]," * 66_000, "its presets cannot be read: more than 131,072 values (limits.definitions_mb)"),
            ("dconf", '{"1":{"desiredRetention":NaN}}', "its presets cannot be read: 'NaN' is no number"),
            ("dconf", '{"1":{"new":{"ints":[1e999]}}}', "its presets cannot be read: '1e999' is no number"),
            ("conf", '{"rollover":' + "9" * 5000 + "}", "its options cannot be read: "),
            ("models", "x" * MB, "its note types, decks and presets have more than 1 MiB (limits.definitions_mb)"),
        ],
        ids=range(10),
    )  # fmt: skip
    def test_definitions_in_json(self, read, changed, column: str, value: object, problem: str) -> None:
        files = changed("PRAGMA writable_schema = ON",
                        "UPDATE sqlite_master SET sql = replace(sql, ' NOT NULL', '') WHERE name = 'col'",
                        "PRAGMA writable_schema = OFF")  # fmt: skip
        files = {**files, "collection.anki21": set_value(files["collection.anki21"], column, value)}
        assert problem in refusal(read, files, Limits(definitions_mb=1, ratio=10_000))

    @pytest.mark.parametrize(
        "models",
        ['{"x":1}', '{"7":[]}', '{"7":{}}', '{"7":{"flds":[],"tmpls":[]}}', '{"-7":{}}',
         '{"7":{"flds":[1],"tmpls":{}}}', '{"99999999999999999999":{}}',
         '{"9007199254740993":{"flds":[{}],"tmpls":[{}]}}'],
    )  # fmt: skip
    def test_note_types_that_are_none(self, read, changed, models: str) -> None:
        found = read(changed("UPDATE col SET models = ?", parameters=(models,)))
        assert not found.notetypes
        assert found.findings[0].endswith("left out, a note type must have fields and templates")

    def test_half_characters_in_json(self, read, changed) -> None:
        models = json.loads(sqlite_value(OLD, "models"))
        models[str(BASIC)] |= {"css": "\ud800x", "name": "\udfffy"}
        found = read(changed("UPDATE col SET models = ?", parameters=(json.dumps(models),)))
        assert (found.notetypes[BASIC].css, found.notetypes[BASIC].name) == ("?x", "?y")

    @pytest.mark.parametrize("column", ["config", "name", "mtime_secs"])
    @pytest.mark.parametrize("value", [None, b"\x0a\x05abc", "x", 1.5])
    def test_definitions_in_protobuf(self, read, changed, column: str, value: object) -> None:
        loose = "CREATE TABLE notetypes (id integer primary key, name, mtime_secs, usn, config)"
        files = changed("ALTER TABLE notetypes RENAME TO n", loose, "INSERT INTO notetypes SELECT * FROM n",
                        f"UPDATE notetypes SET {column} = ?", parameters=(value,), new=True)  # fmt: skip
        if (column, value) == ("name", "x"):
            assert {notetype.name for notetype in read(files).notetypes.values()} == {"x"}
        else:
            assert refusal(read, files).startswith("the collection is damaged (its note types, decks or presets")

    def test_too_large_definitions_in_protobuf(self, read, changed) -> None:
        files = changed("UPDATE fields SET config = ?", parameters=(b"\x2a\xa0\x8d\x06" + bytes(100_000),), new=True)
        line = refusal(read, files, Limits(definitions_mb=1))
        assert line == "its note types, decks and presets have more than 1 MiB (limits.definitions_mb)"

    @pytest.mark.parametrize("data", [b"", b"x", b"SQLite format 3\0", OLD["collection.anki21"][:20_000]])
    def test_no_database(self, read, data: bytes) -> None:
        assert refusal(read, {**OLD, "collection.anki21": data}).startswith("the collection is damaged (")

    def test_a_schema_that_is_no_table(self, read) -> None:
        data = bytearray(OLD["collection.anki21"])
        data[100] = 255
        problem = refusal(read, {**OLD, "collection.anki21": bytes(data)})
        assert problem == "the collection is damaged (unable to open database)"

    def test_a_size_that_cannot_be(self, read) -> None:
        data = bytearray(zstandard.decompress(NEW["collection.anki21b"], 1 << 24))
        data[76_698:76_706] = b"\xff" * 8  # SQLite 3.40 asks for as much memory
        problem = refusal(read, {**NEW, "collection.anki21b": zstandard.compress(bytes(data))})
        assert problem.startswith("the collection is damaged (")

    @pytest.mark.parametrize("page", range(1, 20, 3))
    def test_a_page_of_noise(self, read, page: int) -> None:
        data = bytearray(OLD["collection.anki21"])
        data[page * 4096 : page * 4096 + 4096] = bytes(range(256)) * 16
        assert outcome(read, {**OLD, "collection.anki21": bytes(data)}).isprintable()

    @pytest.mark.parametrize("times", [2, 300])
    def test_a_page_that_is_pointed_to_many_times(self, read, changed, times: int) -> None:
        """Eight levels with one answer below: as many as the file has room for are read, and the page is found then."""
        with zipfile.ZipFile(CORPUS / "endless-table.apkg") as package:
            data = bytearray(package.read("collection.anki21"))
        row = changed("DELETE FROM revlog", "INSERT INTO revlog VALUES (1, 1, 0, 3, 1, 1, 0, 0, 0)")[
            "collection.anki21"
        ]
        page = 4096
        root = (sqlite_value({"collection.anki21": row}, "rootpage", "sqlite_master WHERE name = 'revlog'") - 1) * page
        data[21 * page :] = row[root : root + page]
        for level in (4, *range(14, 21)):
            data[level * page + 3 : level * page + 5] = times.to_bytes(2)
        assert refusal(read, {**OLD, "collection.anki21": bytes(data)}) == (
            "the collection is damaged ('revlog' is not whole)"
        )

    def test_reading_has_an_end(self, read, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(untrusted, "_STEPS", 10)
        monkeypatch.setattr(untrusted, "_LEAST_STEPS", 0)
        monkeypatch.setattr(untrusted, "_STEPS_PER_BYTE", 0)
        assert refusal(read, OLD) == "the collection is damaged (it never ends)"


class TestOwnTables:
    """A database of our own beside the file, which is the stranger's."""

    CARDS = ("CREATE TABLE cards (id INTEGER PRIMARY KEY, a, b CHECK (spy(b)))", "INSERT INTO cards VALUES (1, 2, 3)")

    @pytest.fixture
    def hostile(self, tmp_path: Path) -> Path:
        """A file that calls a function wherever it can, and has a table of the name of ours."""
        path = tmp_path / "hostile.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.create_function("spy", 1, lambda value: value, deterministic=True)
            for statement in (
                *self.CARDS,
                "CREATE INDEX expression ON cards (spy(a))",
                "CREATE INDEX partial ON cards (a) WHERE spy(b)",
                "CREATE TABLE part (number, other DEFAULT (spy(1)))",
                "CREATE TABLE plain (a)",
                "CREATE TRIGGER t AFTER INSERT ON part BEGIN SELECT spy(1); END",
                "CREATE VIEW seen AS SELECT spy(a) FROM cards",
            ):
                connection.execute(statement)
        return path

    def test_are_filled_from_the_file_without_running_its_schema(self, hostile: Path, tmp_path: Path) -> None:
        calls: list[object] = []
        ours = tmp_path / "ours.db"
        own = "CREATE TABLE part (number INTEGER PRIMARY KEY CHECK (number < 9))"
        with untrusted.database(hostile, ImportFileError, row_bytes=MB, scratch=ours) as source:
            source.check(("cards",))
            source.function("spy", 1, calls.append)
            source.function("double", 1, lambda value: 2 * value)
            source.make(lambda connection: connection.execute(own))
            assert source.run("INSERT INTO part SELECT double(a) FROM cards NOT INDEXED") == 1
            assert source.run_many("INSERT INTO part VALUES (?)", ((number,) for number in (5, 6))) == 2
            with closing(sqlite3.connect(ours)) as reader:
                assert reader.execute("SELECT number FROM part").fetchall() == [(4,), (5,), (6,)]
            with pytest.raises(ImportFileError, match="check constraint failed"):
                source.run("INSERT INTO part VALUES (9)")
            with pytest.raises(ImportFileError, match=r"unsafe use of spy\(\)"):
                source.row("SELECT * FROM seen")
        assert not calls

    def test_nothing_writes_to_the_file_or_opens_another(self, hostile: Path) -> None:
        before = hostile.read_bytes()
        with untrusted.database(hostile, ImportFileError, row_bytes=MB) as source:
            source.run("CREATE TABLE part (number)")
            for statement in ("DELETE FROM plain", "INSERT INTO plain VALUES (1)", "DROP VIEW seen"):
                with pytest.raises(ImportFileError, match="attempt to write a readonly database"):
                    source.run(statement)
            with pytest.raises(ImportFileError, match="too many attached databases"):
                source.run("ATTACH ':memory:' AS another")
            assert source.run_many("INSERT INTO part VALUES (?)", [(1,)]) == 1
        assert hostile.read_bytes() == before

    def test_what_our_own_function_raises_is_not_the_file_s_fault(self, hostile: Path) -> None:
        with untrusted.database(hostile, ImportFileError, row_bytes=MB) as source:
            source.function("quotient", 1, lambda value: 1 // value)
            with pytest.raises(ZeroDivisionError):
                source.row("SELECT quotient(a - 2) FROM cards NOT INDEXED")

    def test_a_full_disk_is_not_a_damaged_collection(
        self, hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", "/place")
        scratch = tmp_path / "ours.db"
        with untrusted.database(hostile, ImportFileError, row_bytes=MB, scratch=scratch) as source:
            source.run("CREATE TABLE part (number)")
            source.row("PRAGMA main.max_page_count = 2")
            with pytest.raises(ImportFileError, match=r"^/place is full; free some space or set TMPDIR"):
                source.run("INSERT INTO part SELECT zeroblob(100000)")

    def test_what_is_written_counts(self, hostile: Path) -> None:
        endless = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT n FROM t"
        with untrusted.database(hostile, ImportFileError, row_bytes=MB) as source:
            source.run("CREATE TABLE part (number)")
            with pytest.raises(ImportFileError, match="it never ends"):
                source.run(f"INSERT INTO part {endless}")


def set_value(data: bytes, column: str, value: object) -> bytes:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.deserialize(data)
    connection.execute(f"UPDATE col SET {column} = ?", (value,))
    changed = connection.serialize()
    connection.close()
    return changed


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("sixteen-bytes", "not an Anki package (.apkg or .colpkg), or an incomplete one; get it again"),
        ("endless-schema", "the collection is damaged (it never ends)"),
        ("endless-table", "the collection is damaged (database disk image is malformed)"),
        ("schema-not-utf8", "the collection is damaged (its schema is no text)"),
        ("schema-escape", 'the collection is damaged (malformed database schema (cards) - unrecognized token: "")'),
    ],
)
def test_what_was_found(read, monkeypatch: pytest.MonkeyPatch, name: str, problem: str) -> None:
    monkeypatch.setattr(untrusted, "_LEAST_STEPS", 1_000_000)  # an end, but sooner
    assert refusal(read, (CORPUS / f"{name}.apkg").read_bytes()) == problem


SEEDS = [zipped(OLD, 0), zipped(NEW, 0)]
EDITS = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.sampled_from(["flip", "cut", "copy", "fill"]), st.integers(0, 255)),
    min_size=1,
    max_size=6,
)


@given(seed=st.integers(0, 3), edits=EDITS)
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_change_gives_records_or_an_error(read, seed: int, edits: list[tuple[int, str, int]]) -> None:
    if seed < 2:
        files: dict[str, bytes] | bytes = edited(SEEDS[seed], edits)
    elif seed == 2:
        files = {**OLD, "collection.anki21": edited(OLD["collection.anki21"], edits)}
    else:
        collection = zstandard.decompress(NEW["collection.anki21b"], 1 << 24)
        files = {**NEW, "collection.anki21b": zstandard.compress(edited(collection, edits), 1)}
    assert outcome(read, files).isprintable()


def outcome(read: Callable[..., Read], files: dict[str, bytes] | bytes) -> str:
    """The error, or the findings beside records that can be stored; any other exception is a failure."""
    try:
        found = read(files)
    except ImportFileError as error:
        return str(error)
    json.dumps([found.notes, found.cards, found.reviews], ensure_ascii=False, allow_nan=False).encode()
    for record in (*found.notetypes.values(), *found.decks.values(), *found.presets.values()):
        json.dumps(dict(record.legacy), allow_nan=False)
    return "".join(found.findings)


def edited(data: bytes, edits: list[tuple[int, str, int]]) -> bytes:
    changed = bytearray(data)
    for place, how, value in edits:
        at = place % max(len(changed), 1)
        if how == "flip":
            changed[at : at + 1] = bytes([value])
        elif how == "cut":
            del changed[at : at + 1 + value]
        elif how == "copy":
            changed[at : at + 64] = changed[value : value + 64]
        else:
            changed[at : at + value % 9] = b"\xff" * (value % 9)
    return bytes(changed)


_PEAK = """
import resource, sys
from datetime import UTC
from pathlib import Path
from llmquiz.anki.archive.limits import Limits
from llmquiz.anki.importing.arriving import arriving
from llmquiz.core.day import Calendar
from llmquiz.core.options import Options
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with arriving(Path(sys.argv[1]), Limits(), calendar=Calendar(zone=UTC), options=Options()) as incoming:
    count = sum(1 for _ in incoming.staged.notes)
    incoming.staged.log()
    incoming.staged.parts()
print(count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_a_large_collection_takes_little_memory(tmp_path: Path) -> None:
    """10,000 notes, 10,000 cards and 100,000 reviews within 30 MB, all in the order of their ids."""
    path = tmp_path / "large.apkg"
    path.write_bytes(zipped({"collection.anki21": large(), "media": b"{}"}))
    found = everything(path)
    for rows, count in ((found.notes, 10_000), (found.cards, 10_000), (found.reviews, 100_000)):
        assert len(rows) == count
        assert all(one[0] < other[0] for one, other in pairwise(rows))
    if sys.platform == "linux":
        ran = subprocess.run([sys.executable, "-c", _PEAK, path], capture_output=True, text=True, check=True)
        count, kilobytes = map(int, ran.stdout.split())
        assert count == 10_000
        assert kilobytes < 30_000


def large() -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.deserialize(OLD["collection.anki21"])
    counted = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < {}) "
    with connection:
        connection.executescript("DELETE FROM notes; DELETE FROM cards; DELETE FROM revlog")
        words = "word " * 40
        connection.execute(
            counted.format(10_000) + f"INSERT INTO notes SELECT n, 'g' || n, {BASIC}, 1700000000, 0, ' a b ',"
            f" '{words}' || char(31) || '{words}', '', 0, 0, '' FROM t"
        )
        connection.execute(
            counted.format(10_000) + "INSERT INTO cards SELECT 10001 - n, n, 1, 0, 1, 0, 2, 2, 9, 30, 2500, 9, 1, 0, 0,"
            """ 0, 0, '{"s":12.3,"d":5.1}' FROM t"""
        )
        connection.execute(
            counted.format(100_000) + "INSERT INTO revlog SELECT 1600000000000 + n, n * 7919 % 10000 + 1, 0, 3, 9, 5,"
            " 2500, 1, 1 FROM t"
        )
    data = connection.serialize()
    connection.close()
    return data
