"""Which symbols a formula uses: letters with the subscripts that make them names, but no index that a sum binds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from llmquiz.deck import tex
from llmquiz.deck.symbols import Class
from llmquiz.deck.texnodes import Accent, Atom, Fence, Fraction, MathError, Node, Root, Row, Script, Table, Text
from llmquiz.deck.texprint import class_of, show, unwrapped

_INDEX = frozenset("ijklmnts0123456789+−-=<>≤≥,:′…∗⋆ ")
_EVERYWHERE = frozenset({"𝔼", "ℝ", "ℕ", "ℤ", "ℂ", "ℙ", "𝒩", "𝒪", "ℓ"})


@dataclass(frozen=True, slots=True)
class Symbol:
    """A letter and what hangs below it, as printed: ``d_k`` is ``Symbol("d", "k")``."""

    base: str
    sub: str = ""

    def __str__(self) -> str:
        if len(self.sub) > 1:
            return f"{self.base}_{{{self.sub}}}"
        return f"{self.base}_{self.sub}" if self.sub else self.base

    @property
    def is_indexed(self) -> bool:
        """Whether the subscript only counts: ``x_i``, ``h_{t-1}``, but not ``d_k``, a name."""
        return bool(self.sub) and all(char in _INDEX for char in self.sub)

    def is_covered(self, defined: frozenset[Symbol]) -> bool:
        """Whether `defined` holds it, or holds its letter where the subscript is an index or defined itself."""
        if self in defined:
            return True
        kin = [symbol for symbol in defined if symbol.base == self.base and (not symbol.sub or symbol.is_indexed)]
        if not kin or not self.sub:
            return False
        known = {symbol.base for symbol in defined}
        return all(char in _INDEX or char in known for char in self.sub)


@dataclass(slots=True)
class SymbolSet:
    """Symbols that are used, and letters that are bound as the index of a sum or the variable of an expectation.

    `constants` are uses that need no definition: π as a number, the O of a complexity class.
    """

    used: set[Symbol] = field(default_factory=set)
    constants: set[Symbol] = field(default_factory=set)
    bound: set[str] = field(default_factory=set)

    def free(self) -> set[Symbol]:
        """The symbols that need a definition."""
        return {symbol for symbol in self.used if symbol.base not in self.bound}


def read_symbols(sources: Iterable[str]) -> SymbolSet:
    """The symbols of all formulas together; a formula that cannot be read has none."""
    found = SymbolSet()
    for source in sources:
        try:
            _read(tex.parse(source), found, None)
        except MathError:
            continue
    return found


def _read(node: Node, found: SymbolSet, after: Node | None) -> None:
    match node:
        case Atom():
            if node.kind is Class.ORDINARY and _is_letter(node.text):
                (found.constants if _is_constant(node.text, after) else found.used).add(Symbol(node.text))
        case Row():
            _read_row(node, found)
        case Fraction():
            _read_all((node.numerator, node.denominator), found)
        case Root():
            _read_all((node.radicand, *((node.index,) if node.index else ())), found)
        case Script():
            _read_script(node, found, after)
        case Accent():
            _read(node.base, found, after)
        case Fence():
            _read(node.body, found, None)
        case Table():
            _read_all((cell for row in node.rows for cell in row), found)
        case Text():
            pass


def _read_all(nodes: Iterable[Node], found: SymbolSet) -> None:
    for node in nodes:
        _read(node, found, None)


def _read_row(row: Row, found: SymbolSet) -> None:
    nodes = [node for node in row.nodes if class_of(node) is not Class.SPACE and node != Atom("")]
    integral = any(class_of(node) is Class.BIG and "∫" in show(node).text for node in nodes)
    for node, after in zip(nodes, [*nodes, None][1:], strict=True):
        if not (integral and node == Atom("d")):
            _read(node, found, after)


def _read_script(node: Script, found: SymbolSet, after: Node | None) -> None:
    base = unwrapped(node.base)
    text = show(base).text
    if class_of(base) in (Class.BIG, Class.FUNCTION) or text in _EVERYWHERE:
        if node.sub is not None:
            _bind(node.sub, found)
    elif isinstance(base, Atom | Accent) and _is_letter(text[:1]):
        if not (text == "e" and node.sub is None):
            found.used.add(Symbol(text[:1], show(node.sub, tight=True).text.strip("()") if node.sub else ""))
    elif not isinstance(base, Text):
        _read(base, found, None)
    if node.sup is not None and not _is_label(node.sup):
        _read(node.sup, found, None)


def _bind(sub: Node, found: SymbolSet) -> None:
    """``i=1``, ``j \\in S``, ``x \\sim p``: what stands left of the relation is bound, the rest is used."""
    nodes = list(sub.nodes) if isinstance(sub, Row) else [sub]
    relation = next((index for index, node in enumerate(nodes) if class_of(node) is Class.RELATION), len(nodes))
    inner = SymbolSet()
    _read(Row(tuple(nodes[:relation])), inner, None)
    found.bound |= {symbol.base for symbol in inner.used}
    _read(Row(tuple(nodes[relation + 1 :])), found, None)


def _is_letter(text: str) -> bool:
    return len(text) == 1 and text.isalpha() and text not in _EVERYWHERE and text != "∂"


def _is_constant(text: str, after: Node | None) -> bool:
    """π as a number, the O of a complexity class."""
    return (text == "π" and not isinstance(after, Fence)) or (text == "O" and isinstance(after, Fence))


def _is_label(sup: Node) -> bool:
    """A superscript that names rather than raises: ``W^Q``, ``A^T``, ``x^{(i)}``, ``f'``."""
    text = show(sup, tight=True).text
    return text.strip("′") == "" or (len(text) == 1 and (text.isupper() or not text.isalnum())) or text[:1] == "("


def names(symbols: Iterable[Symbol]) -> Iterator[str]:
    """The symbols as written, sorted."""
    return iter(sorted(str(symbol) for symbol in symbols))
