"""A card as a note."""

from __future__ import annotations

import re
from datetime import date

import pytest

from llmquiz.anki.exporting.note import Note, lab_command, shuffled, to_note, to_notes
from llmquiz.core.card import LabLink, Lang

BOTH = tuple(Lang)


def fields(note: Note) -> dict[str, str]:
    return dict(zip(note.type.fields, note.fields, strict=True))


def test_one_note_holds_both_languages(make: type) -> None:
    written = fields(to_note(make.card("kv"), BOTH))
    assert written["Question en"] == "What is kv?"
    assert written["Question zh"] == "什么是 kv？"
    assert written["Key points zh"] == "<ul><li>一</li><li>二</li><li>三</li></ul>"


@pytest.mark.parametrize("lang", list(Lang))
def test_one_language_leaves_the_other_empty(make: type, lang: Lang) -> None:
    written = fields(to_note(make.card("kv"), (lang,)))
    other = next(it for it in Lang if it is not lang)
    assert written[f"Answer {lang}"]
    assert not any(value for name, value in written.items() if name.endswith(f" {other}"))


def test_a_card_of_another_language_keeps_its_own(make: type) -> None:
    written = fields(to_note(make.card("kv", en=None), (Lang.EN,)))
    assert (written["Question en"], written["Question zh"]) == ("", "什么是 kv？")


def test_facts_become_fields_and_tags(make: type) -> None:
    card = make.card(
        "kv",
        tags=("serving", "to do\u3000now", " "),
        sources=("Pope et al. 2022, <https://arxiv.org/abs/2211.05102>",),
        follow_ups=("paged", "mqa"),
        as_of=date(2026, 11, 22),
        lab=LabLink("kvcache", {"new-tokens": "256"}),
    )
    note = to_note(card, BOTH)
    written = fields(note)
    assert note.guid == "llmquiz:kv"
    assert note.tags == (
        "topic::kv-cache", "level::L1", "frequency::high", "kind::open", "serving", "to-do-now",
    )  # fmt: skip
    assert written["As of"] == "2026-11-22"
    assert written["Follow-ups"] == "paged, mqa"
    assert 'href="https://arxiv.org/abs/2211.05102"' in written["Sources"]
    assert lab_command(card.lab) in written["Lab"]


def test_an_edit_keeps_the_identity(make: type) -> None:
    before = to_note(make.card("kv"), BOTH)
    after = to_note(make.card("kv", en=make.text("Other?", "Other.")), BOTH)
    assert (before.guid, before.type) == (after.guid, after.type)
    assert before.fields != after.fields


def test_kinds_have_their_note_types(make: type) -> None:
    makers = (make.card, make.predict, make.cloze, make.choice)
    names = [to_note(maker(), BOTH).type.name for maker in makers]
    assert names == ["llmquiz Question v1", "llmquiz Question v1", "llmquiz Cloze v1", "llmquiz Choice v1"]


def test_a_predict_card_says_what_to_run(make: type) -> None:
    note = to_note(make.predict(), BOTH)
    assert fields(note)["Lab"] == "<code>llmquiz lab kvcache --new-tokens 256</code>"
    assert note.tags[-1] == "kind::predict"


def test_a_lab_command_is_safe_to_paste() -> None:
    link = LabLink("kvcache", {"gqa": "true", "paged": "false", "note": "1; rm -rf ~"})
    assert lab_command(link) == "llmquiz lab kvcache --gqa --no-paged --note '1; rm -rf ~'"


def test_notes_made_together_are_those_made_one_by_one(make: type) -> None:
    hostile = "\x02<script>\x02\x03\x04\x05 & \x01 [x](https://x.org) $a_\x02{1}$ \x1f"
    table = make.text("*soft*", "| a | b |\n|---|---|\n| $x$ | 2 |", detail="```python\nx = 1\n```")
    cards = [
        make.card("plain"),
        make.card("hostile", en=make.text(hostile, hostile, detail=f"- {hostile}\n- b", key_points=(hostile, "b"))),
        make.card("table", en=table),
        make.choice(),
        make.cloze(en=hostile + "{{c1::one}}"),
        make.predict(),
    ]
    evidence = ["<br>measured"] * len(cards)
    together = to_notes(cards, BOTH, evidence)
    assert together == [to_note(card, BOTH, it) for card, it in zip(cards, evidence, strict=True)]
    assert not any(re.search(r"<script|[\x00-\x08\x0b-\x1f]", field) for note in together for field in note.fields)


def test_choices_stand_in_one_shuffled_order(make: type) -> None:
    written = fields(to_note(make.choice(), BOTH))
    english = ["128 KiB", "256 KiB", "512 KiB", "64 KiB"]
    chinese = ["一二八", "二五六", "五一二", "六十四"]
    places = [written["Options en"].index(it) for it in english]
    assert sorted(range(4), key=places.__getitem__) == shuffled("pick", 4)
    assert sorted(range(4), key=[written["Options zh"].index(it) for it in chinese].__getitem__) == shuffled("pick", 4)
    assert written["Marked options en"].count('class="right"') == 1
    assert '<li class="right"><span>128 KiB</span></li>' in written["Marked options en"]
    assert "why 512 KiB" in written["Marked options en"]
    assert "why" not in written["Options en"]


def test_the_right_option_is_not_always_in_one_place() -> None:
    assert {shuffled(f"card-{number}", 4).index(0) for number in range(50)} == {0, 1, 2, 3}
