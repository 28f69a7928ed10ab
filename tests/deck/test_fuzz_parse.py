"""Whatever a deck file holds, reading it gives cards or says what is wrong, in one line that a terminal may print.

`python -m tests.deck.test_fuzz_parse 100000` tries so many inputs of each kind. What it found, and the nastiest of what
it tries, is kept in `corpus`.
"""

from __future__ import annotations

import contextlib
import sys
import time
import unicodedata
from collections.abc import Callable
from datetime import date
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmquiz.core.card import Card, Kind, Lang
from llmquiz.core.errors import DeckError
from llmquiz.deck import checks, cloze, deckfile, lint, plain, quantity, reading
from llmquiz.deck.inline import formulas, segments
from llmquiz.deck.math import MathError, to_unicode
from llmquiz.deck.parse import parse_deck, parse_texts
from llmquiz.deck.render import render
from llmquiz.deck.rules_formula import everything

CORPUS = Path(__file__).parent / "corpus"
DECKS = Path(__file__).parent.parent.parent / "decks"
PATHS = {lang: Path(f"fuzz.{lang}.md") for lang in Lang}
BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
EXAMPLES = 20
SECONDS = 1.0  # of CPU, for any file of the corpus

LINES = (
    "# Title", "# T {order=3}", "# T {order=x y=z}", "## ", "## Why? {#a topic=t}",
    "## What is {{c1::x}}? {#b topic=t}", "## Which? {#c topic=t kind=choice}", "## Fill {#d topic=t kind=cloze}",
    "## Guess? {#e topic=t kind=predict lab=l}",
    "## How? {#f topic=t lab=l lab.p=3 metric=m tags=\"a b\" as-of=2026-01-02}", "### Key points", "### 要点",
    "### Choices", "### Checks", "### Symbols", "### Sources", "### Follow-ups", "### Pitfall", "### Other",
    "- [x] right", "- [ ] wrong", "  because", "- `2 * 3` = 6 KiB", "- `2**9` = 512", "- $x_i$: a width", "- a",
    "* b", "```", "~~~", "````python", "", "", "The {{c1::cache}} holds {{c2::keys::what}}.", "$$", "1. one",
    "> quote", "\tcode", "| a | b |", "|---|---|", "---", "<https://a.b/c%20d>", "[x](<y z>)", "![a](b)", "<b>x</b>",
    "&amp; &lt;", "128 KiB",
)  # fmt: skip
PIECES = (
    "{", "}", "{{", "}}", "{{c1::", "{{c99::", "{{c0::", "::", "{#", "=", '"', "$", "$$", "\\", "`", "``", "```",
    "~~~", "#", "\n", "\n\n", "\n## ", "\n### ", "\n- ", "- [x] ", " ", "\t", "\r\n", "*", "**", "_", "[", "](", ")",
    "<", ">", "<!--", "&", "&#27;", "&lrm;", "&NewLine;", "%1B", "%E2%80%AE", "\x1b[31m", "\x07", "\x9b", "\u202e",
    "\u2066", "\u200b", "\0", "\ufeff", "\u2028", "\x85", "\x0c", "²", "⁻⁻", "10⁻", "×10^", "1e999", "٣", "1,000",
    "7B", "%", "¼", "ﬃ", "é", "́", "👩‍👩‍👧", "中文", "，", "？", "?", "\\frac", "\\sqrt", "\\left(", "\\right",
    "\\begin{cases}", "&", "\\\\", "^", "_{", "\\text{", "(((", ")))", "|", "!", "x" * 300, "9" * 300, "(" * 40,
    "{" * 40, "> " * 30, "- " * 30, "[" * 60, "*a" * 40,
)  # fmt: skip
TEX = (
    "x", "12", " ", "{", "}", "^", "_", "'", "(", ")", "[", "]", "|", "&", "\\\\", "\\frac", "\\sqrt", "\\left",
    "\\right", "\\middle", "\\begin{cases}", "\\end{cases}", "\\begin{aligned}", "\\end{aligned}", "\\text{a b}",
    "\\mathbb", "\\sum", "\\hat", "\\operatorname", "\\binom", "\\pmod", "\\,", "\\%", "\\{", "\\}", "\\to",
    "\\unknown", "=", "+", "-", "/", "\\int", "\\log", "…", "中", "\\mathrm{d}", "\\cdot", ".", "~", "\n", "$", "\\",
    "((((((((", "{{{{{{{{", "²",
)  # fmt: skip
SUMS = (
    "1", "2.5", "1e9", "1e308", "10**3", " + ", " - ", "*", "/", "//", "%", "**", "(", ")", "((((((((", "-" * 20,
    "sqrt(", "log(", "max(", "min()", "round(", "ceil(", "kv_cache_bytes(", ",", "pi", "KiB", "x", "True", "None",
    "'a'", "lambda: 1", "[1]", "{1}", "0x1f", "1_000", "1j", "...", "if", "1if 2else 3", "__import__('os')", "a.b",
    "\n", "\\", "#", "0**-1", "9" * 60, "2**1024", "1e308*10", "²", "٣", "==", ":=", "f''", "and", "@", "~1", "\x00",
    "\x0c", ";",
)  # fmt: skip


