"""Faces of Anki notes: what the templates say, with the real Anki as the judge of which words stand on a card."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from llmquiz.core.card import NoteFace
from llmquiz.notes import template
from llmquiz.notes.filters import TYPED
from llmquiz.notes.marks import ANY
from llmquiz.notes.template import Renderer

ANSWER = "{{FrontSide}}\n\n<hr id=answer>\n\n"


class TemplateRow(NamedTuple):
    name: str
    ordinal: int
    front: str
    back: str


class NoteType(NamedTuple):
    name: str
    is_cloze: bool
    fields: tuple[str, ...]
    templates: tuple[TemplateRow, ...]


def notetype(
    *sides: tuple[str, str], fields: Sequence[str] = ("Front", "Back"), is_cloze: bool = False, name: str = "T"
) -> NoteType:
    templates = tuple(TemplateRow(f"Card {n + 1}", n, front, back) for n, (front, back) in enumerate(sides))
    return NoteType(name, is_cloze, tuple(fields), templates)


def face(front: str, back: str, *values: str, ordinal: int = 0, **facts: Any) -> NoteFace:
    renderer = Renderer(notetype((front, back), fields=("Front", "Back", "Extra")[: max(len(values), 2)], **facts))
    return renderer.faces(values, [ordinal], tags="a::b c", deck="Top::Sub")[0]


def findings(front: str, back: str = "x", value: str = "v", **facts: Any) -> set[str]:
    renderer = Renderer(notetype((front, back), **facts))
    renderer.faces([value, "w"], [0])
    return renderer.findings


# What a template says


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("{{Front}} {{ Back }}", "f b"),
        ("{{Tags}}|{{Deck}}|{{Subdeck}}|{{Card}}|{{Type}}|{{CardFlag}}", r"a::b c\|Top::Sub\|Sub\|Card 1\|T\|"),
        ("{{#Front}}yes{{/Front}}{{^Front}}no{{/Front}}", "yes"),
        ("{{#Front}}a{{#Back}}b{{/Back}}{{^Back}}c{{/Back}}{{/Front}}d", "abd"),
        ("{{#c1}}one{{/c1}}{{#c2}}two{{/c2}}", "one"),
        ("{{#Tags}}tagged{{/Tags}}", "tagged"),
        ("{{unknown filter:Front}}{{:Front}}{{text:text:Front}}", "fff"),
        ("<!-- {{Nope}} -->{{Front}}", "f"),
        ("{{=<% %>=}}<%Front%> {{Back}}", "f {{Back}}"),
        ("{{Front}} }} {{", "f }} {{"),
        ("{{{Front}}}", "f}"),
        ("{{FrontSide}}{{Front}}", "f"),
        ("{{Front}}<script>{{Back}}</script><style>.x{}</style>", "f"),
        ("{{Front}}<script>a</script>b<!-- c --><!-- {{Back}} -->", "fb"),
        ("<scr<!-- -->ipt>{{Front}}", r"\<script>f"),
    ],
)
def test_the_template_language(source: str, shown: str) -> None:
    assert face(source, "x", "f", "b").front == shown


@pytest.mark.parametrize(
    ("value", "is_there"),
    [("", False), ("<br> <div></div>\n<BR/>", False), ("&nbsp;", True), ("<p></p>", True), ("0", True)],
)
def test_a_field_of_breaks_counts_as_empty(value: str, is_there: bool) -> None:
    assert face("{{#Front}}yes{{/Front}}{{^Front}}no{{/Front}}", "x", value, "b").front == ("yes" if is_there else "no")


def test_the_back_does_not_repeat_the_front() -> None:
    assert face("{{Front}}", f"{ANSWER}{{{{Back}}}}", "q", "a") == NoteFace(0, "q", "a")
    assert face("<div>{{Front}}</div>", "<div>{{Front}}</div><hr id='answer'>{{Back}}", "q", "a").back == "a"
    assert face("{{Front}}", "{{Front}} in full<hr id=answer>{{Back}}", "q", "a").back == "q in full\n\na"
    assert face("{{Front}}", "{{#Back}}{{FrontSide}}<hr id=answer>{{Back}}{{/Back}}", "q", "a").back == "a"
    assert face("{{Front}}", "{{Front}}: {{Back}}", "q", "a").back == "q: a"


def test_a_back_that_would_be_empty_shows_what_the_front_did_not() -> None:
    assert face("{{Front}}", "{{FrontSide}}", "q", "a").back == "a"
    assert face("{{Front}}", "{{FrontSide}}", "q", "a", "<b>e</b>").back == "**Back**\n\na\n\n**Extra**\n\n**e**"
    assert face("{{Front}}", "{{FrontSide}}", "q", "").back == ""


def test_a_front_that_would_be_empty_shows_the_first_field() -> None:
    assert face("{{Front}}", "{{Back}}", "", "a").front == "a"
    assert face("{{Front}}", "{{Back}}", "", "") == NoteFace(0, "(empty card · 空卡片)", "")
    assert face("{{cloze:Front}}", "{{cloze:Front}}", "{{c1::a}} b", "", is_cloze=True, ordinal=4).front == "a b"


def test_a_typed_answer_is_asked_for_and_shown() -> None:
    typed = face("{{Front}}<br>{{type:nc:Back}}", f"{ANSWER}{{{{type:nc:Back}}}}", "q", "<b>a</b>")
    assert typed == NoteFace(0, "q\n\n*⌨ type the answer · 输入答案*", "**a**")
    cloze = face("{{type:cloze:Front}}", "{{type:cloze:Front}}", "x {{c1::a}} {{c1::b}}", "", is_cloze=True)
    assert cloze.back == "a, b"


def test_a_hint_waits_for_the_answer() -> None:
    assert face("{{Front}}{{hint:Extra}}", f"{ANSWER}{{{{Back}}}}", "q", "a", "h") == NoteFace(
        0, "q", "a\n\n**Extra**\n\nh"
    )
    assert face("{{Front}}", "{{Back}}{{hint:Extra}}", "q", "a", "h").back == "a\\\n*Extra*: h"
    assert face("{{Front}} {{hint:Tags}}", "{{Back}}", "q", "a") == NoteFace(0, "q a::b c", "a")


def test_speech_is_text_only_where_there_is_no_other() -> None:
    assert face("{{tts en_US:Front}}", "{{Front}}", "q", "a").front == "q"
    assert face("{{Front}}{{tts en_US voices=x:Front}}", "{{Back}}{{tts zh_CN:Back}}", "q", "a") == NoteFace(
        0, "q", "a"
    )


def test_readings() -> None:
    word = "お 茶[ちゃ]を 飲[の]む[sound:a.mp3]"
    assert face("{{furigana:Front}}", "x", word, "").front == "お茶(ちゃ)を飲(の)む♪ a.mp3"
    assert face("{{kana:Front}}", "x", word, "").front == "おちゃをのむ♪ a.mp3"
    assert face("{{kanji:Front}}", "x", word, "").front == "お茶を飲む♪ a.mp3"


@pytest.mark.parametrize(
    ("text", "number", "asked", "told"),
    [
        ("{{c1::a}} {{c2::b::hint}} {{c1,2::m}}", 2, r"a **\[hint\]** **\[...\]**", "a **b** **m**"),
        ("{{c1::a {{c2::b}} c::h}} d", 1, r"**\[h\]** d", "**a b c** d"),
        ("{{c1::a {{c2::b}} c::h}} d", 2, r"a **\[...\]** c d", "a **b** c d"),
        ("{{c1::std::vector}}", 1, r"**\[vector\]**", "**std**"),
        ("答案是{{c1::“注意力”}}的", 1, r"答案是 **\[...\]** 的", "答案是“**注意力**”的"),
        ("是{{c1::缓存::什么}}吗", 1, r"是\[**什么**\]吗", "是**缓存**吗"),
        (r"\(a + {{c1::b}}\) {{c2::\(x\)}}", 1, "$a + [...]$ $x$", "$a + b$ $x$"),
        (r"\(a + {{c1::b}}\) {{c2::\(x\)}}", 2, r"$a + b$ **\[...\]**", "$a + b$ **$x$**"),
        ("{{c1::a<br>b}} }} {{c2::open", 1, r"**\[...\]** }} {{c2::open", "**a\\\nb** }} {{c2::open"),
        ("<pre>x = {{c1::1}}\ny</pre>", 1, "```\nx = [...]\ny\n```", "```\nx = 1\ny\n```"),
        ("{{c1::<b>x}}</b>", 1, r"**\[...\]**", "**x**"),
    ],
)
def test_deletions(text: str, number: int, asked: str, told: str) -> None:
    shown = face("{{cloze:Front}}", "{{cloze:Front}}", text, "", is_cloze=True, ordinal=number - 1)
    assert (shown.front, shown.back) == (asked, told)


def test_an_occluded_picture_says_what_is_hidden_where() -> None:
    occlusion = (
        "{{c1::image-occlusion:rect:left=.1:top=.2:width=.2:height=.4:oi=1}}<br>{{c2::image-occlusion:rect:left=x}}"
    )
    front = "<div style='display:none'>{{cloze:Front}}</div><div>{{Back}}<canvas></canvas></div><script>x</script>"
    renderer = Renderer(notetype((front, front + "{{Extra}}"), fields=("Front", "Back", "Extra"), is_cloze=True))
    first, second = renderer.faces([occlusion, '<img src="heart.png">', "mitral"], (0, 1))
    place = "20% from the left, 40% from the top"
    assert (
        first.front
        == f"*hidden area 1 of 2: {place} · 图中遮住的第 1 处：距左 20%、距上 40%*\n\n![heart.png](heart.png)"
    )
    assert first.back.startswith(f"*area 1: {place}")
    assert first.back.endswith("![heart.png](heart.png)\\\nmitral")
    assert second.front.startswith("*hidden area 2 of 2 · 图中遮住的第 2 处*")


# What cannot be shown


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{{#Front}}a", "'{{/Front}}' is missing"),
        ("a{{/Front}}", "found '{{/Front}}' where '{{#Front}}' before it should be"),
        ("{{#Front}}{{#Back}}{{/Front}}{{/Back}}", "found '{{/Front}}' where '{{/Back}}' should be"),
    ],
)
def test_a_broken_template_shows_all_fields(source: str, problem: str) -> None:
    assert findings(source) == {f"note type 'T': template 'Card 1': {problem}; all fields are shown instead"}
    assert face(source, "x", "f", "b", "e") == NoteFace(0, "f", "**Back**\n\nb\n\n**Extra**\n\ne")
    broken = face(source, "x", "{{c1::f}}", "b", is_cloze=True)
    assert broken == NoteFace(0, r"**\[...\]**", "**Front**\n\n**f**\n\n**Back**\n\nb")


def test_findings_name_what_is_left_out() -> None:
    assert findings("{{Nope}}{{cloze:Nope}}{{Front}}") == {
        "note type 'T': template 'Card 1': there is no field 'Nope'; it is left out"
    }
    assert face("{{Nope}}{{Front}}", "x", "f", "b").front == "f"
    scripts = {"note type 'T': scripts do not run here; they are left out"}
    assert findings("{{Front}}<script>x</script>") == scripts
    assert findings("{{Front}}", value="<b onclick = 'x'>y</b>") == scripts
    assert findings("{{Front}}", value='<a href="JavaScript:x">y</a>') == scripts
    assert findings("{{Front}}", value="on = <b>y</b>") == set()
    hidden = {"note type 'T': characters that steer a terminal or hide text are removed"}
    assert findings("{{Front}}", value="a\x1b[31mb\u202e") == hidden
    assert findings("{{Front}}", value="a\r\nb 👩\u200d🔬 می\u200cخواهم") == set()
    assert findings("{{Front}}", name="\x1b]0;x\x07 T\n\u202e") == set()


def test_a_card_without_a_template_is_found() -> None:
    renderer = Renderer(notetype(("{{Front}}", "{{Back}}")))
    assert renderer.faces(["f", "b"], [3]) == (NoteFace(3, "f", "b"),)
    assert renderer.findings == {"note type 'T': card 4 has no template; all fields are shown instead"}


def test_too_few_and_too_many_fields() -> None:
    assert face("{{Front}}", "{{Back}}", "f") == NoteFace(0, "f", "")
    assert Renderer(notetype(("{{Front}}", "{{Back}}"))).faces(["f", "b", "c"], [0]) == (NoteFace(0, "f", "b"),)


def test_giant_fields_and_templates_that_repeat_them_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "MAX_FIELD", 4_000)
    monkeypatch.setattr(template, "MAX_NOTE", 20_000)
    renderer = Renderer(notetype(("{{Front}}" * 500, "{{FrontSide}}{{Back}}"), ("{{Back}}{{Front}}", "x")))
    first, second = renderer.faces(["ab " * 10_000, "<b title='" + "x" * 10_000], [0, 1])
    assert 15_000 < len(first.front) < 30_000
    assert (first.back, len(second.front) < 3_000) == ("…", True)
    assert renderer.findings == {
        "note type 'T': a field of more than 4,000 characters is cut",
        "note type 'T': the cards of a note take more than 20,000 characters; the last ones are cut",
    }
    many = Renderer(notetype(("{{cloze:Front}}", "{{cloze:Front}}"), is_cloze=True))
    shown = many.faces(["".join(f"{{{{c{n}::word}}}} " for n in range(1, 1_000)), ""], range(60))
    assert sum(len(it.front + it.back) for it in shown) < 4 * (20_000 + 60 * 2_000)


def test_depth_does_not_matter() -> None:
    deep = "{{#Front}}" * 5_000 + "x" + "{{/Front}}" * 5_000
    assert face(deep, "x", "f", "").front == "x"


# Anki as the judge


@pytest.fixture(scope="module")
def col(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    collection = pytest.importorskip("anki.collection")
    opened = collection.Collection(str(tmp_path_factory.mktemp("judge") / "collection.anki2"))
    yield opened
    opened.close()


def in_anki(col: Any, kind: NoteType, values: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """The cards that the real Anki makes of a note: ordinal, question, answer."""
    model = col.models.new(kind.name)
    for name in kind.fields:
        col.models.add_field(model, col.models.new_field(name))
    for it in kind.templates:
        col.models.add_template(model, {**col.models.new_template(it.name), "qfmt": it.front, "afmt": it.back})
    model["type"] = int(kind.is_cloze)
    col.models.add(model)
    note = col.new_note(col.models.by_name(kind.name))
    note.fields = list(values)
    note.tags = ["a::b", "c"]
    col.add_note(note, col.decks.id("Top::Sub"))
    for card in note.cards():
        yield card.ord, card.question(), card.answer()


_MARKDOWN = MarkdownIt("commonmark").enable("table")
_TYPED = _MARKDOWN.render(ANY.sub("", TYPED))


def letters(text: str) -> str:
    """What of a text is a letter or a digit: markup and spaces are nobody's words."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text)))


