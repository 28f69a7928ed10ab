"""The laws at numbers worked out by hand, their limits, and their use in checks."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmquiz.calc import formulas
from llmquiz.calc.errors import CalcError
from llmquiz.calc.formulas import CHECKED
from llmquiz.deck.checks import CheckError, compute

WHOLE = st.integers(1, 10_000)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("kv_cache_bytes(32, 8, 128, 1)", 128 * 1024),
        ("kv_cache_bytes(32, 8, 128, 8192, 1)", 2**29),
        ("mla_cache_bytes(61, 512, 64, 1)", 70_272),
        ("zero_bytes(7e9, 8, 0)", 112e9),
        ("zero_bytes(7e9, 8, 1)", 7e9 * 5.5),
        ("zero_bytes(7e9, 8, 2)", 7e9 * 3.75),
        ("zero_bytes(7e9, 8, 3)", 14e9),
        ("lora_parameters(4096, 4096, 16)", 131_072),
        ("training_flops(70e9, 15e12)", 6.3e24),
        ("forward_flops(7e9)", 14e9),
        ("attention_flops(32, 32, 128, 1, 4096)", 4 * 32 * 4096 * 4096),
        ("activation_bytes(1, 8, 2, 4)", 4 * (34 * 8 + 5 * 2 * 4)),
        ("pipeline_bubble(4, 4)", 3 / 7),
        ("ring_all_reduce_bytes(1e9, 4)", 1.5e9),
        ("roofline_seconds(1e12, 1e9, 1e12, 2e9)", 1.0),
        ("roofline_seconds(1e12, 4e9, 1e12, 2e9)", 2.0),
    ],
)
def test_laws_in_checks(expression: str, value: float) -> None:
    assert compute(expression) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("zero_bytes(7e9, 8, 4)", "stage 4 is not one of 0, 1, 2, 3"),
        ("pipeline_bubble(0, 4)", "pipeline_bubble: stages is 0; it must be positive"),
        ("kv_cache_bytes(1)", "cannot be computed"),
        ("kv_cache_bytes(1, 1, 1, 1, 1, 1)", "cannot be computed"),
        ("kv_cache_bytes(10**300, 10**300, 10**300, 10**300)", "cannot be computed|4096 bits"),
        ("kv_cache_bytes", "unknown in a check"),
        ("kv_cache_bytes(layers=1)", "is not arithmetic"),
    ],
)
def test_a_wrong_call_is_told(expression: str, problem: str) -> None:
    with pytest.raises(CheckError, match=problem):
        compute(expression)


@pytest.mark.parametrize("name", CHECKED)
def test_every_law_refuses_zero_and_what_is_no_number(name: str) -> None:
    count = CHECKED[name].__code__.co_argcount
    for bad in (0, -1, math.inf, math.nan):
        with pytest.raises(CalcError):
            CHECKED[name](*[bad] * count)


@given(WHOLE, st.integers(1, 1000))
def test_each_stage_of_zero_holds_no_more_than_the_one_before(parameters: int, gpus: int) -> None:
    held = [formulas.zero_bytes(parameters, gpus, stage) for stage in range(4)]

    assert held == sorted(held, reverse=True)
    assert held[0] == 16 * parameters
    assert held[3] == pytest.approx(16 * parameters / gpus)


@given(WHOLE, WHOLE)
def test_bubbles_and_rings_keep_to_their_bounds(p: int, m: int) -> None:
    assert 0 <= formulas.pipeline_bubble(p, m) < 1
    assert formulas.pipeline_bubble(p, m + 1) <= formulas.pipeline_bubble(p, m)
    assert 0 <= formulas.ring_all_reduce_bytes(1.0, p) < 2


@given(WHOLE, WHOLE, WHOLE, WHOLE)
def test_the_cache_is_linear_in_each_of_its_factors(layers: int, heads: int, dim: int, tokens: int) -> None:
    one = formulas.kv_cache_bytes(layers, heads, dim, tokens)

    assert formulas.kv_cache_bytes(2 * layers, heads, dim, tokens) == 2 * one
    assert 2 * formulas.kv_cache_bytes(layers, heads, dim, tokens, 1) == one  # whole numbers: halves of them are not
    assert formulas.mla_cache_bytes(layers, heads, dim, tokens) == 2 * layers * (heads + dim) * tokens
