"""Anki's cards → staged parts, by one statement: the inverse of `llmquiz.anki.exporting.progress.card_state`.

`due` has four meanings. A new card's is its place in the queue, a review's the days since the collection's day 0, a
step's an instant, and a step that reaches another day has days again; a suspended card does not say which of the two.
In a filtered deck `due` is the place in that deck, and what it was at home stands in `odue`.

What a card alone does not say, its memory where Anki had none, is left to `llmquiz.anki.importing.past`; where it
belongs is known by then (see `llmquiz.anki.importing.homes`).
"""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from llmquiz.anki.archive import columns
from llmquiz.anki.archive.columns import integer
from llmquiz.anki.archive.limits import KB, Limits
from llmquiz.anki.archive.package import Package
from llmquiz.anki.archive.reading import FIELDS_A_ROW
from llmquiz.anki.archive.untrusted import Database
from llmquiz.anki.exporting import progress
from llmquiz.anki.importing.beside import Beside
from llmquiz.anki.importing.days import DAYS, LAST_INSTANT
from llmquiz.anki.importing.logstaging import LogStaging
from llmquiz.anki.importing.past import Past
from llmquiz.core.day import Calendar
from llmquiz.core.schedule import State
from llmquiz.store import staging
from llmquiz.store.soundness import CENTURY

_FIRST_INSTANT = 1_000_000_000
"""The due of a step that is smaller counts days."""
_MOST = 1_000_000  # of answers, lapses and places
_LEARNING, _DAY_LEARNING, _SUSPENDED = 1, 3, -1
_STEPS = f"({State.LEARNING:d}, {State.RELEARNING:d})"
_LARGE = ("notes", "cards", "revlog")
_NOT_FLATTENED = "LIMIT -1 OFFSET 0"
"""Keeps SQLite from working out a column of a subquery again wherever it is named."""

# Suspended (-1) and buried cards (-2, -3) do not say which queue they are from. The first version of the scheduler had
# relearning cards among its reviews. `lent`: to a filtered deck.
_DUE = f"iif({integer('odid')} <> 0 AND {integer('odue')} <> 0, {integer('odue')}, {integer('due')})"
_CARD = f"""
SELECT home.part AS id, home.rank AS rank, home.note AS note, home.ordinal AS ordinal, home.own AS own,
  home.anki_deck AS deck, {integer("mod")} AS modified, {integer("odid")} <> 0 AS lent,
  iif({integer("type")} = {State.REVIEW:d} AND {integer("queue")} IN ({_LEARNING}, {_DAY_LEARNING}),
    {State.RELEARNING:d}, {integer("type")}) AS type,
  {integer("queue")} AS queue,
  {_DUE} AS due,
  {integer("ivl")} AS ivl, {integer("factor")} AS factor, {integer("reps")} AS reps, {integer("lapses")} AS lapses,
  {integer("left")} AS left, {integer("flags")} AS flags,
  CASE WHEN typeof(data) <> 'text' THEN '' WHEN length(data) <= ?3 AND (?4 OR data NOT GLOB '*[^ -~]*') THEN data
    ELSE clean_text(CAST(data AS BLOB)) END AS data,
  typeof(data) = 'text' AND length(data) <= ?3 AND json_valid(data) AS tells
FROM cards NOT INDEXED CROSS JOIN homes.home ON home.part = {integer("cards.id")} WHERE {columns.CARDS.fits}
"""
_DATED = f"(type IN {_STEPS} AND due < {_FIRST_INSTANT})"
_DAY = f"min(max(?1 + due, {DAYS[0]}), {DAYS[1]})"
_SCHEDULE = f"""
SELECT *, {_DATED} AS dated,
  CASE WHEN NOT lent OR queue < 0 THEN queue WHEN type NOT IN {_STEPS} THEN type
    WHEN due >= {_FIRST_INSTANT} THEN {_LEARNING} ELSE {_DAY_LEARNING} END AS home,
  CASE WHEN type = {State.NEW:d} THEN min(max(due, 0), {_MOST}) WHEN type = {State.REVIEW:d} THEN {_DAY}
    WHEN {_DATED} OR queue = {_DAY_LEARNING} AND NOT lent THEN (SELECT at FROM temp.started WHERE day = {_DAY})
    ELSE min(due, {LAST_INSTANT}) END AS at,
  CASE WHEN tells THEN json_extract(data, '$.s') END AS s, CASE WHEN tells THEN json_extract(data, '$.d') END AS d,
  CASE WHEN tells THEN json_extract(data, '$.lrt') END AS lrt
FROM ({_CARD}) {_NOT_FLATTENED}
"""
_REMEMBERED = f"(type <> {State.NEW:d} AND s > 0 AND s <= {CENTURY} AND d BETWEEN 1 AND 10)"
_LAST_REVIEW = f"iif(type <> {State.NEW:d} AND lrt > 0 AND lrt <= {LAST_INSTANT}, lrt, NULL)"
_ANSWERS = f"min(reps, {_MOST})"
# Anki's import moves the day of a step only in its own queue: a suspended one goes back in seconds, a buried one awake.
_KEPT = f"""
json_object(
  'type', type,
  'queue', iif(dated AND home < {_SUSPENDED}, {_DAY_LEARNING}, home),
  'due', CASE WHEN dated AND home = {_SUSPENDED} THEN at
    WHEN type = {State.REVIEW:d} OR home IN (2, 3) OR (dated AND home < 0) THEN due + ?2 ELSE due END,
  'ivl', ivl, 'reps', reps, 'lapses', lapses, 'left', left, 'flags', flags, 'data', data,
  'was', json_array(iif(type = {State.NEW:d}, 0, at), iif({_REMEMBERED}, s, NULL), iif({_REMEMBERED}, d, NULL),
    {_LAST_REVIEW}, {_ANSWERS}))
"""
_STAGE = f"""
INSERT OR IGNORE INTO part
SELECT id, rank, note, ordinal, type, at,
  iif(type = {State.NEW:d}, 0, min(max(ivl, 0), {CENTURY})), iif(type IN {_STEPS}, left % 1000, 0),
  iif({_REMEMBERED}, s, NULL), iif({_REMEMBERED}, d, NULL), {_LAST_REVIEW}, {_ANSWERS}, min(lapses, {_MOST}),
  home = {_SUSPENDED},
  iif(home < {_SUSPENDED}, (SELECT day FROM temp.buried WHERE at = min(max(modified, 0), {LAST_INSTANT})), NULL),
  flags & 7, 0,
  iif(own, NULL, id), deck, iif(own, NULL, factor), iif(own, NULL, {_KEPT}), NULL
FROM ({_SCHEDULE})
"""
_STEP_DAYS = f"""
SELECT DISTINCT min(max(?1 + {_DUE}, {DAYS[0]}), {DAYS[1]}) FROM cards NOT INDEXED
WHERE ({integer("type")} IN {_STEPS} OR {integer("queue")} IN ({_LEARNING}, {_DAY_LEARNING})) AND {columns.CARDS.fits}
"""
_BURIALS = f"""
SELECT DISTINCT min(max({integer("mod")}, 0), {LAST_INSTANT}) FROM cards NOT INDEXED
WHERE {integer("queue")} < {_SUSPENDED} AND {columns.CARDS.fits}
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
UPDATE part SET leech = 1 FROM (
  SELECT note, max(lapses) AS most FROM part WHERE note IN (SELECT note FROM temp.leech) GROUP BY note) AS it
WHERE part.note = it.note AND part.lapses = it.most
"""


