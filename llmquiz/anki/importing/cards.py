"""Anki's cards → staged parts, by one statement: the inverse of `llmquiz.anki.exporting.progress.card_state`.

`due` has four meanings. A new card's is its place in the queue, a review's the days since the collection's day 0, a
step's an instant, and a step that reaches another day has days again; a suspended card does not say which of the two.
In a filtered deck `due` is the place in that deck, and what it was at home stands in `odue`.

What a card alone does not say, its memory where Anki had none, is left to `llmquiz.anki.importing.past`.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from llmquiz.anki.archive import columns, names
from llmquiz.anki.archive.columns import integer
from llmquiz.anki.archive.reading import Tables
from llmquiz.anki.archive.untrusted import Database
from llmquiz.anki.exporting import progress
from llmquiz.anki.exporting.notetypes import FACES
from llmquiz.anki.importing import naming
from llmquiz.core.day import Calendar
from llmquiz.core.schedule import State
from llmquiz.store import staging
from llmquiz.store.soundness import CENTURY

LEECH = "leech"
DAYS = (719_165, 1_095_000)  # from 1970 to the year 2999
LAST_INSTANT = 32_503_680_000  # the year 3000
_FIRST_INSTANT = 1_000_000_000
"""The due of a step that is smaller counts days."""
_MOST = 1_000_000  # of answers, lapses and places
_LEARNING, _DAY_LEARNING, _SUSPENDED = 1, 3, -1
_STEPS = f"({State.LEARNING:d}, {State.RELEARNING:d})"
_NOT_FLATTENED = "LIMIT -1 OFFSET 0"
"""Keeps SQLite from working out a column of a subquery again wherever it is named."""

# Suspended (-1) and buried cards (-2, -3) do not say which queue they are from. The first version of the scheduler had
# relearning cards among its reviews. `lent`: to a filtered deck.
_DUE = f"iif({integer('odid')} <> 0 AND {integer('odue')} <> 0, {integer('odue')}, {integer('due')})"
_CARD = f"""
SELECT {integer("id")} AS id, row_number() OVER () AS rank, {integer("nid")} AS note, {integer("ord")} AS ordinal,
  own.first AS first, {integer("mod")} AS modified, {integer("odid")} <> 0 AS lent,
  iif({integer("odid")} <> 0, {integer("odid")}, {integer("did")}) AS deck,
  iif({integer("type")} = {State.REVIEW:d} AND {integer("queue")} IN ({_LEARNING}, {_DAY_LEARNING}),
    {State.RELEARNING:d}, {integer("type")}) AS type,
  {integer("queue")} AS queue,
  {_DUE} AS due,
  {integer("ivl")} AS ivl, {integer("factor")} AS factor, {integer("reps")} AS reps, {integer("lapses")} AS lapses,
  {integer("left")} AS left, {integer("flags")} AS flags,
  CASE WHEN typeof(data) <> 'text' THEN '' WHEN length(data) <= ?3 AND data NOT GLOB '*[^ -~]*' THEN data
    ELSE clean_text(CAST(data AS BLOB)) END AS data
FROM cards NOT INDEXED LEFT JOIN temp.own ON own.note = nid WHERE {columns.CARDS.fits}
"""
_HOME = f"""
SELECT *,
  CASE WHEN NOT lent OR queue < 0 THEN queue WHEN type NOT IN {_STEPS} THEN type
    WHEN due >= {_FIRST_INSTANT} THEN {_LEARNING} ELSE {_DAY_LEARNING} END AS home,
  type IN {_STEPS} AND due < {_FIRST_INSTANT} AS dated,
  CASE WHEN json_valid(data) THEN data END AS told
FROM ({_CARD}) {_NOT_FLATTENED}
"""
_SCHEDULE = f"""
SELECT *, min(reps, {_MOST}) AS answers,
  CASE type WHEN {State.NEW:d} THEN min(max(due, 0), {_MOST})
    WHEN {State.REVIEW:d} THEN min(max(?1 + due, {DAYS[0]}), {DAYS[1]})
    ELSE iif(home <> {_DAY_LEARNING} AND NOT dated, min(due, {LAST_INSTANT}),
      (SELECT at FROM temp.started WHERE day = min(max(?1 + due, {DAYS[0]}), {DAYS[1]}))) END AS at,
  json_extract(told, '$.s') AS s, json_extract(told, '$.d') AS d, json_extract(told, '$.lrt') AS lrt,
  iif(type = {State.NEW:d} AND NOT lent, max(due, 0), json_extract(told, '$.pos')) AS place
