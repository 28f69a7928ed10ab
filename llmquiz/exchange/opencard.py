"""Any card as one that a deck file can hold: a note from another program becomes an open card with all of its text.

The format gives a meaning to a few things that a stranger's text may hold by chance: a line that starts with ``#``, a
fence that is never closed, the mark of a deletion. Those are escaped, so that the card reads the same and parses.
"""

from __future__ import annotations

import html
import re
from dataclasses import replace
from hashlib import blake2b
from urllib.parse import unquote

from llmquiz.anki.importing.naming import headline
from llmquiz.core.card import Card, CardText, Frequency, Kind, NoteFace
from llmquiz.deck import attributes, reading
from llmquiz.deck.outline import Fence, first_paragraph

LONGEST_FRONT = 200  # characters
_BLOCK = re.compile(r"```|~~~|\||\$\$|>|[-*+][ \t]|\d+[.)][ \t]|\s|<|!\[|#")
_HEADING = re.compile(r"#{1,3}(?:[ \t]|$)")
_ENTITY = re.compile(r"&(#?[0-9A-Za-z]{1,32};)")
_PERCENT = re.compile(r"%(?=[0-9A-Fa-f]{2})")
_NOTHING = "(nothing)"


def as_open(card: Card) -> Card:
    """The note `card` as an open card: the first line of its front asks, the rest and the back answer."""
    return replace(_named(card), texts={lang: _text(text) for lang, text in card.texts.items()})


def as_quoted(card: Card) -> Card:
    """`card` as an open card whose text stands as it is in fenced code: for one that can be had in no other way."""
    return replace(_named(card), tags=(), texts={lang: _quoted(text) for lang, text in card.texts.items()})


def slug(name: str, kind: str) -> str:
    """`name` if it may be an id of the deck format (and the name of a file), else an id made of a hash of it."""
    if attributes.id_problem(name) is None:
        return name
    return f"{kind}-{blake2b(name.encode('utf-8', 'replace'), digest_size=8).hexdigest()}"


def one_line(text: str) -> str:
    """`text` as a title: one line, not too long, without what would be read as attributes."""
    line = " ".join(tame(text).replace("{", "(").replace("}", ")").split()).lstrip("#\\ ")
    return line if len(line) <= LONGEST_FRONT else f"{line[: LONGEST_FRONT - 1].rstrip()}…"


def tame(text: str) -> str:
    """`text` without what the deck format would not read, or read as something else."""
    fence, lines = Fence(), list[str]()
    for line in reading.printable(text.replace("\r\n", "\n").replace("\r", "\n")).split("\n"):
        for piece in _pieces(_without_codes(line)):
            in_code = fence.holds(piece)
            lines.append(piece if in_code or not _HEADING.match(piece) else f"\\{piece}")
    if fence.mark:
        lines.append(fence.mark)
    return "\n".join(lines).replace("{{c1::", "{\\{c1::").strip("\n")


def _named(card: Card) -> Card:
    """What every language shares, as far as an open card of the format has it."""
    tags = tuple(tag.replace('"', "'") for tag in " ".join(map(one_line, card.tags)).split())
    return Card(
        id=slug(card.id, "card"),
        deck=card.deck,
        topic=slug(card.topic, "topic"),
        kind=Kind.OPEN,
        level=card.level,
        frequency=Frequency.MEDIUM if card.kind is Kind.NOTE else card.frequency,
        texts={},
        tags=tags,
        as_of=card.as_of,
    )


def _text(text: CardText) -> CardText:
    first, *others = text.faces or (NoteFace(0, text.front, text.answer),)
    # What stands for a note in lists may be its answer, so the title is a line of what is asked.
    front, rest = _headline(first.front, headline(first.front) or text.front)
    parts = [rest, first.back]
    for face in others:
        parts += [f"**Face {face.ordinal + 1}**", face.front, face.back]
    body = "\n\n".join(part for part in map(tame, parts) if part.strip()) or _NOTHING
    answer, detail = first_paragraph(body.split("\n"))
    return CardText(front, answer, detail)


def _headline(front: str, short: str) -> tuple[str, str]:
    """The line that asks, and what of `front` the body has to say."""
    line, _, rest = front.strip().partition("\n")
    if line and len(line) <= LONGEST_FRONT and not _BLOCK.match(line):
        return one_line(line) or _NOTHING, rest
    return one_line(short) or _NOTHING, front


def _quoted(text: CardText) -> CardText:
    faces = [part for face in text.faces for part in (face.front, face.back)]
    choices = [part for choice in text.choices for part in (choice.text, choice.why)]
    parts = [text.answer, text.detail, *text.key_points, *choices, text.pitfall, *text.symbols, *faces]
    said = "\n\n".join(part for part in parts if part)
    lines = [piece for line in reading.printable(said).split("\n") for piece in _pieces(_without_codes(line))]
    fence = "~" * (3 + max((len(run) for run in re.findall(r"~+", said)), default=0))
    body = "\n".join(lines).replace("{{c1::", "{\\{c1::")
    return CardText(one_line(text.front) or _NOTHING, f"{fence}\n{body}\n{fence}")


def _without_codes(line: str) -> str:
    """`line` with references and percent codes of characters that a terminal must not see made harmless."""
    if "&" in line:
        line = _ENTITY.sub(lambda match: match[0] if _is_plain(match[0]) else f"&amp;{match[1]}", line)
    if "%" in line and reading.has_forbidden(unquote(line)):
        line = _PERCENT.sub("%25", line)
    return line


def _is_plain(entity: str) -> bool:
    return not entity.startswith("&#") and not reading.has_forbidden(html.unescape(entity))


def _pieces(line: str) -> list[str]:
    """`line` in pieces that are not too long."""
    size = reading.MAX_LINE - 2  # an escape may be added
    return [line[at : at + size] for at in range(0, len(line), size)] or [""]
