"""The distillation loss: its value, its gradient, the power of the temperature, and whom it moves."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from llmquiz.llm.train.distill import distillation_loss  # noqa: E402

pytestmark = pytest.mark.labs

B, T, V = 3, 5, 11


def mean_loss(*args: Any, **options: Any) -> Any:
    total, tokens = distillation_loss(*args, **options)
    return total / tokens


def logits(seed: int, dtype: Any = torch.float32) -> Any:
    return torch.randn(B, T, V, generator=torch.Generator().manual_seed(seed), dtype=dtype).mul(2).requires_grad_()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_it_is_the_divergence_of_the_softened_distributions(temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    p, q = (torch.distributions.Categorical(logits=x / temperature) for x in (teacher, student))
    expected = temperature**2 * torch.distributions.kl_divergence(p, q).mean()

    torch.testing.assert_close(mean_loss(student, teacher, temperature=temperature), expected)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_gradient_is_the_difference_of_the_probabilities(temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    mean_loss(student, teacher, temperature=temperature).backward()

    difference = (student / temperature).softmax(-1) - (teacher / temperature).softmax(-1)
    torch.testing.assert_close(student.grad, temperature * difference.detach() / (B * T))
    assert teacher.grad is None


def test_a_hot_teacher_is_matched_in_its_logits() -> None:
    student, teacher = logits(0, torch.float64), logits(1, torch.float64)
    mean_loss(student.float(), teacher.float(), temperature=300.0).backward()

    centred = (student - teacher) - (student - teacher).mean(-1, keepdim=True)
    torch.testing.assert_close(student.grad, centred.detach() / (V * B * T), rtol=0.05, atol=2e-4)


def test_without_the_square_the_gradient_falls_as_the_square() -> None:
    sizes = {}
    for temperature in (8.0, 64.0):
        student = logits(0)
        (mean_loss(student, logits(1), temperature=temperature) / temperature**2).backward()
        sizes[temperature] = float(student.grad.norm())

    assert math.log(sizes[8.0] / sizes[64.0], 8) == pytest.approx(2.0, abs=0.1)


def test_masked_tokens_do_not_count() -> None:
    student, teacher = logits(0), logits(1)
    mask = torch.zeros(B, T, dtype=torch.bool)
    mask[0, :2] = mask[2, 4] = True

    loss = mean_loss(student, teacher, temperature=2.0, mask=mask)
    loss.backward()

    torch.testing.assert_close(loss, mean_loss(student[mask], teacher[mask], temperature=2.0))
    assert torch.equal(student.grad.abs().sum(-1) > 0, mask)


def test_at_temperature_one_it_is_cross_entropy_less_the_teachers_entropy() -> None:
    student, teacher = logits(0), logits(1)
    p = teacher.softmax(-1)
    cross = F.cross_entropy(student.flatten(0, 1), p.flatten(0, 1))
    entropy = torch.distributions.Categorical(probs=p).entropy().mean()

    torch.testing.assert_close(mean_loss(student, teacher), cross - entropy)


def test_a_twin_loses_nothing_even_where_probabilities_underflow() -> None:
    sharp = (logits(0) * 100).detach().requires_grad_()
    loss = mean_loss(sharp, sharp)
    loss.backward()

    assert float(loss.detach()) == pytest.approx(0.0, abs=1e-6)
    assert torch.isfinite(sharp.grad).all()
