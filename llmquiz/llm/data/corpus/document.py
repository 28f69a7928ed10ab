"""A document of the corpus: a text that knows which parts of it are answers.

A language model learns from every token, but only some of them can be known: after "The ball is" the colour follows
from the story, while the first word of the next story is anyone's guess. Marking the answers makes three things
possible: training may weigh them more, an exam can ask for exactly them, and the loss on them says what the loss on
everything hides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

OPEN, CLOSE = "⟦", "⟧"  # around an answer, in the templates of the generators; never in a text


class Span(NamedTuple):
    """Characters `start` to `end` of a text."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Document:
    """One text of the corpus.

    Attributes:
        text: without the tokens that begin and end a document; a dialog has `<|user|>` and `<|assistant|>` in it.
        kind: story, recall, arithmetic, glossary or facts.
        lang: en or zh.
        answers: where the answers stand in the text; each begins with the space before it, if there is one, because a
            token does too, and ends with its full stop or line end.
    """

    text: str
    kind: str
    lang: str
    answers: tuple[Span, ...] = ()

    def questions(self) -> list[tuple[str, str]]:
        """Each answer, after the text that leads to it."""
        return [(self.text[: span.start], self.text[span.start : span.end]) for span in self.answers]

    def pieces(self) -> list[tuple[str, bool]]:
        """The text, cut before and after each answer: (piece, is it an answer?). A token never crosses a cut."""
        pieces, end = [], 0
        for span in self.answers:
            pieces += [(self.text[end : span.start], False), (self.text[span.start : span.end], True)]
            end = span.end
        pieces.append((self.text[end:], False))
        return [(piece, answer) for piece, answer in pieces if piece]


def document(marked: str, kind: str, lang: str) -> Document:
    """A document from a text whose answers stand between ⟦ and ⟧."""
    text, answers = "", []
    for part in marked.split(OPEN):
        answer, closed, rest = part.partition(CLOSE)
        if closed:
            answers.append(Span(len(text), len(text) + len(answer)))
        text += answer + rest
    return Document(text, kind, lang, tuple(answers))


def dialog(turns: list[tuple[str, str]], kind: str, lang: str) -> Document:
    """A conversation: each turn is what the user says and what the assistant answers, which ends with `<|eos|>` so that
    the model learns to stop."""
    text = "".join(f"<|user|>{said}<|assistant|>{OPEN}{answer}<|eos|>{CLOSE}" for said, answer in turns)
    return document(text, kind, lang)