FROM ({_HOME}) {_NOT_FLATTENED}
"""
_REMEMBERED = f"""
SELECT *, type <> {State.NEW:d} AND s > 0 AND s <= {CENTURY} AND d BETWEEN 1 AND 10 AS remembered,
  iif(type <> {State.NEW:d} AND lrt > 0 AND lrt <= {LAST_INSTANT}, lrt, NULL) AS last_review
FROM ({_SCHEDULE}) {_NOT_FLATTENED}
"""
# Anki's import moves the day of a step only in its own queue: a suspended one goes back in seconds, a buried one awake.
_KEPT = f"""
json_object(
  'type', type,
  'queue', iif(dated AND home < {_SUSPENDED}, {_DAY_LEARNING}, home),
  'due', CASE WHEN dated AND home = {_SUSPENDED} THEN at
    WHEN type = {State.REVIEW:d} OR home IN (2, 3) OR (dated AND home < 0) THEN due + ?2 ELSE due END,
  'ivl', ivl, 'reps', reps, 'lapses', lapses, 'left', left, 'flags', flags, 'data', data,
  'was', json_array(iif(type = {State.NEW:d}, 0, at), iif(remembered, s, NULL), iif(remembered, d, NULL), last_review,
    answers))
"""
_STAGE = f"""
INSERT OR IGNORE INTO part
SELECT id, rank, note, ordinal + ifnull(first, 0), type, at,
  iif(type = {State.NEW:d}, 0, min(max(ivl, 0), {CENTURY})), iif(type IN {_STEPS}, left % 1000, 0),
  iif(remembered, s, NULL), iif(remembered, d, NULL), last_review, answers, min(lapses, {_MOST}),
  home = {_SUSPENDED},
  iif(home < {_SUSPENDED}, (SELECT day FROM temp.buried WHERE at = min(max(modified, 0), {LAST_INSTANT})), NULL),
  flags & 7, 0,
  iif(first IS NULL, id, NULL), deck, iif(first IS NULL, factor, NULL), iif(first IS NULL, {_KEPT}, NULL), NULL, place
FROM ({_REMEMBERED})
"""
_STEP_DAYS = f"""
SELECT DISTINCT min(max(?1 + {_DUE}, {DAYS[0]}), {DAYS[1]}) FROM cards NOT INDEXED
WHERE {columns.CARDS.fits} AND ({integer("type")} IN {_STEPS} OR {integer("queue")} IN ({_LEARNING}, {_DAY_LEARNING}))
"""
_BURIALS = f"""
SELECT DISTINCT min(max({integer("mod")}, 0), {LAST_INSTANT}) FROM cards NOT INDEXED
WHERE {columns.CARDS.fits} AND {integer("queue")} < {_SUSPENDED}
"""
# Where a filtered deck has a card, and what is due there; Anki's import moves days in these queues and types.
_LENT = f"""
UPDATE part SET kept = json_set(kept, '$.lent', json_array({integer("did")},
    {integer("cards.due")} + iif({integer("queue")} IN (2, 3) OR {integer("type")} = {State.REVIEW:d}, ?1, 0),
    {integer("odue")} + iif({integer("odue")} <> 0 AND {integer("type")} = {State.REVIEW:d}, ?1, 0),
    {integer("queue")}))
FROM cards NOT INDEXED
WHERE cards.id = part.number AND {integer("odid")} <> 0 AND {integer("queue")} >= 0 AND kept IS NOT NULL
  AND {integer("type")} = part.state
