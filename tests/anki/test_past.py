"""Anki's columns and log as schedules: each meaning of `due`, memories as the real Anki computes them, and back."""

from __future__ import annotations

import json
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmquiz.anki.archive.records import ReviewRow
from llmquiz.anki.exporting import progress
from llmquiz.anki.importing.arriving import arriving
from llmquiz.anki.importing.sm2 import Recaller, weights
from llmquiz.core.day import Calendar
from llmquiz.core.errors import ScheduleError
from llmquiz.core.options import DEFAULT_PARAMETERS, Options
from llmquiz.core.schedule import Memory, Schedule, State
from llmquiz.store.incoming import Incoming
from tests.support import collection
from tests.support.cardreference import CardRow, Reference, at_home, place

from .test_package import LIMITS, zipped

CALENDAR = Calendar(zone=UTC)
DAY0 = date(2024, 2, 1)
CREATED_AT = int(CALENDAR.start(DAY0.toordinal()))
NOW = CREATED_AT + 400 * 86_400
DATA = '{"pos":7,"s":12.3456,"d":4.5,"dr":0.9,"decay":0.154,"lrt":1740000000}'
NOTETYPE, DECKS = 1_700_000_000_000, {1: "Default", 5: "Here", 99: "Cram"}
_SCHEMA = """
CREATE TABLE col (id, crt, mod, scm, ver, dty, usn, ls, conf, models, decks, dconf, tags);
CREATE TABLE notes (id INTEGER PRIMARY KEY, guid, mid, mod, usn, tags, flds, sfld, csum, flags, data);
CREATE TABLE cards (id INTEGER PRIMARY KEY, nid, did, ord, mod, usn, type, queue, due, ivl, factor, reps, lapses, left,
  odue, odid, flags, data);
CREATE TABLE revlog (id INTEGER PRIMARY KEY, cid, usn, ease, ivl, lastIvl, factor, time, type);
"""


def packed(
    cards: Sequence[CardRow],
    log: Sequence[ReviewRow] = (),
    *,
    created_at: int = CREATED_AT,
    minutes_west: int | None = 0,
    guids: dict[int, str] | None = None,
    tags: str = "",
    is_cloze: bool = False,
) -> bytes:
    """A package with these cards, a note for each of their `note`."""
    fields = [{"name": name, "ord": place} for place, name in enumerate(("Front", "Back"))]
    template = {"name": "Card", "ord": 0, "qfmt": "{{Front}}", "afmt": "{{Back}}"}
    models = {NOTETYPE: {"name": "Plain", "type": int(is_cloze), "flds": fields, "tmpls": [template]}}
    decks = {number: {"name": name, "conf": 1, "dyn": int(name == "Cram")} for number, name in DECKS.items()}
    conf = {} if minutes_west is None else {"creationOffset": minutes_west}
    entries = map(json.dumps, (conf, models, decks, {"1": {"name": "Default"}}))
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(_SCHEMA)
        col = (1, created_at, 0, 0, 11, 0, 0, 0, *entries, "{}")
        connection.execute(f"INSERT INTO col VALUES ({', '.join('?' * 13)})", col)
        for note in {card.note for card in cards}:
            guid = (guids or {}).get(note, f"guid{note}")
            row = (note, guid, NOTETYPE, 0, 0, tags, f"front {note}\x1fback", "", 0, 0, "")
            connection.execute(f"INSERT INTO notes VALUES ({', '.join('?' * 11)})", row)
        rows = [(*card[:5], 0, *card[5:]) for card in cards]
        connection.executemany(f"INSERT INTO cards VALUES ({'?, ' * 17}CAST(? AS TEXT))", rows)
        answers = [(*row[:2], 0, *row[2:]) for row in log]
        connection.executemany(f"INSERT INTO revlog VALUES ({', '.join('?' * 9)})", answers)
        return zipped({"collection.anki2": connection.serialize(), "media": b"{}"})