def ours(markdown: str) -> str:
    shown = []
    for token in _MARKDOWN.parse(markdown):
        assert token.type not in ("html_block", "code_block")
        shown += [token.content] if token.type == "fence" else []
        for child in token.children or []:
            assert child.type != "html_inline"
            shown.append(child.content)
    return letters("".join(shown)).replace(letters("⌨ type the answer · 输入答案"), "")


def theirs(source: str, values: dict[str, str]) -> str:
    source = re.sub(r"\[\[type:(?:nc:)?([^]]+)\]\]", lambda it: values.get(it[1], ""), source)
    source = re.sub(r"<(script|style)\b.*?</\1>", "", source, flags=re.DOTALL)
    source = re.sub(r"<img[^>]*src=\"([^\"]*)\"[^>]*>", r"\1", source)
    source = re.sub(r"\[anki:[^]]*\]|<!--.*?-->|</?[A-Za-z][^>]*>", "", source, flags=re.DOTALL)
    return letters(html.unescape(source))


TEN = [
    (
        notetype(("{{Front}}", ANSWER + "{{Back}}"), name="Basic"),
        ("What is <b>KV</b>?", "<ul><li>a</li><li>b</li></ul>"),
    ),
    (
        notetype(("{{Front}}", ANSWER + "{{Back}}"), ("{{Back}}", ANSWER + "{{Front}}"), name="Reversed"),
        ("问题&nbsp;&lt;1&gt;", r"\(\frac{a}{b}\) &amp; <code>x[0]</code>"),
    ),
    (
        notetype(
            ("{{Front}}", ANSWER + "{{Back}}"),
            ("{{#Add}}{{Back}}{{/Add}}", ANSWER + "{{Front}}"),
            fields=("Front", "Back", "Add"),
            name="Optional",
        ),
        ("f", "b", "y"),
    ),
    (
        notetype(("{{Front}}\n\n{{type:Back}}", "{{Front}}\n\n<hr id=answer>\n\n{{type:Back}}"), name="Typed"),
        ("f", "b"),
    ),
    (
        notetype(
            ("{{cloze:Text}}", "{{cloze:Text}}<br>\n{{Extra}}"), fields=("Text", "Extra"), is_cloze=True, name="C"
        ),
        ("{{c1::Attention}} is {{c2::all::how much}} {{c1,3::you {{c2::need}}}}", "2017"),
    ),
    (
        notetype(
            ("<div class=jp>{{kanji:Word}}</div>", "{{furigana:Word}}<hr id=answer>{{Meaning}}{{kana:Word}}"),
            fields=("Word", "Meaning"),
            name="Japanese",
        ),
        ("お 茶[ちゃ]を 飲[の]む", "to drink tea"),
    ),
    (
        notetype(
            (
                "<div>{{#Tags}}<i>{{Tags}}</i>{{/Tags}}<h1>{{Front}}</h1>{{Deck}} {{Subdeck}} {{Type}}</div>",
                "{{FrontSide}}<hr id=answer><table><tr><th>A<td>{{Back}}</table><script>var x = 1;</script>",
            ),
            name="Styled",
        ),
        ("f <i>i</i>", "<div>b</div><div>c</div>"),
    ),
    (
        notetype(
            ("{{text:Front}} {{odd:Front}} {{^Back}}no{{/Back}}", ANSWER + "{{hint:Back}}{{Front}}"), name="Filters"
        ),
        ("<b>x</b> &amp; <u>y</u>", "z"),
    ),
    (
        notetype(("{{=<% %>=}}<%Front%>", "{{=<% %>=}}<%FrontSide%><hr id=answer><%Back%>"), name="Old"),
        ('<img src="a b.png"><br>x', "<blockquote>q</blockquote><pre>1\n2</pre>"),
    ),
    (
        notetype(
            (
                "{{#c1}}first{{/c1}}{{cloze-only:Text}} {{cloze:Text}}",
                "{{cloze-only:Text}}{{cloze:Text}}<p>{{Extra}}</p>",
            ),
            fields=("Text", "Extra"),
            is_cloze=True,
            name="Only",
        ),
        (r"<p>{{c1::\(x\)}} {{c2::std::vector}}</p>", "<ol><li>e</li></ol>"),
    ),
]


