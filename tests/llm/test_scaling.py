"""Power-law fits: they recover what made the points, and admit what the points do not tell."""

from __future__ import annotations

import random

import pytest

from llmquiz.llm.errors import ModelError
from llmquiz.llm.eval.scaling import fit_power_law, plausible_floors

pytestmark = pytest.mark.labs

SIZES = [1e4 * 2**k for k in range(8)]


def law(x: float, floor: float = 0.0) -> float:
    return floor + 40 * x**-0.3


@pytest.mark.parametrize("floor", [0.0, 0.7])
def test_exact_points_give_back_their_law(floor: float) -> None:
    fit = fit_power_law([(x, law(x, floor)) for x in SIZES], floor)

    assert fit.exponent == pytest.approx(0.3)
    assert fit.scale == pytest.approx(40)
    assert fit(1e9) == pytest.approx(law(1e9, floor))
    assert fit.misfit < 1e-20


def test_the_margin_covers_the_exponent_nineteen_times_in_twenty() -> None:
    rng = random.Random(0)
    covered = 0
    for _ in range(400):
        fit = fit_power_law([(x, law(x) * (1 + rng.gauss(0, 0.02))) for x in SIZES])
        covered += abs(fit.exponent - 0.3) <= fit.margin

    assert 0.92 <= covered / 400 <= 0.98


def test_noise_hides_the_floor_and_exact_points_show_it() -> None:
    rng = random.Random(1)
    points = [(x, law(x, 0.7)) for x in SIZES]
    noisy = [(x, loss * (1 + rng.gauss(0, 0.02))) for x, loss in points]

    exact = [fit.floor for fit in plausible_floors(points)]
    assert exact == pytest.approx([0.7], abs=0.01)
    allowed = plausible_floors(noisy[:6])
    assert allowed[-1].floor - allowed[0].floor > 0.5
    assert allowed[0].exponent < allowed[-1].exponent
    assert allowed[0].floor <= 0.7 <= allowed[-1].floor


def test_too_few_points_are_refused() -> None:
    points = [(x, law(x)) for x in SIZES]

    with pytest.raises(ModelError, match="three points"):
        fit_power_law(points[:2])
    with pytest.raises(ModelError, match="four"):
        plausible_floors(points[:3])
    with pytest.raises(ModelError, match="above"):
        fit_power_law(points, floor=points[-1][1])