class Staged:
    """What an import stages of a package: notes and, by card id, parts with `kept` as its object."""

    def __init__(self, package: bytes | Path, calendar: Calendar = CALENDAR, now: float = NOW) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = package if isinstance(package, Path) else Path(folder) / "cards.apkg"
            if isinstance(package, bytes):
                path.write_bytes(package)
            with arriving(path, LIMITS, calendar=calendar, options=Options(), clock=lambda: now) as incoming:
                self._read(incoming)

    def _read(self, incoming: Incoming) -> None:
        assert incoming.staged is not None
        self.notes = {note.number: note for note in incoming.staged.notes}
        with closing(sqlite3.connect(incoming.staged.parts())) as connection:
            connection.row_factory = sqlite3.Row
            rows = [dict(row) for row in connection.execute("SELECT * FROM part ORDER BY rank")]
        incoming.staged.log()
        self.findings = list(incoming.findings)
        self.ranks = [row.pop("rank") for row in rows]
        self.parts = {row["number"]: row | {"kept": row["kept"] and json.loads(row["kept"])} for row in rows}


def row(**changes: Any) -> CardRow:
    plain = CardRow(1, 1, 1, 0, NOW, 2, 2, 450, 30, 2500, 9, 1, 0, 0, 0, 0, DATA)
    return plain._replace(**changes)


def part(log: Sequence[ReviewRow] = (), **changes: Any) -> dict[str, Any]:
    return Staged(packed([row(**changes)], log)).parts[1]


def schedule_of(part: dict[str, Any]) -> Schedule:
    memory = None if part["stability"] is None else Memory(part["stability"], part["difficulty"])
    counts = part["interval"], part["steps_left"]
    return Schedule(
        State(part["state"]), part["due"], *counts, memory, part["last_review"], part["reps"], part["lapses"]
    )


def test_a_review_is_due_on_a_day_since_the_collections_first() -> None:
    found = schedule_of(part())
    assert found.due == DAY0.toordinal() + 450
    assert (found.state, found.interval, found.reps, found.lapses) == (State.REVIEW, 30, 9, 1)
    assert (found.memory, found.last_review) == (Memory(12.3456, 4.5), 1740000000.0)


def test_a_new_card_has_a_place_and_nothing_to_remember() -> None:
    found = Staged(packed([row(type=0, queue=0, due=42, interval=0, reps=0, lapses=0)]))
    assert schedule_of(found.parts[1]) == Schedule(State.NEW, 42)
    assert found.notes[1].position == 42
    suspended = part(type=0, queue=-1, due=42, ordinal=3)
    assert (suspended["suspended"], suspended["ordinal"], suspended["leech"]) == (1, 3, 0)


@pytest.mark.parametrize("queue", [1, -1, -2, -3])
def test_a_step_in_seconds_is_an_instant(queue: int) -> None:
    found = schedule_of(part(type=1, queue=queue, due=NOW + 600, left=1002))
    assert (found.state, found.due, found.steps_left) == (State.LEARNING, NOW + 600, 2)


@pytest.mark.parametrize("queue", [3, -1, -2, -3])
def test_a_step_in_days_starts_with_its_day(queue: int) -> None:
    found = schedule_of(part(type=3, queue=queue, due=401, left=1))
    assert (found.state, found.due) == (State.RELEARNING, CREATED_AT + 401 * 86_400)


@pytest.mark.parametrize("queue", [-2, -3])
def test_a_burial_lasts_for_the_day_on_which_it_was_made(queue: int) -> None:
    found = part(queue=queue)
    assert (found["buried_on"], found["suspended"]) == (CALENDAR.day(NOW), 0)


def test_a_card_in_a_filtered_deck_goes_home() -> None:
    def home(**changes: Any) -> tuple[Any, ...]:
        found = part(deck=99, due=-100_000, original_deck=5, **{"original_due": 450, **changes})
        return found["anki_deck"], found["kept"]["type"], found["kept"]["queue"], found["due"]

    reviewed = DAY0.toordinal() + 450
    assert home() == (5, 2, 2, reviewed)
    assert home(type=0, queue=2) == (5, 0, 0, 450)
    assert home(type=3, queue=1, original_due=NOW) == (5, 3, 1, NOW)
    assert home(type=1, queue=4) == (5, 1, 3, CREATED_AT + 450 * 86_400)
    assert home(queue=-1) == (5, 2, -1, reviewed)


def test_relearning_of_the_first_scheduler_is_relearning() -> None:
    found = part(queue=1, due=NOW)
    assert (found["state"], found["kept"]["type"], found["kept"]["queue"]) == (State.RELEARNING, 3, 1)


