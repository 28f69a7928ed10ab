"""Every lab as a user gets it: the default run ends within its budget and every claim holds.

Five seeds of each are run by `python -m tests.bench labs`; here one of them keeps the suite short.
"""

from __future__ import annotations

import pytest

from llmquiz import locations
from llmquiz.lab.catalog import Catalog
from llmquiz.lab.events import Outcome
from llmquiz.lab.server import ForkServer

from .running import run_in_child

CATALOG = Catalog([(locations.shipped("labs"), True)])
LABS = [lab.name for lab in CATALOG.labs()]


@pytest.mark.slow
@pytest.mark.labs
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", LABS)
def test_every_claim_holds(name: str, server: ForkServer) -> None:
    outcome, results = run_in_child(name, seed=0, server=server)

    assert results.broken == set()
    assert outcome is Outcome.OK
    assert results.points, "nothing to draw"
    assert results.tables
    drawn = {point.metric for point in results.points}
    assert {*results.metrics, *drawn} == set(CATALOG.find(name).manifest.metrics)
