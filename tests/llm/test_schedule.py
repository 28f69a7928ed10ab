"""Learning rates: where they begin, peak and end, and torch's own schedules as witnesses."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.train.schedule import constant, warmup_cosine, warmup_stable_decay  # noqa: E402

pytestmark = pytest.mark.labs

COSINE = partial(warmup_cosine, warmup=10, total=110, peak=0.3, floor=0.03)
STABLE = partial(warmup_stable_decay, warmup=10, total=100, peak=0.3, floor=0.03, decay=0.2)


@pytest.mark.parametrize("schedule", [COSINE, STABLE, partial(constant, peak=0.3, warmup=10)])
def test_the_rise_is_a_line_that_starts_above_zero(schedule: Callable[[int], float]) -> None:
    rates = [schedule(step) for step in range(10)]

    assert rates == pytest.approx([0.03 * (step + 1) for step in range(10)])
    assert max(schedule(step) for step in range(200)) == pytest.approx(0.3)


def test_the_cosine_is_at_half_height_half_way_and_stays_at_the_floor() -> None:
    assert COSINE(60) == pytest.approx((0.3 + 0.03) / 2)
    assert [COSINE(step) for step in (110, 111, 1000)] == pytest.approx([0.03] * 3)


def test_the_cosine_is_torchs() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100, eta_min=0.03)
    for step in range(10, 110):
        assert COSINE(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        theirs.step()


def test_the_stable_rate_does_not_depend_on_the_last_step() -> None:
    longer = partial(warmup_stable_decay, warmup=10, total=1000, peak=0.3, floor=0.03, decay=0.2)

    assert [STABLE(step) for step in range(80)] == [longer(step) for step in range(80)]
    assert STABLE(90) == pytest.approx((0.3 + 0.03) / 2)
    assert [STABLE(step) for step in (100, 5000)] == pytest.approx([0.03] * 2)


def test_no_warm_up_and_no_decay_are_allowed() -> None:
    assert warmup_cosine(0, warmup=0, total=1, peak=1.0) == 1.0
    assert warmup_stable_decay(9, warmup=0, total=10, peak=1.0, decay=0.0) == 1.0
    assert math.isclose(constant(5, peak=2.0), 2.0)
