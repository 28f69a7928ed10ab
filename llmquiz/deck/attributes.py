"""The attributes of a heading: ``{#id key=value key="quoted value" lab.param=x}``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
MAX_ID = 80
_ATTRIBUTE = re.compile(
    r'[ \t]*(?:\#(?P<id>[^\s"{}=]+)|(?P<key>[A-Za-z][\w.-]*)=(?:"(?P<quoted>[^"]*)"|(?P<bare>[^\s"{}]+)))'
    r"(?=[ \t]|$)"
)


class AttributesError(ValueError):
    """Attributes that cannot be read; the message says what and what to do."""


@dataclass(slots=True)
class Attributes:
    """The id, without its ``#``, and the values by key, in order."""

    id: str | None = None
    values: dict[str, str] = field(default_factory=dict)


def split_card(heading: str) -> tuple[str, str | None]:
    """A card's question, and what stands between the braces of its attributes."""
    start = heading.rfind("{#")
    if start < 0 or not heading.endswith("}"):
        return heading, None
    return heading[:start].rstrip(), heading[start + 1 : -1]


def split_title(heading: str) -> tuple[str, str | None]:
    """A deck's title, and its attributes; braces that hold no ``key=value`` belong to the title."""
    start = heading.rfind("{")
    if start < 0 or not heading.endswith("}") or not _ATTRIBUTE.match(heading[start + 1 : -1]):
        return heading, None
    return heading[:start].rstrip(), heading[start + 1 : -1]


def parse(source: str) -> Attributes:
    """The attributes written in `source`, without the braces.

    Raises:
        AttributesError: if something is not an attribute, or is given twice.
    """
    found = Attributes()
    position, source = 0, source.strip()
    while position < len(source):
        match = _ATTRIBUTE.match(source, position)
        if match is None:
            rest = source[position:].strip()[:30]
            raise AttributesError(f"cannot read the attributes from '{rest}' on; write key=value or key=\"two words\"")
        position = match.end()
        if match["id"] is not None:
            if found.id is not None:
                raise AttributesError(f"second id '#{match['id'][:40]}'; a heading has one")
            found.id = match["id"]
        elif match["key"] in found.values:
            raise AttributesError(f"attribute '{match['key'][:40]}' is given twice; keep one")
        else:
            found.values[match["key"]] = match["quoted"] if match["quoted"] is not None else match["bare"]
    return found


def render(attributes: Attributes) -> str:
    """The attributes with their braces, empty for none; `parse` reads them back."""
    words = [f"#{attributes.id}"] if attributes.id else []
    words += [f"{key}={_value(value)}" for key, value in attributes.values.items()]
    return "{" + " ".join(words) + "}" if words else ""


def id_problem(name: str) -> str | None:
    """Why `name` is not an id, or None."""
    if len(name) > MAX_ID or not ID.fullmatch(name):
        return f"id '{name[:MAX_ID]}' is not lower-case words joined by hyphens (a-z, 0-9, at most {MAX_ID} characters)"
    return None


def _value(value: str) -> str:
    return value if value and not re.search(r'[\s"{}]', value) else f'"{value}"'
