"""Pictures and sounds that got other names here: in the Markdown of faces, and in the HTML of fields and templates.

In Markdown a name is part of an address, so it may be percent-encoded; in HTML it may be that, or have entities.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from urllib.parse import quote, unquote

from llmquiz.core.card import Card, CardText, NoteFace
from llmquiz.store.staging import StagedAnki

_ADDRESS = re.compile(r"(?<=\]\()[^()\s]+(?=[)\s])")


class Renamer:
    """Puts new names in place of old ones; both are names of files."""

    def __init__(self, renamed: Mapping[str, str]) -> None:
        self._renamed = renamed
        self._forms = {form(old): form(new) for old, new in renamed.items() for form in (str, _escaped, quote)}
        names = "|".join(re.escape(form) for form in sorted(self._forms, key=len, reverse=True))
        self._in_html = re.compile(rf"""(?<=[="':])(?:{names})(?=["'\]\s>])""")

    @property
    def renames(self) -> bool:
        """Whether any file got another name."""
        return bool(self._renamed)

    def anki(self, anki: StagedAnki) -> StagedAnki:
        """What Anki wants back of a note, with the new names in its fields."""
        if not self._renamed:
            return anki
        fields = "\x1f".join(map(self._html, anki[5].split("\x1f")))
        return (*anki[:5], fields)

    def notetype(self, content: str) -> str:
        """A note type, JSON as Anki's schema 11 has it, with the new names in its templates and its style sheet."""
        if not self._renamed:
            return content
        notetype = json.loads(content)
        for part, side in ((notetype, "css"), *product(notetype.get("tmpls", ()), ("qfmt", "afmt"))):
            if side in part:
                part[side] = self._html(part[side])
        return json.dumps(notetype, ensure_ascii=False, separators=(",", ":"))

    def card(self, card: Card) -> Card:
        """The card with the new names in its texts."""
        if not self._renamed:
            return card
        return replace(card, texts={lang: self._text(text) for lang, text in card.texts.items()})

    def _text(self, text: CardText) -> CardText:
        faces = [NoteFace(face.ordinal, self._markdown(face.front), self._markdown(face.back)) for face in text.faces]
        front, answer, detail = (self._markdown(part) for part in (text.front, text.answer, text.detail))
        return replace(text, front=front, answer=answer, detail=detail, faces=tuple(faces))

    def _markdown(self, text: str) -> str:
        return _ADDRESS.sub(lambda match: self._address(match[0]), text) if "](" in text else text

    def _address(self, address: str) -> str:
        new = self._renamed.get(unquote(address))
        if new is None:
            return address
        return quote(new, safe="").replace("_", "%5F") if "%" in address else new

    def _html(self, text: str) -> str:
        return self._in_html.sub(lambda match: self._forms[match[0]], text)


def _escaped(name: str) -> str:
    return html.escape(name, quote=False)