def of(words: tuple[str, ...], most: int) -> st.SearchStrategy[str]:
    return st.lists(st.sampled_from(words), max_size=most).map("".join)


@cache
def real_cards() -> list[str]:
    """Every card of the shipped decks, in both languages."""
    texts = (path.read_text(encoding="utf-8") for path in sorted(DECKS.glob("*.md")))
    return [f"## {card}" for text in texts for card in text.split("\n## ")[1:]]


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A real card with pieces put in, doubled and taken away."""
    text = real_cards()[draw(st.integers(0, len(real_cards()) - 1))]
    cuts = st.tuples(st.integers(0, 1000), st.integers(0, 40), st.one_of(st.sampled_from(PIECES), st.text(max_size=3)))
    for place, length, piece in draw(st.lists(cuts, max_size=4)):
        at = place * len(text) // 1000
        text = text[:at] + piece + (text[at : at + length] * 2 if length % 2 else text[at + length :])
    return f"# T\n\n{text}"


WRITTEN = st.lists(st.one_of(st.sampled_from(LINES), of(PIECES, 4)), max_size=14).map("\n".join)
HEADED = WRITTEN.map(lambda text: f"# Title\n\n## Why? {{#a topic=t}}\n{text}\n")
DECK = st.one_of(HEADED, mutated(), WRITTEN)


def printable(text: str, *, lines: bool = False) -> None:
    """Nothing in it steers a terminal, turns its reading around, or is no text at all."""
    allowed = "\n\t" if lines else "\t"
    bad = [char for char in text if char not in allowed and unicodedata.category(char) in ("Cc", "Cs")]
    assert not bad, text[:200]
    assert not BIDI & set(text), text[:200]


def reads(text: str) -> None:
    """A deck of one language is cards or a `DeckError`; what is shown of either can be printed."""
    reads_all({Lang.EN: text})


def reads_pair(english: str, chinese: str) -> None:
    """The same for a deck of two."""
    reads_all({Lang.EN: english, Lang.ZH: chinese})
    reads_all({Lang.EN: english, Lang.ZH: english})


def reads_all(texts: dict[Lang, str]) -> None:
    try:
        deck = parse_texts(texts, PATHS, builtin=True)
    except DeckError as error:
        return printable(str(error))
    for finding in lint.lint([deck], {}, known_topics=("t",), today=date(2026, 1, 1)):
        printable(str(finding))
    again = parse_texts(render(deck), PATHS, builtin=True)
    assert [card.id for card in again.cards] == [card.id for card in deck.cards]
    for card in deck.cards:
        shows(card)
    return None


def shows(card: Card) -> None:
    for lang, text in card.texts.items():
        printable(plain.card(card, lang, 30), lines=True)
        for line in plain.lines(everything(text)):
            printable(line)
        if card.kind is Kind.CLOZE:
            for ordinal in card.ordinals:
                printable(cloze.hide(text.answer, ordinal) + cloze.reveal(text.answer, ordinal), lines=True)


def prints(source: str) -> None:
    """A formula is text or a `MathError`, and where formulas begin and end loses nothing."""
    with contextlib.suppress(MathError):
        printable(to_unicode(source), lines=True)
    marked = f"a ${source}$ b"
    assert "".join(segment.source for segment in segments(marked)) == marked
    assert all(isinstance(formula, str) for formula in formulas(marked))


def computes(source: str) -> None:
    """An expression is a number or a `CheckError`."""
    with contextlib.suppress(checks.CheckError):
        float(checks.compute(source))
    assert all(isinstance(part, float) for part in checks.parts(source))


def counts(source: str) -> None:
    """Numbers are found in any text, and each can be compared."""
    found = [it for _, it in quantity.quantities(source)]
    if (value := quantity.parse_value(source)) is not None:
        found.append(value)
    assert all(isinstance(it.agrees(1.0), bool) for it in found)
    assert all(isinstance(number, float) for number in quantity.numerals(source))


PROPERTIES: dict[Callable[..., None], tuple[st.SearchStrategy[str], ...]] = {
    reads: (DECK,),
    reads_pair: (mutated(), HEADED),
    prints: (of(TEX, 30),),
    computes: (of(SUMS, 12),),
    counts: (of((*PIECES, "1.5", " GB", "/s", "%", "·10", "⁻³", " million", "万", "天"), 8),),
}
FOUND = [
    (prints, "".join("(" * 29 + "{" for _ in range(30)) + "x" + "".join("}" + ")" * 29 for _ in range(30))),
    (prints, "\\left(" * 29 + "x" + "\\right)" * 29),
    (computes, "1if 2else 3"),
    (computes, "-" * 399 + "1"),
    (computes, "(" * 199 + "1" + ")" * 199),
    (computes, "2**" * 100 + "2"),
    (computes, "round(1, " + "9" * 300 + ")"),
    (counts, "3 × 10⁻⁻"),
    (reads, "# T\n\n## Why? {#a topic=t}\n$\\\n{$\n"),
    (reads, "# T\n\n## Why? {#a topic=t}\n<https://a.b/%1B]0;owned%07> <https://a.b/%E2%80%AE>\n"),
    (counts, "1e999 × 10^999"),
]


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda it: it.__name__)
def test_holds_for_anything(holds: Callable[..., None]) -> None:
    calm = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    calm(given(*PROPERTIES[holds])(holds))()


@pytest.mark.parametrize(("holds", "source"), FOUND)
def test_holds_for_what_was_found(holds: Callable[[str], None], source: str) -> None:
    holds(source)


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.en.md")), ids=lambda path: path.name.partition(".")[0])
def test_what_is_kept_gives_cards_or_a_line(path: Path) -> None:
    started = time.process_time()
    deck, findings = parse_deck({Lang.EN: path})
    assert (deck is None) is bool(findings)
    for finding in findings:
        printable(str(finding))
    if deck is not None:
        reads(path.read_text(encoding="utf-8"))
    assert time.process_time() - started < SECONDS


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    ["## a? {#c@ topic=t}\n\nx\n\n### Follow-ups\n- d@\n\n", "- a\n", "```\n", "$a$ ", "[a](b) ", "*a _b ", "<a@b.c> "],
)
def test_time_grows_with_the_size_of_the_file(unit: str) -> None:
    """What grows with its square would take minutes at the size that a file may have."""
    body = "".join(unit.replace("@", str(number)) for number in range(30_000 // len(unit)))
    if "\n" not in unit:
        body = "\n\n".join(body[at : at + 9_000] for at in range(0, len(body), 9_000))
    started = time.process_time()
    reads(f"# T\n\n## Why? {{#a topic=t}}\n\n{body}")
    assert time.process_time() - started < 3 * SECONDS


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("x\n" * 9_000, "'Key points' is a list"),
        ("\n" * (reading.MAX_LINES + 1), "at most 200,000: split the deck"),
        ("## \n" * (deckfile.MAX_CARDS + 1), "at most 20,000: split the deck"),
    ],
    ids=["problems", "lines", "cards"],
)
def test_a_file_that_is_no_deck_has_an_end_of_findings(body: str, says: str) -> None:
    file = deckfile.read_text(f"# T\n\n## Why? {{#a topic=t}}\n\nx\n\n### Key points\n{body}", PATHS[Lang.EN], Lang.EN)
    assert 0 < len(file.findings) <= deckfile.MAX_FINDINGS
    assert any(says in finding.problem for finding in file.findings)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True)
@given(st.binary(max_size=60), st.integers(0, 200))
def test_any_bytes_give_cards_or_a_line(tmp_path_factory: pytest.TempPathFactory, noise: bytes, place: int) -> None:
    path = tmp_path_factory.getbasetemp() / "bytes.en.md"
    path.write_bytes(b"# T\n\n## Why? {#a topic=t}\n\nBecause."[: max(place - 100, 0)] + noise)
    deck, findings = parse_deck({Lang.EN: path})
    assert (deck is None) is bool(findings)
    for finding in findings:
        printable(str(finding))


def main(most: int) -> None:
    for holds, strategies in PROPERTIES.items():
        started = time.process_time()
        long = settings(max_examples=most, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        long(given(*strategies)(holds))()
        print(f"{holds.__name__}: {most} inputs, {time.process_time() - started:.0f} s of CPU", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