"""
# Anki tags the note of a leech and does not say which card it is: those that lapsed most often.
_OF_LEECHES = """
UPDATE part SET leech = 1 WHERE note IN (SELECT note FROM temp.leech)
AND lapses = (SELECT max(lapses) FROM part AS sibling WHERE sibling.note = part.note)
"""
_SPECIAL = f"""
SELECT id, guid, mid, tags FROM notes NOT INDEXED WHERE typeof(id) = 'integer'
AND (substr(guid, 1, {len(naming.OWN_GUID)}) = '{naming.OWN_GUID}' OR tags LIKE '%{LEECH}%')
"""
_DOUBLES = f"""
SELECT count(*), min(+id) FROM cards NOT INDEXED
WHERE {columns.CARDS.fits} AND {integer("id")} NOT IN (SELECT number FROM part)
"""


class OwnNote(NamedTuple):
    """A note that llmquiz exported: its card, and the ordinal there of its first face."""

    card: str
    first: int


def stage(
    tables: Tables,
    day0: int,
    calendar: Calendar,
    findings: list[str],
    *,
    most_data: int,
    meanwhile: Callable[[Callable[[], bool]], None],
) -> dict[int, OwnNote]:
    """Fill a table ``part`` in the tables' own database; the notes that llmquiz exported, by id.

    A part's `number` is its card's id. Where the note is our own, the part has nothing of Anki's but its deck. A card
    that was answered, but does not say when or how well it is known, has NULL there. A column is added for the readers
    of notes: `place`, where the card stands or stood in the queue of new cards; a thing of any type, as it is told.

    Args:
        day0: the study day from which the collection counts.
        findings: where to add what was left out.
        most_data: bytes of a card's `data`; what is longer is left out.
        meanwhile: called while SQLite works, with what tells that it has done; must not use the tables' source.
    """
    source = tables.source
    own, leeches = _special(tables)
    source.run("CREATE TEMP TABLE own (note INTEGER PRIMARY KEY, first INTEGER)")
    source.run_many("INSERT INTO temp.own VALUES (?, ?)", [(note, it.first) for note, it in own.items()])
    _look_up_days(source, day0, calendar)
    source.function("clean_text", 1, lambda raw: raw.decode("utf-8", "replace") if len(raw) <= most_data else "")
    source.make(staging.create_parts)
    source.run("ALTER TABLE part ADD COLUMN place ANY")
    source.run("CREATE UNIQUE INDEX part_of_note ON part (note, ordinal)")
    with ThreadPoolExecutor(max_workers=1) as pool:
        staging_all = pool.submit(source.run, _STAGE, (day0, day0 - progress.CREATED_ON, most_data))
        meanwhile(staging_all.done)
        staged = staging_all.result()
    source.run(_LENT, (day0 - progress.CREATED_ON,))
    if leeches:
        source.run("CREATE TEMP TABLE leech (note INTEGER PRIMARY KEY)")
        source.run_many("INSERT INTO temp.leech VALUES (?)", [(note,) for note in leeches])
        source.run(_OF_LEECHES)
    if staged < tables.counts[1]:
        _tell_left_out(source, findings)
    return own


def _look_up_days(source: Database, day0: int, calendar: Calendar) -> None:
    """Make tables of the days and instants that the cards name: a statement that called Python would wait for it."""
    source.run("CREATE TEMP TABLE started (day INTEGER PRIMARY KEY, at INTEGER)")
    days = ((day, int(calendar.start(day))) for (day,) in source.rows(_STEP_DAYS, (day0,)))
    source.run_many("INSERT INTO temp.started VALUES (?, ?)", days)
    source.run("CREATE TEMP TABLE buried (at INTEGER PRIMARY KEY, day INTEGER)")
    burials = ((at, calendar.day(at)) for (at,) in source.rows(_BURIALS))
    source.run_many("INSERT INTO temp.buried VALUES (?, ?)", burials)


def _special(tables: Tables) -> tuple[dict[int, OwnNote], set[int]]:
    """The notes of our own, and those that have leeches among their cards."""
    own, leeches = {}, set()
    for note, guid, notetype, tags in tables.source.rows(_SPECIAL):
        known = tables.notetypes.get(notetype)
        if known and isinstance(guid, str) and guid.startswith(naming.OWN_GUID):
            card, part = naming.own_card_id(guid)
            # Anki numbers deletions from 0, we from 1.
            own[note] = OwnNote(card, 1 if known.is_cloze else part * FACES)
        if isinstance(tags, str) and any(tag.lower() == LEECH for tag in tags.replace("\u3000", " ").split(" ")):
            leeches.add(note)
    return own, leeches


def _tell_left_out(source: Database, findings: list[str]) -> None:
    tally = names.Tally(findings)
    columns.tell(source, columns.CARDS, tally)
    count, first = source.row(_DOUBLES) or (0, 0)
    if count:
        tally.add("left out, its note has that card already", f"card {first}", count)
    tally.flush()
