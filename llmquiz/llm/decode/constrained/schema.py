"""A JSON schema as a tree: the documents that are valid, in one spelling.

JSON is no regular language, since brackets nest without end. One schema without recursion is: its depth is fixed. A
recursive one (`$ref`) is unrolled to `max_depth`, so every document made is valid, though not every valid one can be
made. The same holds for the spelling: members stand in the order of the schema, with at most a space after a comma or
colon, and members that the schema does not name are never added.

Numbers have at most 15 significant digits before and after the point, which a double holds. Half of a surrogate pair is
never written, not even as `\\ud800`: it parses, but is no text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from llmquiz.llm.decode.constrained import regex
from llmquiz.llm.decode.constrained.syntax import EMPTY, NEVER, Alt, Members, Node, Repeat, Seq, literal
from llmquiz.llm.errors import ModelError

Schema: TypeAlias = Mapping[str, Any]

MAX_DEPTH = 3  # times that a definition may stand inside itself
MAX_NESTING = 50  # schemas in schemas
MAX_SCHEMAS = 5000  # with every definition written out where it stands: two that name each other twice double each time
ANNOTATIONS = {"title", "description", "$schema", "$id", "$defs", "default", "examples", "$comment"}
KEYWORDS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength"},
    "number": set[str](),
    "integer": set[str](),
    "boolean": set[str](),
    "null": set[str](),
}
_HEX4 = r"([0-9a-cA-CefEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2})"
_CHARACTER = regex.parse(r'[^"\\\x00-\x1f\x7f]|\\(["\\/bfnrt]|u' + _HEX4 + ")")
_INTEGER = r"-?(0|[1-9][0-9]{0,14})"
_SIMPLE = {
    "integer": regex.parse(_INTEGER),
    "number": regex.parse(_INTEGER + r"(\.[0-9]{1,15})?([eE][+-]?[0-9]{1,2})?"),
    "boolean": regex.parse("true|false"),
    "null": literal("null"),
}
_COMMA, _COLON, _QUOTE = regex.parse(", ?"), regex.parse(": ?"), literal('"')


def tree_of(schema: Schema, *, max_depth: int = MAX_DEPTH) -> Node:
    """The tree of the documents that are valid under `schema`.

    Raises:
        ModelError: if the schema has a keyword that is not supported, or one of the wrong type.
    """
    return _Reader(schema, max_depth).node(schema, "#", 0)


class _Reader:
    """Reads one schema; `open_refs` counts the definitions that the place being read stands in."""

    def __init__(self, root: Schema, max_depth: int) -> None:
        self.root, self.max_depth = root, max_depth
        self.open_refs: dict[str, int] = {}
        self.num_schemas = 0

    def node(self, schema: object, where: str, nesting: int) -> Node:
        if not isinstance(schema, Mapping):
            raise _error(where, f"{schema!r:.40} is not a schema; write an object with a type")
        self.num_schemas += 1
        if nesting > MAX_NESTING or self.num_schemas > MAX_SCHEMAS:
            raise _error(where, f"more than {MAX_NESTING} schemas in schemas, or {MAX_SCHEMAS} in all; lower max_depth")
        if "$ref" in schema:
            _check_keywords(schema, {"$ref"}, where)
            return self._reference(schema["$ref"], where, nesting)
        if "const" in schema or "enum" in schema:
            _check_keywords(schema, {"const", "enum", "type"}, where)
            return _values(schema, where)
        if "anyOf" in schema:
            _check_keywords(schema, {"anyOf"}, where)
            options = _typed(schema, "anyOf", list, where)
            return Alt(tuple(self.node(o, f"{where}/anyOf/{n}", nesting + 1) for n, o in enumerate(options)))
        types = schema.get("type")
        if isinstance(types, list):
            return Alt(tuple(self._of_type(name, schema, where, nesting, types) for name in types))
        return self._of_type(types, schema, where, nesting, [types])

    def _of_type(self, name: object, schema: Schema, where: str, nesting: int, types: Sequence[object]) -> Node:
        if not isinstance(name, str) or name not in KEYWORDS:
            raise _error(where, f"type {name!r:.40} is not one of {', '.join(KEYWORDS)}")
        allowed = set().union(*(KEYWORDS[other] for other in types if isinstance(other, str) and other in KEYWORDS))
        _check_keywords(schema, {"type"} | allowed, where)
        if name in _SIMPLE:
            return _SIMPLE[name]
        makers: dict[str, Callable[[Schema, str, int], Node]] = {
            "string": _string,
            "array": self._array,
            "object": self._object,
        }
        return makers[name](schema, where, nesting)

    def _object(self, schema: Schema, where: str, nesting: int) -> Node:
        properties = _typed(schema, "properties", dict, where)
        required = _typed(schema, "required", list, where)
        _typed(schema, "additionalProperties", bool, where)
        missing = [name for name in required if name not in properties]
        if missing:
            raise _error(where, f"required property {missing[0]!r:.40} is not among the properties; describe it there")
        items = []
        for name, value in properties.items():
            inner = self.node(value, f"{where}/properties/{name}", nesting + 1)
            items.append((Seq((_literal_json(name, where), _COLON, inner)), name in required))
        return Seq((literal("{"), Members(tuple(items), _COMMA), literal("}")))

    def _array(self, schema: Schema, where: str, nesting: int) -> Node:
        if "items" not in schema:
            raise _error(where, "an array without 'items' may hold anything; describe its items")
        least, most = _bounds(schema, "minItems", "maxItems", where)
        item = self.node(schema["items"], f"{where}/items", nesting + 1)
        more = Repeat(Seq((_COMMA, item)), max(least - 1, 0), None if most is None else max(most - 1, 0))
        filled = NEVER if most == 0 else Seq((item, more))
        return Seq((literal("["), Alt((EMPTY, filled)) if least == 0 else filled, literal("]")))

    def _reference(self, target: object, where: str, nesting: int) -> Node:
        """The definition, or what nothing matches where it would stand in itself too often: optional members, empty
        arrays and other options of an `anyOf` end the recursion there."""
        if not isinstance(target, str):
            raise _error(where, f"$ref {target!r:.40} is not a string")
        depth = self.open_refs.get(target, 0)
        if depth >= self.max_depth:
            return NEVER
        self.open_refs[target] = depth + 1
        tree = self.node(self._definition(target, where), target, nesting + 1)
        self.open_refs[target] = depth
        return tree

    def _definition(self, target: str, where: str) -> object:
        if target == "#":
            return self.root
        prefix, _, name = target.rpartition("/")
        definitions = _typed(self.root, "$defs", dict, "#")
        if prefix != "#/$defs" or name not in definitions:
            raise _error(where, f"$ref {target!r:.60} is neither '#' nor an entry of '#/$defs'; define it there")
        return definitions[name]


def _string(schema: Schema, where: str, nesting: int) -> Node:
    least, most = _bounds(schema, "minLength", "maxLength", where)
    return Seq((_QUOTE, Repeat(_CHARACTER, least, most), _QUOTE))


def _values(schema: Schema, where: str) -> Node:
    """One of the values listed, if it is of the type that the schema names besides."""
    values = [schema["const"]] if "const" in schema else _typed(schema, "enum", list, where)
    if "const" in schema and "enum" in schema:
        raise _error(where, "'const' beside 'enum' is not supported; keep one of them")
    kinds = schema.get("type", list(KEYWORDS))
    fitting = [value for value in values if _kinds(value) & set(kinds if isinstance(kinds, list) else [kinds])]
    if not fitting:
        raise _error(where, "none of the values listed is of the schema's type")
    return Alt(tuple(_literal_json(value, where) for value in fitting))


def _kinds(value: object) -> set[str]:
    """The names of JSON Schema for the type of a value; 3 is an integer and a number."""
    if isinstance(value, bool):
        return {"boolean"}
    if isinstance(value, int | float):
        return {"number", "integer"} if isinstance(value, int) or value.is_integer() else {"number"}
    names = {str: "string", dict: "object", list: "array", type(None): "null"}
    return {names.get(type(value), "")}


def _literal_json(value: object, where: str) -> Node:
    try:
        return literal(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")))
    except (ValueError, TypeError, RecursionError) as error:
        raise _error(where, f"{value!r:.40} cannot be written as JSON") from error


def _bounds(schema: Schema, low: str, high: str, where: str) -> tuple[int, int | None]:
    least, most = schema.get(low, 0), schema.get(high)
    for name, count in ((low, least), (high, most)):
        if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 0):
            raise _error(where, f"'{name}' is {count!r:.40}, not a count")
    if most is not None and most < least:
        raise _error(where, f"'{high}' {most} is below '{low}' {least}")
    return least, most


def _typed(schema: Schema, keyword: str, kind: type, where: str) -> Any:
    value = schema.get(keyword, kind())
    if not isinstance(value, kind):
        raise _error(where, f"'{keyword}' must be {'an object' if kind is dict else f'a {kind.__name__}'}")
    return value


def _check_keywords(schema: Schema, known: set[str], where: str) -> None:
    for keyword in schema:
        if keyword not in known | ANNOTATIONS:
            raise _error(where, f"keyword {keyword!r:.40} is not supported here; leave it out, or check it afterwards")


def _error(where: str, problem: str) -> ModelError:
    return ModelError(f"JSON schema, {where:.100}: {problem}")
