"""The table of keys: unique ids, no key with two meanings at once, both languages, the user's own keys."""

from __future__ import annotations

import itertools

import pytest

from llmquiz.core.card import Lang
from llmquiz.tui.bindings import GROUPS, KEYS, bindings, find, signs, unknown

SCREENS = {
    "home": ("app", "home"),
    "study": ("app", "study", "choice", "points", "scroll"),
    "summary": ("app", "summary"),
    "search": ("app", "search"),
    "card": ("app", "card", "scroll"),
}
TAKEN_ELSEWHERE = {"ctrl+q", "ctrl+j", "ctrl+s", "ctrl+b", "alt+enter", *(f"f{n}" for n in range(1, 13))}


def test_ids_are_unique_and_belong_to_a_group() -> None:
    assert len({key.id for key in KEYS}) == len(KEYS)
    assert {key.group for key in KEYS} == GROUPS.keys()


def test_every_key_is_described_in_both_languages() -> None:
    for key in KEYS:
        assert all(key.text[lang] and key.short[lang] for lang in Lang), key.id


@pytest.mark.parametrize("groups", SCREENS.values(), ids=SCREENS)
def test_no_key_means_two_things_on_one_screen(groups: tuple[str, ...]) -> None:
    used = [name for key in KEYS if key.group in groups for name in key.keys.split(",")]
    assert sorted(used) == sorted(set(used))


def test_no_key_relies_on_what_editors_and_multiplexers_take() -> None:
    for key in KEYS:
        assert set(key.keys.split(",")) - TAKEN_ELSEWHERE, key.id


def test_bindings_carry_their_ids() -> None:
    ids = [binding.id for binding in bindings("study")]  # type: ignore[union-attr]
    assert ids == [key.id for key in KEYS if key.group == "study"]


def test_signs_are_what_is_printed_on_the_key() -> None:
    assert signs(find("app.help"), {}) == ["?"]
    assert signs(find("study.reveal"), {}) == ["space", "enter"]
    assert signs(find("study.reveal"), {"study.reveal": "r"}) == ["r"]


def test_unknown_ids_are_named() -> None:
    assert unknown(itertools.chain(["study.reveal"], ["study.jump", "app.fly"])) == ["app.fly", "study.jump"]
