"""The columns of the CSV files: a header says what a number is, and its unit, so that nobody has to look it up.

The documentation has the same table; a test holds the two together.
"""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """A column: its header and what it holds."""

    name: str
    meaning: str


def _in_both(name: str, meaning: str) -> list[Column]:
    return [Column(f"{name} ({lang})", f"{meaning}, {word}") for lang, word in (("en", "English"), ("zh", "Chinese"))]


COLUMNS: dict[str, tuple[Column, ...]] = {
    "cards": (
        Column("card", "id"),
        Column("deck", "id of its deck"),
        Column("deck title", "in English, or in the language that it has"),
        Column("topic", "slug"),
        Column("kind", "`open`, `cloze`, `choice`, `predict`; `note` from another program"),
        Column("level", "`L1` to `L3`"),
        Column("frequency", "`high`, `medium`, `low`"),
        Column("tags", "parted by spaces"),
        *_in_both("question", "Markdown; of a note the fronts of its faces"),
        *_in_both("answer", "Markdown; of a note the backs of its faces"),
        *_in_both("detail", "the rest of the answer"),
        *_in_both("key points", "a line each"),
        *_in_both("choices", "a line each, `[x]` the right one"),
        *_in_both("pitfall", "the commonest mistake"),
        *_in_both("symbols", "a line each"),
        Column("lab", "the experiment behind it"),
        Column("follow-ups", "ids of cards, parted by spaces"),
        Column("sources", "a line each"),
        Column("as of", "day on which it was true"),
        Column("added at", "instant"),
        Column("changed at", "instant"),
        Column("archived at", "instant; empty if its deck still has it"),
    ),
    "schedules": (
        Column("schedule", "number"),
        Column("card", "id"),
        Column("deck", "id of its deck"),
        Column("part", "deletion of a cloze card, face of a note, else 0"),
        Column("state", "`new`, `learning`, `review`, `relearning`"),
        Column("due day", "study day, in review"),
        Column("due at", "instant, in learning"),
        Column("place", "among new cards"),
        Column("interval (days)", "between the last answer and the due day"),
        Column("steps left", "in learning"),
        Column("stability (days)", "delay after which recall falls to 90%"),
        Column("difficulty (1-10)", "of FSRS"),
        Column("last answer at", "instant"),
        Column("answers", "how many"),
        Column("lapses", "times forgotten"),
        Column("suspended", "`yes` or empty"),
        Column("buried on", "study day"),
        Column("flag", "0 to 7"),
        Column("leech", "`yes` or empty"),
        Column("retired", "`yes` if its card is archived or lost this part"),
    ),
    "reviews": (
        Column("review", "number: milliseconds since 1970"),
        Column("schedule", "number"),
        Column("card", "id"),
        Column("deck", "id of its deck"),
        Column("part", "as in schedules"),
        Column("answered at", "instant"),
        Column("study day", "it ends at 4 am, unless your settings say otherwise"),
        Column("rating", "`again`, `hard`, `good`, `easy`"),
        Column("state before", "as in schedules"),
        Column("interval (days)", "given by the answer; steps in parts of a day"),
        Column("last interval (days)", "before the answer"),
        Column("stability (days)", "after the answer; empty if another program did not say"),
        Column("difficulty (1-10)", "after the answer"),
        Column("recall before (0-1)", "predicted just before"),
        Column("duration (ms)", "of the answer"),
        Column("undone at", "instant; empty if it stands"),
    ),
    "runs": (
        Column("run", "number"),
        Column("lab", "name"),
        Column("card", "that it was started from"),
        Column("started at", "instant"),
        Column("duration (s)", "of the run"),
        Column("outcome", "`ok`, `broken`, `failed`, `cancelled`, `timeout`, `memory`"),
        Column("device", "where it ran"),
        Column("parameters (JSON)", "by name"),
        Column("versions (JSON)", "of the libraries"),
        Column("metrics (JSON)", "by name, in the units of the lab"),
        Column("claims (JSON)", "with expected and measured numbers"),
        Column("error", "why it failed"),
    ),
    "predictions": (
        Column("prediction", "number"),
        Column("run", "number"),
        Column("card", "id"),
        Column("metric", "of the card's lab"),
        Column("guess", "in the unit of the metric"),
        Column("measured", "in the same unit"),
        Column("score", "verdict"),
        Column("guessed at", "instant"),
    ),
}
"""The columns of each file. Instants are local time with its distance from UTC, days are ISO dates."""
