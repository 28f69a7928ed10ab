"""A new deck of the user's own: a pair of files with one card that lints clean, to write on from."""

from __future__ import annotations

from pathlib import Path

from llmquiz.core.card import Lang
from llmquiz.core.errors import DeckError, Place, UsageError
from llmquiz.deck import attributes

_ENGLISH = """\
# {title}

What the deck is about, and what a reader will be able to say after it.

## Why does a retrieval attempt teach more than reading the answer again? {{#{name}-first topic=study-plan level=L1}}

Because recalling strengthens the memory that is used, while reading again only makes the text feel familiar.

Write detail here: paragraphs, lists, `code`, formulas such as $\\sqrt{{x}}$.

### Symbols
- $x$: any number that is not negative

### Key points
- recall strengthens the path that is used
- reading again breeds familiarity, which feels like knowing
- limit: an attempt without any feedback can fix a wrong answer

### Pitfall
Taking the ease of reading for the ability to answer.
"""

_CHINESE = """\
# {title}

这组卡片讲什么，读完之后能说清什么。

## 为什么尝试回忆（retrieval）比重读答案学得更多？ {{#{name}-first}}

因为回忆会强化正在使用的记忆，而重读只让文字显得熟悉。

在这里写细节：段落、列表、`code`、公式，如 $\\sqrt{{x}}$。

### 符号
- $x$：任意非负数

### 要点
- 回忆会强化被使用的路径
- 重读带来熟悉感，让人误以为已经掌握
- 局限：没有反馈的尝试可能固化错误答案

### 误区
把读得顺当成答得出。
"""


def create(name: str, folder: Path) -> tuple[Path, Path]:
    """Write ``<name>.en.md`` and ``<name>.zh.md`` into `folder`, which is made if need be; returns both paths.

    Raises:
        UsageError: if `name` cannot be a deck's name, or the deck is there already.
        DeckError: if the files cannot be written.
    """
    if problem := attributes.id_problem(name):
        raise UsageError(f"{problem}; for example 'my-notes'")
    paths = {lang: folder / f"{name}.{lang}.md" for lang in Lang}
    if taken := next((path for path in paths.values() if path.exists()), None):
        raise UsageError(f"{taken} is there already; edit it, or choose another name")
    title = name.replace("-", " ").capitalize()
    for lang, text in ((Lang.EN, _ENGLISH), (Lang.ZH, _CHINESE)):
        _write(paths[lang], text.format(title=title, name=name))
    return paths[Lang.EN], paths[Lang.ZH]


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OSError as error:
        raise DeckError(Place(path, 1), f"cannot be written: {(error.strerror or 'unknown reason').lower()}") from error
