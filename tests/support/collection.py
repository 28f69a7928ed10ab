"""A collection made by the real Anki: ten note types and image occlusion, media, years of answers, all states of cards.

Notes, decks, presets, tags, flags, suspensions, burials, leeches and the filtered deck come by Anki's own calls; the
columns of studied cards and their log are set in bulk, as Anki would have written them, since a hundred thousand
answers by the backend take minutes. A sample is answered by the backend all the same.
"""

from __future__ import annotations

import json
import random
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

DAY = 86_400
AGE = 900
"""Days since the collection's creation."""
WEIGHTS = (
    0.3, 1.1, 2.5, 9.0, 6.2, 0.8, 3.0, 0.01, 1.9, 0.15, 0.8, 1.5, 0.06, 0.26, 1.6, 0.6, 1.9, 0.54, 0.09, 0.07, 0.16,
)  # fmt: skip
DECKS = (
    "Default", "Transformers", "Transformers::Attention", "Transformers::Attention::KV cache", "Serving",
    "Serving::Batching", "大模型", "大模型::注意力", "大模型::注意力::缓存", "C++ & CUDA",
)  # fmt: skip
WORDS = [
    "attention",
    "cache",
    "head",
    "layer",
    "memory",
    "bandwidth",
    "token",
    "latency",
    "gradient",
    "softmax",
    "variance",
    "batch",
    "weight",
    "rank",
]
CODE = "<pre><code>scores = q @ k.T / d**0.5<br>weights = scores.softmax(-1)</code></pre>"
TABLE = (
    "<table><tr><th>kind</th><th>bytes</th></tr><tr><td>MHA</td><td>64</td></tr><tr><td>GQA</td><td>8</td></tr></table>"
)

_ALGORITHM = (
    ("Name", "Idea", "Cost", "Code", "Hint"),
    (
        ("Idea", "{{Name}}{{#Hint}}<br>{{hint:Hint}}{{/Hint}}", "{{FrontSide}}<hr id=answer>{{Idea}}{{Code}}"),
        ("Cost", "{{#Cost}}What does {{Name}} cost?{{/Cost}}", "{{FrontSide}}<hr id=answer>{{Cost}}"),
        ("Name", "{{Idea}}{{^Cost}}<i>unknown cost</i>{{/Cost}}", "{{FrontSide}}<hr id=answer>{{text:Name}}"),
    ),
)
_PAPER = (
    ("Title", "Claim", "Formula"),
    (
        ("Claim", "<div class=q>{{Title}}</div>", "{{FrontSide}}<hr id=answer>{{Claim}}<br>{{Formula}}"),
        ("Formula", "{{#Formula}}Formula of {{Title}}{{/Formula}}", "{{FrontSide}}<hr id=answer>{{Formula}}"),
    ),
)
_FIGURE = (("Figure", "What", "Sound"), (("Figure", "{{Figure}}{{Sound}}", "{{FrontSide}}<hr id=answer>{{What}}"),))
_CONCEPT = (("概念", "解释", "例子"), (("认", "什么是{{概念}}？", "{{FrontSide}}<hr id=answer>{{解释}}<br>{{例子}}"),))


def build(folder: Path, notes: int = 60, reviews: int = 1200, *, seed: int = 7, answered: int = 30) -> Any:
    """An open `anki.collection.Collection` in `folder`; the caller closes it.

    Args:
        notes, reviews: how many of each (reviews: about so many).
        answered: so many cards are answered by the backend besides.
    """
    col, now, chance = _empty(folder, AGE), int(time.time()), random.Random(seed)
    _media(col)
    deck_ids = _decks(col)
    _add_notes(col, _note_types(col), deck_ids, notes, chance)
    cards = [row[0] for row in col.db.all("SELECT id FROM cards ORDER BY id")]
    _study(col, cards, reviews, chance, now)
    _answer(col, answered, deck_ids)
    _act(col, cards, chance)
    return col


def package(col: Any, out: Path, *, legacy: bool = False) -> Path:
    """The whole collection as an .apkg with schedule, presets and media."""
    from anki.collection import ExportAnkiPackageOptions

    options = ExportAnkiPackageOptions(with_scheduling=True, with_deck_configs=True, with_media=True, legacy=legacy)
    col.export_anki_package(out_path=str(out), options=options, limit=None)
    return out