def test_the_first_day_is_that_of_the_clock_where_the_collection_was_made() -> None:
    late = CREATED_AT + 16 * 3600  # 20:00 UTC is 4:00 of the next day in Shanghai
    dues = [Staged(packed([row()], created_at=late, minutes_west=west)).parts[1]["due"] for west in (-480, None)]
    assert dues == [DAY0.toordinal() + 451, DAY0.toordinal() + 450]


def test_the_last_answer_is_in_the_log_where_the_card_does_not_say() -> None:
    log = [ReviewRow(NOW * 1000, 1, 3, 30, 9, 2500, 900, 1), ReviewRow(NOW * 1000 + 9, 1, 0, 5, 5, 2500, 0, 4)]
    assert part(log, data="")["last_review"] == NOW
    assert CALENDAR.day(part(data="")["last_review"]) == min(DAY0.toordinal() + 420, CALENDAR.day(NOW))


def test_data_that_cannot_be_used_is_not() -> None:
    lies = ('{"s":NaN,"d":5,"lrt":1e400}', '{"s":-1,"d":99,"lrt":"x","pos":[]}', '{"a":' * 5000)
    texts = ("", "{", "[]", "null", *lies)
    found = Staged(packed([row(id=number, note=number, data=text) for number, text in enumerate(texts, start=1)]))
    bare = schedule_of(part(data="{}"))
    for number, text in enumerate(texts, start=1):
        assert schedule_of(found.parts[number]) == bare
        assert found.parts[number]["kept"]["data"] == text
        assert found.notes[number].position == number
    assert f"{len(texts)} cards had no FSRS memory" in "\n".join(found.findings)


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert part(data=b'{"cd":"\xff\x80"}')["kept"]["data"] == '{"cd":"\ufffd\ufffd"}'


@pytest.mark.parametrize("due", [-(2**40), 2**40])
@pytest.mark.parametrize("kind", [(0, 0), (1, 1), (1, 3), (2, 2), (3, -1)])
def test_numbers_beyond_all_bounds_stay_within(due: int, kind: tuple[int, int]) -> None:
    wild = {"interval": 2**31 - 1, "reps": 2**31 - 1, "lapses": 2**31 - 1, "left": 2**31 - 1, "data": ""}
    found = Staged(packed([row(type=kind[0], queue=kind[1], due=due, **wild)]))
    schedule = schedule_of(found.parts[1])
    assert CALENDAR.day(schedule.last_review or 0)
    assert 0 <= schedule.due <= NOW + 36_500 * 86_400
    assert schedule.interval <= 36_500
    told = "schedules with numbers out of range, brought into it: 1"
    assert (told in found.findings) == (kind[0] > 0)
    assert ("places of notes in their decks out of range, brought into it: 1" in found.findings) == (
        kind[0] == 0 and due > 0
    )


def test_a_future_answer_is_not_believed() -> None:
    found = Staged(packed([row(data=DATA.replace("1740000000", str(NOW + 999_999)))]))
    assert found.parts[1]["last_review"] <= NOW
    assert found.parts[1]["kept"]["was"][3] == found.parts[1]["last_review"]
    assert "schedules with numbers out of range, brought into it: 1" in found.findings


_COUNTS = st.one_of(st.integers(0, 40), st.sampled_from((999, 1000, 1002, 36_500, 36_501, 10**6, 2**31 - 1)))
_DUES = st.one_of(
    st.integers(-500, 2000),
    st.sampled_from((10**9 - 1, 10**9, NOW - 60, NOW + 600, 2**40, -(2**40), 1_095_000, 40_000, -719_000)),
)
_TOLD = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-3, 12),
    st.sampled_from(
        (0.0001, 36_500, 36_501, NOW - 9, NOW + 10**6, 32_503_680_001, 10**15, 10**30, True, None, "5", [1])
    ),
)
_DATA = st.one_of(
    st.just(DATA),
    st.fixed_dictionaries({}, optional=dict.fromkeys(("s", "d", "lrt", "pos", "cd", "注"), _TOLD)).map(
        lambda told: json.dumps(told, ensure_ascii=False)
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9),
    st.sampled_from(
        ("", "{}", "[]", "null", "3", '{"s":', ' {"s": 3, "d": 4}', '{"s":1e400,"d":5}', '{"s":NaN,"d":5}')
    ),
)
_CARDS = st.lists(
    st.builds(
        CardRow, st.just(0), st.just(0), st.sampled_from((1, 5)), st.integers(0, 3),
        st.one_of(st.integers(0, NOW), st.sampled_from((-5, 2**40))), st.integers(0, 3), st.integers(-3, 4), _DUES,
        _COUNTS | st.integers(-90_000, 0), _COUNTS, _COUNTS, _COUNTS, _COUNTS, st.just(0) | _DUES,
        st.sampled_from((0, 0, 1, 5)), _COUNTS, _DATA,
    ),
    min_size=1, max_size=12,
)  # fmt: skip
# Of a card's log: type and rating of each row, its factor and its interval.
_ANSWERS = st.lists(
    st.tuples(
        st.one_of(st.tuples(st.integers(0, 3), st.integers(0, 4)), st.tuples(st.integers(4, 5), st.just(0))),
        st.sampled_from((0, 300, 2500)),
        st.integers(-600, 40),
    ),
    max_size=5,
)


