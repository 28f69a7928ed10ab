"""Processors and samplers: what they keep, what they draw, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from llmquiz.llm.decode.processors import (  # noqa: E402
    FrequencyPenalty,
    MinP,
    PresencePenalty,
    RepetitionPenalty,
    Temperature,
    TopK,
    TopP,
    Typical,
    occurrences,
)
from llmquiz.llm.decode.sampling import Mirostat, Sampler, SamplingParams  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402

pytestmark = pytest.mark.labs

NO_TOKENS = torch.zeros(1, 1, dtype=torch.long)
SHARES = st.floats(0.01, 0.99)
WEIGHTS = st.lists(st.integers(1, 1000), min_size=2, max_size=24, unique=True)  # unique: a tie has no right order


def logits_of(weights: list[int]) -> Any:
    return torch.tensor([weights], dtype=torch.float64).log()


def probs(logits: Any) -> Any:
    return logits.softmax(-1)[0]


@given(WEIGHTS, SHARES)
@settings(max_examples=30, deadline=None)
def test_the_nucleus_is_the_smallest_set_that_reaches_p(weights: list[int], p: float) -> None:
    logits = logits_of(weights)
    kept = TopP(p)(NO_TOKENS, logits)[0].isfinite()
    before = probs(logits)
    inside = before[kept]

    assert inside.sum() >= p - 1e-9
    assert inside.sum() - inside.min() < p + 1e-9  # without its least token it would not
    assert kept.all() or inside.min() > before[~kept].max()


@given(WEIGHTS, SHARES, SHARES, SHARES, st.integers(1, 30), st.floats(0.1, 5.0))
@settings(max_examples=30, deadline=None)
def test_a_chain_leaves_a_distribution_with_the_likeliest_token(
    weights: list[int], top_p: float, min_p: float, typical_p: float, k: int, temperature: float
) -> None:
    logits = logits_of(weights)
    params = SamplingParams(temperature=temperature, top_k=k, top_p=top_p, min_p=min_p)
    changed = logits
    for process in params.processors():
        changed = process(NO_TOKENS, changed)

    assert float(probs(changed).sum()) == pytest.approx(1.0)
    assert int(changed.argmax()) == int(logits.argmax())
    assert 1 <= int(changed.isfinite().sum()) <= k
    assert Typical(typical_p)(NO_TOKENS, changed).isfinite().any()


@given(WEIGHTS, SHARES)
@settings(max_examples=20, deadline=None)
def test_min_p_is_a_part_of_the_likeliest(weights: list[int], p: float) -> None:
    kept = MinP(p)(NO_TOKENS, logits_of(weights))[0].isfinite()
    expected = torch.tensor(weights, dtype=torch.float64) >= p * max(weights) * (1 - 1e-12)

    assert kept.tolist() == expected.tolist()


def test_top_k_keeps_ties_and_never_more_than_there_is() -> None:
    logits = torch.tensor([[3.0, 2.0, 2.0, 1.0]])
    assert TopK(2)(NO_TOKENS, logits).isfinite().tolist() == [[True, True, True, False]]
    assert torch.equal(TopK(9)(NO_TOKENS, logits), logits)


def test_the_typical_set_may_drop_the_likeliest_token() -> None:
    logits = torch.tensor([[0.5, 0.09, 0.08, 0.08, 0.08, 0.08, 0.09]]).log()
    kept = Typical(0.15)(NO_TOKENS, logits).isfinite()[0]

    assert not kept[0]
    assert kept.any()


def test_a_repeated_token_becomes_less_likely_whatever_its_sign() -> None:
    said, logits = torch.tensor([[0, 1, 1]]), torch.tensor([[3.0, -3.0, 1.0]])
    assert RepetitionPenalty(2.0)(said, logits).tolist() == [[1.5, -6.0, 1.0]]
    lifted = probs(torch.tensor([[1.5, -1.5, 1.0]]))  # the wrong way: both divided
    assert lifted[1] > probs(logits)[1]
    assert (probs(RepetitionPenalty(2.0)(said, logits))[:2] < probs(logits)[:2]).all()


def test_presence_counts_once_and_frequency_each_time_and_neither_counts_the_prompt() -> None:
    said, logits = torch.tensor([[2, 2, 0, 1, 1]]), torch.zeros(1, 3)  # two tokens of prompt

    assert PresencePenalty(0.5, skip=2)(said, logits).tolist() == [[-0.5, -0.5, 0.0]]
    assert FrequencyPenalty(0.5, skip=2)(said, logits).tolist() == [[-0.5, -1.0, 0.0]]


def test_padding_was_never_said() -> None:
    tokens = torch.tensor([[7, 7, 1], [7, 2, 3]])
    counts = occurrences(tokens, 8, torch.tensor([2, 1]))

    assert counts[:, 7].tolist() == [0, 0]
    assert counts.sum(dim=1).tolist() == [1, 2]


def test_processors_leave_their_input_alone() -> None:
    said, logits = torch.tensor([[0, 1]]), torch.tensor([[2.0, 1.0, 0.0]])
    for process in (RepetitionPenalty(2.0), Temperature(2.0), TopK(1), TopP(0.1), MinP(0.9), Typical(0.1)):
        process(said, logits)
    assert logits.tolist() == [[2.0, 1.0, 0.0]]


def test_temperature_zero_is_greedy_and_keeps_penalties() -> None:
    params = SamplingParams(temperature=0, top_k=5, top_p=0.9, repetition_penalty=1.5, presence_penalty=0.1)

    assert params.greedy
    assert [type(process) for process in params.processors()] == [RepetitionPenalty, PresencePenalty]
    assert SamplingParams().processors() == []


@given(WEIGHTS)
@settings(max_examples=30, deadline=None)
def test_a_cold_draw_is_the_likeliest_token(weights: list[int]) -> None:
    logits = Temperature(1e-5)(NO_TOKENS, logits_of(weights))
    assert int(Sampler.seeded(0, 1)(logits)) == int(logits.argmax())


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ({"temperature": -0.1}, "temperature is -0.1; it must be 0 or more"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"top_k": -1}, "top_k is -1; it must be a whole number"),
        ({"top_k": 2.5}, "top_k is 2.5"),
        ({"top_k": True}, "top_k is True"),
        ({"top_p": 0.0}, "top_p is 0.0; it must be above 0"),
        ({"top_p": 1.01}, "top_p is 1.01"),
        ({"top_p": float("nan")}, "top_p is nan"),
        ({"min_p": 1.5}, "min_p is 1.5; it must be from 0 to 1"),
        ({"typical_p": 0.0}, "typical_p is 0.0"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0; it must be above 0"),
        ({"frequency_penalty": float("inf")}, "frequency_penalty is inf"),
        ({"presence_penalty": float("nan")}, "presence_penalty is nan"),
    ],
)
def test_what_is_out_of_range_is_refused_when_it_is_said(wrong: dict[str, float], problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        SamplingParams(**wrong)  # type: ignore[arg-type]


def test_a_request_cannot_be_changed_after_it_was_checked() -> None:
    with pytest.raises(AttributeError):
        SamplingParams().temperature = -1.0  # type: ignore[misc]


def test_one_generator_draws_what_torch_draws() -> None:
    logits = torch.randn(5, 300, generator=torch.Generator().manual_seed(1)) * 3
    logits[:, ::3] = -torch.inf
    ours, theirs = torch.Generator().manual_seed(2), torch.Generator().manual_seed(2)
    sampler = Sampler([ours])
    for _ in range(20):
        expected = torch.multinomial(logits.softmax(-1), 1, generator=theirs)[:, 0]
        assert torch.equal(sampler(logits), expected)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    logits = torch.randn(6, 50, generator=torch.Generator().manual_seed(1))
    many, few = Sampler.seeded(3, 6), Sampler.seeded(3, 2)
    for _ in range(10):
        assert torch.equal(many(logits)[:2], few(logits[:2]))


def test_rows_of_one_seed_are_one_sample() -> None:
    logits = torch.zeros(1, 1000).expand(5, -1)
    assert len(set(Sampler([torch.Generator().manual_seed(0) for _ in range(5)])(logits).tolist())) == 1
    assert len(set(Sampler.seeded(0, 5)(logits).tolist())) == 5


def test_draws_follow_the_distribution() -> None:
    wanted = torch.tensor([0.5, 0.25, 0.15, 0.1])
    draws = Sampler.seeded(0, 1)(wanted.log().expand(20_000, -1))
    counts = torch.bincount(draws, minlength=4)
    chi_square = float(((counts - 20_000 * wanted) ** 2 / (20_000 * wanted)).sum())

    assert chi_square < 16.3  # three degrees of freedom, one in a thousand


def test_a_sampler_needs_a_generator_a_row() -> None:
    with pytest.raises(ModelError, match="2 generators for 3 rows"):
        Sampler.seeded(0, 2)(torch.zeros(3, 4))


def mean_surprise(tau: float, logits: Any, steps: int = 400) -> float:
    mirostat = Mirostat(tau, Sampler.seeded(0, 1))
    surprise = -logits.log_softmax(-1)[0] / torch.log(torch.tensor(2.0))
    return float(torch.stack([surprise[int(mirostat(logits))] for _ in range(steps)])[100:].mean())


def test_mirostat_reaches_its_target_where_it_can() -> None:
    """On 1/rank: the likeliest token costs 2.6 bits, free draws 6.2 on average; outside of that nothing helps."""
    logits = -torch.arange(1, 501, dtype=torch.float32).log()[None]
    log_p = logits.log_softmax(-1)[0]
    least, entropy = float(-log_p[0]) / 0.6931, float(-(log_p.exp() * log_p).sum()) / 0.6931

    for tau in (least + 1, entropy - 1):
        assert mean_surprise(tau, logits) == pytest.approx(tau, abs=0.15)
    assert mean_surprise(least - 1, logits) == pytest.approx(least, abs=0.01)
    assert mean_surprise(entropy + 3, logits) == pytest.approx(entropy, abs=0.4)


def test_mirostat_keeps_a_state_a_row() -> None:
    rows = torch.stack([torch.zeros(64), -torch.arange(64.0)])
    mirostat = Mirostat(3.0, Sampler.seeded(0, 2))
    for _ in range(30):
        mirostat(rows)
    assert mirostat.mu is not None
    assert mirostat.mu[0] < mirostat.mu[1]  # six bits a token are too many, less than one too few