def colpkg(col: Any, out: Path, *, legacy: bool = False) -> Path:
    """The whole collection as a .colpkg; `col` stays open."""
    col.export_collection_package(str(out), include_media=True, legacy=legacy)
    col.reopen()
    return out


def taken(folder: Path, out: Path) -> Any:
    """An empty collection, of another age, that imported the package `out`; the caller closes it."""
    col = _empty(folder, 300)
    take(col, out)
    return col


def take(col: Any, out: Path) -> None:
    """Import the package `out` with schedule and presets."""
    from anki.collection import ImportAnkiPackageOptions, ImportAnkiPackageRequest

    options = ImportAnkiPackageOptions(with_scheduling=True, with_deck_configs=True)
    col.import_anki_package(ImportAnkiPackageRequest(package_path=str(out), options=options))


def _empty(folder: Path, age: int) -> Any:
    """A collection that was made `age` days ago."""
    from anki.collection import Collection

    folder.mkdir(parents=True, exist_ok=True)
    col = Collection(str(folder / "collection.anki2"))
    col.db.execute("UPDATE col SET crt = ?", int(time.time()) // DAY * DAY - age * DAY + 4 * 3600)
    col.close()
    col.reopen()
    col.set_config("fsrs", True)
    return col


def _media(col: Any) -> None:
    for number in range(6):
        col.media.write_data(f"figure {number}.png", _png(number))
    col.media.write_data("图.png", _png(9))
    col.media.write_data("said.mp3", b"ID3" + bytes(2000))
    col.media.write_data("_static.png", _png(3))


def _png(shade: int) -> bytes:
    """A grey picture of 16 x 16 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\x00" + bytes([shade * 20]) * 16 for _ in range(16))
    head = struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def _decks(col: Any) -> list[int]:
    keen = col.decks.add_config("Keen")
    keen |= {"desiredRetention": 0.85, "fsrsParams6": list(WEIGHTS)}
    col.decks.update_config(keen)
    old = col.decks.add_config("Old weights")
    old |= {"fsrsWeights": [], "fsrsParams5": [], "desiredRetention": 0.92}
    old["lapse"]["leechFails"] = 4
    col.decks.update_config(old)
    ids = []
    for number, name in enumerate(DECKS):
        deck = col.decks.get(col.decks.id(name))
        deck["conf"] = (1, keen["id"], old["id"])[number % 3]
        deck["desc"] = f"About <b>{name}</b>." if number % 2 else ""
        col.decks.save(deck)
        ids.append(deck["id"])
    return ids


def _note_types(col: Any) -> list[dict[str, Any]]:
    names = (
        "Basic",
        "Basic (and reversed card)",
        "Basic (optional reversed card)",
        "Basic (type in the answer)",
        "Cloze",
    )
    types = [col.models.by_name(name) for name in names]
    extra = col.models.copy(types[-1])
    extra["name"] = "Cloze, nested"
    col.models.add_field(extra, col.models.new_field("Note"))
    extra["tmpls"][0]["afmt"] += "<br>{{Note}}"
    col.models.update_dict(extra)
    custom = (("Algorithm", _ALGORITHM), ("Paper", _PAPER), ("Figure", _FIGURE), ("概念卡", _CONCEPT))
    types += [extra, *(_custom(col, name, *parts) for name, parts in custom)]
    col.add_image_occlusion_notetype()
    occlusion = next(it for it in col.models.all() if it.get("originalStockKind") == 6)
    return [col.models.get(it["id"]) for it in (*types, occlusion)]


def _custom(col: Any, name: str, fields: Sequence[str], templates: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    made = col.models.new(name)
    for field in fields:
        col.models.add_field(made, col.models.new_field(field))
    made["flds"][-1] |= {"rtl": name == "Paper", "font": "Noto Sans", "size": 18, "sticky": True}
    for title, front, back in templates:
        template = col.models.new_template(title)
        template |= {"qfmt": front, "afmt": back}
        col.models.add_template(made, template)
    made["css"] += "\n.card img { max-width: 90%; }"
    made["latexPre"] = made["latexPre"].replace("12pt", "11pt")
    made["id"] = col.models.add_dict(made).id
    return made  # type: ignore[no-any-return]


def _add_notes(col: Any, types: list[dict[str, Any]], deck_ids: list[int], count: int, chance: random.Random) -> None:
    from anki.collection import AddNoteRequest

    requests = []
    for number in range(count):
        note = col.new_note(types[number % len(types)])
        note.fields = _fields(number, number % len(types), chance)
        note.tags = _tags(number)
        requests.append(AddNoteRequest(note=note, deck_id=deck_ids[number // 3 % len(deck_ids)]))
    col.add_notes(requests)
    col.db.execute("UPDATE notes SET mod = mod - (id % 50000000)")


def _tags(number: int) -> list[str]:
    tags = [["exam", "llm::attention::kv"], [], ["topic::kv-cache"], ["标签", "llm::serving"], ["marked"]][number % 5]
    return tags + (["leech"] if number % 23 == 4 else [])


def _fields(number: int, kind: int, chance: random.Random) -> list[str]:
    def prose(words: int) -> str:
        return " ".join(chance.choice(WORDS) for _ in range(words))

    name, text = f"{prose(3)} {number}", f"<b>{prose(4)}</b> {prose(20)}<br>{prose(12)}"
    listed = f"<ul><li>{prose(4)}</li><li>{prose(5)} &amp; {prose(2)}</li></ul>"
    math = r"\(\frac{q k^\top}{\sqrt{d_k}}\)"
    match kind:
        case 0:
            return [f"What is {name}?", text + listed]
        case 1:
            return [name, text + CODE]
        case 2:
            return [name, text, "yes" if number % 2 else ""]
        case 3:
            return [f"How many {name}?", str(number)]
        case 4:
            return [f"The {{{{c1::{prose(2)}}}}} needs {{{{c2::{prose(1)}::hint}}}} for {name}", listed]
        case 5:
            return [f"{{{{c1::outer {{{{c3::inner}}}} end}}}} and {{{{c2::{name}}}}}", text, math]
        case 6:
            return [name, text + TABLE + math, f"<code>O({number})</code>" if number % 2 else "", CODE, prose(3)]
        case 7:
            return [name, text, rf"[latex]\[\alpha_{{{number}}}\][/latex] and [$]\beta[/$]" if number % 4 else ""]
        case 8:
            picture = "图.png" if number % 4 == 0 else "lost.png" if number % 19 == 0 else f"figure {number % 6}.png"
            return [f'<img src="{picture}">', name, "[sound:said.mp3]"]
        case 9:
            return [f"注意力 {number}", f"权重之和为 {number}，{math}", "例如：缓存"]
        case _:
            rectangle = "rect:left=.1:top=.1:width=.2:height=.2"
            shapes = f"{{{{c1::image-occlusion:{rectangle}}}}}<br>{{{{c2::image-occlusion:{rectangle}}}}}"
            return [shapes, '<img src="figure 1.png">', name, text, ""]


def _study(col: Any, cards: list[int], reviews: int, chance: random.Random, now: int) -> None:
    """Give four of five cards a past: columns of `cards`, rows of `revlog`."""
    studied = [card for card in cards if chance.random() < 0.8]
    per_card = max(reviews / max(len(studied), 1), 1)
    today, updates, log, taken = col.sched.today, [], [], set[int]()
    for card in studied:
        past = list(_past(card, max(round(chance.gauss(per_card, per_card / 4)), 1), chance, now, taken))
        log += past
        updates.append((*_columns(past, chance, now, today), card))
    col.db.executemany(
        "UPDATE cards SET type=?, queue=?, due=?, ivl=?, factor=?, reps=?, lapses=?, left=?, data=? WHERE id=?", updates
    )
    col.db.executemany("INSERT INTO revlog VALUES (?, ?, -1, ?, ?, ?, ?, ?, ?)", log)


def _past(card: int, count: int, chance: random.Random, now: int, taken: set[int]) -> Iterator[tuple[int, ...]]:
    """The log of one card: learned, then reviewed at growing intervals with a lapse now and then."""
    at = now - chance.randrange(30, AGE - 20) * DAY
    gap = max((now - 2 * DAY - at) / count, 100.0)
    last, interval, kind = 0, -60, 0
    for number in range(count):
        stamp = int(at * 1000) + chance.randrange(1000)
        while stamp in taken:
            stamp += 1
        taken.add(stamp)
        ease = chance.choices((1, 2, 3, 4), (12, 12, 66, 10))[0]
        if number:
            kind = 2 if interval < 0 and kind else 0 if interval < 0 else 1
        last, interval = interval, -600 if ease == 1 or not number else chance.randrange(1, 200)
        factor = chance.randrange(100, 1101) if number % 7 else 2500 - 150 * (number % 5)
        kind_logged = 3 if kind == 1 and number % 31 == 30 else kind
        yield stamp, card, ease, interval, last, factor, chance.randrange(500, 60_000), kind_logged
        at = min(at + chance.uniform(0.6, 1.4) * gap, now - DAY)


def _columns(past: list[tuple[int, ...]], chance: random.Random, now: int, today: int) -> tuple[Any, ...]:
    """The columns after `past`, by chance a review, or a step of learning or relearning, in seconds or in days."""
    answered = past[-1][0] // 1000
    lapses = sum(row[7] == 1 and row[2] == 1 for row in past)
    data = {
        "pos": chance.randrange(10_000),
        "s": round(chance.uniform(0.2, 400), 4),
        "d": round(chance.uniform(1, 10), 3),
        "dr": 0.85,
        "decay": 0.16,
        "lrt": answered,
    }
    if chance.random() < 0.05:
        data["cd"] = json.dumps({"v": "addon"})
    text = json.dumps(data, separators=(",", ":")) if chance.random() < 0.98 else "{}"
    interval = max(past[-1][3], 1)
    since = (now - answered) // DAY
    common = (2500 - 50 * (lapses % 20), len(past), lapses)
    match chance.choices(("review", "learning", "days", "relearning"), (80, 7, 6, 7))[0]:
        case "review":
            return 2, 2, today - since + interval, interval, *common, 0, text
        case "learning":
            return 1, 1, now + chance.randrange(-3000, 3000), 0, *common, 1002, text
        case "days":
            return chance.choice((1, 3)), 3, today + chance.randrange(-2, 3), 1, *common, 1, text
        case _:
            return 3, 1, now + chance.randrange(-3000, 3000), interval, *common, 1001, text


def _answer(col: Any, count: int, deck_ids: list[int]) -> None:
    """Answers by the backend, so that some memories are its own."""
    for deck in deck_ids:
        col.decks.set_current(deck)
        for number in range(max(count // len(deck_ids), 1)):
            queued = col.sched.get_queued_cards()
            if not queued.cards:
                break
            from anki.cards import Card

            card = Card(col, backend_card=queued.cards[0].card)
            card.start_timer()
            col.sched.answerCard(card, 1 + number % 4)  # type: ignore[arg-type]


def _act(col: Any, cards: list[int], chance: random.Random) -> None:
    """Whatever else a user does to cards."""
    from anki.scheduler.v3 import Scheduler

    scheduler: Scheduler = col.sched

    def some(share: float) -> list[Any]:
        return chance.sample(cards, max(int(len(cards) * share), 2))

    for flag in range(1, 8):
        col.set_user_flag_for_cards(flag, some(0.02))
    scheduler.suspend_cards(some(0.06))
    scheduler.bury_cards(some(0.03), manual=True)
    scheduler.bury_cards(some(0.03), manual=False)
    scheduler.schedule_cards_as_new(some(0.03), restore_position=True, reset_counts=False)
    scheduler.schedule_cards_as_new(some(0.03), reset_counts=True)
    scheduler.set_due_date(some(0.03), "3-9!")
    filtered = col.decks.new_filtered("Cram before Friday")
    deck = col.sched.get_or_create_filtered_deck(deck_id=0)
    deck.name = "Cram before Friday"
    deck.config.search_terms[0].search = "deck:Serving*"
    deck.config.search_terms[0].limit = max(len(cards) // 40, 3)
    col.decks.remove([filtered])
    col.sched.add_or_update_filtered_deck(deck)
