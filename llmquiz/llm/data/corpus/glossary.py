"""What the terms of the field mean, asked in several ways in both languages.

The opposite of recall: nothing in the prompt helps, the answer must be stored in the weights. A term is asked in many
forms and always has the same answer, so that the question's wording is learned to be unimportant.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from random import Random
from typing import NamedTuple

from llmquiz.llm.data.corpus.document import CLOSE, OPEN, Document, dialog, document

ENGLISH = ("What is {0}?", "Explain {0}.", "Define {0}.", "What does {0} mean?", "Tell me about {0}.")
CHINESE = ("什么是{0}？", "{0}是什么？", "解释一下{0}。", "{0}是什么意思？", "请介绍{0}。")


class Term(NamedTuple):
    """A term and its definition in one language."""

    name: str
    definition: str


@cache
def terms(lang: str) -> tuple[Term, ...]:
    """The glossary in one language."""
    table = tomllib.loads((files(__package__) / "terms.toml").read_text(encoding="utf-8"))
    return tuple(Term(name if lang == "en" else term["zh"], term[f"{lang}_says"]) for name, term in table.items())


def glossaries(rng: Random, lang: str) -> Document:
    """A page of the glossary, or a conversation about one or two terms."""
    asked = rng.sample(terms(lang), rng.choice((1, 1, 2)))
    if rng.random() < 0.25:
        return document("\n".join(f"{term.name}:{OPEN} {term.definition}{CLOSE}" for term in asked), "glossary", lang)
    forms = ENGLISH if lang == "en" else CHINESE
    return dialog([(rng.choice(forms).format(term.name), term.definition) for term in asked], "glossary", lang)
