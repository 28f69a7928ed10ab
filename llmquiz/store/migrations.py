"""The schema, as numbered migrations: migration n takes a database from version n - 1 to n.

A migration that has shipped never changes; a new one is appended. `PRAGMA user_version` holds the number of the last
one applied, `PRAGMA application_id` marks the file as ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlite_utils import Database

APPLICATION_ID = 0x6C6C6D71  # "llmq"

_CARDS = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE deck (
  id TEXT PRIMARY KEY, title_en TEXT, title_zh TEXT, intro_en TEXT, intro_zh TEXT,
  position INTEGER NOT NULL, builtin INTEGER NOT NULL, archived_at INTEGER
) STRICT;

-- The content stands last: the columns before it can be read without it.
CREATE TABLE card (
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  deck TEXT NOT NULL REFERENCES deck(id),
  topic TEXT NOT NULL, kind TEXT NOT NULL, level TEXT NOT NULL, frequency TEXT NOT NULL,
  position INTEGER NOT NULL,
  digest TEXT NOT NULL,
  added_at INTEGER NOT NULL, changed_at INTEGER NOT NULL, archived_at INTEGER,
  content TEXT NOT NULL
) STRICT;
CREATE INDEX card_place ON card(deck, archived_at, topic, position);

CREATE TABLE schedule (
  id INTEGER PRIMARY KEY,
  card TEXT NOT NULL REFERENCES card(id), ordinal INTEGER NOT NULL,
  state INTEGER NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 3),
  due INTEGER NOT NULL DEFAULT 0,
  interval INTEGER NOT NULL DEFAULT 0,
  steps_left INTEGER NOT NULL DEFAULT 0,
  stability REAL, difficulty REAL, last_review REAL,
  reps INTEGER NOT NULL DEFAULT 0, lapses INTEGER NOT NULL DEFAULT 0,
  suspended INTEGER NOT NULL DEFAULT 0 CHECK (suspended IN (0, 1)),
  buried_on INTEGER,
  flag INTEGER NOT NULL DEFAULT 0 CHECK (flag BETWEEN 0 AND 7),
  leech INTEGER NOT NULL DEFAULT 0 CHECK (leech IN (0, 1)),
  retired INTEGER NOT NULL DEFAULT 0 CHECK (retired IN (0, 1)),
  UNIQUE (card, ordinal)
) STRICT;
CREATE INDEX schedule_queue ON schedule(state, due, buried_on, card) WHERE suspended = 0 AND retired = 0;
"""

_LOG = """
CREATE TABLE review (
  id INTEGER PRIMARY KEY,
  schedule INTEGER NOT NULL REFERENCES schedule(id),
  day INTEGER NOT NULL,
  rating INTEGER NOT NULL CHECK (rating BETWEEN 1 AND 4),
  state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),
  interval INTEGER NOT NULL, last_interval INTEGER NOT NULL,
  stability REAL NOT NULL, difficulty REAL NOT NULL, retrievability REAL,
  duration_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE undone (review INTEGER PRIMARY KEY REFERENCES review(id), at INTEGER NOT NULL) STRICT;
CREATE VIEW live_review AS SELECT * FROM review WHERE id NOT IN (SELECT review FROM undone);

-- What the user did, in order. `before` holds the rows of `schedule` that it changed, as they were.
CREATE TABLE action (
  id INTEGER PRIMARY KEY,
  at REAL NOT NULL, day INTEGER NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('rate', 'suspend', 'unsuspend', 'bury', 'flag', 'undo')),
  schedule INTEGER NOT NULL REFERENCES schedule(id),
  review INTEGER REFERENCES review(id),
  before TEXT NOT NULL,
  undoes INTEGER REFERENCES action(id)
) STRICT;
CREATE UNIQUE INDEX action_undone ON action(undoes) WHERE undoes IS NOT NULL;
"""

_RUNS = """
CREATE TABLE run (
  id INTEGER PRIMARY KEY,
  lab TEXT NOT NULL, card TEXT,
  params TEXT NOT NULL, device TEXT NOT NULL, versions TEXT NOT NULL,
  started_at REAL NOT NULL, seconds REAL NOT NULL,
  outcome TEXT NOT NULL CHECK (outcome IN ('ok', 'broken', 'failed', 'cancelled', 'timeout', 'memory')),
  metrics TEXT NOT NULL, claims TEXT NOT NULL, series TEXT NOT NULL, tables TEXT NOT NULL,
  error TEXT
) STRICT;
CREATE INDEX run_lab ON run(lab, started_at);

CREATE TABLE prediction (
  id INTEGER PRIMARY KEY,
  run INTEGER REFERENCES run(id),
  card TEXT NOT NULL, metric TEXT NOT NULL,
  guess REAL NOT NULL, measured REAL, score TEXT,
  at REAL NOT NULL
) STRICT;
CREATE INDEX prediction_card ON prediction(card, at);
"""

