"""HTML of Anki fields as Markdown: what is written, that it reads as the field says, and that nothing hostile stays."""

from __future__ import annotations

import contextlib
import html
import re
import time
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from llmquiz.deck import inline, plain
from llmquiz.notes import clozes, mustache
from llmquiz.notes.markdown import markdown
from llmquiz.notes.neutral import decoded, neutral

CASES = {
    "text": ("a  b\n c&nbsp;d", "a b c d"),
    "lines": ("<div>a</div><div>b<br>c</div>d", "a\\\nb\\\nc\\\nd"),
    "blank line": ("a<div><br></div>b<br><br>c<p>d</p>e<div>f</div><br>g", "a\n\nb\n\nc\n\nd\n\ne\\\nf\n\ng"),
    "emphasis": ("<b>a</b> <i>b</i> <u>c</u> <s>d</s> <mark>e</mark>", "**a** *b* *c* ~~d~~ **e**"),
    "spaces in emphasis": ("a<b> b </b>c<b> </b>d", "a **b** c d"),
    "emphasis that goes on": ("<b>a</b><b>b</b>", "**ab**"),
    "emphasis over lines": ("<b>a<p>b<br>c</b>", "**a**\n\n**b\\\nc**"),
    "emphasis that overlaps": ("<b>a<i>b</b>c</i>", "**a*b***c"),
    "emphasis beside words": ("他是<b>“重点”</b>的，x<b>(y)</b>z", "他是“**重点**”的，x(**y**)z"),
    "emphasis of a sign": ("x<b>+</b>y<b>中</b>z", r"x **+** y**中**z"),
    "scripts": ("H<sub>2</sub>O x<sup>-1</sup> 4<sup>th</sup> a<sub>i</sub>", "H₂O x⁻¹ 4^(th) a_i"),
    "list": ("<ul><li>a<ul><li>b</ul><li>c<p>d</ul>e", "- a\n  - b\n- c\n\n  d\n\ne"),
    "numbers": ("<ol start=9><li>a<li>b<br>c</ol>", "9. a\n10. b\\\n    c"),
    "two lists": ("<ul><li>a</ul><ul><li>b</ul>", "- a\n\n* b"),
    "item without a list": ("<li>a</li>", "- a"),
    "quote": ("<blockquote>a<ul><li>b</ul></blockquote>c", "> a\n>\n> - b\n\nc"),
    "table": ("<table><tr><th>A<th>B<tr><td>a|b<td>c<br>d</table>", "| A | B |\n| --- | --- |\n| a\\|b | c / d |"),
    "table without a head": ("<table><tr><td>a<td>b</table>", "|  |  |\n| --- | --- |\n| a | b |"),
    "table in a table": ("<table><tr><td>a<table><tr><td>b</table><td>c</table>d", None),
    "table for looks": ("<table><tr><td>a</td></tr><tr><td>b</td></tr></table>", "a\n\nb"),
    "code in a table": (r"<table><tr><td><code>a|b</code><td>\(|x|\)</table>", None),
    "code": ("<code>a*b</code> <code>`</code> <kbd>x\\</kbd>", "`a*b` `` ` `` ` x\\ `"),
    "code beside code": ("<code>a</code><code>`</code>", "`a` `` ` ``"),
    "ends without a beginning": ("a</sup></b></a></li></ul></table></code></h2>b", "a\n\nb"),
    "picture in code": ("<code>a<img src=b.png></code>", "`ab.png`"),
    "code of lines": ("a <code>x<br>  y</code>", "a\n\n```\nx\n  y\n```"),
    "code block": (
        '<pre class=x><code class="hljs language-python"><span class="k">def</span> f():\n    pass</code></pre>',
        "```python\ndef f():\n    pass\n```",
    ),
    "pygments": (
        '<table class="highlighttable"><tr><td class="linenos"><pre>1\n2</pre></td><td class="code"><div><pre>'
        "<span></span>a <span class=o>&lt;</span> b\n<div>c</div></pre></div></td></tr></table>",
        "```\na < b\n\nc\n```",
    ),
    "code with fences": ("<pre>```\na</pre>", "````\n```\na\n````"),
    "heading": ("<h1>a <b>b</b> #</h1>c<h4>d</h4>", "#### a **b** \\#\n\nc\n\n###### d"),
    "rule": ("a<hr>b", "a\n\n---\n\nb"),
    "link": ('<a href="https://a.b/c (d)$">x*</a>', r"[x\*](https://a.b/c%20%28d%29%24)"),
    "bare link": ("<a href=http://a.b/c_d>http://a.b/c_d</a>", "<http://a.b/c_d>"),
    "other links": ('<a href="javascript:x()">a</a> <a href=file:///x>b</a> <a name=y>c</a>', "a b c"),
    "picture": (
        '<img src="a_b (1).png"> <img src="%E4%B8%AD.jpg" alt="[x]">',
        "![a_b (1).png](a_b%20%281%29.png) ![(x)](中.jpg)",
    ),
    "pictures from elsewhere": (
        '<img src="https://a.b/c.png" alt=d> <img src="../../e.png"> <img src="data:image/png;base64,AA">',
        r"[d](https://a.b/c.png) ../../e.png \[picture\]",
    ),
    "sound": ("a[sound:b_c d.mp3]<video src='e.mp4'></video>", "a♪ b_c d.mp3\\\n♪ e.mp4"),
    "readings": ("<ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp></ruby>", "漢(かん)"),
    "details": ("<details><summary>a</summary>b</details>", "**a**\n\nb"),
    "definitions": ("<dl><dt>a</dt><dd>b</dd></dl>", "**a**\\\nb"),
    "mathjax": (r"\(a &lt; <b>b</b>\)5 \(c\)\(d\) \[e\\[2pt]<br>f\] g", "$a < b$ 5 $c$ $d$\n\n$$e\\\\[2pt] f$$\n\ng"),
    "mathjax element": ('<anki-mathjax block="true">x</anki-mathjax><anki-mathjax>y</anki-mathjax>', "$$x$$\n\n$y$"),
    "less than": (r"\(a&lt;b\)", "$a< b$"),
    "environments": (r"\[\begin{align*}a &amp;= b\end{align*}\]", r"$$\begin{aligned}a &= b\end{aligned}$$"),
    "latex": (
        r"[latex]\documentclass{x}<br>\begin{document}$a$ is $b$\end{document}[/latex] [$]c[/$][$$]d[/$$]",
        "$a$ is $b$ $c$\n\n$$d$$",
    ),
    "latex display": (r"[latex]\begin{displaymath}a\end{displaymath}[/latex]", "$$a$$"),
    "latex of words": (r"[latex]\begin{itemize}\item a\end{itemize}[/latex]", r"`\begin{itemize}\item a\end{itemize}`"),
    "dollars in a formula": (r"\(\text{if $x$}\)", r"`\text{if $x$}`"),
    "formulas without an end": (r"\(a \[b [latex]c", r"\\(a \\\[b \[latex\]c"),
    "money": ("$5 and $6", r"\$5 and \$6"),
    "signs": ("*a* _b_ c_d [e](f) `g` \\* a<b &lt;i&gt; &amp;amp; ~~h~~", None),
    "line starts": (
        "1. a<br>- b<br># c<br>&gt; d<br>===<br>+ e<br>-5<br>:--",
        "1\\. a\\\n\\- b\\\n\\# c\\\n\\> d\\\n\\===\\\n\\+ e\\\n-5\\\n\\:--",
    ),
    "scripts and styles": ("a<script>b<c></script><style>d</style><iframe src=x>e</iframe><!-- f -->g", "ag"),
    "handlers": ('<b onclick="x()">a</b><svg onload=y><text>b</text></svg>', "**a**b"),
    "a tag without an end": ('a <b title="x>c</b> d', r'a \<b title="x>c\</b> d'),
    "entities": ("&copy;&#x4e2d;&#20013;&nosuch; &#0; &#99999999; &copy", "©中中\\&nosuch; \ufffd \\&#99999999; ©"),
    "hostile": ("a\x1b[31mb&#27;[0m\u202ec&#x202e;d\u200be&zwnj;f\x00\x9b5mg", r"ab\[0mcdefg"),
    "nothing": ("<div><br></div><b> </b>&nbsp;<ul><li></li></ul><table><tr><td></table><pre></pre>", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", [name for name, (_, written) in CASES.items() if written is not None])
def test_markdown(case: str) -> None:
    source, written = CASES[case]
    assert markdown(source) == written


MARKDOWN = MarkdownIt("commonmark").enable("table")


def visible(source: str) -> str:
    """The words that a reader of Markdown shows; fails if it would see HTML, or code by an indent."""
    shown = []
    for token in MARKDOWN.parse(source):
        assert token.type not in ("html_block", "code_block"), source
        shown.append(token.content if token.type == "fence" else " ")
        for child in token.children or []:
            assert child.type != "html_inline", source
            if child.type == "link_open":
                assert str(child.attrs["href"]).startswith(("http://", "https://"))
            shown.append(" " if child.type.endswith("break") else child.content)
    return "".join(shown)


def bare(text: str) -> str:
    """`text` without spaces and the signs that scripts, strikes and items add."""
    return re.sub(r"[\s^_()~•/]", "", unicodedata.normalize("NFKC", text).replace("−", "-"))


@pytest.mark.parametrize(
    ("case", "shown"),
    [
        ("signs", "*a* _b_ c_d [e](f) `g` \\* a<b <i> &amp; ~~h~~"),
        ("table in a table", "a / b c d"),
        ("code in a table", r"a|b $\vert x\vert$"),
    ],
)
def test_it_reads_as_the_field_says(case: str, shown: str) -> None:
    assert bare(visible(markdown(CASES[case][0]))) == bare(shown)


def test_formulas_are_formulas_in_a_deck_and_others_are_code() -> None:
    assert inline.formulas(markdown(r"\(\frac{a}{b}\) costs $5, \[c\] `$d$` <code>$e$</code>")) == [r"\frac{a}{b}", "c"]
    assert plain.lines(markdown(r"\(\frac{a}{b}\)<br>\(\unknown{x}\)")) == ["a/b", r"`$\unknown{x}$`"]


TEXTS = [*"a中“”。()[]*_`$\\#+=~!<>|é😀\t ", " ", " ", "**", "$5", "1.", "- ", "---", "](", "&lt;b&gt;", "&amp;amp;"]
BLOCK_TAGS = ["<ul>", "</ul>", "<ol>", "<li>", "<div>", "</div>", "<p>", "<pre>", "</pre>", "<h2>", "</h2>", "<br>"]
BLOCK_TAGS += ["<hr>", "<blockquote>", "</blockquote>", "<summary>", "</summary>"]
INLINE_TAGS = ["<b>", "</b>", "<i>", "</i>", "<s>", "</s>", "<sup>", "</sup>", "<code>", "</code>", "<span class=x>"]
PIECES = st.sampled_from([*TEXTS, *BLOCK_TAGS, *INLINE_TAGS, *INLINE_TAGS[:4], "<a href=http://z>", "</a>"])


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.lists(PIECES, max_size=25).map("".join))
def test_any_field_reads_as_its_text(source: str) -> None:
    written = markdown(source)
    text = html.unescape(re.sub(r"</?[a-z][^<>]*>", "", source))
    if "http://z" not in source or "[" not in source:  # a link's words between brackets may be a picture or a link
        assert bare(visible(written)) == bare(text)
    assert inline.formulas(written) == []


HOSTILE = st.text(
    st.one_of(
        st.characters(),
        st.sampled_from(
            "\x1b\x9b\x90\x07[]31m;\r\n\u200d\u200c\ufe0f\u0301\u202e\U0001f468\U0001f3f4\U000e0067\U000e007f"
        ),
        st.sampled_from("<>/b\"'=&#;$\\`*_{}:c1"),
        st.integers(0xD800, 0xDFFF).map(chr),
        st.sampled_from("\ufdd0\ufdd1\ufdd6\ufdd8\ufdd90\ue000\ue001"),
    ),
    max_size=60,
)
FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\ufdd0-\ufdef\ue000\ue001]"
)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(HOSTILE)
def test_nothing_hostile_stays_whatever_comes_in(source: str) -> None:
    clean = neutral(source)
    assert neutral(clean) == clean
    assert not FORBIDDEN.search(clean)
    written = markdown(source)
    assert not FORBIDDEN.search(written)
    visible(written)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("👩\u200d🔬 ❤\ufe0f 🏴\U000e0067\U000e0062\U000e007f", "👩\u200d🔬 ❤\ufe0f 🏴\U000e0067\U000e0062\U000e007f"),
        ("می\u200cخواهم क्\u200dष", "می\u200cخواهم क्\u200dष"),
        ("a\u200db 中\u200c文 a\ufe0f\ufe0f \ufe0f", "ab 中文 a\ufe0f "),
        ("\U000e0041a\u00adb\ufeff\u2062", "ab"),
        ("e\u0301, " + "e" + "\u0301" * 50, "e\u0301, e" + "\u0301" * 8),
        ("\x1b]0;title\x07a\x1b[1;31mb\x1b(Bc\x9b2Jd\x1bPq\x1b\\e", "abcde"),
        ("a\x1b]0;never closed", "a0;never closed"),
        ("a\r\nb\rc\u2028d\x85e\x0bf", "a\nb\nc\nd\ne\nf"),
        ("\ud800a\udc00", "\ufffda\ufffd"),
    ],
)
def test_what_is_invisible_stays_only_where_it_shapes_text(text: str, kept: str) -> None:
    assert neutral(text) == kept


