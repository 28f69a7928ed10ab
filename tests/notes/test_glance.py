"""A look at a note finds what rendering its cards would find, no more and no less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmquiz.notes import clozes, glance, template
from llmquiz.notes.markdown import converted
from llmquiz.notes.neutral import neutral
from llmquiz.notes.template import Renderer


class Side(NamedTuple):
    name: str
    ordinal: int
    front: str
    back: str


class Kind(NamedTuple):
    name: str
    is_cloze: bool
    fields: tuple[str, ...]
    templates: tuple[Side, ...]


NAMES = ("A", "B", "Tags")
FILTERS = (
    "",
    "",
    "",
    "text:",
    "cloze:",
    "cloze:",
    "cloze-only:",
    "type:",
    "type:cloze:",
    "hint:",
    "kana:",
    "x:",
    "tts:",
)
OF_TEMPLATES = [
    *("{{Deck}}", "{{Card}}", "{{Nope}}", "{{FrontSide}}", "{{#A}}", "{{/A}}", "{{^B}}", "{{/B}}", "<hr id=answer>"),
    *("{{#A}}{{B}}{{/A}}", "{{^A}}a{{/A}}", "{{#c1}}{{cloze:A}}{{/c1}}", "{{#Tags}}{{A}}{{/Tags}}", "<div class='q'>"),
    *("</div>", "<br>", " ", "Q: ", "&nbsp;", "<b>", "<!--", "<script>", "</script>", '<a b="', "<pre>", "\\(", "[$]"),
    "[anki:play",
]
OF_FIELDS = [
    *(
        "a",
        "word",
        "中文",
        "-",
        "(",
        "]",
        "}}",
        "::",
        ">",
        " ",
        "\n",
        "\r",
        "\r\n",
        "<br>",
        "<b>",
        "</b>",
        "<div>",
        "on",
    ),
    *('<span style="color: red">', "<i title='>", "<u x='a>b'>", "<p class=x>", "<code>", "</code>", "<pre>", "<sup>"),
    *(
        "<table><td class=gutter>",
        "<td>",
        "<ul>",
        "<li>",
        "<h1>",
        "<a href=x>",
        "</a>",
        "<!-- x -->",
        "<!--",
        "<script>",
        "</script>",
    ),
    *(
        '<img src="a b.png">',
        "<img src=\"a.png\" alt=' '>",
        "<img src=\"data:x\" alt=' '>",
        '<img src="%20" />',
        "<img>",
    ),
    *("{{c1::", "{{c2::", "{{c1,2::", "{{c01::", "{{c1::x}}", "{{c1::x::h}}", "{{c2::x::latex}}", "{{c1::x::$}}"),
    *("{{c1::x::anki:play}}", "{{c2::x::/$}}", "{{c1::a {{c2::b}} c}}", "{{c1::image-occlusion:rect:left=.1:top=.2}}"),
    *(
        "{{c1::image-occlusion::x}}",
        "\\(",
        "\\)",
        "\\(x\\)",
        "\\( \\)",
        "\\(%\n\\)",
        "[latex]",
        "[/latex]",
        "[$]",
        "[/$]",
    ),
    *(
        "[sound:a.mp3]",
        "[sound: ]",
        "[anki:tts",
        "[...]",
        "&nbsp;",
        "&lt;",
        "&#x200b;",
        "&#27;[31m",
        "\x1b[31m",
        "\x1f",
    ),
    *(
        "\u200b",
        "\u202e",
        "❤\ufe0f",
        "\ufe0f",
        "\u3164",
        "\ud800",
        "x" + "\u0301" * 10,
        "\ufdd0[...]",
        "<b onclick='x'>",
    ),
    *("java", "script:", "href=javascript:x", "data:text/html", "<OBJECT", "<iframe>", "<style>a</style>", "load ="),
]
STEPS = st.one_of(
    st.tuples(st.sampled_from(FILTERS), st.sampled_from(NAMES)).map(lambda it: f"{{{{{it[0]}{it[1]}}}}}"),
    st.sampled_from(OF_TEMPLATES),
)
PIECES = st.sampled_from(OF_FIELDS)
FIELDS = st.lists(PIECES, max_size=5).map("".join)
NOTES = st.tuples(
    st.lists(FIELDS, min_size=1, max_size=4),
    st.lists(st.integers(0, 3), min_size=1, max_size=3, unique=True),
    st.sampled_from(["", "", "tag", "<script>"]),
)


@st.composite
def kinds(draw: st.DrawFn) -> Kind:
    side = st.lists(STEPS, max_size=5).map("".join) | st.sampled_from(["{{A}}", "{{cloze:A}}", "<div>{{B}}</div>{{A}}"])
    sides = draw(st.lists(st.tuples(side, side), min_size=1, max_size=2))
    templates = tuple(Side(f"Card {n}", n, front, back) for n, (front, back) in enumerate(sides))
    fields = draw(st.sampled_from([("A", "B"), ("A", "B"), NAMES]))
    return Kind("T", draw(st.booleans()), fields, templates)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(kinds(), st.lists(NOTES, min_size=1, max_size=4), st.sampled_from([300, 20_000, 1024 * 1024]))
def test_a_look_finds_what_rendering_finds(
    kind: Kind, notes: Sequence[tuple[list[str], list[int], str]], most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(template, "MAX_NOTE", most)
        patch.setattr(template, "MAX_FIELD", most // 4)
        looked, rendered = Renderer(kind), Renderer(kind)
        for fields, ordinals, tags in notes:
            looked.look(fields, ordinals, tags=tags, deck="D")
            rendered.faces(fields, ordinals, tags=tags, deck="D")
            assert looked.findings == rendered.findings


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(PIECES, max_size=8).map("".join))
def test_what_is_told_of_a_field_without_rendering_is_so(source: str) -> None:
    source = neutral(source)
    if glance.surely_shows(source):
        assert converted(source)
    for number in (1, 2):
        shown = clozes.shown(clozes.parse(source), number, question=True)
        assert (shown != "") == (number in clozes.numbers(source))
        if shown and glance.surely_shows(source):
            assert converted(shown)
    if "image-occlusion:" not in source:
        assert clozes.filled(source) == clozes.plain(clozes.parse(source))


def fail(html: str) -> str:
    raise AssertionError(f"rendered: {html}")


@pytest.mark.parametrize(
    ("front", "field"),
    [
        ("{{A}}", "What is it?"),
        ("<h1 class=q></h1>{{A}}", "(a)"),
        ("Meaning of {{A}}", "<ul><li>a</ul>"),
        ("<div class='q'>\n{{A}}<br></div>", '<div><span style="color: red">a</span></div>'),
        ("{{#B}}{{B}}{{/B}}{{A}}", '<img src="figure 1 (a).png">'),
        ("{{A}}", "[sound:a.mp3]"),
        ("{{A}}", r"\(x\)"),
        ("{{cloze:A}}", "<b>中文 {{c2::a}} {{c1,3::b}}"),
        ("{{cloze:A}}", "{{c1::Paris {{c2::and}} London::where}}"),
        ("{{^B}}<div>{{cloze:A}}</div>{{/B}}", "{{c1::image-occlusion:rect:left=.1}}<br>{{c2::image-occlusion:rect}}"),
    ],
)
def test_most_notes_are_not_rendered_for_a_look(front: str, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "converted", fail)
    renderer = Renderer(Kind("T", "cloze" in front, ("A", "B"), (Side("Card 1", 0, front, "{{FrontSide}}{{B}}"),)))
    renderer.look([field, ""], [0, 1] if renderer.is_cloze else [0])
    assert renderer.findings == set()
