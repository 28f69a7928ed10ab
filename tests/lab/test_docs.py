"""The lab that docs/labs.md teaches is a lab that runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from llmquiz.lab.catalog import Catalog
from llmquiz.lab.events import Outcome
from llmquiz.lab.runner import run_blocking
from llmquiz.lab.state import RunState

PAGE = Path(__file__).parents[2] / "docs" / "labs.md"


def test_the_lab_of_the_page_runs_and_its_claim_holds(write_lab: Callable[..., Path]) -> None:
    text = PAGE.read_text()
    manifest, script = (re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)[1] for kind in ("toml", "python"))
    catalog = Catalog([(write_lab("copies", manifest, script).parent, False)])
    state = RunState()

    run_blocking(catalog.find("copies"), {"tokens": "512"}, state.apply)

    assert state.outcome is Outcome.OK, state.ended
    assert state.metrics == {"copied": 512 * 511 / 2}
