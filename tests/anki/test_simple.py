"""The fast path of Markdown says exactly what the parser says, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmquiz.anki.exporting import html, simple

TEXT = [
    "word",
    "num_kv_heads",
    "注意力",
    "，",
    " ",
    "  ",
    "5",
    ".",
    ":",
    "(",
    ")",
    "!",
    "&",
    "&amp;",
    "&#58;",
    "<",
    ">",
    "\\",
]
MARKS = ["`", "``", "`code`", "$", "$$", "$x_{i}$", "$$y$$", "**", "*", "_", "**bold**", "~~", "{{", "}}", "\\$", "\\("]
CODE = ["```\nx\n```", "```python\na = [0]\n\n- b\n```\n", "\n```\n", "```\n", "```x y\n", "~~~\n", "````\n"]
LINKS = ["[", "](", "![", "[latex]", "[a](https://x.org/y)", "<https://arxiv.org/abs/1>", "](javascript:x)", "<b>"]
STARTS = [
    "\n",
    "\n\n",
    "- ",
    "* ",
    "+ ",
    "1. ",
    "> ",
    "# ",
    "|",
    "---",
    "===",
    "    ",
    "\t",
    "a|b\n-|-\nc|d",
    "```\nx\n```",
]
markdown = st.lists(
    st.sampled_from([*TEXT, *MARKS, *LINKS, *CODE, *STARTS, "[a]: https://x.org\n"]), min_size=1, max_size=12
)


@settings(max_examples=800, deadline=None)
@given(markdown)
def test_inline_agrees_with_the_parser(pieces: list[str]) -> None:
    source = "".join(pieces).strip()
    fast = simple.inline(source)
    assert fast is None or fast == html.parsed_inline(source)


@settings(max_examples=800, deadline=None)
@given(markdown)
def test_block_agrees_with_the_parser(pieces: list[str]) -> None:
    source = "".join(pieces).strip() or "word"
    fast = simple.block(source)
    assert fast is None or fast == html.parsed_block(source)


@pytest.mark.parametrize(
    "source",
    [
        "The cache holds $2 n_{kv} d$ values, see `num_kv_heads`.",
        "One.\n\nTwo, **bold**, with 5 < 6 & more.\n\n- a\n- b",
        "Vaswani et al. 2017, §3.2.1, <https://arxiv.org/abs/1706.03762>",
        "键值缓存\n随长度增长。",
    ],
)
def test_ordinary_card_text_does_not_take_the_parser(source: str) -> None:
    assert simple.block(source) is not None
