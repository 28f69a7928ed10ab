"""Prints a formula's tree as one line of Unicode, with every parenthesis that the flat line needs.

TeX shows grouping by size and position; a line has only parentheses. So `Level` says how tightly a printed piece holds
together, and each construct wraps what is looser than it can bear: ``\\frac{a+b}{cd}`` is ``(a + b)/(cd)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

from llmquiz.deck.symbols import AS_WRITTEN_SUPERSCRIPTS, SUBSCRIPTS, SUPERSCRIPTS, Class
from llmquiz.deck.texnodes import Accent, Atom, Fence, Fraction, Node, Root, Row, Script, Table, Text


class Level(IntEnum):
    """How tightly a printed piece holds together, loosest first."""

    RELATION = 0
    SUM = 1
    APPLIED = 2  # a function or a sum sign that takes whatever follows
    QUOTIENT = 3  # also a product with a written sign
    PRODUCT = 4  # side by side
    ATOM = 5


@dataclass(frozen=True, slots=True)
class Printed:
    """A printed piece. `raw_tail`: it ends in ``_word`` or ``^word``, which a following letter would prolong."""

    text: str
    level: Level = Level.ATOM
    raw_tail: bool = False

    def wrapped(self, at_least: Level) -> str:
        """The text, in parentheses if it holds together less tightly than `at_least`."""
        return self.text if self.level >= at_least else f"({self.text})"


_OPERAND = frozenset({Class.ORDINARY, Class.FUNCTION, Class.BIG, Class.CLOSE, Class.OPEN})
_PRECEDES_SIGN = frozenset(Class) - {Class.ORDINARY, Class.CLOSE, Class.SPACE}
_LEVELS = {
    Class.RELATION: Level.RELATION,
    Class.PUNCTUATION: Level.RELATION,
    Class.ADDITIVE: Level.SUM,
    Class.BIG: Level.APPLIED,
    Class.SLASH: Level.QUOTIENT,
    Class.PRODUCT: Level.QUOTIENT,
}
_PLAIN_PRODUCTS = frozenset({"·", "×", "∗"})
_TABLE_FENCES = {
    "cases": ("{", "}"),
    "pmatrix": ("(", ")"),
    "Bmatrix": ("{", "}"),
    "vmatrix": ("|", "|"),
    "Vmatrix": ("‖", "‖"),
}
_LINE_TABLES = frozenset({"aligned", "align", "align*", "split", "gathered"})


def show(node: Node, *, tight: bool = False) -> Printed:
    """`node` as text; `tight` leaves out the spaces around operators, as inside scripts."""
    match node:
        case Atom():
            return Printed(node.text)
        case Text():
            return Printed(node.text, Level.QUOTIENT if " " in node.text.strip() else Level.ATOM)
        case Row():
            return _row(node, tight)
        case Fraction():
            numerator, denominator = show(node.numerator, tight=tight), show(node.denominator, tight=tight)
            text = f"{numerator.wrapped(Level.PRODUCT)}/{denominator.wrapped(Level.ATOM)}"
            return Printed(text, Level.QUOTIENT, denominator.raw_tail)
        case Root():
            return _root(node)
        case Script():
            return _script(node)
        case Accent():
            base = show(node.base, tight=tight).text
            return Printed(base + node.mark if len(base) == 1 else f"{node.name}({base})")
        case Fence():
            return _fence(node, tight)
        case Table():
            return _table(node)


def unwrapped(node: Node) -> Node:
    """A row of a single node is that node."""
    while isinstance(node, Row) and len(seen := _visible(node)) == 1:
        node = seen[0]
    return node


def class_of(node: Node) -> Class:
    """How a node behaves between its neighbours; a script behaves as its base."""
    if isinstance(node, Script):
        return class_of(node.base)
    return node.kind if isinstance(node, Atom) else Class.ORDINARY


def _visible(row: Row) -> list[Node]:
    """The nodes without spaces and empty atoms; rows that are no group dissolve."""
    found: list[Node] = []
    for node in row.nodes:
        if isinstance(node, Row) and not node.group:
            found += _visible(node)
        elif not (isinstance(node, Atom) and (not node.text or node.kind is Class.SPACE)):
            found.append(node)
    return found


def _flat(row: Row) -> list[Node]:
    """The nodes, spaces kept (at most one in a row, none at the ends), empty atoms dropped."""
    found: list[Node] = []
    for node in row.nodes:
        for it in _flat(node) if isinstance(node, Row) and not node.group else [node]:
            if isinstance(it, Atom) and not it.text:
                continue
            if class_of(it) is Class.SPACE and (not found or class_of(found[-1]) is Class.SPACE):
                if found and _is_wider(it, found[-1]):
                    found[-1] = it
                continue
            found.append(it)
    if found and class_of(found[-1]) is Class.SPACE:
        found.pop()
    return found


def _is_wider(space: Node, than: Node) -> bool:
    """Whether, of two spaces side by side, the former stays: a line break before all, then the longer one."""
    texts = [node.text if isinstance(node, Atom) else "" for node in (space, than)]
    return ("\n" in texts[0], len(texts[0])) > ("\n" in texts[1], len(texts[1]))


def _row(row: Row, tight: bool) -> Printed:
    nodes = _flat(row)
    if len(nodes) == 1:
        return show(nodes[0], tight=tight)
    pieces: list[tuple[Printed, Node, bool]] = []  # printed, node, whether it is a sign rather than an operator
    seen = [node for node in nodes if class_of(node) is not Class.SPACE]
    at = 0
    for node in nodes:
        if class_of(node) is Class.SPACE:
            pieces.append((show(node), node, False))
            continue
        before, after = seen[at - 1] if at else None, seen[at + 1] if at + 1 < len(seen) else None
        sign = class_of(node) is Class.ADDITIVE and (before is None or class_of(before) in _PRECEDES_SIGN)
        printed = show(node, tight=tight)
        if after is not None and isinstance(unwrapped(node), Root) and class_of(after) in _OPERAND - {Class.CLOSE}:
            printed = Printed(f"({printed.text})")
        if _is_fraction(node) and (_binds_fraction(before) or _binds_fraction(after)):
            printed = Printed(f"({printed.text})")
        pieces.append((printed, node, sign))
        at += 1
    return Printed(_joined(pieces, tight), _row_level(seen), pieces[-1][0].raw_tail if pieces else False)


def _is_fraction(node: Node) -> bool:
    return isinstance(unwrapped(node), Fraction)


def _binds_fraction(neighbour: Node | None) -> bool:
    """Whether a fraction beside `neighbour` would be read wrongly without parentheses."""
    if neighbour is None:
        return False
    kind = class_of(neighbour)
    if kind is Class.PRODUCT:
        return not (isinstance(neighbour, Atom) and neighbour.text in _PLAIN_PRODUCTS)
    return kind in _OPERAND or kind is Class.SLASH


def _joined(pieces: list[tuple[Printed, Node, bool]], tight: bool) -> str:
    text = ""
    previous: tuple[Printed, Node, bool] | None = None
    for piece in pieces:
        printed, node, _ = piece
        if class_of(node) is Class.SPACE:
            text = text if tight else f"{text.rstrip(' ')}{printed.text}"
            continue
        gap = _gap(previous, piece, tight)
        if gap is None:  # operands side by side keep the space that was written between them
            gap = (
                " " if previous and previous[0].raw_tail and _prolongs(printed.text) and not text.endswith(" ") else ""
            )
        else:
            text = text.rstrip(" ")
        text += gap + printed.text
        previous = piece
    return text.rstrip(" ")


def _prolongs(text: str) -> bool:
    return text[:1].isalnum() or text[:1] in ("_", "^")


def _gap(before: tuple[Printed, Node, bool] | None, after: tuple[Printed, Node, bool], tight: bool) -> str | None:
    """The space that two neighbours need; None leaves it as the author wrote it."""
    if before is None:
        return ""
    left, right = class_of(before[1]), class_of(after[1])
    if Class.FUNCTION in (left, right) or Class.BIG in (left, right):
        return _operator_gap(before, after, tight)
    if left is Class.OPEN or right in (Class.CLOSE, Class.PUNCTUATION) or before[2]:
        return ""
    operator = {Class.RELATION, Class.PRODUCT, Class.ADDITIVE}
    if after[2]:
        return "" if tight or left is Class.SLASH else " "
    if left in operator or right in operator:
        return "" if tight and "mod" not in (before[0].text, after[0].text) else " "
    if left is Class.PUNCTUATION:
        return "" if tight else " "
    return "" if Class.SLASH in (left, right) else None


def _operator_gap(before: tuple[Printed, Node, bool], after: tuple[Printed, Node, bool], tight: bool) -> str:
    left, right = class_of(before[1]), class_of(after[1])
    if left is Class.FUNCTION and (after[0].text[:1] in ("(", "[", "{") or right is Class.CLOSE):
        return ""
    if left in (Class.FUNCTION, Class.BIG):
        return "" if right in (Class.CLOSE, Class.PUNCTUATION) else " "
    if before[2] or left in (Class.OPEN, Class.SLASH):
        return ""
    return "" if tight and left not in (Class.ORDINARY, Class.CLOSE) else " "


def _row_level(nodes: list[Node]) -> Level:
    if _is_call(nodes) or _is_norm(nodes):
        return Level.ATOM
    levels = [_LEVELS[class_of(node)] for node in nodes if class_of(node) in _LEVELS]
    for node, after in pairwise(nodes):
        if class_of(node) is Class.FUNCTION and not isinstance(after, Fence):
            levels.append(Level.APPLIED)
    return min([*levels, Level.PRODUCT])


def _is_call(nodes: list[Node]) -> bool:
    """``p(y | x)``, ``exp(a + b)``; but ``a(b + c)`` may be a product and is not taken for a call."""
    if len(nodes) != 2 or not isinstance(call := nodes[1], Fence) or call.left != "(":
        return False
    if class_of(nodes[0]) is Class.FUNCTION or isinstance(nodes[0], Text):
        return True
    if class_of(nodes[0]) is not Class.ORDINARY or isinstance(nodes[0], Fence):
        return False
    inside = [class_of(node) for node in _visible(call.body)]
    return Class.ADDITIVE not in inside or Class.RELATION in inside or Class.PUNCTUATION in inside


def _is_norm(nodes: list[Node]) -> bool:
    """``|x|`` or ``‖x‖``, whose bars TeX does not pair."""
    bars = [index for index, node in enumerate(nodes) if isinstance(node, Atom) and node.text in ("|", "‖")]
    return bars == [0, len(nodes) - 1]


def _root(node: Root) -> Printed:
    radicand = show(unwrapped(node.radicand))
    inner = unwrapped(node.radicand)
    simple = isinstance(inner, Atom | Text | Fence) or (isinstance(inner, Script) and inner.sup is None)
    body = radicand.text if simple and radicand.level is Level.ATOM else f"({radicand.text})"
    if node.index is None:
        return Printed(f"√{body}", raw_tail=radicand.raw_tail and body == radicand.text)
    index = show(node.index, tight=True).text
    sign = {"2": "√", "3": "∛", "4": "∜"}.get(index)
    if sign is None:
        small = _mapped(index, SUPERSCRIPTS)
        if small is None:
            return Printed(f"({radicand.text})^(1/{index})")
        sign = f"{small}√"
    return Printed(sign + body)


def _script(node: Script) -> Printed:
    base_node = unwrapped(node.base)
    base = show(base_node)
    composed = isinstance(base_node, Fraction | Root) or base.level < Level.ATOM
    text = f"({base.text})" if composed and not isinstance(base_node, Text | Fence) else base.text
    raw_tail = False
    if node.sub is not None:
        lower, raw_tail = _lowered(node.sub, class_of(base_node) is Class.FUNCTION, node.sup is not None)
        text += lower
    if node.sup is not None:
        upper, raw_tail = _raised(node.sup)
        text += upper
    return Printed(text, raw_tail=raw_tail)


def _lowered(node: Node, of_function: bool, before_superscript: bool) -> tuple[str, bool]:
    text = show(node, tight=True).text
    small = _mapped(text, SUBSCRIPTS)
    named = _is_word(text) or (isinstance(unwrapped(node), Text) and len(text) > 1)
    if small is not None and not named and (text.isdigit() or not of_function):
        return small, False
    if text.isalnum() and not before_superscript:
        return f"_{text}", True
    return f"_{{{text}}}", False


def _raised(node: Node) -> tuple[str, bool]:
    text = show(node, tight=True).text
    small = _mapped(text, SUPERSCRIPTS)
    if small is not None and not _is_word(text):
        return small, False
    if text in AS_WRITTEN_SUPERSCRIPTS:
        return AS_WRITTEN_SUPERSCRIPTS[text], False
    return (f"^{text}", True) if len(text) == 1 else (f"^({text})", False)


def _is_word(text: str) -> bool:
    """Three letters or more: small letters of a word are hard to read in a terminal."""
    return len(text) > 2 and text.isalpha()


def _mapped(text: str, table: dict[str, str]) -> str | None:
    return "".join(table[char] for char in text) if text and all(char in table for char in text) else None


def _fence(node: Fence, tight: bool) -> Printed:
    body = show(node.body, tight=tight).text
    text = f"{node.left}{body}{node.right}"
    return Printed(text, Level.ATOM if node.left and node.right else Level.SUM)


def _table(node: Table) -> Printed:
    rows = [[show(cell).text for cell in row] for row in node.rows]
    if node.name in _LINE_TABLES:
        return Printed("\n".join(" ".join(cell for cell in row if cell) for row in rows), Level.RELATION)
    left, right = _TABLE_FENCES.get(node.name, ("[", "]"))
    return Printed(left + "; ".join(", ".join(cell.rstrip(",") for cell in row) for row in rows) + right)
