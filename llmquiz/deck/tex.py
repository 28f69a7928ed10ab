"""A TeX subset as a tree: rows of atoms, fractions, roots, scripts, fences, tables.

The parser knows the macros of `llmquiz.deck.symbols` and refuses every other one by name. Formulas nest at most
`MAX_DEPTH` deep and are at most `MAX_LENGTH` characters long, so that no formula can exhaust the stack.
"""

from __future__ import annotations

import re

from llmquiz.deck import symbols
from llmquiz.deck.symbols import Class
from llmquiz.deck.texnodes import (
    Accent,
    Atom,
    Fence,
    Fraction,
    MathError,
    Node,
    Root,
    Row,
    Script,
    Table,
    Text,
    UnknownMacroError,
)

MAX_DEPTH = 30
MAX_LENGTH = 2_000


_TOKEN = re.compile(r"(?P<macro>\\(?:[A-Za-z]+|.))\s*|(?P<number>\d+(?:\.\d+)?)|(?P<space>\s+)|(?P<char>.)", re.DOTALL)
_EMPTY = Atom("")
_STOPS = frozenset({"}", r"\right", r"\end", "&", r"\\", r"\middle"})


def parse(tex: str) -> Row:
    """The tree of a formula, written without its dollar signs.

    Raises:
        UnknownMacroError: if a macro is not in the subset.
        MathError: if braces, delimiters or arguments do not match, or the formula is too long or nested too deep.
    """
    if len(tex) > MAX_LENGTH:
        raise MathError(f"formula of {len(tex):,} characters; at most {MAX_LENGTH:,}: break it")
    parser = _Parser(tex)
    row = parser.row(0)
    if parser.peek is not None:
        raise MathError(f"'{parser.peek}' without its beginning in '{_short(tex)}'; balance the braces and delimiters")
    return row


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise MathError(f"formula nested more than {MAX_DEPTH} deep; simplify it")


def _short(tex: str) -> str:
    return " ".join(tex.split())[:40]


