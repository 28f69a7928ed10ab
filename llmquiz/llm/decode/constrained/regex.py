"""Reads a regular expression into a tree.

The whole text must match, as with `re.fullmatch`. Back-references and look-around are refused: what they match is no
regular language (or not by an automaton of this kind), so no finite automaton could follow it. `\\d`, `\\w` and `\\s`
are ASCII, as in JSON Schema's dialect; `.` is any character but a line end.
"""

from __future__ import annotations

import re

from llmquiz.llm.decode.constrained.syntax import (
    Alt,
    CodePoints,
    Node,
    Repeat,
    Seq,
    characters,
    complement,
    literal,
    optional,
)
from llmquiz.llm.errors import ModelError

_CLASSES: dict[str, list[CodePoints]] = {
    "d": [(48, 57)],
    "w": [(48, 57), (65, 90), (95, 95), (97, 122)],
    "s": [(9, 13), (32, 32)],
}
_CLASSES |= {name.upper(): complement(ranges) for name, ranges in _CLASSES.items()}
_CONTROLS = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0"}
_HEX = re.compile(r"x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})")
_COUNTS = re.compile(r"\{([0-9]{1,9})(,([0-9]{1,9})?)?\}")
_PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
MAX_NESTING = 100  # groups in groups


def parse(pattern: str) -> Node:
    """The tree of `pattern`.

    Raises:
        ModelError: if it is not a regular expression, or uses what no automaton can do.
    """
    return _Parser(pattern).whole()


class _Parser:
    """Recursive descent: choice of sequences of repeated atoms."""

    def __init__(self, pattern: str) -> None:
        self.pattern, self.place, self.nesting = pattern, 0, 0

    def whole(self) -> Node:
        self._take("^")
        tree = self._choice()
        self._take("$")
        if self.place < len(self.pattern):
            raise self._error(f"'{self.pattern[self.place]}' has no counterpart here")
        return tree

    def _choice(self) -> Node:
        options = [self._sequence()]
        while self._take("|"):
            options.append(self._sequence())
        return Alt(tuple(options)) if len(options) > 1 else options[0]

    def _sequence(self) -> Node:
        parts = []
        while self.place < len(self.pattern) and self.pattern[self.place] not in "|)":
            if self.pattern[self.place :] == "$" and not self.nesting:
                break
            parts.append(self._repeated(self._atom()))
        return Seq(tuple(parts))

    def _repeated(self, part: Node) -> Node:
        counts = _COUNTS.match(self.pattern, self.place)
        if counts:
            self.place = counts.end()
            low, comma, high = counts.groups()
            repeated = Repeat(part, int(low), int(low) if comma is None else int(high) if high else None)
            if repeated.high is not None and repeated.high < repeated.low:
                raise self._error("the counts of a repeat are the wrong way round")
        elif self._take("*"):
            repeated = Repeat(part, 0, None)
        elif self._take("+"):
            repeated = Repeat(part, 1, None)
        elif self._take("?"):
            return self._repeated_once(optional(part))
        else:
            return part
        return self._repeated_once(repeated)

    def _repeated_once(self, part: Node) -> Node:
        if self.pattern[self.place : self.place + 1] in ("*", "+", "?"):
            raise self._error("a lazy, possessive or second repeat changes nothing about what matches; leave it out")
        return part

    def _atom(self) -> Node:
        char = self._next("an expression")
        if char == "(":
            return self._group()
        if char == "[":
            return characters(self._bracket())
        if char == ".":
            return characters(complement([(10, 10), (13, 13)]))
        if char == "\\":
            return characters(self._escape())
        if char in "*+?{":
            raise self._error(f"nothing stands before '{char}' to repeat; write \\{char} for the character")
        if char in "^$":
            raise self._error(f"'{char}' inside; the whole text is matched, so only the ends may have anchors")
        return literal(char)

    def _group(self) -> Node:
        self.nesting += 1
        if self.nesting > MAX_NESTING:
            raise self._error(f"more than {MAX_NESTING} groups in groups")
        if self._take("?") and not self._take(":"):
            raise self._error("of the groups that begin with (? only (?: is supported: no look-around, no names")
        tree = self._choice()
        if not self._take(")"):
            raise self._error("a group is not closed with )")
        self.nesting -= 1
        return tree

    def _bracket(self) -> list[CodePoints]:
        negated = self._take("^")
        ranges: list[CodePoints] = []
        while not self._take("]"):
            first = self._member()
            if (
                self.pattern[self.place : self.place + 1] == "-"
                and self.pattern[self.place + 1 : self.place + 2] != "]"
            ):
                self.place += 1
                last = self._member()
                if not _is_character(first) or not _is_character(last) or first > last:
                    raise self._error("a range in [] goes from a character to a later one")
                first = [(first[0][0], last[0][1])]
            ranges += first
        return complement(ranges) if negated else ranges

    def _member(self) -> list[CodePoints]:
        char = self._next("']'")
        return self._escape() if char == "\\" else [(ord(char), ord(char))]

    def _escape(self) -> list[CodePoints]:
        code = _HEX.match(self.pattern, self.place)
        if code:
            self.place = code.end()
            point = int(code[1] or code[2], 16)
            return [(point, point)]
        char = self._next("a character after \\")
        if char in _CLASSES:
            return _CLASSES[char]
        if char not in _CONTROLS and not _PUNCTUATION.match(char):
            raise self._error(f"\\{char} is not supported: no back-references, boundaries or Unicode classes")
        point = ord(_CONTROLS.get(char, char))
        return [(point, point)]

    def _take(self, char: str) -> bool:
        found = self.pattern.startswith(char, self.place)
        self.place += found
        return found

    def _next(self, expected: str) -> str:
        if self.place >= len(self.pattern):
            raise self._error(f"ends where {expected} should be")
        self.place += 1
        return self.pattern[self.place - 1]

    def _error(self, problem: str) -> ModelError:
        shown = self.pattern if len(self.pattern) <= 60 else self.pattern[:57] + "..."
        return ModelError(f"regular expression {shown!r}, character {self.place}: {problem}")


def _is_character(ranges: list[CodePoints]) -> bool:
    return len(ranges) == 1 and ranges[0][0] == ranges[0][1]