@pytest.mark.parametrize(("kind", "values"), TEN, ids=[it.name for it, _ in TEN])
def test_the_words_are_those_that_anki_shows(kind: NoteType, values: tuple[str, ...], col: Any) -> None:
    cards = list(in_anki(col, kind, values))
    renderer = Renderer(kind)
    shown = renderer.faces(values, [it for it, _, _ in cards], tags="a::b c", deck="Top::Sub")
    by_name = dict(zip(kind.fields, values, strict=True))
    for (ordinal, question, answer), mine in zip(cards, shown, strict=True):
        question = re.sub(r"\[\[type:[^]]+\]\]", "", question)
        assert ours(mine.front) == theirs(question, by_name)
        assert theirs(answer, by_name) in (ours(mine.back), ours(mine.front) + ours(mine.back))
        assert mine.ordinal == ordinal
    assert {it for it in renderer.findings if "scripts" not in it} == set()


FILTERED = ["", "", "text:", "cloze:", "cloze:", "cloze:", "cloze-only:", "text:cloze:", "kana:", "odd:", "cloze:text:"]
WRAPPED = [("{{#F}}", "{{/F}}"), ("{{^G}}", "{{/G}}"), ("{{#G}}", "{{/G}}"), ("{{#c1}}", "{{/c1}}"), ("<b>", "</b>")]
HIDDEN = [
    ("{{c1::", "}}"),
    ("{{c2::", "}}"),
    ("{{c1,2::", "::h}}"),
    ("<b>", "</b>"),
    ("<i>", "</i>"),
    ("<div>", "</div>"),
]
WORDS = [
    "&amp;",
    "&lt;",
    "x",
    "y1",
    "中",
    "“",
    "。",
    "[r]",
    "*",
    "_",
    "$",
    "}}",
    "::",
    "<br>",
    "<p>",
    "<ul><li>",
    "</b>",
]