class _Parser:
    def __init__(self, tex: str) -> None:
        self.tex = tex
        self.brackets = 0  # opened around the present position, in rows further out too: each becomes a fence
        self.tokens = [(match.lastgroup or "char", match[match.lastgroup or 0]) for match in _TOKEN.finditer(tex)]
        self.position = 0

    @property
    def peek(self) -> str | None:
        return self.tokens[self.position][1] if self.position < len(self.tokens) else None

    def take(self) -> tuple[str, str]:
        if self.position >= len(self.tokens):
            raise MathError(f"'{_short(self.tex)}' ends too early; something is missing after its last symbol")
        self.position += 1
        return self.tokens[self.position - 1]

    def skip_spaces(self) -> None:
        while self.position < len(self.tokens) and self.tokens[self.position][0] == "space":
            self.position += 1

    def row(self, depth: int, stops: frozenset[str] = _STOPS) -> Row:
        """Nodes up to a token of `stops` (which is left) or the end."""
        _check_depth(depth)
        outside = self.brackets
        nodes: list[Node] = []
        while (token := self.peek) is not None and token not in stops:
            if token in ("^", "_", "'"):
                nodes.append(self.script(nodes.pop() if nodes else _EMPTY, depth))
            else:
                nodes.append(self.node(depth))
                self.count_bracket(nodes[-1], depth, outside)
        self.brackets = outside
        return Row(tuple(fenced(nodes)))

    def count_bracket(self, node: Node, depth: int, outside: int) -> None:
        if isinstance(node, Atom) and node.kind is Class.OPEN:
            self.brackets += 1
            _check_depth(depth + self.brackets)
        elif isinstance(node, Atom) and node.kind is Class.CLOSE:
            self.brackets = max(self.brackets - 1, outside)

    def script(self, base: Node, depth: int) -> Node:
        mark = self.take()[1]
        sub, sup = (base.sub, base.sup) if isinstance(base, Script) else (None, None)
        inner = base.base if isinstance(base, Script) else base
        if mark == "'":
            primes = (*sup.nodes, Atom("′")) if isinstance(sup, Row) else (*((sup,) if sup else ()), Atom("′"))
            return Script(inner, sub, Row(primes, group=True))
        value = self.argument(depth)
        if (sub if mark == "_" else sup) is not None:
            raise MathError(f"two '{mark}' on one symbol in '{_short(self.tex)}'; use braces")
        return Script(inner, value, sup) if mark == "_" else Script(inner, sub, value)

    def argument(self, depth: int) -> Node:
        """What a macro or a script takes: a group in braces, or the next symbol."""
        self.skip_spaces()
        if self.peek in _STOPS or self.peek in ("^", "_"):
            raise MathError(f"something is missing before '{self.peek}' in '{_short(self.tex)}'; write it, in braces")
        if self.peek is not None and self.tokens[self.position][0] == "number" and len(self.peek) > 1:
            kind, digits = self.tokens[self.position]
            self.tokens[self.position] = (kind, digits[1:])  # x^10 is x¹0 in TeX; braces are needed for more
            return Atom(digits[0])
        return self.node(depth + 1)

    def node(self, depth: int) -> Node:
        _check_depth(depth)
        kind, token = self.take()
        if kind == "space":
            return Atom(" ", Class.SPACE)
        if token == "{":
            return Row(self.closed(depth + 1, "}").nodes, group=True)
        if kind == "macro" and token not in symbols.CLASSES:
            return self.macro(token, depth)
        known = symbols.CLASSES.get(token)
        return Atom(known[1], known[0]) if known else Atom(token)

    def closed(self, depth: int, stop: str) -> Row:
        row = self.row(depth)
        if self.peek != stop:
            raise MathError(f"'{stop}' is missing in '{_short(self.tex)}'; balance the braces and delimiters")
        self.take()
        return row

    def macro(self, name: str, depth: int) -> Node:
        if name in symbols.IGNORED:
            return _EMPTY
        if name in (r"\frac", r"\tfrac", r"\dfrac"):
            return Fraction(self.argument(depth), self.argument(depth))
        if name == r"\binom":
            top, bottom = self.argument(depth), self.argument(depth)
            return Row((Atom("C", Class.FUNCTION), Fence("(", Row((top, Atom(",", Class.PUNCTUATION), bottom)), ")")))
        if name == r"\sqrt":
            return Root(index=self.root_index(depth), radicand=self.argument(depth))
        if name in symbols.TEXT_MACROS:
            return Text(self.words())
        if name == r"\operatorname":
            return Atom(self.operator(depth), Class.FUNCTION)
        if name in symbols.STYLE_MACROS:
            return self.argument(depth)
        if name in (r"\mathbb", r"\mathcal", r"\mathscr"):
            style = symbols.double_struck if name == r"\mathbb" else symbols.script
            return Atom("".join(style(letter) for letter in self.words()))
        if name in symbols.ACCENTS:
            return Accent(symbols.ACCENTS[name], name[1:], self.argument(depth))
        if name == r"\pmod":
            inner = Row((Atom("mod", Class.FUNCTION), self.argument(depth)))
            return Fence("(", inner, ")")
        if name == r"\left":
            return self.delimited(depth)
        if name == r"\begin":
            return self.environment(depth)
        if name in (r"\\", r"\newline"):
            return Atom("\n", Class.SPACE)
        raise UnknownMacroError(name)

    def root_index(self, depth: int) -> Node | None:
        self.skip_spaces()
        if self.peek != "[":
            return None
        self.take()
        index = self.row(depth + 1, _STOPS | {"]"})
        if self.peek != "]":
            raise MathError(f"']' is missing in '{_short(self.tex)}'; write \\sqrt[3]{{x}}")
        self.take()
        return index

    def words(self) -> str:
        """The raw text of a group, e.g. of ``\\text``; an escaped character stands for itself."""
        self.skip_spaces()
        if self.peek != "{":
            return self.take()[1]
        self.take()
        found: list[str] = []
        while (token := self.take()[1]) != "}":
            if token in ("{", "$"):
                raise MathError(f"'{token}' inside words in '{_short(self.tex)}'; end the words first")
            if len(token) == 2 and token[0] == "\\":
                token = symbols.SPACES.get(token, token[1])
            elif token[0] == "\\":
                raise UnknownMacroError(token)
            found.append(token)
        return "".join(found)

    def operator(self, depth: int) -> str:
        if self.peek == "*":
            self.take()
        return " ".join(self.words().split())

    def delimited(self, depth: int) -> Node:
        left = self.delimiter()
        parts: list[Node] = list(self.row(depth + 1).nodes)
        while self.peek == r"\middle":
            self.take()
            parts.append(Atom(self.delimiter(), Class.RELATION))
            parts.extend(self.row(depth + 1).nodes)
        if self.peek != r"\right":
            raise MathError(f"\\left without \\right in '{_short(self.tex)}'; add \\right")
        self.take()
        return Fence(left, Row(tuple(parts)), self.delimiter())

    def delimiter(self) -> str:
        self.skip_spaces()
        token = self.take()[1]
        if token == ".":
            return ""
        if token in ("|", "/", r"\|", r"\vert", r"\Vert"):
            return {"|": "|", "/": "/", r"\vert": "|"}.get(token, "‖")
        text = symbols.OPENING.get(token) or symbols.CLOSING.get(token)
        if text is None:
            raise MathError(f"'{token}' is not a delimiter in '{_short(self.tex)}'; use ( ) [ ] \\{{ \\}} | \\| or .")
        return text

    def environment(self, depth: int) -> Node:
        name = self.words()
        if name not in symbols.ENVIRONMENTS:
            raise MathError(f"unknown environment '{name[:20]}'; known are {', '.join(sorted(symbols.ENVIRONMENTS))}")
        rows: list[list[Node]] = [[self.row(depth + 1)]]
        while self.peek in ("&", r"\\"):
            if self.take()[1] == "&":
                rows[-1].append(self.row(depth + 1))
            else:
                rows.append([self.row(depth + 1)])
        if self.peek != r"\end":
            raise MathError(f"\\begin{{{name}}} without its end; add \\end{{{name}}}")
        self.take()
        if (end := self.words()) != name:
            raise MathError(f"\\begin{{{name}}} ends with \\end{{{end[:20]}}}; use the same name")
        return Table(name, tuple(tuple(row) for row in rows if any(_visible(cell) for cell in row)))


def _visible(node: Node) -> bool:
    return not isinstance(node, Row) or any(not (isinstance(it, Atom) and it.kind is Class.SPACE) for it in node.nodes)


def _text(delimiter: Node) -> str:
    return delimiter.text if isinstance(delimiter, Atom) else ""


def fenced(nodes: list[Node]) -> list[Node]:
    """`nodes` with matching brackets made into fences, so that ``(a+b)^2`` has a base; unmatched ones stay."""
    done: list[list[Node]] = [[]]
    opened: list[Node] = []
    for node in nodes:
        base = node.base if isinstance(node, Script) else node
        kind = base.kind if isinstance(base, Atom) else None
        if kind is Class.OPEN and node is base:
            opened.append(node)
            done.append([])
        elif kind is Class.CLOSE and opened:
            left, body = opened.pop(), done.pop()
            fence = Fence(_text(left), Row(tuple(body)), _text(base))
            done[-1].append(Script(fence, node.sub, node.sup) if isinstance(node, Script) else fence)
        else:
            done[-1].append(node)
    while opened:
        left, body = opened.pop(), done.pop()
        done[-1] += [left, *body]
    return done[0]
