"""Decks are read as docs/deck-format.md says, and everything that is wrong is said at its line."""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path

import pytest

from llmquiz.core.card import Check, Choice, Frequency, Kind, LabLink, Lang, Level
from llmquiz.core.errors import DeckError
from llmquiz.deck.parse import parse_pair, parse_text
from tests.deck.conftest import Parse

HEAD = "# Title {order=20}\n\nIntro.\n\n"
CARD = "## Why $\\sqrt{d_k}$? {#sdpa-scale topic=attention-scaling}\n\nShort.\n"

FULL = (
    HEAD
    + """\
## Why divide by $\\sqrt{d_k}$? {#sdpa-scale topic=attention-scaling level=L2 frequency=high ATTRIBUTES}

The short
answer.

Detail.

```python
## not a card
### Not a part
```

### Symbols
- $d_k$: width of one head,
  in values

### Key points
* one
- two

### Pitfall
Wrong.

Because.

### Follow-ups
- other-card

### Checks
- `sqrt(64)` = 8

### Sources
- Vaswani et al. 2017, <https://arxiv.org/abs/1706.03762>
""".replace("ATTRIBUTES", 'lab=attention-scale lab.dim="6 4" tags="a b" as-of=2026-11-22')
)


def test_reads_every_part_of_a_card(parse: Parse) -> None:
    deck, findings = parse(FULL)
    assert findings == []
    assert deck is not None
    assert (deck.id, deck.titles, deck.intros, deck.position) == ("deck", {Lang.EN: "Title"}, {Lang.EN: "Intro."}, 20)
    card = deck.cards[0]
    assert (card.id, card.topic, card.kind) == ("sdpa-scale", "attention-scaling", Kind.OPEN)
    assert (card.level, card.frequency, card.as_of) == (Level.L2, Frequency.HIGH, date(2026, 11, 22))
    assert card.lab == LabLink("attention-scale", {"dim": "6 4"})
    assert card.tags == ("a", "b")
    assert card.follow_ups == ("other-card",)
    assert card.checks == (Check("sqrt(64)", "8"),)
    text = card.texts[Lang.EN]
    assert text.front == "Why divide by $\\sqrt{d_k}$?"
    assert text.answer == "The short\nanswer."
    assert text.detail == "Detail.\n\n```python\n## not a card\n### Not a part\n```"
    assert text.key_points == ("one", "two")
    assert text.pitfall == "Wrong.\n\nBecause."
    assert text.symbols == ("$d_k$: width of one head,\nin values",)
    assert text.place is not None
    assert text.place.line == 5


def test_joins_a_pair_by_id(parse: Parse) -> None:
    deck, findings = parse(HEAD + CARD, "# 标题\n\n## 为什么？ {#sdpa-scale}\n\n短答。\n\n### 要点\n- 一\n")
    assert findings == []
    assert deck is not None
    card = deck.cards[0]
    assert card.texts[Lang.EN].front == "Why $\\sqrt{d_k}$?"
    assert card.texts[Lang.ZH].key_points == ("一",)


def test_a_deck_in_chinese_alone_carries_the_attributes(parse: Parse) -> None:
    deck, findings = parse(zh="# 标题\n\n## 问？ {#a-card topic=t level=L3}\n\n答。\n")
    assert findings == []
    assert deck is not None
    assert deck.cards[0].level is Level.L3


def test_either_language_may_use_either_heading(parse: Parse) -> None:
    deck, _ = parse(HEAD + CARD + "### 要点\n- one\n")
    assert deck is not None
    assert deck.cards[0].texts[Lang.EN].key_points == ("one",)


def test_reads_choices_with_their_mistakes(parse: Parse) -> None:
    choices = "### Choices\n- [x] 128 KiB\n- [ ] 512 KiB\n  Counts the query heads.\n  All of them.\n"
    deck, findings = parse(HEAD + CARD.replace("topic", "kind=choice topic") + choices)
    assert findings == []
    assert deck is not None
    assert deck.cards[0].texts[Lang.EN].choices == (
        Choice("128 KiB", True),
        Choice("512 KiB", False, "Counts the query heads.\nAll of them."),
    )


@pytest.mark.parametrize("fence", ["```", "~~~", "````", "  ```"])
def test_fenced_code_is_never_a_heading(parse: Parse, fence: str) -> None:
    deck, findings = parse(
        HEAD + CARD + f"\nText\n\n{fence}md\n# a\n## b {{#c topic=t}}\n### d\n{fence}\n\n" + CARD.replace("sdpa", "two")
    )
    assert findings == []
    assert deck is not None
    assert [card.id for card in deck.cards] == ["sdpa-scale", "two-scale"]


