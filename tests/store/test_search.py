"""Search finds cards in both languages, and takes whatever is typed literally."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmquiz.store import Store
from llmquiz.store.search import index_all
from tests.store.notes import REVERSED, add_note, add_notetype
from tests.support.making import NOON, make_card, make_deck, make_note


@pytest.fixture
def filled(store: Store) -> Store:
    cards = (
        make_card("sdpa-scale", answer='Divide by the "root" of d_k, 100% of it*', chinese="为什么要除以根号？"),
        make_card("kv-cache", answer="It trades memory for FLOPs", chinese="KV 缓存为什么快？", topic="inference"),
        make_card("gqa", answer="Groups share keys", tags=("attention",)),
    )
    store.sync([make_deck(*cards)], now=NOON)
    return store


def found(store: Store, query: str) -> list[str]:
    return [hit.card_id for hit in store.search(query)]


@pytest.mark.parametrize(
    ("query", "cards"),
    [
        ("缓存为什么", ["kv-cache"]),
        ("缓存", ["kv-cache"]),
        ("根", ["sdpa-scale"]),
        ("flops", ["kv-cache"]),
        ("sdpa", ["sdpa-scale"]),
        ("inference", ["kv-cache"]),
        ("attention", ["gqa"]),
        ("memory KV", ["kv-cache"]),
        ('"root"', ["sdpa-scale"]),
        ("100%", ["sdpa-scale"]),
        ("d_", ["sdpa-scale"]),
        ("%", ["sdpa-scale"]),
        ("root AND", []),
        ("nothing like it", []),
        ("", ["sdpa-scale", "kv-cache", "gqa"]),
    ],
)
def test_finds(filled: Store, query: str, cards: list[str]) -> None:
    assert found(filled, query) == cards


def test_the_snippet_shows_the_match(filled: Store) -> None:
    (hit,) = filled.search("缓存")
    assert "缓存" in hit.snippet
    assert hit.fronts == {"en": "Why kv-cache?", "zh": "KV 缓存为什么快？"}


def test_an_edit_is_found_and_the_old_text_is_not(filled: Store) -> None:
    filled.sync([make_deck(make_card("gqa", answer="Fewer heads"))], now=NOON, archive_missing=False)
    assert found(filled, "Fewer") == ["gqa"]
    assert found(filled, "Groups") == []


def test_archived_cards_are_not_found(filled: Store) -> None:
    filled.sync([make_deck(make_card("gqa"))], now=NOON)
    assert found(filled, "FLOPs") == []


def test_suspension_and_flags_show(filled: Store) -> None:
    filled.set_suspended("gqa", True, now=NOON)
    filled.set_flag("gqa", 3, now=NOON)
    (hit,) = filled.search("gqa")
    assert (hit.suspended, hit.flag) == (True, 3)


def test_a_note_is_found_by_its_fields_in_the_language_that_it_has(store: Store) -> None:
    with store.transaction() as connection:
        add_notetype(connection, REVERSED)
        add_note(connection, "anki-a", "<b>el</b> perro &amp; yo", "{{c1::the dog}}<br>barks", tags="animal")
        add_note(connection, "anki-b", "缓存", "cache", lang="zh")
        index_all(connection)
    hits = {query: [hit.card_id for hit in store.search(query)] for query in ("el perro & yo", "dog", "animal", "缓存")}
    assert hits == {"el perro & yo": ["anki-a"], "dog": ["anki-a"], "animal": ["anki-a"], "缓存": ["anki-b"]}
    assert [store.search(query) for query in ("<b>", "c1::", "Which?")] == [[], [], []]  # no word of the note
    (hit,) = store.search("barks")
    assert (hit.fronts, hit.snippet) == ({"en": "el perro & yo"}, "el perro & yo the dog barks")


def test_a_note_with_faces_is_found_by_them(store: Store) -> None:
    whole = make_note("a", ("**[...]** of two", "one of **two**"))
    half = make_note("b", ("", ""), ("a second face", "its back"))
    store.sync([make_deck(whole, half)], now=NOON)
    assert [found(store, query) for query in ("one of two", "second")] == [["a"], ["b"]]


@pytest.mark.parametrize("value", ["[1", "5", '["a"]', "[[1]]", '[["a", "b"]]', "[[1, 1e400]]", "[" * 100_000])
def test_a_library_may_bring_any_list_of_what_waits(filled: Store, value: str) -> None:
    filled.connection.execute("DELETE FROM card_text")
    filled.set_meta("not indexed", value)
    assert found(filled, "缓存") == ["kv-cache"]
    assert filled.meta("not indexed") is None


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    query=st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
    | st.text("\"*()-^:+ ANDORNEAR'\0%_\\", max_size=12)
)
def test_no_query_is_a_syntax_error(filled: Store, query: str) -> None:
    filled.search(query)
