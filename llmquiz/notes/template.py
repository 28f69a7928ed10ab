"""A note's cards as faces: Anki's templates filled with its fields, as Markdown.

Anki's back repeats the front by ``{{FrontSide}}``. Our screens show the two below one another, so that a back here is
what it adds. Whatever cannot be shown as it is becomes a finding, and no field is lost: where a template is broken or
a side would be empty, the fields that the other side does not have stand there.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from llmquiz.core.card import NoteFace
from llmquiz.notes import clozes, filters, mustache
from llmquiz.notes.glance import extent, lead, surely_asks
from llmquiz.notes.markdown import converted
from llmquiz.notes.marks import ANSWER, EM, EM_END, LINE
from llmquiz.notes.mustache import Condition, Replacement, Template, Text
from llmquiz.notes.neutral import neutral
from llmquiz.notes.sides import NoteTypeLike, Sides, compiled, is_active, short

MAX_FIELD = 256 * 1024  # characters of a field that are shown
MAX_NOTE = 1024 * 1024  # characters of HTML that all faces of a note may take together
_SHORT = 2_000  # what each side of a further face may take
_BLANK = "(empty card · 空卡片)"


class Renderer:
    """Shows the notes of one note type; its templates are read once.

    Attributes:
        findings: what could not be shown as in Anki, a line each.
    """

    def __init__(self, notetype: NoteTypeLike) -> None:
        self.findings: set[str] = set()
        self.name = short(notetype.name)
        self.is_cloze = notetype.is_cloze
        self.fields = tuple(notetype.fields)
        self._sides = {it.ordinal: compiled(it, self.fields, self.find) for it in notetype.templates}
        self._extent = extent(self._sides.values())
        fronts = {ordinal: it.front for ordinal, it in self._sides.items() if it.front is not None}
        self._leads = {ordinal: lead(front, self.fields) for ordinal, front in fronts.items()}

    def faces(
        self, fields: Sequence[str], ordinals: Sequence[int], *, tags: str = "", deck: str = ""
    ) -> tuple[NoteFace, ...]:
        """The cards `ordinals` of a note.

        Args:
            fields: their HTML, in the order of the note type.
            ordinals: Anki's; of a cloze note one less than the number of the deletion.
            tags: parted by spaces.
            deck: full name of the deck, its levels joined by ``::``.
        """
        note = _Note(self, map(self.taken, fields), tags, deck)
        return tuple([note.face(self.sides(ordinal), ordinal) for ordinal in ordinals])

    def look(
        self, fields: Sequence[str], ordinals: Sequence[int], *, tags: str = "", deck: str = "", harmless: bool = False
    ) -> None:
        """Add to `findings` what `faces` would, and render only where nothing less can tell.

        Args:
            fields, ordinals, tags, deck: as for `faces`.
            harmless: whether `is_harmless` said so of a text that holds these fields.
        """
        fixed, times = self._extent
        length = sum([len(field) for field in fields])
        most = fixed + times * (length + len(fields) + len(tags) + len(deck))
        if length > MAX_FIELD or most * len(ordinals) > MAX_NOTE or len(fields) != len(self.fields):
            self.faces(fields, ordinals, tags=tags, deck=deck)
            return
        if not harmless and not is_harmless("\n".join(fields)):
            fields = [*map(self.taken, fields)]
        for ordinal in ordinals:
            begins = self._leads.get(0 if self.is_cloze else ordinal)
            if begins is None or not begins.surely_asks(fields, ordinal + 1):
                self._look_closely(fields, ordinal, tags, deck)

    def _look_closely(self, fields: Sequence[str], ordinal: int, tags: str, deck: str) -> None:
        sides, values = self.sides(ordinal), dict(zip(self.fields, fields, strict=True))
        if sides.front is not None and not surely_asks(sides.front, values, ordinal + 1):
            _Note(self, fields, tags, deck).asked(sides, sides.front, ordinal)

    def sides(self, ordinal: int) -> Sides:
        """The template of a card; a broken one if the note type has none."""
        sides = self._sides.get(0 if self.is_cloze else ordinal)
        if sides is None:
            self.find(f"card {ordinal + 1} has no template; all fields are shown instead")
            sides = self._sides[ordinal] = Sides(f"Card {ordinal + 1}", None, None)
        return sides

    def taken(self, field: str) -> str:
        """A field as it may be shown; what of it may not be is found."""
        if len(field) > MAX_FIELD:
            self.find(f"a field of more than {MAX_FIELD:,} characters is cut")
            field = _cut(field, MAX_FIELD)
        clean = neutral(field)
        if clean is not field and clean != field.replace("\r\n", "\n"):
            self.find("characters that steer a terminal or hide text are removed")
        if "<" in clean and is_active(clean):
            self.find("scripts do not run here; they are left out")
        return clean

    def find(self, problem: str) -> None:
        """Note what could not be shown."""
        self.findings.add(f"note type '{self.name}': {problem}")


def is_harmless(source: str) -> bool:
    """Whether HTML, of any number of notes, holds nothing that `look` would have to tell but for its length."""
    return neutral(source) == source and not ("<" in source and is_active(source))


class _Note:
    """A note while its faces are made."""

    def __init__(self, renderer: Renderer, fields: Iterable[str], tags: str, deck: str) -> None:
        self._renderer = renderer
        self._tags, self._deck = tags, deck
        self._values = dict.fromkeys(renderer.fields, "")
        self._values.update(zip(renderer.fields, fields, strict=False))
        self._parts: dict[str, list[str | clozes.Deletion]] = {}
        self._written: dict[str, str] = {}  # Markdown by HTML: the back of one card is often the front of another
        self._room = MAX_NOTE

    def face(self, sides: Sides, ordinal: int) -> NoteFace:
        """The card `ordinal`."""
        if sides.front is None or sides.back is None:
            return self._plain_face(ordinal)
        asked = self.asked(sides, sides.front, ordinal)
        back = self._markdown(self._side(sides, sides.back, ordinal, question=False).replace(ANSWER, ""))
        if sides.above is not None:
            told = self._markdown(self._side(sides, sides.above, ordinal, question=False))
            back = "\n\n".join(filter(None, (self._new(told, asked), back)))
        if not back:
            back = self._labelled([it for it in self._values if it not in sides.front.shown])
        if sides.hinted:
            back = "\n\n".join(filter(None, (back, self._labelled(sides.hinted, always=True))))
        return NoteFace(ordinal, asked, back)

    def asked(self, sides: Sides, front: Template, ordinal: int) -> str:
        """The Markdown of a front."""
        asked = self._markdown(self._side(sides, front, ordinal, question=True).replace(ANSWER, ""))
        if not asked:
            self._renderer.find("a card has an empty front; its first field is shown instead")
            asked = self._markdown(self._first()) or _BLANK
        return asked

    def _side(self, sides: Sides, template: Template, ordinal: int, *, question: bool) -> str:
        """The HTML of one side."""
        if (name := template.only_field) is not None:
            return self._values[name]
        out: list[str] = []
        position, steps = 0, template.steps
        room = max(self._room, _SHORT)
        while position < len(steps) and room > 0:
            step = steps[position]
            position += 1
            if isinstance(step, Text):
                piece = step.html
            elif isinstance(step, Replacement):
                piece = self._replacement(sides, step, ordinal + 1, question)
            else:
                if self._has(step, ordinal + 1) == step.negated:
                    position = step.end
                continue
            out.append(piece)
            room -= len(piece)
        return "".join(out)

    def _has(self, step: Condition, number: int) -> bool:
        if step.name in self._values:
            return not mustache.is_empty(self._values[step.name])
        if step.name in mustache.SPECIAL:
            return step.name != "Tags" or bool(self._tags)
        return step.name == f"c{number}"

    def _replacement(self, sides: Sides, step: Replacement, number: int, question: bool) -> str:
        if step.name in mustache.SPECIAL and step.name not in self._values:
            return html.escape(neutral(self._special(sides, step.name)), quote=False)
        value = self._values[step.name]
        if not step.filters or not value:
            return value
        if "type" in step.filters:
            if question:
                return filters.TYPED
            names: tuple[str, ...] = ("cloze-only",) if "cloze" in step.filters else ()
        else:
            names = step.filters
        if "hint" in names and question:
            return ""
        for name in names:
            value = filters.applied(name, value, number, question=question, parts=self._parts)
        return f"{LINE}{EM}{step.name}{EM_END}: {value}{LINE}" if "hint" in names and value else value

    def _special(self, sides: Sides, name: str) -> str:
        match name:
            case "Tags":
                return self._tags
            case "Deck":
                return self._deck
            case "Subdeck":
                return self._deck.rpartition("::")[2]
            case "Card":
                return sides.name
            case "Type":
                return self._renderer.name
            case _:
                return ""

    def _markdown(self, source: str) -> str:
        source = source.strip()
        written = self._written.get(source)
        if written is None:
            if len(source) > max(self._room, _SHORT):
                self._renderer.find(
                    f"the cards of a note take more than {MAX_NOTE:,} characters; the last ones are cut"
                )
                source = _cut(source, max(self._room, _SHORT))
            self._room -= len(source)
            written = self._written[source] = converted(source)
        return written

    def _plain_face(self, ordinal: int) -> NoteFace:
        """What is shown without a template: the first field, then the others."""
        names = [name for name, value in self._values.items() if not mustache.is_empty(value)]
        if not names:
            return NoteFace(ordinal, _BLANK, "")
        asked = self._markdown(self._first(ordinal + 1)) or _BLANK
        rest = names if self._renderer.is_cloze else names[1:]
        return NoteFace(ordinal, asked, self._labelled(rest, number=ordinal + 1))

    def _first(self, number: int = -1) -> str:
        """The first field that is not empty, the deletions of card `number` hidden."""
        value = next((it for it in self._values.values() if not mustache.is_empty(it)), "")
        return self._with_clozes(value, number, question=True)

    def _with_clozes(self, value: str, number: int, *, question: bool) -> str:
        if not self._renderer.is_cloze:
            return value
        parts = clozes.parse(value)
        return clozes.shown(parts, number, question=question) or clozes.plain(parts)

    def _labelled(self, names: Sequence[str], *, always: bool = False, number: int = -1) -> str:
        """The fields that are not empty, each with its name if there are several."""
        found = [
            (name, text)
            for name in names
            if (text := self._markdown(self._with_clozes(self._values[name], number, question=False)))
        ]
        if len(found) == 1 and not always:
            return found[0][1]
        return "\n\n".join(f"{converted(f'<b>{html.escape(neutral(name))}</b>')}\n\n{text}" for name, text in found)

    @staticmethod
    def _new(told: str, asked: str) -> str:
        """`told`, or nothing if the question has said all of it."""
        return "" if set(told.split("\n\n")) <= set(asked.split("\n\n")) else told


def _cut(source: str, length: int) -> str:
    """The beginning of `source`, not ending inside a tag."""
    source = source[:length]
    if (start := source.rfind("<")) > source.rfind(">"):
        source = source[:start]
    return f"{source} …"