def test_entities_are_no_way_around() -> None:
    assert decoded("&#27;[1m &#x202E;x &#xFDD0; &zwj; &#xd800; &#57344;") == "[1m x   \ufffd "
    assert decoded("&" * 1000 + "#" + "9" * 100_000) == "&" * 1000 + "#" + "9" * 100_000


LENGTH = 32_000
BOMBS = [
    *("<", "<a ", '<a b="', "<a b='", "<!--", "<script", "<script>", "</script", "<b>", "<b><p>x", "</b>", "<b><i>x"),
    *("<ul><li>", "<li>x", "<ol><li>x", "<blockquote>x", "<table><tr><td>", "<td>x", "<tr><td>x<td>y", "<pre>"),
    *("<code>", "<code>`", "`", "\\(", "\\(x\\)", "\\[", "[latex]", "[$]", "[sound:", "&", "&#9", "{{c1::", "{{c1::x"),
    *("<b>((((((((", "x<b>.</b>", "<a href=http://a>x", "<img src=x>", "<sup>x", "<br> ", " ", "\x1b[", "\x1b]"),
    *("\x90", "\U0001f600\u200d", "\u0301", "{{#F}}", "{{", "}}", "<hr id=answer", "::", "<h1>x", "<summary>x", "\\"),
]


def parsed_template(text: str) -> None:
    with contextlib.suppress(mustache.TemplateError):
        mustache.parsed(text, ["F"])


@pytest.mark.slow
@pytest.mark.parametrize("work", [markdown, clozes.parse, parsed_template])
def test_time_is_linear_whatever_is_left_open_or_nested(work: Callable[[str], object]) -> None:
    """A reader that looks at the rest of the text from each of its signs takes seconds for one of these."""
    for bomb in (*BOMBS, *("<table>" + it * 8_000 for it in ("<td><code>x</code>", "<td>\\(x\\)", "<td>x", "<tr>"))):
        start = time.process_time()
        work(bomb * max(LENGTH // len(bomb), 1))
        assert time.process_time() - start < 1.0, bomb


def test_depth_does_not_matter() -> None:
    for tag in ("div", "b", "ul><li", "blockquote", "table><tr><td", "span", "pre", "a href=http://x"):
        written = markdown(f"<{tag}>" * 1_000 + "word" + f"</{tag.partition('>')[0]}>" * 1_000)
        assert "word" in visible(written)
        assert len(written) < 30_000
