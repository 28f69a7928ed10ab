"""Code in colour, with the colours written into the HTML: a field shows them in every client, whatever its style sheet.

Code stands on a dark ground in light and night mode alike, so that one set of colours reads well in both.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

from llmquiz.anki.exporting.escape import code

STYLE = "github-dark"
_GROUND = "background:#0d1117;color:#e6edf3"


@lru_cache(maxsize=256)
def code_block(source: str, language: str) -> str:
    """`source` as a ``<pre>``; uncoloured if `language` is not one that pygments knows.

    A card's languages have their code in common, so what was coloured last is at hand.
    """
    return f'<pre style="{_GROUND}"><code>{_coloured(source.rstrip(), language)}</code></pre>'


def _coloured(source: str, language: str) -> str:
    from pygments import highlight  # type: ignore[import-untyped]

    lexer = _lexer(language)
    if lexer is None:
        return code(source)
    html: str = highlight(source, lexer, _formatter())
    return html.rstrip("\n").replace("[", "&#91;")


@cache
def _lexer(language: str) -> Any:
    from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]
    from pygments.util import ClassNotFound  # type: ignore[import-untyped]

    try:
        return get_lexer_by_name(language)
    except ClassNotFound:
        return None


@cache
def _formatter() -> Any:
    from pygments.formatters.html import HtmlFormatter  # type: ignore[import-untyped]

    return HtmlFormatter(style=STYLE, noclasses=True, nowrap=True)