# Covering: a day's counts, retention and time, and each card's home, are read from an index alone. The second holds the
# few reviews of a card that was answered earlier on the same day, which do not count for retention.
_STATISTICS = """
CREATE INDEX review_day ON review(day, state, rating, last_interval, duration_ms);
CREATE INDEX review_repeated ON review(day, rating, last_interval) WHERE state = 2 AND retrievability >= 1;
CREATE INDEX card_home ON card(id, deck, topic);
"""

# What came from another program, beside what every card has: whatever is needed to give it back as it was.
_FOREIGN = """
-- A deck that no file owns: anki, csv, hashcards or obsidian.
ALTER TABLE deck ADD COLUMN origin TEXT;

-- Of an answer given in Anki: its own kind (0 learn, 1 review, 2 relearn, 3 cram) and its ease or difficulty.
ALTER TABLE review ADD COLUMN anki_type INTEGER;
ALTER TABLE review ADD COLUMN anki_factor INTEGER;

-- Rows of Anki's log that are no answers: a card forgotten, or set to a date.
CREATE TABLE anki_reschedule (
  id INTEGER PRIMARY KEY, schedule INTEGER NOT NULL REFERENCES schedule(id),
  interval INTEGER NOT NULL, last_interval INTEGER NOT NULL, factor INTEGER NOT NULL,
  duration_ms INTEGER NOT NULL, type INTEGER NOT NULL
) STRICT;

-- The content of these is JSON, as Anki's schema 11 has it.
CREATE TABLE anki_notetype (id INTEGER PRIMARY KEY, content TEXT NOT NULL) STRICT;
CREATE TABLE anki_preset (id INTEGER PRIMARY KEY, content TEXT NOT NULL) STRICT;
CREATE TABLE anki_deck (id INTEGER PRIMARY KEY, deck TEXT REFERENCES deck(id), content TEXT NOT NULL) STRICT;
CREATE TABLE anki_note (
  card TEXT PRIMARY KEY REFERENCES card(id),
  id INTEGER NOT NULL, guid TEXT NOT NULL, notetype INTEGER NOT NULL, modified INTEGER NOT NULL,
  tags TEXT NOT NULL, fields TEXT NOT NULL
) STRICT;
CREATE TABLE anki_card (
  schedule INTEGER PRIMARY KEY REFERENCES schedule(id),
  id INTEGER NOT NULL, deck INTEGER NOT NULL, factor INTEGER NOT NULL, kept TEXT NOT NULL
) STRICT;

-- Pictures and sounds that imported notes name; the files lie in the media folder.
CREATE TABLE media (name TEXT PRIMARY KEY, sha1 TEXT NOT NULL, bytes INTEGER NOT NULL) STRICT;
"""


def _script(sql: str) -> Callable[[Database], None]:
    def apply(db: Database) -> None:
        for statement in _statements(sql):
            db.conn.execute(statement)

    return apply


def _search(db: Database) -> None:
    """Full text of both languages in trigrams, so that Chinese, which has no spaces, can be searched."""
    db.conn.execute("CREATE VIRTUAL TABLE card_text USING fts5(en, zh, facts, tokenize='trigram')")
    from llmquiz.store.search import index_all

    index_all(db.conn)


def _unrender(db: Database) -> None:
    """Notes from Anki keep no faces but their fields, which faces are made of when a card is shown."""
    from llmquiz.store.unrendering import unrender

    unrender(db.conn)


MIGRATIONS: tuple[Callable[[Database], None], ...] = (
    _script(_CARDS),
    _script(_LOG),
    _script(_RUNS),
    _search,
    _script(_STATISTICS),
    _script(_FOREIGN),
    _unrender,
)
LATEST = len(MIGRATIONS)


def apply(db: Database, target: int = LATEST) -> None:
    """Bring the database from its version to `target`, in one transaction that the caller holds open."""
    version = db.conn.execute("PRAGMA user_version").fetchone()[0]
    for number in range(version, target):
        MIGRATIONS[number](db)
    db.conn.execute(f"PRAGMA user_version = {target}")
    db.conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _statements(sql: str) -> list[str]:
    bare = "\n".join(line for line in sql.splitlines() if not line.lstrip().startswith("--"))
    return [statement for statement in bare.split(";") if statement.strip()]
