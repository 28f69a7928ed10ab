"""What the real Anki makes of our packages: notes, decks, tags, rendered cards, and imports after the first one."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llmquiz.anki.exporting.export import ExportReport, export
from llmquiz.core.card import Lang
from llmquiz.core.errors import ExportError, UsageError
from llmquiz.core.options import Options
from llmquiz.store import Store

from .conftest import DAY, Desk, study
from .test_html import HOSTILE

BOTH = tuple(Lang)
LONG_AGO = time.time() - 30 * DAY


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.apkg"


def filled(store: Store, make: type) -> Store:
    cards = (make.card("kv"), make.cloze("gap"), make.choice("pick"), make.predict("guess"))
    store.sync([make.deck(*cards)], now=LONG_AGO)
    return store


def test_every_note_arrives_with_its_fields_tags_and_deck(store: Store, make: type, out: Path, desk: Callable) -> None:
    report = export(filled(store, make), [], out, langs=BOTH)
    anki: Desk = desk()
    assert anki.take(out) == {"new": 4, "updated": 0, "duplicate": 0, "conflicting": 0}
    assert report == ExportReport(notes=4, cards=5, reviews=0, decks=1, path=out, bytes=out.stat().st_size)
    note = anki.note("kv")
    assert note["Id"] == "kv"
    assert (note["Question en"], note["Question zh"]) == ("What is kv?", "什么是 kv？")
    assert note["Answer zh"] == "<p>一个想法。</p>"
    assert sorted(note.tags) == ["frequency::high", "kind::open", "level::L1", "topic::kv-cache"]
    assert {anki.col.decks.name(card.did) for card in note.cards()} == {"llmquiz::KV cache"}
    assert anki.col.decks.by_name("llmquiz::KV cache")["desc"] == "<p>Remember \\(K\\).</p>"
    assert [len(anki.cards(card_id)) for card_id in ("kv", "gap", "pick", "guess")] == [1, 2, 1, 1]
    assert note.mod == int(LONG_AGO)


def test_anki_finds_nothing_to_mend(store: Store, make: type, out: Path, desk: Callable) -> None:
    export(filled(store, make), [], out, langs=BOTH, with_schedule=True)
    anki = desk()
    anki.take(out)
    problems, whole = anki.col.fix_integrity()
    assert whole, problems
    assert anki.col.get_empty_cards().notes == []


@pytest.mark.parametrize("langs", [(Lang.EN,), (Lang.ZH,), BOTH])
def test_every_side_renders(store: Store, make: type, out: Path, desk: Callable, langs: tuple[Lang, ...]) -> None:
    export(filled(store, make), [], out, langs=langs)
    anki = desk()
    anki.take(out)
    for card_id in anki.col.find_cards(""):
        output = anki.col.get_card(card_id).render_output()
        for side in (output.question_text, output.answer_text):
            assert "{{" not in side
            assert "}}" not in side
            assert ('lang="en"' in side) is (Lang.EN in langs)
            assert ('lang="zh"' in side) is (Lang.ZH in langs)
        folded = re.search(r'<details lang="zh"[^>]*>', output.answer_text)
        assert bool(folded) is (Lang.ZH in langs)
        assert not folded or ("open" in folded[0]) is (langs == (Lang.ZH,))


def test_the_answer_stands_on_the_back_only(store: Store, make: type, out: Path, desk: Callable) -> None:
    export(filled(store, make), [], out)
    anki = desk()
    anki.take(out)
    for card_id, hidden in (
        ("kv", "An idea."),
        ("pick", "Counted."),
        ("pick", "why 512 KiB"),
        ("guess", "llmquiz lab"),
    ):
        output = anki.card(card_id).render_output()
        assert hidden not in output.question_text
        assert hidden in output.answer_text
    assert 'class="right"' not in anki.card("pick").question()


def test_cloze_cards_hide_their_own_deletion(store: Store, make: type, out: Path, desk: Callable) -> None:
    en = "{{c1::$\\sqrt{d_{k} }$::what}} by {{c2::std::sort::lib}} of `{{a}}` and {{c2::`f{x}`}}"
    store.sync([make.deck(make.cloze("gap", en, "{{c1::甲}}乙{{c2::丙}}"))], now=LONG_AGO)
    export(store, [], out, langs=BOTH)
    anki = desk()
    anki.take(out)
    first, second = (anki.card("gap", ordinal).render_output() for ordinal in (1, 2))
    assert "[what]" in first.question_text
    assert "std&#58;&#58;sort" in first.question_text
    assert "[lib]" in second.question_text
    assert "\\(\\sqrt{d_{k} }\\)" in second.question_text
    assert '<span class="cloze" data-ordinal="1">\\(\\sqrt{d_{k} }\\)</span>' in first.answer_text
    assert '<span class="cloze" data-ordinal="2"><code>f{x}</code></span>' in second.answer_text
    assert '<span class="cloze" data-ordinal="2">丙</span>' in second.answer_text
    assert "<code>{<!-- -->{a}<!-- -->}</code>" in first.answer_text


def test_a_deletion_inside_a_formula(store: Store, make: type, out: Path, desk: Callable) -> None:
    store.sync([make.deck(make.cloze("gap", "$\\frac{{{c1::a}}}{b}$", "$\\frac{{{c1::a}}}{b}$"))], now=LONG_AGO)
    export(store, [], out)
    anki = desk()
    anki.take(out)
    assert "\\(\\frac{[...]}{b}\\)" in anki.card("gap", 1).question()
    assert "\\(\\frac{a}{b}\\)" in anki.card("gap", 1).answer()


def test_hostile_decks_are_inert(store: Store, make: type, out: Path, desk: Callable) -> None:
    cards = []
    for number, evil in enumerate(HOSTILE):
        texts = make.text(evil, evil, detail=evil, key_points=(evil,), pitfall=evil, symbols=(evil,))
        cards.append(make.card(f"evil-{number}", en=texts, sources=(evil,), tags=(evil,), follow_ups=(evil,)))
    for number, evil in enumerate(
        ["{{c1::<script>alert(1)</script>}}", "{{c1::x::<img onerror=x>}}", "{{c1::{{Detail en}}}}"]
    ):
        cards.append(make.cloze(f"evil-gap-{number}", evil))
    title = "x::<b>y</b>\x1f{{Id}}"
    store.sync([make.deck(*cards, title=title)], now=LONG_AGO)
    export(store, [], out)
    anki = desk()
    assert anki.take(out)["new"] == len(cards)
    for card_id in anki.col.find_cards(""):
        output = anki.col.get_card(card_id).render_output()
        for side in (output.question_text, output.answer_text):
            assert not re.search(r"<\s*(script|img|iframe|svg|object|b)\b", side, re.IGNORECASE)
            assert not re.search(r'(href|src)="(?!https?://)', side)
            assert not re.search(r"<[^>]*\son\w+\s*=", side)
        assert not output.question_av_tags
        assert not output.answer_av_tags
    names = {deck.name for deck in anki.col.decks.all_names_and_ids()}
    assert names == {"Default", "llmquiz", "llmquiz::x: <b>y</b>{{Id}}"}


def test_an_edit_updates_in_place_and_keeps_anki_progress(store: Store, make: type, out: Path, desk: Callable) -> None:
    export(filled(store, make), [], out, with_schedule=True)
    anki = desk()
    anki.take(out)
    anki.col.decks.select(anki.col.decks.id_for_name("llmquiz"))
    queued = anki.col.sched.get_queued_cards().cards[0]
    rated = anki.col.get_card(queued.card.id)
    rated.start_timer()
    anki.col.sched.answerCard(rated, 4)
    answered = anki.rows("cards")

    edited = make.card("kv", en=make.text("What is a KV cache?", "Kept keys and values."))
    store.sync([make.deck(edited, make.cloze("gap"), make.choice("pick"), make.predict("guess"))], now=time.time())
    export(store, [], out, with_schedule=True)
    assert anki.take(out) == {"new": 0, "updated": 1, "duplicate": 3, "conflicting": 0}
    assert anki.note("kv")["Question en"] == "What is a KV cache?"
    assert anki.col.note_count() == 4
    assert anki.rows("cards") == answered
    assert len(anki.rows("revlog")) == 1


def test_edits_made_in_anki_survive_an_export_without_changes(
    store: Store, make: type, out: Path, desk: Callable
) -> None:
    export(filled(store, make), [], out)
    anki = desk()
    anki.take(out)
    note = anki.note("kv")
    note["Detail en"] = "my own words"
    note.add_tag("mine")
    anki.col.update_note(note)
    export(store, [], out)
    assert anki.take(out)["updated"] == 0
    assert anki.note("kv")["Detail en"] == "my own words"
    assert anki.note("kv").has_tag("mine")


def test_a_card_with_another_deletion_gets_another_card(store: Store, make: type, out: Path, desk: Callable) -> None:
    export(filled(store, make), ["kv-cache"], out)
    anki = desk()
    anki.take(out)
    grown = make.cloze("gap", "{{c1::one}}, {{c2::two}}, {{c3::three}}", "{{c1::一}}{{c2::二}}{{c3::三}}")
    store.sync([make.deck(make.card("kv"), grown, make.choice("pick"), make.predict("guess"))], now=time.time())
    export(store, [], out)
    anki.take(out)
    assert [card.ord for card in anki.cards("gap")] == [0, 1, 2]


def test_without_a_schedule_everything_is_new_and_in_order(store: Store, make: type, out: Path, desk: Callable) -> None:
    store.sync([make.deck(*(make.card(f"c{number}") for number in range(30)))], now=LONG_AGO)
    study(store, Options(), days=5, seed=1)
    assert export(store, [], out).reviews == 0
    anki = desk()
    anki.take(out)
    assert {(card[6], card[7]) for card in anki.rows("cards")} == {(0, 0)}
    by_due = sorted((anki.card(f"c{number}").due, number) for number in range(30))
    assert [number for _, number in by_due] == list(range(30))
    assert anki.rows("revlog") == []
    assert not any("leech" in note.tags for note in [anki.note(f"c{number}") for number in range(30)])


def test_studied_cards_import_as_new_where_progress_is_not_ticked(
    store: Store, make: type, out: Path, desk: Callable
) -> None:
    store.sync([make.deck(*(make.card(f"c{number}") for number in range(30)))], now=LONG_AGO)
    study(store, Options(), days=5, seed=1)
    assert export(store, [], out, with_schedule=True).reviews > 30
    anki = desk()
    anki.take(out, schedule=False, presets=False)
    assert {card[6] for card in anki.rows("cards")} == {0}
    assert anki.rows("revlog") == []


def test_buried_cards_come_back_and_suspended_ones_do_not(store: Store, make: type, out: Path, desk: Callable) -> None:
    filled(store, make)
    store.set_suspended("kv", True, now=time.time())
    store.set_flag("pick", 3, now=time.time())
    with store.transaction() as connection:
        connection.execute("UPDATE schedule SET buried_on = 1 WHERE card = 'gap'")
    export(store, [], out, with_schedule=True)
    anki = desk()
    anki.take(out)
    assert [anki.card(card_id).queue for card_id in ("kv", "pick", "gap")] == [-1, 0, 0]
    assert anki.card("pick").user_flag() == 3


def test_learning_steps_of_days_are_due_on_their_day(store: Store, make: type, out: Path, desk: Callable) -> None:
    options = Options(learning_steps=(60, 2 * DAY), fuzz=False)
    store.sync([make.deck(*(make.card(f"c{number}") for number in range(40)))], now=LONG_AGO)
    studied = study(store, options, days=3, seed=2)
    export(store, [], out, with_schedule=True, options=options)
    anki = desk()
    anki.take(out)
    today, waiting = studied.calendar.day(studied.now), 0
    for part, card_id, _ in studied.parts:
        schedule, card = store.schedule(part), anki.card(card_id)
        if card.queue == 3:
            waiting += 1
            assert card.due - anki.col.sched.today == studied.calendar.day(schedule.due) - today
    assert waiting > 0


def test_decks_can_be_chosen(store: Store, make: type, out: Path, desk: Callable) -> None:
    store.sync(
        [
            make.deck(make.card("a", deck="first"), deck_id="first", title="Same"),
            make.deck(make.card("b", deck="second"), deck_id="second", title="same", position=2),
            make.deck(make.card("c", deck="third"), deck_id="third", title="Third", zh="第三", position=3),
        ],
        now=LONG_AGO,
    )
    assert export(store, ["third"], out, langs=(Lang.ZH,)).notes == 1
    anki = desk()
    anki.take(out)
    assert anki.col.decks.name(anki.card("c").did) == "llmquiz::第三"
    export(store, [], out)
    anki.take(out)
    names = {deck.name for deck in anki.col.decks.all_names_and_ids()}
    assert names == {"Default", "llmquiz", "llmquiz::第三", "llmquiz::Third", "llmquiz::Same", "llmquiz::same (second)"}


def test_archived_cards_stay_here(store: Store, make: type, out: Path) -> None:
    filled(store, make)
    store.sync([make.deck(make.card("kv"))], now=time.time())
    assert export(store, [], out, with_schedule=True).cards == 1


def test_a_deck_that_is_not_there(store: Store, make: type, out: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no deck 'kv-cash'; did you mean 'kv-cache'\?"):
        export(filled(store, make), ["kv-cash"], out)
    with pytest.raises(UsageError, match=r"there is no deck 'zzz'; 'llmquiz deck list' shows the decks"):
        export(store, ["zzz"], out)
    assert not out.exists()


def test_nothing_to_export(store: Store, out: Path) -> None:
    with pytest.raises(ExportError, match="nothing to export"):
        export(store, [], out)
    assert not out.exists()


def test_exports_while_another_process_studies(store: Store, make: type, out: Path) -> None:
    filled(store, make)
    with Store.open(store.path) as other, other.transaction() as connection:
        connection.execute("UPDATE schedule SET flag = 1")
        assert export(store, [], out, with_schedule=True).cards == 5
    assert not store.connection.in_transaction
