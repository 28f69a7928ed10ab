"""Markdown and TeX as the HTML of a field."""

from __future__ import annotations

import re

import pytest

from llmquiz.anki.exporting import html


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("Why $\\sqrt{d_k}$?", "Why \\(\\sqrt{d_k}\\)?"),
        ("$a<b$ and $c>d$", "\\(a&lt;b\\) and \\(c&gt;d\\)"),
        ("$a_1 * b_2 * c$", "\\(a_1 * b_2 * c\\)"),
        ("$W[i]$", "\\(W&#91;i]\\)"),
        ("$x_{a_{b}}$", "\\(x_{a_{b} }\\)"),
        ("$$y$$", "\\[y\\]"),
        ("costs $5 and $6", "costs $5 and $6"),
        ("\\$x\\$", "$x$"),
        ("`$x$`", "<code>$x$</code>"),
        ("`a < b`", "<code>a &lt; b</code>"),
        ("*soft* and **hard**", "<em>soft</em> and <strong>hard</strong>"),
        ("[paper](https://x.org/a_b)", '<a href="https://x.org/a_b">paper</a>'),
        ('[paper](https://x.org "a title")', '<a href="https://x.org">paper</a>'),
        ("键值\n缓存", "键值缓存"),
        ("key\nvalue", "key\nvalue"),
    ],
)
def test_inline(source: str, expected: str) -> None:
    assert html.inline(source) == expected


def test_a_displayed_formula_is_not_read_as_markdown() -> None:
    assert html.block("Then\n\n$$\na\n- b\n= *c*\n$$\n\nso.") == "<p>Then</p>\n<p>\\[a\n- b\n= *c*\\]</p>\n<p>so.</p>"


@pytest.mark.parametrize("source", ["$$ a", "$$\na\n\nb $$", "$$ a $$ b $$ c", "$$"])
def test_dollars_that_close_nothing_lose_nothing(source: str) -> None:
    shown = re.sub(r"<[^>]*>|\\\[|\\\]|\s|\$", "", html.block(source))
    assert shown == re.sub(r"[\s$]", "", source)


def test_code_is_coloured_on_its_own_ground() -> None:
    block = html.block("```python\nx = a[0] < 1\n```")
    assert block.startswith('<pre style="background:')
    assert 'style="color:' in block
    assert re.sub(r"<[^>]*>", "", block) == "x = a&#91;0] &lt; 1"
    assert html.block("```nosuch\n<b>\n```").endswith("<code>&lt;b&gt;</code></pre>")


def test_tables_and_lists() -> None:
    assert "<td>\\(x\\)</td>" in html.block("| a | b |\n|---|---|\n| $x$ | 2 |")
    assert html.items(["a", "`b`"]) == "<ul><li>a</li><li><code>b</code></li></ul>"
    assert html.items([]) == ""
    assert html.block("  \n") == ""


HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "![x](https://tracker.example/pixel.png)",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](file:///etc/passwd)",
    "<javascript:alert(1)>",
    "[x]: javascript:alert(1)\n\n[x]",
    '[x](https://x.org/"onmouseover="alert(1))',
    "`<script>alert(1)</script>`",
    "```html\n<script>alert(1)</script>\n```",
    "```<script>\n<b>\n```",
    "$</script><script>alert(1)</script>$",
    "$\\href{javascript:alert(1)}{x}$",
    "$$\n\\href{javascript:alert(1)}{x}\n$$",
    "\\\\(\\href{javascript:alert(1)}{x}\\\\)",
    "[latex]\\input{/etc/passwd}[/latex]",
    "[sound:evil.mp3] [anki:tts lang=en_US]x[/anki:tts]",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "a\x1fb\x00c",
]


@pytest.mark.parametrize("render", [html.block, html.inline])
@pytest.mark.parametrize("source", HOSTILE)
def test_hostile_text_is_inert(source: str, render: object) -> None:
    result = render(source)
    tags = set(re.findall(r"<\s*/?\s*([a-z0-9]+)", result.lower()))
    assert tags <= {"p", "code", "pre", "span", "a", "ul", "li", "em", "strong"}
    assert not re.search(r"<[^>]*\son\w+=", result)
    assert all(link.startswith("https://") for link in re.findall(r'href="([^"]*)', result))
    assert "[" not in re.sub(r"\\\[", "", result)
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", result)
    for formula in re.findall(r"\\[(\[](.*?)\\[)\]]", result, re.DOTALL):
        assert "href" not in formula
