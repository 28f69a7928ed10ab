"""The preference losses: where they start, what they ignore, and where they end if the hidden reward is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.align.preference import (  # noqa: E402
    dpo_loss,
    ipo_loss,
    kto_kl,
    kto_loss,
    log_odds,
    orpo_loss,
    simpo_loss,
)

pytestmark = pytest.mark.labs

BETA = 0.4
ARMS = 7


def numbers(*values: float) -> Any:
    return torch.tensor(values, dtype=torch.float64)


def test_the_first_losses_are_known() -> None:
    logprob = numbers(-3.0, -8.0)
    good = torch.tensor([True, False])

    assert dpo_loss(logprob, 2 * logprob, logprob, 2 * logprob).tolist() == pytest.approx([math.log(2)] * 2)
    assert ipo_loss(logprob, 2 * logprob, logprob, 2 * logprob, beta=BETA).tolist() == pytest.approx(
        [1 / (4 * BETA**2)] * 2
    )
    assert kto_loss(logprob, logprob, good, numbers(0.0)[0]).tolist() == pytest.approx([0.5] * 2)


@pytest.mark.parametrize("loss", [dpo_loss, ipo_loss])
def test_only_the_difference_counts_so_both_may_fall(loss: Callable[..., Any]) -> None:
    before = loss(numbers(-3.0), numbers(-4.0), numbers(-3.0), numbers(-4.0), beta=BETA)
    both_fell = loss(numbers(-13.0), numbers(-14.0), numbers(-3.0), numbers(-4.0), beta=BETA)

    torch.testing.assert_close(both_fell, before)
    assert loss(numbers(-5.0), numbers(-9.0), numbers(-3.0), numbers(-4.0), beta=0.1) < loss(
        numbers(-3.0), numbers(-4.0), numbers(-3.0), numbers(-4.0), beta=0.1
    )


def test_the_pair_that_is_ranked_wrong_pulls_hardest() -> None:
    chosen = numbers(-5.0, -1.0).requires_grad_()
    dpo_loss(chosen, numbers(-3.0, -3.0), numbers(-3.0, -3.0), numbers(-3.0, -3.0), beta=1.0).sum().backward()

    assert chosen.grad.tolist() == pytest.approx([-1 / (1 + math.exp(-2)), -1 / (1 + math.exp(2))])


def test_label_smoothing_gives_the_margin_a_target() -> None:
    smoothing = 0.1
    target = math.log((1 - smoothing) / smoothing) / BETA
    margin = numbers(target, target + 1).requires_grad_()
    dpo_loss(margin, *(3 * [numbers(0.0, 0.0)]), beta=BETA, label_smoothing=smoothing).sum().backward()

    assert margin.grad[0] == pytest.approx(0.0, abs=1e-12)
    assert margin.grad[1] > 0


def test_ipo_pulls_a_margin_back() -> None:
    margin = numbers(0.5 / BETA, 1 / BETA).requires_grad_()
    loss = ipo_loss(margin, *(3 * [numbers(0.0, 0.0)]), beta=BETA)
    loss.sum().backward()

    assert loss[0] == 0
    assert margin.grad[1] > 0


def test_means_are_sums_at_a_smaller_beta() -> None:
    sums = [numbers(-3.0), numbers(-8.0), numbers(-4.0), numbers(-5.0)]
    means = [part / 5 for part in sums]

    torch.testing.assert_close(dpo_loss(*means, beta=BETA), dpo_loss(*sums, beta=BETA / 5))


def test_kto_gives_up_on_what_is_far_off() -> None:
    policy = numbers(-50.0, -3.0, 44.0).requires_grad_()
    kto_loss(policy, numbers(-3.0, -3.0, -3.0), torch.tensor([True] * 3), numbers(0.0)[0], beta=BETA).sum().backward()

    assert policy.grad[1] == pytest.approx(-BETA / 4)
    assert policy.grad[[0, 2]].abs().max() < 1e-6


def test_kto_pushes_bad_completions_down() -> None:
    policy = numbers(-3.0, -3.0).requires_grad_()
    kto_loss(policy, numbers(-4.0, -4.0), torch.tensor([True, False]), numbers(0.5)[0]).sum().backward()

    assert policy.grad[0] < 0 < policy.grad[1]


def test_the_kl_of_kto_has_no_gradient_and_is_not_negative() -> None:
    policy = numbers(-3.0, -5.0).requires_grad_()

    assert not kto_kl(policy, numbers(-4.0, -6.0)).requires_grad
    assert float(kto_kl(policy, numbers(-4.0, -7.0))) == pytest.approx(1.5)
    assert float(kto_kl(policy, numbers(-1.0, -1.0))) == 0


def test_simpo_asks_for_a_margin() -> None:
    reached = simpo_loss(numbers(-1.0), numbers(-1.5), beta=2.0, gamma=1.0)

    assert float(reached) == pytest.approx(math.log(2))


def test_orpo_is_likelihood_and_odds() -> None:
    p, q = 0.6, 0.2
    odds_ratio = (p / (1 - p)) / (q / (1 - q))
    expected = -math.log(p) - BETA * math.log(odds_ratio / (1 + odds_ratio))

    assert float(orpo_loss(numbers(math.log(p)), numbers(math.log(q)), beta=BETA)) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_odds_of_certain_and_of_hopeless_completions_are_finite(dtype: Any) -> None:
    logprob = torch.tensor([0.0, -1e-9, -1e-3, -5.0, -300.0], dtype=dtype, requires_grad=True)
    odds = log_odds(logprob)
    odds.sum().backward()

    assert odds.isfinite().all()
    assert logprob.grad.isfinite().all()
    assert odds[2:].tolist() == pytest.approx([math.log(math.exp(-1e-3) / (1 - math.exp(-1e-3))), -4.99324, -300.0])


@pytest.fixture
def bandit() -> Any:
    """log ref and rewards of a few completions, and P(row beats column)."""
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(ARMS, generator=generator, dtype=torch.float64).log_softmax(0)
    rewards = torch.randn(ARMS, generator=generator, dtype=torch.float64)
    return reference, rewards, torch.sigmoid(rewards[:, None] - rewards[None, :])


def solve(loss: Callable[[Any, Any], Any], reference: Any, beats: Any) -> Any:
    """The policy that minimises a loss [pairs] over every ordered pair, as often as it comes from the reference."""
    chosen, rejected = torch.cartesian_prod(torch.arange(ARMS), torch.arange(ARMS)).T
    weight = (reference[chosen] + reference[rejected]).exp() * beats[chosen, rejected]
    logits = reference.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([logits], max_iter=300, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def closure() -> Any:
        optimizer.zero_grad()
        log_p = logits.log_softmax(0)
        total = (weight * loss((log_p[chosen], log_p[rejected]), (reference[chosen], reference[rejected]))).sum()
        total.backward()
        return total

    optimizer.step(closure)
    return logits.detach().log_softmax(0)


def test_dpo_ends_at_the_optimum_of_the_hidden_reward(bandit: Any) -> None:
    """ref e^(r / beta) / Z, from comparisons alone."""
    reference, rewards, beats = bandit
    learned = solve(lambda policy, ref: dpo_loss(*policy, *ref, beta=BETA), reference, beats)
    optimum = (reference + rewards / BETA).log_softmax(0)

    torch.testing.assert_close(learned.exp(), optimum.exp(), rtol=0, atol=1e-3)
    assert (learned.exp() - reference.exp()).abs().max() > 0.1


def test_without_a_reference_it_ends_elsewhere(bandit: Any) -> None:
    reference, rewards, beats = bandit
    learned = solve(lambda policy, ref: dpo_loss(*policy, 0 * ref[0], 0 * ref[1], beta=BETA), reference, beats)

    torch.testing.assert_close(learned.exp(), (rewards / BETA).softmax(0), rtol=0, atol=1e-3)


def test_ipo_ends_at_the_optimum_of_the_win_rate(bandit: Any) -> None:
    """ref e^(P(beats the reference) / beta) / Z (Azar et al. 2023, section 5), for completions of one token."""
    reference, _, beats = bandit
    learned = solve(lambda policy, ref: ipo_loss(*policy, *ref, beta=BETA), reference, beats)
    win_rate = (beats * reference.exp()).sum(1)

    torch.testing.assert_close(learned.exp(), (reference + win_rate / BETA).log_softmax(0).exp(), rtol=0, atol=1e-3)