@settings(max_examples=30, deadline=None)
@given(
    drawn=_CARDS,
    answers=st.lists(_ANSWERS, min_size=12, max_size=12),
    zone=st.sampled_from((UTC, ZoneInfo("America/New_York"))),
    west=st.sampled_from((None, 0, -480)),
)
def test_every_card_is_read_as_one_alone_would_be(drawn: list[CardRow], answers: Any, zone: Any, west: Any) -> None:
    """All cards are mapped by one statement of SQL: each part is what plain Python makes of its card."""
    calendar = Calendar(zone=zone)
    cards = [card._replace(id=number, note=number) for number, card in enumerate(drawn, start=1)]
    logs = {card.id: log_for(card.id, told) for card, told in zip(cards, answers, strict=False)}
    found = Staged(packed(cards, [it for log in logs.values() for it in log], minutes_west=west), calendar)
    reference, mended = Reference(CREATED_AT, west, calendar, NOW), 0
    assert found.ranks == [*range(1, len(cards) + 1)]
    for card in cards:
        expected = reference.part(card, logs[card.id])
        mended += expected.pop("mended")
        kept, was = found.parts[card.id]["kept"], expected["kept"].pop("was")
        assert kept.pop("was") == [pytest.approx(value, rel=1e-12, abs=0) for value in was]
        assert kept == expected.pop("kept")
        assert {name: found.parts[card.id][name] for name in expected} == pytest.approx(expected, rel=1e-12, abs=0)
        assert found.notes[card.note].position == place(card, card.id)
    line = f"schedules with numbers out of range, brought into it: {mended}"
    assert (line in found.findings) == (mended > 0)


def log_for(card: int, told: list[tuple[tuple[int, int], int, int]]) -> list[ReviewRow]:
    """Rows of the log, a day apart and oldest first."""
    return [
        ReviewRow((NOW - (9 - day) * 86_400) * 1000 + card, card, ease, interval, 0, factor, 5, kind)
        for day, ((kind, ease), factor, interval) in enumerate(told)
    ]


def test_what_is_no_card_is_left_out() -> None:
    cards = [row(), row(id=2), row(id=3, ordinal=1), row(id=4, note=2, due=2**62), row(id=5, note=3)]
    found = Staged(packed(cards))
    assert list(found.parts) == [1, 3, 5]
    assert found.notes[1].ordinals == (0, 1)
    assert "card 2: left out, its note has that card already" in found.findings
    assert "card 4: left out, a column has a value that no Anki writes" in found.findings
    assert "1 notes have no cards; left out" in found.findings


def test_the_leech_is_the_card_that_lapsed_most() -> None:
    cards = [row(lapses=3), row(id=2, ordinal=1, lapses=8), row(id=3, ordinal=2, lapses=8), row(id=4, ordinal=3)]
    found = Staged(packed(cards, tags=" a Leech "))
    assert [it["leech"] for it in found.parts.values()] == [0, 1, 1, 0]
    assert json.loads(found.notes[1].content)["tags"] == ["a"]
    assert not any(it["leech"] for it in Staged(packed(cards, tags="leeches")).parts.values())


@pytest.mark.parametrize(("is_cloze", "first"), [(True, 1), (False, 16)])
def test_a_card_of_our_own_keeps_nothing_of_ankis(is_cloze: bool, first: int) -> None:
    cards = [row(), row(id=2, ordinal=1), row(id=3, note=2)]
    found = Staged(packed(cards, guids={1: "llmquiz:kv-why/2"}, is_cloze=is_cloze))
    assert [it["ordinal"] for it in found.parts.values()] == [first, first + 1, 0]
    assert [(it["anki_id"], it["factor"], it["kept"] is None) for it in found.parts.values()] == [
        (None, None, True),
        (None, None, True),
        (3, 2500, False),
    ]
    note = found.notes[1]
    assert (note.card, note.keeps_text, note.anki, note.ordinals) == ("kv-why", True, None, (first, first + 1))


