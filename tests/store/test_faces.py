"""Faces of notes from Anki: made when a card is handed out, by whatever note type there is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmquiz.core.card import Card, CardText, Frequency, Kind, Lang, Level, NoteFace
from llmquiz.store import Store
from llmquiz.store.codec import decode_card, digest, encode_card, encode_note, fingerprint
from tests.store.notes import REVERSED, add_note, add_notetype, notetype

ANY = st.text(st.characters(exclude_categories=()), max_size=8) | st.sampled_from(
    ["{{Front}}", "{{#Front}}", "{{c1::a}}", "\x1b[31m", "\x1f", "<script>", "[sound:a.mp3]", "\ud800"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY, inner, max_size=4),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries({}, optional=dict.fromkeys(("name", "ord", "qfmt", "afmt"), JSON))
NOTETYPE = st.fixed_dictionaries(
    {},
    optional={
        "name": JSON,
        "type": JSON,
        "flds": JSON | st.lists(ENTRY, max_size=3),
        "tmpls": JSON | st.lists(ENTRY, max_size=3),
    },
)


def faces(store: Store, card: str) -> list[tuple[str, str]]:
    return [(face.front, face.back) for face in store.card(card).text(Lang.EN).faces]


@pytest.fixture
def spanish(store: Store) -> Store:
    with store.transaction() as connection:
        add_notetype(connection, REVERSED)
        add_note(connection, "anki-dog", "el <b>perro</b>", "the dog")
    return store


DOG = [("el **perro**", "the dog"), ("Which? the dog", "el **perro** (one two of Languages::Spanish)")]


def test_a_card_is_handed_out_with_what_its_templates_say(spanish: Store) -> None:
    part = spanish.progress_of("anki-dog")[1]
    item = spanish.item(part.id)
    assert item is not None
    assert item[1].card == spanish.card("anki-dog") == spanish.cards("anki-spanish")[0]
    assert faces(spanish, "anki-dog") == DOG
    assert spanish.card("anki-dog").ordinals == (0, 1)
    assert spanish.card("anki-dog").text(Lang.EN).front == "el perro"


def test_a_deletion_is_hidden_by_the_number_of_its_part(store: Store) -> None:
    with store.transaction() as connection:
        add_notetype(connection, notetype(("{{cloze:Text}}", "{{cloze:Text}}"), fields=["Text"], is_cloze=True))
        add_note(connection, "anki-a", "{{c1::two}} and {{c3::three}}", ordinals=(2, 0))
    assert faces(store, "anki-a") == [
        (r"two and **\[...\]**", "two and **three**"),
        (r"**\[...\]** and three", "**two** and three"),
    ]


def test_a_note_type_that_was_replaced_counts_from_the_next_card_on(spanish: Store) -> None:
    assert faces(spanish, "anki-dog") == DOG
    with Store.open(spanish.path) as other, other.transaction() as connection:
        add_notetype(connection, notetype(("Now {{Front}}", "{{Back}}"), ("{{Back}}", "{{Front}}")))
    assert faces(spanish, "anki-dog")[0] == ("Now el **perro**", "the dog")
    with spanish.transaction() as connection:
        connection.execute("DELETE FROM anki_notetype")
    assert faces(spanish, "anki-dog")[0] == ("el **perro**", "the dog")


BROKEN = {
    "missing": None,
    "no json": "[1",
    "no object": "[]",
    "empty": "{}",
    "too deep": "[" * 100_000,
    "too wide": '{"flds":[' + "{}," * 600_000 + "{}]}",
    "a huge number": f'{{"sortf":{"9" * 5000}}}',
    "fields of another kind": '{"flds":{"Front":1}}',
    "fields that are none": '{"flds":[1,{"name":"Front"}]}',
    "without templates": notetype(),
    "templates of another kind": notetype().replace('"tmpls": []', '"tmpls": [7]'),
    "templates that do not end": notetype(("{{#Front}}", "x"), ("{{/Front}}", "x")),
    "templates that are numbers": notetype(("no", "no"), ("no", "no")).replace('"no"', "5"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_note_without_a_sound_type_shows_its_fields(store: Store, name: str) -> None:
    content = BROKEN[name]
    with store.transaction() as connection:
        if content is not None:
            add_notetype(connection, content)
        add_note(connection, "anki-a", "el <b>perro</b>", "the dog", ordinals=(0, 1))
    assert {("el **perro**" in front, "the dog" in back) for front, back in faces(store, "anki-a")} == {(True, True)}


def test_a_deletion_is_hidden_also_without_a_type(store: Store) -> None:
    with store.transaction() as connection:
        add_note(connection, "anki-a", "a {{c1::secret}}", "told", ordinals=(0,))
    ((front, back),) = faces(store, "anki-a")
    assert "secret" not in front
    assert "secret" in back
    assert "told" in back


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(definition=NOTETYPE | JSON, deck=JSON, fields=st.lists(ANY, max_size=4), tags=ANY)
def test_whatever_the_tables_hold_no_face_is_blank(
    store: Store, definition: Any, deck: Any, fields: list[str], tags: str
) -> None:
    with store.transaction() as connection:
        for table in ("anki_card", "schedule", "anki_note", "card", "anki_notetype", "anki_deck"):
            connection.execute(f"DELETE FROM {table}")
        add_notetype(connection, json.dumps(definition))
        connection.execute("INSERT INTO anki_deck VALUES (8, NULL, ?)", (json.dumps(deck),))
        sound = [field.encode("utf-8", "replace").decode() for field in fields]
        add_note(connection, "anki-a", *sound, tags=tags.encode("utf-8", "replace").decode())
    for front, back in faces(store, "anki-a"):
        assert front.strip()
        assert "\x1b" not in (front + back).encode().decode()  # nor half a character


def test_a_note_of_very_many_cards_is_shown_in_time(store: Store) -> None:
    with store.transaction() as connection:
        add_notetype(connection, notetype(("{{Front}}", "{{Back}}")))
        add_note(connection, "anki-a", "x" * 3000, "y" * 3000, ordinals=(0,))
        content = encode_note("anki-a", "anki-spanish", "t", "en", range(100_000), ())
        connection.execute("UPDATE card SET content = ?", (content,))
    shown = faces(store, "anki-a")
    assert len(shown) == 100_000
    assert all(front for front, _ in shown)
    assert sum(len(front) + len(back) for front, back in shown) < 20_000_000


def test_a_note_that_lost_its_fields_shows_its_id(spanish: Store) -> None:
    with spanish.transaction() as connection:
        connection.execute("DELETE FROM anki_note")
    assert faces(spanish, "anki-dog") == [("anki-dog", ""), ("anki-dog", "")]


def test_faces_that_were_rendered_elsewhere_stay(spanish: Store) -> None:
    card = decode_card(spanish.connection.execute("SELECT content FROM card").fetchone()[0])
    text = CardText("f", "", faces=(NoteFace(0, "front", "back"), NoteFace(1, "", "")))
    whole = Card(card.id, card.deck, "t", Kind.NOTE, Level.L1, Frequency.LOW, {Lang.EN: text})
    with spanish.transaction() as connection:
        connection.execute("UPDATE card SET content = ?", (encode_card(whole),))
    assert faces(spanish, "anki-dog") == [("front", "back"), DOG[1]]


WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12) | st.sampled_from(['a"b', '"deck":"x",', "\\"])


@given(
    texts=st.tuples(WORDS, WORDS, WORDS),
    lang=st.sampled_from(Lang),
    ordinals=st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4),
    tags=st.lists(WORDS, max_size=3),
)
def test_a_note_is_encoded_as_any_card_is(
    texts: tuple[str, str, str], lang: Lang, ordinals: list[int], tags: list[str]
) -> None:
    card_id, deck, topic = texts
    bare = CardText("", "", faces=tuple(NoteFace(number, "", "") for number in ordinals))
    card = Card(card_id, deck, topic, Kind.NOTE, Level.L1, Frequency.MEDIUM, {lang: bare}, tuple(tags))
    content = encode_note(card_id, deck, topic, lang, ordinals, tags)
    assert content == encode_card(card)
    assert decode_card(content) == card
    assert fingerprint(content, deck) == digest(card)
    assert fingerprint(content, deck, "front\x1fback") != digest(card)


def test_cards_of_our_own_need_no_renderer(path: Path) -> None:
    import subprocess
    import sys

    script = (
        "import sys; from pathlib import Path; from llmquiz.store import Store; s = Store.open(Path(sys.argv[1])); "
        "s.cards(); s.search('a'); print([name for name in sys.modules if name.startswith('llmquiz.notes')])"
    )
    with Store.open(path):
        pass
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
