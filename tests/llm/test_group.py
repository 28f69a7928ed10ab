"""Group-relative policy gradients: baselines, clipping, what each average does to length, and the optima with KL."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.align.group import (  # noqa: E402
    clip_fraction,
    clipped_loss,
    dapo_loss,
    dr_grpo_advantages,
    dr_grpo_loss,
    grpo_advantages,
    grpo_loss,
    informative_groups,
    overlong_penalty,
    rloo_advantages,
    rloo_loss,
)
from llmquiz.llm.align.logprobs import kl_k3  # noqa: E402

pytestmark = pytest.mark.labs

ADVANTAGES = [grpo_advantages, dr_grpo_advantages, rloo_advantages]


def dr_grpo(*terms: Any) -> Any:
    return dr_grpo_loss(*terms, longest=8)


LOSSES = [grpo_loss, dr_grpo, dapo_loss, rloo_loss]


@pytest.fixture
def rewards() -> Any:
    return torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 2.0], [0.5, 0.5, 0.5, 0.5]])


def test_a_group_is_its_own_baseline(rewards: Any) -> None:
    expected = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True, unbiased=True) + 1e-4)

    torch.testing.assert_close(grpo_advantages(rewards), expected)
    assert dr_grpo_advantages(rewards)[1].tolist() == [-0.5, -0.5, -0.5, 1.5]
    assert rloo_advantages(rewards)[1].tolist() == pytest.approx([-2 / 3, -2 / 3, -2 / 3, 2.0])


@pytest.mark.parametrize("advantages", ADVANTAGES)
def test_equal_rewards_teach_nothing(rewards: Any, advantages: Callable[[Any], Any]) -> None:
    assert advantages(rewards)[2].tolist() == [0.0] * 4
    assert informative_groups(rewards).tolist() == [True, True, False]


def test_grpo_weighs_the_nearly_solved_prompt_most() -> None:
    """The advantage of one success among G is as large as sqrt(G) nearly, of half of them about 1."""
    one, half = torch.zeros(1, 64), torch.zeros(1, 64)
    one[0, 0], half[0, :32] = 1, 1

    assert float(grpo_advantages(one).max()) > 7 * float(grpo_advantages(half).max())
    assert float(dr_grpo_advantages(one).max()) < 2 * float(dr_grpo_advantages(half).max())


def test_overlong_completions_pay_by_and_by() -> None:
    penalty = overlong_penalty(torch.tensor([10, 80, 90, 100, 200]), longest=100, buffer=20)

    assert penalty.tolist() == [0, 0, -0.5, -1, -1]


@pytest.mark.parametrize(
    ("ratio", "advantage", "gradient"),
    [
        (1.0, 1.0, True),
        (1.0, -1.0, True),
        (1.5, 1.0, False),  # already gained enough
        (0.5, 1.0, True),  # moved the wrong way: never forgiven
        (1.5, -1.0, True),
        (0.5, -1.0, False),
    ],
)
def test_clipping_is_a_pessimist(ratio: float, advantage: float, gradient: bool) -> None:
    new = torch.tensor([[math.log(ratio)]], requires_grad=True)
    old, A, mask = torch.zeros(1, 1), torch.tensor([advantage]), torch.ones(1, 1, dtype=torch.bool)
    clipped_loss(new, old, A).sum().backward()

    assert new.grad.item() == pytest.approx(-advantage * ratio if gradient else 0.0)
    assert float(clip_fraction(new, old, A, mask)) == (0.0 if gradient else 1.0)


def test_clipping_higher_leaves_room_above_only() -> None:
    new, mask = torch.tensor([[math.log(1.25)], [math.log(0.75)]], requires_grad=True), torch.ones(2, 1).bool()
    dapo_loss(new, torch.zeros(2, 1), torch.tensor([1.0, -1.0]), mask).backward()

    assert new.grad.flatten().tolist() == pytest.approx([-0.625, 0.0])


@pytest.fixture
def batch() -> Any:
    """Log-probs [6, 8] at the moment of sampling, advantages of two groups, and masks of different lengths."""
    generator = torch.Generator().manual_seed(0)
    old = -torch.rand(6, 8, generator=generator)
    mask = torch.arange(8) < torch.tensor([[8], [2], [5], [8], [1], [4]])
    rewards = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    return old * mask, mask, rewards


@pytest.mark.parametrize(("advantages", "loss"), [(grpo_advantages, grpo_loss), (rloo_advantages, rloo_loss)])
def test_the_first_loss_is_zero_and_its_gradient_is_not(batch: Any, advantages: Any, loss: Any) -> None:
    old, mask, rewards = batch
    new = old.clone().requires_grad_()
    value = loss(new, old, advantages(rewards).flatten(), mask)
    value.backward()

    assert float(value.detach()) == pytest.approx(0.0, abs=1e-6)
    assert new.grad.norm() > 0.1


@pytest.mark.parametrize("loss", LOSSES)
def test_padding_has_no_say(batch: Any, loss: Any) -> None:
    old, mask, rewards = batch
    advantages = grpo_advantages(rewards).flatten()
    moved = old + 0.1 * mask
    noise = ~mask * torch.randn(6, 8, generator=torch.Generator().manual_seed(1))

    torch.testing.assert_close(loss(moved + noise, old, advantages, mask), loss(moved, old, advantages, mask))


def test_grpo_punishes_a_long_mistake_less_per_token(batch: Any) -> None:
    """Two wrong completions with 8 tokens and with 2: GRPO's tokens weigh 1 to 4, the others' the same."""
    old, mask = batch[0][:2], batch[1][:2]
    weights = {}
    for name, loss in (("grpo", grpo_loss), ("dr-grpo", dr_grpo), ("dapo", dapo_loss)):
        new = old.clone().requires_grad_()
        loss(new, old, -torch.ones(2), mask).backward()
        weights[name] = float(new.grad[1, 0] / new.grad[0, 0])

    assert weights == pytest.approx({"grpo": 4.0, "dr-grpo": 1.0, "dapo": 1.0})


def test_a_kl_price_of_zero_is_no_kl(batch: Any) -> None:
    old, mask, rewards = batch
    terms = (old + 0.1 * mask, old, grpo_advantages(rewards).flatten(), mask)
    reference = old - 0.3

    torch.testing.assert_close(grpo_loss(*terms, reference_logprobs=reference, beta=0.0), grpo_loss(*terms))
    assert grpo_loss(*terms, reference_logprobs=reference, beta=0.5) > grpo_loss(*terms)


ARMS, G, BETA = 4, 3, 0.3


@pytest.fixture
def bandit() -> Any:
    generator = torch.Generator().manual_seed(3)
    policy, reference = torch.randn(2, ARMS, generator=generator, dtype=torch.float64).log_softmax(-1)
    return policy, reference, torch.rand(ARMS, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("advantages", "scale"), [(rloo_advantages, 1.0), (dr_grpo_advantages, (G - 1) / G)])
def test_the_mean_gradient_over_all_groups(bandit: Any, advantages: Any, scale: float) -> None:
    """Leaving oneself out of the baseline is unbiased; a mean that contains oneself shrinks the gradient."""
    start, _, rewards = bandit
    logits = start.clone().requires_grad_()
    (exact,) = torch.autograd.grad((logits.softmax(0) * rewards).sum(), logits)
    groups = torch.cartesian_prod(*[torch.arange(ARMS)] * G)  # every one, [ARMS^G, G]
    log_p = logits.log_softmax(0)[groups]
    weight = log_p.detach().sum(1).exp()
    A = advantages(rewards[groups])
    loss = clipped_loss(log_p.reshape(-1, 1), log_p.detach().reshape(-1, 1), A.reshape(-1)).view(-1, G)
    (gradient,) = torch.autograd.grad((weight * loss.mean(1)).sum(), logits)

    torch.testing.assert_close(-gradient, scale * exact)


def gradient_at(log_p: Any, rewards: Any, kl_in_loss: Any = None) -> Any:
    """The mean gradient of a policy at `log_p` over its arms, each as often as it is drawn."""
    logits = log_p.clone().requires_grad_()
    new, p = logits.log_softmax(0).unsqueeze(1), log_p.exp()
    loss = clipped_loss(new, log_p.unsqueeze(1), rewards - (p * rewards).sum())
    if kl_in_loss is not None:
        loss = loss + BETA * kl_k3(new, kl_in_loss.unsqueeze(1))
    (gradient,) = torch.autograd.grad((p * loss.squeeze(1)).sum(), logits)
    return gradient


def test_kl_in_the_reward_rests_at_the_exponential_of_the_reward(bandit: Any) -> None:
    _, reference, rewards = bandit
    optimum = (reference + rewards / BETA).log_softmax(0)

    assert gradient_at(optimum, rewards - BETA * (optimum - reference)).abs().max() < 1e-12
    assert gradient_at(reference, rewards).abs().max() > 0.01


def test_k3_in_the_loss_rests_elsewhere(bandit: Any) -> None:
    """At beta ref / (level - r), the optimum for KL(ref || policy)."""
    _, reference, rewards = bandit
    low, high = float(rewards.max()), float(rewards.max()) + BETA
    for _ in range(100):
        level = (low + high) / 2
        low, high = (level, high) if float((BETA * reference.exp() / (level - rewards)).sum()) > 1 else (low, level)
    optimum = (BETA * reference.exp() / (high - rewards)).log()
    usual = (reference + rewards / BETA).log_softmax(0)

    assert gradient_at(optimum, rewards, kl_in_loss=reference).abs().max() < 1e-10
    assert gradient_at(usual, rewards, kl_in_loss=reference).abs().max() > 0.01
