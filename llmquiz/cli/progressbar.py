"""A bar on stderr for what takes seconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """Takes how much is done, and how much there is once that is known."""

    def __call__(self, done: int, total: int | None = None, /) -> None: ...


@contextmanager
def bar(what: str, total: int | None = None) -> Iterator[Advance]:
    """A bar named `what` while the context lasts; where stderr is no terminal, nothing. It leaves nothing behind."""
    if not sys.stderr.isatty():
        yield lambda done, total=None: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=total)

        def advance(done: int, total: int | None = None, /) -> None:
            bars.update(task, completed=done, total=total)

        yield advance
