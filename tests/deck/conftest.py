"""A deck of one card to bend: what each test changes is what it is about."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llmquiz.core.card import Deck, Lang
from llmquiz.deck.finding import Finding
from llmquiz.deck.parse import parse_deck

Parse = Callable[..., tuple[Deck | None, list[Finding]]]


@pytest.fixture
def parse(tmp_path: Path) -> Parse:
    """Writes a text for each language given and parses the pair."""

    def parsed(
        en: str | bytes = "", zh: str | bytes = "", *, builtin: bool = False
    ) -> tuple[Deck | None, list[Finding]]:
        paths = {}
        for lang, text in ((Lang.EN, en), (Lang.ZH, zh)):
            if text:
                paths[lang] = tmp_path / f"deck.{lang}.md"
                paths[lang].write_bytes(text.encode() if isinstance(text, str) else text)
        return parse_deck(paths, builtin=False)

    return parsed
