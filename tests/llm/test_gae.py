"""Generalised advantage estimation against its definition, its two limits, and the faults that it is known for."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from llmquiz.llm.align.gae import gae, masked_mean, whiten  # noqa: E402
from llmquiz.llm.errors import TrainingError  # noqa: E402

pytestmark = pytest.mark.labs


def by_definition(rewards: list[float], values: list[float], dones: list[bool], last: float, gamma: float, lam: float):
    """A_t as the sum of (gamma lam)^l delta_t+l up to the end of t's own episode, one row, no recursion."""
    following = [*values[1:], last][: len(values)]
    deltas = [r + gamma * (not d) * n - v for r, v, d, n in zip(rewards, values, dones, following, strict=True)]
    advantages = []
    for t in range(len(rewards)):
        end = next((i for i in range(t, len(dones)) if dones[i]), len(dones) - 1)
        advantages.append(sum((gamma * lam) ** (i - t) * deltas[i] for i in range(t, end + 1)))
    return advantages


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_it_is_the_definition_with_ends_cuts_and_padding_anywhere(data: st.DataObject) -> None:
    rows, steps = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 7))
    gamma, lam = data.draw(st.floats(0, 1)), data.draw(st.floats(0, 1))
    seed = data.draw(st.integers(0, 2**16))
    generator = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, rows, steps, generator=generator, dtype=torch.float64)
    dones, mask = torch.rand(2, rows, steps, generator=generator) < torch.tensor([0.3, 0.7])[:, None, None]
    bootstrap = torch.randn(rows, generator=generator, dtype=torch.float64)

    advantages, returns = gae(rewards, values, dones, gamma=gamma, lam=lam, bootstrap=bootstrap, mask=mask)

    for b in range(rows):
        real = mask[b]
        lists = [x[b, real].tolist() for x in (rewards, values, dones)]
        expected = torch.tensor(by_definition(*lists, float(bootstrap[b]), gamma, lam), dtype=torch.float64)
        torch.testing.assert_close(advantages[b, real], expected)
        torch.testing.assert_close(returns[b, real], expected + values[b, real])
        assert (advantages[b, ~real] == 0).all()
        assert (returns[b, ~real] == 0).all()


def test_lambda_zero_is_one_step_and_lambda_one_is_the_return() -> None:
    rewards, values = torch.randn(2, 4, 6, dtype=torch.float64)
    dones = torch.zeros(4, 6, dtype=torch.bool)
    dones[:, -1] = True

    one_step, _ = gae(rewards, values, dones, gamma=0.9, lam=0.0)
    following = torch.cat((values[:, 1:], torch.zeros(4, 1)), dim=1)
    assert torch.equal(one_step, rewards + 0.9 * following - values)

    _, returns = gae(rewards, values, dones, gamma=1.0, lam=1.0)
    torch.testing.assert_close(returns, rewards.flip(1).cumsum(1).flip(1))


def test_a_reward_does_not_leak_into_the_episode_before() -> None:
    rewards, values = torch.tensor([[0.0, 0.0, 1.0]]), torch.zeros(1, 3)
    dones = torch.tensor([[True, False, True]])  # two episodes in one row

    advantages, _ = gae(rewards, values, dones, lam=0.95)
    assert advantages[0].tolist() == pytest.approx([0.0, 0.95, 1.0])


def test_a_cut_is_no_end() -> None:
    """Reward 1 for ever at gamma .99 is worth 100: a perfect critic of a rollout that was cut has nothing to learn."""
    rewards, values = torch.ones(1, 8), torch.full((1, 8), 100.0)
    dones = torch.zeros(1, 8, dtype=torch.bool)

    cut, _ = gae(rewards, values, dones, gamma=0.99, bootstrap=torch.tensor([100.0]))
    assert cut.abs().max() < 1e-4
    as_if_ended, _ = gae(rewards, values, dones, gamma=0.99)
    assert as_if_ended.max() < -60


def test_padding_is_nothing_even_where_it_is_not_a_number() -> None:
    rewards, values = torch.randn(2, 2, 5)
    mask, dones = torch.ones(2, 5, dtype=torch.bool), torch.zeros(2, 5, dtype=torch.bool)
    mask[0, 3:], dones[0, 2], dones[1, 4] = False, True, True
    expected = gae(rewards[:1, :3], values[:1, :3], dones[:1, :3])
    rewards[0, 3:], values[0, 3:] = float("nan"), float("nan")

    advantages, returns = gae(rewards, values, dones, mask=mask)
    torch.testing.assert_close(advantages[:1, :3], expected[0])
    torch.testing.assert_close(returns[:1, :3], expected[1])
    assert advantages[0, 3:].tolist() == returns[0, 3:].tolist() == [0.0, 0.0]


def test_no_gradient_reaches_the_critic() -> None:
    values = torch.randn(2, 4, requires_grad=True)
    advantages, returns = gae(torch.randn(2, 4), values, torch.zeros(2, 4, dtype=torch.bool), bootstrap=values[:, 0])

    assert not advantages.requires_grad
    assert not returns.requires_grad


@pytest.mark.parametrize("shape", [(2, 4, 1), (2, 1), (4,)])
def test_values_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    dones = torch.zeros(2, 4, dtype=torch.bool)

    with pytest.raises(TrainingError, match=r"must all be \[batch, steps\]"):
        gae(torch.zeros(2, 4), torch.zeros(shape), dones)
    with pytest.raises(TrainingError, match="must all be"):
        gae(torch.zeros(shape), torch.zeros(2, 4), dones)


def test_whitening_knows_only_the_real_places() -> None:
    x, mask = torch.randn(4, 6, dtype=torch.float64), torch.rand(4, 6) < 0.6
    x[~mask] = float("inf")
    white = whiten(x, mask)

    assert (white[~mask] == 0).all()
    assert white[mask].mean().abs() < 1e-12
    assert white[mask].var(correction=0) == pytest.approx(1.0, abs=1e-6)


def test_one_number_whitens_to_zero() -> None:
    one = torch.zeros(1, 3, dtype=torch.bool)
    one[0, 1] = True

    assert whiten(torch.full((1, 3), 5.0), one).tolist() == [[0.0, 0.0, 0.0]]
    assert masked_mean(torch.ones(1, 3), torch.zeros_like(one)) == 0.0
