r"""Markdown with TeX → the HTML of an Anki field.

A deck may come from a stranger, so a field carries no script, no raw HTML, no image and no link but http(s). What Anki
itself would act on is defused as well: ``[latex]`` and ``[sound:…]`` (every ``[`` is written as an entity), a literal
``\(``, and formulas that MathJax would turn into links or markup.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from llmquiz.anki.exporting import simple
from llmquiz.anki.exporting.escape import clean


def block(markdown: str, pictures: Collection[str] = ()) -> str:
    """The HTML of whole paragraphs, lists, tables and code blocks.

    Args:
        pictures: names of files that travel along; any other picture is shown as its description.
    """
    markdown = clean(markdown).strip()
    if not markdown:
        return ""
    html = simple.block(markdown)
    return html if html is not None else parsed_block(markdown, pictures)


def inline(markdown: str) -> str:
    """The HTML of a line of Markdown, without a paragraph around it."""
    markdown = clean(markdown).strip()
    html = simple.inline(markdown)
    return html if html is not None else parsed_inline(markdown)


def parsed_block(markdown: str, pictures: Collection[str] = ()) -> str:
    """`block` by the parser."""
    from llmquiz.anki.exporting import parser  # only few texts take it, and loading it costs as much as a hundred notes

    return parser.block(markdown, pictures)


def parsed_inline(markdown: str) -> str:
    """`inline` by the parser."""
    from llmquiz.anki.exporting import parser

    return parser.inline(markdown)


def items(lines: Iterable[str]) -> str:
    """A bulleted list of Markdown lines; empty if there are none."""
    body = "".join(f"<li>{inline(line)}</li>" for line in lines)
    return f"<ul>{body}</ul>" if body else ""
