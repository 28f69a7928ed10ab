"""The interface's words: both languages, the same fields, and none that the code asks for in vain."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

import pytest

import llmquiz
from llmquiz.core.card import Frequency, Kind, Lang
from llmquiz.core.rating import Rating
from llmquiz.core.schedule import Schedule, State
from llmquiz.core.scheduler import Outcome
from llmquiz.lab.events import Outcome as RunOutcome
from llmquiz.study import words
from llmquiz.study.words import duration, frequency_word, interface, interval, label, rating_word, shown, word


def fields(text: str) -> set[str]:
    return {name for part in text.split("|") for _, name, _, _ in Formatter().parse(part) if name}


@pytest.mark.parametrize("key", sorted(words._WORDS))
def test_both_languages_name_the_same_fields(key: str) -> None:
    entry = words._WORDS[key]
    assert entry[Lang.EN]
    assert entry[Lang.ZH]
    assert fields(entry[Lang.EN]) == fields(entry[Lang.ZH])


def test_every_key_that_the_code_uses_exists() -> None:
    root = Path(llmquiz.__file__).parent
    call = re.compile(r"""(?:\bword|\.tell|\.suggest|\blabel)\(\s*["']([a-z_]+)["']""")
    sources = [*(root / "study").glob("*.py")]
    used = {key for path in sources for key in call.findall(path.read_text(encoding="utf-8"))}
    assert len(used) > 40
    assert used <= words._WORDS.keys()


@pytest.mark.parametrize("lang", Lang)
def test_every_value_of_the_core_has_a_word(lang: Lang) -> None:
    for rating in Rating:
        assert rating_word(rating, lang)
    for state in State:
        assert words.state_word(state, lang)
    for frequency in Frequency:
        assert frequency_word(frequency, lang)
    for kind in Kind:
        assert word(kind.value, lang)
    for outcome in RunOutcome:
        assert word(f"outcome_{outcome}", lang)


def test_singular_and_plural() -> None:
    assert word("reviews", Lang.EN, n=1) == "1 review"
    assert word("reviews", Lang.EN, n=2) == "2 reviews"
    assert word("reviews", Lang.ZH, n=1) == "1 次复习"


def test_labels_have_the_colon_of_their_language() -> None:
    assert label("answer", Lang.EN) == "Answer:"
    assert label("answer", Lang.ZH) == "答案："


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "1 h 00 min"), (7500, "2 h 05 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds, Lang.EN) == text


@pytest.mark.parametrize(
    ("delay", "days", "text"),
    [
        (600, None, "10 min"),
        (None, 1, "1 day"),
        (None, 30, "30 days"),
        (None, 61, "2.0 months"),
        (None, 730, "2.0 years"),
    ],
)
def test_intervals_are_spelled_out(delay: int | None, days: int | None, text: str) -> None:
    assert interval(Outcome(Schedule(), delay, days, ""), Lang.EN) == text


def test_languages_of_a_setting() -> None:
    assert shown("both") == (Lang.EN, Lang.ZH)
    assert shown("zh") == (Lang.ZH,)
    assert [interface(language) for language in ("en", "zh", "both")] == [Lang.EN, Lang.ZH, Lang.EN]
