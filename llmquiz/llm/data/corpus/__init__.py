"""The corpus of the base model: an endless stream of small documents in English and Chinese, made and not collected.

Made texts have no licence, no personal data and no test set that leaked into them; their answers are true by
construction, so a reward can be checked. What they lack is the world: a model trained on them knows nothing else. The
five kinds ask for different abilities: `story` to track what changes, `recall` to copy from the context, `arithmetic`
to compute, `glossary` to remember, `facts` to follow short instructions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from llmquiz.llm.data.corpus.arithmetic import arithmetics
from llmquiz.llm.data.corpus.document import Document
from llmquiz.llm.data.corpus.facts import facts
from llmquiz.llm.data.corpus.glossary import glossaries
from llmquiz.llm.data.corpus.recall import recalls
from llmquiz.llm.data.corpus.story import stories
from llmquiz.llm.data.corpus.words import LANGUAGES
from llmquiz.llm.errors import ModelError

GENERATORS = {
    "story": stories,
    "recall": recalls,
    "arithmetic": arithmetics,
    "glossary": glossaries,
    "facts": facts,
}
SHARES = {"story": 0.30, "recall": 0.28, "arithmetic": 0.17, "glossary": 0.14, "facts": 0.11}  # of the documents

__all__ = ["GENERATORS", "LANGUAGES", "SHARES", "Document", "documents"]


def documents(
    seed: int, kinds: Sequence[str] | None = None, languages: Sequence[str] = LANGUAGES
) -> Iterator[Document]:
    """Documents without end, the same ones for the same seed; another seed is held-out data.

    Raises:
        ModelError: if a kind is unknown.
    """
    chosen = tuple(SHARES) if kinds is None else tuple(kinds)
    if unknown := set(chosen) - set(GENERATORS):
        raise ModelError(f"corpus: no kind {', '.join(sorted(unknown))}; choose among {', '.join(GENERATORS)}")
    rng, shares = Random(seed), [SHARES[kind] for kind in chosen]
    while True:
        kind = rng.choices(chosen, shares)[0]
        yield GENERATORS[kind](rng, rng.choice(languages))