class PartStaging(Beside):
    """Fills a database with the table ``part`` from the cards whose ``home`` is known.

    A part's `number` is its card's id. Where the note is our own, the part has nothing of Anki's but its deck. As this
    is asked for last, it also checks that all large tables that were read are whole.

    Args:
        homes: the database with the table ``home``.
        leeches: notes with a leech among their cards.
        day0: the study day from which the collection counts.
        past: completes what the cards do not say themselves.
        log: what `past` needs; it is closed with this.
    """

    def __init__(
        self,
        package: Package,
        limits: Limits,
        target: Path,
        homes: Path,
        *,
        leeches: Set[int],
        day0: int,
        calendar: Calendar,
        past: Past,
        log: LogStaging,
    ) -> None:
        super().__init__(package.collection, package.error, limits, target, {"homes": homes})
        self._leeches = leeches
        self._day0 = day0
        self._calendar = calendar
        self._past = past
        self._log = log

    def close(self) -> None:
        """Stop both threads."""
        self._log.close()
        super().close()

    def _fill(self, source: Database) -> None:
        self._stage(source)
        self._past.complete(source, self._log.result, self._go_on)
        source.check_whole(_LARGE)

    def _stage(self, source: Database) -> None:
        day0, since_created, most = self._day0, self._day0 - progress.CREATED_ON, self._limits.field_kb * KB
        _look_up_days(source, day0, self._calendar)
        source.function("clean_text", 1, lambda raw: raw.decode("utf-8", "replace") if len(raw) <= most else "")
        source.make(staging.create_parts)
        self._run(source, _STAGE, (day0, since_created, most, _is_ascii(source, most * FIELDS_A_ROW)))
        self._run(source, _LENT, (since_created,))
        if self._leeches:
            source.run("CREATE TEMP TABLE leech (note INTEGER PRIMARY KEY)")
            source.run_many("INSERT INTO temp.leech VALUES (?)", [(note,) for note in self._leeches])
            self._run(source, _OF_LEECHES)


def _is_ascii(source: Database, most: int) -> bool:
    """Whether all data are, which saves a look at those of each card; also False if together they are too long."""
    (length,) = source.row("SELECT total(length(CAST(data AS BLOB))) FROM cards NOT INDEXED") or (0,)
    if length > most:
        return False
    (data,) = source.row("SELECT group_concat(CAST(data AS BLOB), '') FROM cards NOT INDEXED") or (None,)
    return data is None or data.isascii()


def _look_up_days(source: Database, day0: int, calendar: Calendar) -> None:
    """Make tables of the days and instants that the cards name: a statement that called Python would wait for it."""
    source.run("CREATE TEMP TABLE started (day INTEGER PRIMARY KEY, at INTEGER)")
    days = ((day, int(calendar.start(day))) for (day,) in source.rows(_STEP_DAYS, (day0,)))
    source.run_many("INSERT INTO temp.started VALUES (?, ?)", days)
    source.run("CREATE TEMP TABLE buried (at INTEGER PRIMARY KEY, day INTEGER)")
    burials = ((at, calendar.day(at)) for (at,) in source.rows(_BURIALS))
    source.run_many("INSERT INTO temp.buried VALUES (?, ?)", burials)
