"""What a formula is made of, and what can be wrong with one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from llmquiz.core.errors import LlmquizError
from llmquiz.deck.symbols import Class


class MathError(LlmquizError):
    """A formula that cannot be read. What it quotes of one stands in a line: a backslash may end one."""

    def __init__(self, problem: str) -> None:
        super().__init__(" ".join(problem.split()))


class UnknownMacroError(MathError):
    """A formula uses a macro that is not in the subset."""

    def __init__(self, macro: str) -> None:
        super().__init__(f"unknown TeX macro '{macro}'; {_HINTS.get(macro, 'use one that docs/deck-format.md lists')}")
        self.macro = macro


_HINTS = {
    r"\argmax": r"write \operatorname{arg\,max}",
    r"\argmin": r"write \operatorname{arg\,min}",
    r"\softmax": r"write \operatorname{softmax}",
    r"\sigmoid": r"write \operatorname{sigmoid}",
    r"\R": r"write \mathbb{R}",
    r"\E": r"write \mathbb{E}",
}


@dataclass(frozen=True, slots=True)
class Atom:
    """A symbol, a number, a function's name, or a space."""

    text: str
    kind: Class = Class.ORDINARY


@dataclass(frozen=True, slots=True)
class Text:
    """Upright words: ``\\text{…}``, ``\\mathrm{…}``."""

    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """Nodes side by side. `group`: written in braces, so it acts as one symbol."""

    nodes: tuple[Node, ...]
    group: bool = False


@dataclass(frozen=True, slots=True)
class Fraction:
    """numerator / denominator."""

    numerator: Node
    denominator: Node


@dataclass(frozen=True, slots=True)
class Root:
    """A root; `index` is None for the square root."""

    radicand: Node
    index: Node | None = None


@dataclass(frozen=True, slots=True)
class Script:
    """A base with what hangs below and above it."""

    base: Node
    sub: Node | None = None
    sup: Node | None = None


@dataclass(frozen=True, slots=True)
class Accent:
    """A combining mark over a base; `name` is its macro."""

    mark: str
    name: str
    base: Node


@dataclass(frozen=True, slots=True)
class Fence:
    """Something between two delimiters, either of which may be empty."""

    left: str
    body: Row
    right: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells of an environment such as ``cases``."""

    name: str
    rows: tuple[tuple[Node, ...], ...]


Node: TypeAlias = Atom | Text | Row | Fraction | Root | Script | Accent | Fence | Table