def nested(leaves: Sequence[str], around: Sequence[tuple[str, str]]) -> st.SearchStrategy[str]:
    """Texts of `leaves`, some of them between the two parts of something around."""
    return st.recursive(
        st.sampled_from(leaves),
        lambda inner: st.tuples(st.sampled_from(around), st.lists(inner, max_size=3)).map(
            lambda it: f"{it[0][0]}{' '.join(it[1])}{it[0][1]}"
        ),
        max_leaves=8,
    )


SIDES = nested([f"{{{{{it}{name}}}}}" for it in FILTERED for name in "FG"] + ["{{Tags}}", "a", "<br>"], WRAPPED)
FIELDS = st.lists(nested(WORDS, HIDDEN), min_size=1, max_size=4).map(" ".join)


@pytest.fixture(scope="module")
def note(col: Any) -> Any:
    model = col.models.new("Any")
    for name in ("F", "G"):
        col.models.add_field(model, col.models.new_field(name))
    col.models.add_template(model, {**col.models.new_template("Card 1"), "qfmt": "{{cloze:F}}", "afmt": "{{cloze:F}}"})
    model["type"] = 1
    col.models.add(model)
    return col.new_note(col.models.by_name("Any"))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(front=SIDES, back=SIDES, values=st.tuples(FIELDS, FIELDS), number=st.integers(1, 2))
def test_any_template_and_field_show_the_words_of_anki(
    front: str, back: str, values: tuple[str, str], number: int, note: Any
) -> None:
    front, back = f"{front}{{{{cloze:F}}}}", f"{{{{FrontSide}}}}<hr id=answer>{back}{{{{cloze:F}}}}"
    note.fields, note.tags = list(values), ["a::b", "c"]
    custom = {"name": "Card 1", "qfmt": front, "afmt": back, "ord": number - 1, "did": None, "bqfmt": "", "bafmt": ""}
    card = note.ephemeral_card(number - 1, custom_template=custom)
    question, answer = (theirs(it, {}) for it in (card.question(), card.answer()))
    renderer = Renderer(notetype((front, back), fields=("F", "G"), is_cloze=True))
    mine = renderer.faces(values, [number - 1], tags="a::b c")[0]
    if question and not re.search("Nocloze|isblank", question):
        assert renderer.findings == set()
        assert ours(mine.front) == question
        assert ours(mine.front) + ours(mine.back) == answer or answer == question