def test_a_shorter_fence_does_not_close_a_longer_one(parse: Parse) -> None:
    deck, findings = parse(HEAD + CARD + "\n````\n```\n## x {#x topic=t}\n````\n")
    assert findings == []
    assert deck is not None
    assert len(deck.cards) == 1


def test_crlf_and_a_byte_order_mark_change_nothing(parse: Parse) -> None:
    plain, _ = parse(FULL)
    windows, findings = parse(b"\xef\xbb\xbf" + FULL.replace("\n", "\r\n").encode())
    assert findings == []
    assert plain == windows


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("text\n" + HEAD, 1, "text before the title"),
        ("## Q? {#a topic=t}\n\nA.\n", 1, "no title"),
        (HEAD + "# Again\n", 5, "second title"),
        (HEAD + "## Q?\n\nA.\n", 5, "without an id"),
        (HEAD + "## Q? {topic=t}\n\nA.\n", 5, "without an id"),
        (HEAD + "## Q? {#A_b topic=t}\n\nA.\n", 5, "lower-case words"),
        (HEAD + "## {#a topic=t}\n\nA.\n", 5, "asks nothing"),
        (HEAD + "## Q? {#a topic=t}\n", 5, "no answer"),
        (HEAD + "## Q? {#a}\n\nA.\n", 5, "no topic"),
        (HEAD + "## Q? {#a topic=t level=L9}\n\nA.\n", 5, "level 'L9' is not one of L1, L2, L3"),
        (HEAD + "## Q? {#a topic=t colour=red}\n\nA.\n", 5, "unknown attribute 'colour'"),
        (HEAD + "## Q? {#a topic=t topic=u}\n\nA.\n", 5, "given twice"),
        (HEAD + '## Q? {#a topic="t}\n\nA.\n', 5, "cannot read the attributes"),
        (HEAD + "## Q? {#a topic=t .class}\n\nA.\n", 5, "cannot read the attributes"),
        (HEAD + "## Q? {#a topic=t as-of=2026-02-30}\n\nA.\n", 5, "is not a date"),
        (HEAD + "## Q? {#a topic=t lab.x=1}\n\nA.\n", 5, "without lab="),
        (HEAD + "## Q? {#a topic=t lab=../x}\n\nA.\n", 5, "not the name of a lab"),
        (HEAD + "## Q? {#a topic=t metric=m}\n\nA.\n", 5, "kind=predict"),
        (HEAD + "## Q? {#a topic=t kind=predict lab=l}\n\nA.\n", 5, "needs lab=<name> and metric=<name>"),
        (HEAD + "## Q? {#a topic=t kind=choice}\n\nA.\n", 5, "no options"),
        (HEAD + "## Q? {#a topic=t kind=cloze}\n\nA.\n", 5, "hides nothing"),
        (HEAD + "## Q? {#a topic=t kind=cloze}\n\n{{c1::a\n", 5, "not closed"),
        (HEAD + "## Q? {#a topic=t kind=cloze}\n\n{{c1::a}} b\n\n{{c2::c}}\n", 5, "outside its first paragraph"),
        (HEAD + CARD + "### Notes\nx\n", 8, "unknown part 'Notes'"),
        (HEAD + CARD + "### Pitfall\nx\n\n### Pitfall\ny\n", 11, "there twice"),
        (HEAD + CARD + "### Pitfall\n\n", 8, "is empty"),
        (HEAD + CARD + "### Key points\nno list\n", 9, "is a list"),
        (HEAD + CARD + "### Key points\n- \n- a\n", 9, "empty item"),
        (HEAD + CARD + "### Checks\n- 2 = 2\n", 9, "`expression` = number"),
        (HEAD + CARD + "### Choices\n- [x] a\n- [ ] b\n", 5, "has options but kind=open"),
        (HEAD + CARD + "\n```\n## x\n", 9, "never closed"),
        (HEAD + CARD + CARD, 8, "is also on line 5"),
        ("# T {order=x}\n", 1, "not a whole number"),
        ("# T {size=2}\n", 1, "unknown attribute 'size'"),
        ("### Pitfall\n", 1, "no title"),
    ],
)
def test_says_what_is_wrong_and_where(parse: Parse, text: str, line: int, words: str) -> None:
    deck, findings = parse(text)
    assert deck is None
    assert any(finding.place.line == line and words in finding.problem for finding in findings), findings


