"""Sampling remembers what it did: the log-probabilities are those of one pass over what was sampled."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.align.logprobs import token_logprobs  # noqa: E402
from llmquiz.llm.align.rollout import Rollout, sample  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import Decoder, random_decoder  # noqa: E402

pytestmark = pytest.mark.labs

V, P, N, END = 9, 4, 7, 3


@pytest.fixture(scope="module")
def model() -> Decoder:
    return random_decoder(ModelConfig(V, 32, 2, 4, 2, 8, 64, max_position=64), seed=0)


def prompts(rows: int) -> Any:
    return torch.randint(V, (rows, P), generator=torch.Generator().manual_seed(0))


def drawn(model: Decoder, rows: int = 40, **options: Any) -> Rollout:
    return sample(model, prompts(rows), N, generator=torch.Generator().manual_seed(1), **options)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_log_probs_are_those_of_one_pass(model: Decoder, temperature: float) -> None:
    rollout = drawn(model, temperature=temperature, eos=END)
    with torch.no_grad():
        logprobs = token_logprobs(model(rollout.tokens) / temperature, rollout.tokens)[:, rollout.prompt_length - 1 :]

    torch.testing.assert_close(rollout.logprobs, logprobs * rollout.mask, rtol=1e-5, atol=1e-5)


def test_the_end_token_counts_and_nothing_after_it_does(model: Decoder) -> None:
    rollout = drawn(model, eos=END)
    ended = (rollout.completions == END).any(dim=1)

    assert ended.any()
    for completion, mask in zip(rollout.completions[ended], rollout.mask[ended], strict=True):
        first = completion.tolist().index(END)
        assert mask.tolist() == [n <= first for n in range(len(mask))]
        assert (completion[first:] == END).all()
    assert rollout.mask[~ended].all()
    assert (rollout.logprobs[~rollout.mask] == 0).all()
    assert torch.equal(rollout.tokens[:, :P], prompts(40))


def test_it_stops_when_all_have_ended(model: Decoder) -> None:
    rollout = drawn(model, rows=1, eos=int(drawn(model, rows=1).completions[0, 2]))

    assert rollout.mask.size(1) <= 3
    assert rollout.tokens.size(1) == P + rollout.mask.size(1)


def test_without_an_end_token_all_are_of_full_length(model: Decoder) -> None:
    rollout = drawn(model)

    assert rollout.mask.all()
    assert rollout.mask.shape == rollout.logprobs.shape == rollout.completions.shape == (40, N)


def test_tokens_come_as_often_as_the_policy_says(model: Decoder) -> None:
    same = prompts(1).expand(8000, P)
    first = sample(model, same, 1, generator=torch.Generator().manual_seed(2)).completions[:, 0]
    with torch.no_grad():
        expected = model(same[:1])[0, -1].softmax(-1)

    torch.testing.assert_close(first.bincount(minlength=V) / len(first), expected, rtol=0, atol=0.02)


def test_its_log_probs_may_enter_a_loss(model: Decoder) -> None:
    """A tensor from inference mode could not be saved for the backward pass."""
    rollout = drawn(model, rows=2)
    weight = torch.ones(1, requires_grad=True)
    (weight * rollout.logprobs).sum().backward()

    assert weight.grad is not None


def test_rows_are_chosen_by_mark_or_by_number(model: Decoder) -> None:
    rollout = drawn(model, rows=3)

    assert torch.equal(
        rollout.rows(torch.tensor([True, False, True])).tokens, rollout.rows(torch.tensor([0, 2])).tokens
    )


def test_more_than_the_model_has_positions_is_refused(model: Decoder) -> None:
    with pytest.raises(ModelError, match="positions"):
        sample(model, prompts(1), 62)  # the last token drawn is never fed
