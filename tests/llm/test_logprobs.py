"""Log-probabilities stand one to the left of their tokens; the KL estimators are estimators of the exact one."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.align.logprobs import (  # noqa: E402
    entropy,
    kl_divergence,
    kl_k1,
    kl_k3,
    mean_logprobs,
    sequence_logprobs,
    token_logprobs,
)

pytestmark = pytest.mark.labs

B, T, V = 3, 6, 11


@pytest.fixture
def logits() -> Any:
    return 3 * torch.randn(B, T, V, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def tokens() -> Any:
    return torch.randint(V, (B, T), generator=torch.Generator().manual_seed(1))


def test_the_logits_at_t_are_about_token_t_plus_1(logits: Any, tokens: Any) -> None:
    expected = [[logits[b, t].log_softmax(0)[tokens[b, t + 1]] for t in range(T - 1)] for b in range(B)]

    torch.testing.assert_close(token_logprobs(logits, tokens), torch.tensor(expected))


def test_they_are_cross_entropy_with_the_sign_turned(logits: Any, tokens: Any) -> None:
    nll = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, V), tokens[:, 1:].reshape(-1))

    torch.testing.assert_close(token_logprobs(logits, tokens).mean(), -nll)


def test_what_the_mask_hides_counts_nowhere() -> None:
    logprobs = torch.tensor([[-1.0, -2.0, -50.0], [-3.0, -1.0, -2.0]])
    mask = torch.tensor([[True, True, False], [True, True, True]])

    assert sequence_logprobs(logprobs, mask).tolist() == [-3.0, -6.0]
    assert mean_logprobs(logprobs, mask).tolist() == [-1.5, -2.0]


def test_kl_and_entropy_are_those_of_torch(logits: Any) -> None:
    p, q = (torch.distributions.Categorical(logits=part) for part in (logits, logits.flip(-1)))

    torch.testing.assert_close(kl_divergence(logits, logits.flip(-1)), torch.distributions.kl_divergence(p, q))
    torch.testing.assert_close(entropy(logits), p.entropy())


def test_a_token_that_is_ruled_out_has_no_entropy() -> None:
    logits = torch.tensor([0.0, 0.0, -torch.inf])

    assert float(entropy(logits)) == pytest.approx(0.693147, abs=1e-6)


@pytest.fixture
def policies() -> Any:
    """Two policies over a vocabulary, as log-probabilities in fp64."""
    pair = torch.randn(2, V, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return pair.log_softmax(-1)


@pytest.mark.parametrize("estimator", [kl_k1, kl_k3])
def test_both_estimators_are_unbiased(policies: Any, estimator: Any) -> None:
    p, q = policies

    torch.testing.assert_close((p.exp() * estimator(p, q)).sum(), kl_divergence(p, q))


def test_k3_is_never_negative_and_varies_less_near_the_reference(policies: Any) -> None:
    p = policies[0]
    q = (p + 0.1 * policies[1]).log_softmax(-1)
    spread = [(p.exp() * estimator(p, q) ** 2).sum() for estimator in (kl_k1, kl_k3)]

    assert (kl_k3(p, q) >= 0).all()
    assert (kl_k1(p, q) < 0).any()
    assert spread[1] < spread[0] / 10


def test_the_gradient_of_k3_is_that_of_the_other_kl(policies: Any) -> None:
    """In expectation over tokens that were sampled from the policy, whose sampling has no gradient."""
    logits = policies[0].clone().requires_grad_()
    p, q = logits.log_softmax(-1), policies[1]
    (k3,) = torch.autograd.grad((p.detach().exp() * kl_k3(p, q)).sum(), logits, retain_graph=True)
    (other,) = torch.autograd.grad(kl_divergence(q, p), logits, retain_graph=True)
    (exact,) = torch.autograd.grad(kl_divergence(p, q), logits)

    torch.testing.assert_close(k3, other)
    assert (k3 - exact).abs().max() > 0.01