def test_collects_all_problems_of_both_files(parse: Parse) -> None:
    deck, findings = parse(
        HEAD + "## Q? {#a}\n\nA.\n\n## R? {#b topic=t level=x}\n\nB.\n",
        "# 题\n\n## 问？ {#a topic=t}\n\n### 追问\n- b\n",
    )
    assert deck is None
    problems = " | ".join(finding.problem for finding in findings)
    for words in (
        "no topic",
        "level 'x'",
        "belong in deck.en.md",
        "'Follow-ups' of 'a'",
        "no answer",
        "'b' is not in deck.zh.md",
    ):
        assert words in problems


def test_a_pair_must_keep_the_same_order(parse: Parse) -> None:
    second = CARD.replace("sdpa", "two")
    _, findings = parse(HEAD + CARD + second, "# 题\n\n## 二？ {#two-scale}\n\n答。\n\n## 一？ {#sdpa-scale}\n\n答。\n")
    assert [finding.problem.split(";")[0] for finding in findings] == [
        "card 'two-scale' stands where deck.en.md has 'sdpa-scale'"
    ]


def test_a_slip_in_the_attributes_is_reported_once(parse: Parse) -> None:
    _, findings = parse(HEAD + "## Q? {#a topic=}\n\nA.\n", "# 题\n\n## 问？ {#a}\n\n答。\n")
    assert not [finding for finding in findings if finding.rule == "F03"]


def test_both_languages_hide_the_same_numbers(parse: Parse) -> None:
    _, findings = parse(
        HEAD + "## T {#a topic=t kind=cloze}\n\n{{c1::x}} {{c2::y}}\n", "# 题\n\n## 题 {#a}\n\n{{c1::甲}}\n"
    )
    assert "[1] here and [1, 2]" in findings[0].problem


@pytest.mark.parametrize(
    ("data", "line", "words"),
    [
        (b"# T\n\n\x00", 3, "U+0000"),
        (b"# T\n\n\x1b[2J", 3, "U+001B"),
        ("# T\n\n\u202eabc".encode(), 3, "U+202E"),
        ("# T\n\u2066x".encode(), 2, "U+2066"),
        ("# T\n\u009b31m".encode(), 2, "U+009B"),
        (b"# T\n\ncaf\xe9\n", 3, "not UTF-8"),
        (b"# T\na\rb\n", 2, "U+000D"),
        (b"# T\n" + b"x" * 20_000, 2, "20,000 characters"),
        (b"# T\n&#27;[2J", 2, "&#27;"),
        (b"# T\n&rlm;", 2, "&rlm;"),
        (b"\xff\xfe#\x00", 1, "not UTF-8"),
    ],
)
def test_text_that_could_steer_a_terminal_is_refused(parse: Parse, data: bytes, line: int, words: str) -> None:
    deck, findings = parse(data)
    assert deck is None
    assert (findings[0].rule, findings[0].place.line) == ("F01", line)
    assert words in findings[0].problem
    assert findings[0].problem.isprintable()


def test_a_file_that_is_no_file_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "deck.en.md").mkdir()
    with pytest.raises(DeckError, match=r"deck\.en\.md:1: not a regular file"):
        parse_pair({Lang.EN: tmp_path / "deck.en.md"})


def test_a_huge_file_is_refused_unread(parse: Parse) -> None:
    deck, findings = parse(b"# T\n" + b"a\n" * 3_000_000)
    assert deck is None
    assert "larger than 4 MiB" in findings[0].problem


@pytest.mark.parametrize(
    "body",
    [
        "{{c1::" * 1_000 + "\n",
        "## " + "{#" * 4_000 + "\n",
        "## x {#a " + 'a="' * 3_000 + "}\n",
        "- [x] a\n" * 2_000,
        "`" * 9_000 + "\n",
        ("> " * 4_000 + "x\n"),
        "### Key points\n" * 500,
    ],
    ids=["clozes", "braces", "quotes", "options", "ticks", "quotes-nested", "headings"],
)
def test_hostile_text_costs_linear_time(body: str) -> None:
    text = HEAD + CARD + body * (1_000_000 // len(body.encode()))
    start = time.process_time()
    with pytest.raises(DeckError):
        parse_text(text + "\n## no id\n", Path("deck.en.md"), Lang.EN)
    assert time.process_time() - start < 5


def test_five_hundred_cards_in_two_languages_parse_fast(parse: Parse) -> None:
    cards = [FULL[len(HEAD) :].replace("sdpa-scale", f"card-{number}") for number in range(500)]
    chinese = [f"## 为什么？ {{#card-{number}}}\n\n短答。\n\n### 要点\n- 一\n" for number in range(500)]
    start = time.process_time()
    deck, _ = parse(HEAD + "\n".join(cards), "# 题\n\n" + "\n".join(chinese))
    assert time.process_time() - start < 1
    assert deck is not None
    assert len(deck.cards) == 500
