"""Notes whose pictures and sounds got other names here: in their faces' Markdown, and in the HTML that Anki wants back.

In Markdown a name is part of an address, so it may be percent-encoded; in HTML it may be that, or have entities.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote, unquote

from llmquiz.core.card import CardText, NoteFace
from llmquiz.store.incoming import IncomingNote

_ADDRESS = re.compile(r"(?<=\]\()[^()\s]+(?=[)\s])")


class Renamer:
    """Puts new names in place of old ones; both are names of files."""

    def __init__(self, renamed: Mapping[str, str]) -> None:
        self._renamed = renamed
        self._forms = {form(old): form(new) for old, new in renamed.items() for form in (str, _escaped, quote)}
        names = "|".join(re.escape(form) for form in sorted(self._forms, key=len, reverse=True))
        self._in_html = re.compile(rf"""(?<=[="':])(?:{names})(?=["'\]\s>])""")

    def note(self, note: IncomingNote) -> IncomingNote:
        """The note with the new names."""
        if not self._renamed:
            return note
        texts = {lang: self._text(text) for lang, text in note.card.texts.items()}
        anki = note.anki and replace(note.anki, fields=tuple(map(self._html, note.anki.fields)))
        return replace(note, card=replace(note.card, texts=texts), anki=anki)

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