def test_weights_of_older_versions_become_those_of_the_newest() -> None:
    assert weights(()) == DEFAULT_PARAMETERS
    assert weights([1.0] * 19) == (*[1.0] * 19, 0.0, 0.5)
    assert len(weights([1.0] * 17)) == 21
    with pytest.raises(ScheduleError, match="17, 19 or 21"):
        weights([1.0] * 13)


@pytest.fixture(scope="module")
def col(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = collection.build(tmp_path_factory.mktemp("past"), 44, 700)
    yield made
    made.close()


def card_rows(col: Any) -> list[CardRow]:
    names = "id,nid,did,ord,mod,type,queue,due,ivl,factor,reps,lapses,left,odue,odid,flags,data"
    return [CardRow(*it) for it in col.db.all(f"SELECT {names} FROM cards")]


def log_of(col: Any, card: int) -> list[ReviewRow]:
    rows = col.db.all("SELECT id,cid,ease,ivl,lastIvl,factor,time,type FROM revlog WHERE cid=? ORDER BY id", card)
    return [ReviewRow(*it) for it in rows]


def test_every_card_goes_back_as_it_came(col: Any, tmp_path: Path) -> None:
    calendar, options, kinds = Calendar(), Options(), set()
    first = date.fromtimestamp(col.crt).toordinal()
    found = Staged(collection.colpkg(col, tmp_path / "mine.colpkg"), calendar, time.time())
    for card in card_rows(col):
        part = found.parts[card.id]
        schedule, suspended = schedule_of(part), bool(part["suspended"])
        plain = progress.card_state(
            schedule, 1, suspended=suspended, flag=part["flag"], options=options, calendar=calendar
        )
        kept = json.dumps(part["kept"])
        again = progress.restored(plain, schedule, factor=part["factor"], kept=kept, buried=True)
        _, kind, queue, due = at_home(card)
        kinds.add((kind, queue))
        if kind in (1, 3) and queue < 0 and due < 1e9:  # an import would lose the day: awake, or in seconds
            queue, due = (-1, schedule.due) if queue == -1 else (3, due)
        days = first - progress.CREATED_ON if progress.counts_days(kind, queue) else 0
        rest = (card.interval, card.factor, card.reps, card.lapses, card.left, card.flags, card.data)
        assert again == (kind, queue, due + days, *rest)
    assert len(kinds) >= 8


@pytest.mark.parametrize("version", ["fsrsParams6", "fsrsParams5", "fsrsWeights"])
def test_memories_are_those_that_anki_computes(col: Any, version: str) -> None:
    """From whole logs, and from logs that lost their start, with weights of each version of FSRS."""
    old = (0.4, 0.6, 2.4, 5.8, 4.93, 0.94, 0.86, 0.01, 1.49, 0.14, 0.94, 2.18, 0.05, 0.34, 1.26, 0.29, 2.61)
    preset = col.decks.config_dict_for_deck_id(col.decks.id("Serving"))
    given = {"fsrsParams6": collection.WEIGHTS, "fsrsParams5": (*collection.WEIGHTS[:17], 0.5, 0.1), "fsrsWeights": old}
    for name in given:
        preset[name] = list(given[name]) if name == version else []
    col.decks.update_config(preset)
    if version == "fsrsParams5":
        col.db.execute("DELETE FROM revlog WHERE type = 0 AND cid % 3 = 0")
    compared = 0
    for card in card_rows(col):
        used = col.decks.config_dict_for_deck_id(card.original_deck or card.deck)
        theirs = col.compute_memory_state(card.id)
        if card.type == 0 or used["id"] != preset["id"] or theirs.stability is None:
            continue
        ours = Recaller(given[version], Calendar()).memory(log_of(col, card.id), card.factor, max(card.interval, 0))
        assert ours.stability == pytest.approx(theirs.stability, rel=1e-3, abs=1e-3)
        assert ours.difficulty == pytest.approx(theirs.difficulty, abs=2e-3)
        compared += 1
    assert compared > 10
