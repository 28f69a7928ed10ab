"""Measurements: exponents that are known, medians of turns that are counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmquiz.core.errors import LabError
from llmquiz.lab.sdk import device, growth_exponent, interleaved_medians, median_seconds, memory_available, pick_device


@given(st.floats(-3, 3), st.floats(1e-3, 1e3))
def test_the_exponent_of_a_power_law_is_found(exponent: float, factor: float) -> None:
    points = [(x, factor * x**exponent) for x in (1.0, 2.0, 5.0, 10.0)]

    assert growth_exponent(points) == pytest.approx(exponent, abs=1e-6)


@pytest.mark.parametrize(
    ("points", "why"), [([], "two different x"), ([(1, 1), (1, 2)], "two different x"), ([(0, 1), (1, 1)], "positive")]
)
def test_an_exponent_needs_positive_points_at_two_places(points: list[tuple[float, float]], why: str) -> None:
    with pytest.raises(LabError, match=why):
        growth_exponent(points)


def test_works_take_turns_after_a_warm_up() -> None:
    calls: list[str] = []

    medians = interleaved_medians({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2, warmup=1)

    assert calls == ["a", "b"] * 3
    assert all(seconds >= 0 for seconds in medians.values())


def test_one_work_is_timed_by_itself() -> None:
    assert median_seconds(lambda: sum(range(1000)), repeats=3) > 0


def test_the_cpu_is_always_there() -> None:
    assert pick_device("cpu") == "cpu"
    assert memory_available() > 2**20
    assert isinstance(device.device_name("cpu"), str)


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(LabError, match="not one of auto, cpu, cuda, mps"):
        pick_device("tpu")


@pytest.mark.labs
def test_a_device_that_is_not_there_is_refused() -> None:
    torch = pytest.importorskip("torch")
    absent = next(
        (name for name, there in (("mps", torch.backends.mps), ("cuda", torch.cuda)) if not there.is_available()), None
    )
    if absent is None:
        pytest.skip("this machine has every device")

    with pytest.raises(LabError, match=f"no {absent} device"):
        pick_device(absent)


@pytest.mark.labs
def test_the_bandwidth_is_one_of_a_real_memory() -> None:
    pytest.importorskip("torch")
    from llmquiz.lab.sdk import read_bandwidth

    assert 1e8 < read_bandwidth("cpu", num_bytes=64 * 2**20, repeats=3) < 1e13
