"""What is wrong with a deck, and where: the one shape in which parser, linter and library report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from llmquiz.core.errors import DeckError, Place


class Severity(StrEnum):
    """Whether a finding keeps a deck from being used (or from being shipped), or is advice."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem of a deck.

    Attributes:
        place: file and line that the reader should look at.
        rule: ``F..`` the format, ``S..`` the card rubric, ``L..`` labs, ``M..`` formulas, ``D..`` the folder of decks.
        problem: one lower-case line: what is wrong, what was expected, how to mend it.
    """

    place: Place
    rule: str
    problem: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        kind = "warning: " if self.severity is Severity.WARNING else ""
        return f"{self.place}: {self.rule} {kind}{self.problem}"

    def error(self) -> DeckError:
        """The finding as an error to raise."""
        return DeckError(self.place, self.problem)


def errors(findings: list[Finding]) -> list[Finding]:
    """The findings that are not mere advice."""
    return [finding for finding in findings if finding.severity is Severity.ERROR]
