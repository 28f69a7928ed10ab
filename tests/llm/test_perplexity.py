"""Perplexity: weighed by tokens, windows that score each token once, bits per byte that no tokenizer changes."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.eval.perplexity import Score, score, token_losses  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402

pytestmark = pytest.mark.labs

V = 50
CONFIG = ModelConfig(V, 32, 2, 4, 2, 8, 48, max_position=64)


@pytest.fixture(scope="module")
def model() -> Any:
    decoder = random_decoder(CONFIG, seed=1)
    with torch.no_grad():
        for parameter in decoder.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)  # logits that depend on the context
    return decoder


def text(length: int, seed: int = 0) -> Any:
    return torch.randint(0, V, (length,), generator=torch.Generator().manual_seed(seed))


def reference(model: Any, tokens: Any, window: int, stride: int) -> list[float]:
    """Token by token, from the definition of a window that moves by `stride` at a time."""
    losses = []
    ends = [window, *range(window + stride, len(tokens) + window, stride)]
    for target in range(1, len(tokens)):
        end = min(next(end for end in ends if end >= target), len(tokens) - 1)
        context = tokens[max(0, end - window) : target]
        with torch.no_grad():
            losses.append(-float(model(context[None])[0, -1].log_softmax(-1)[tokens[target]]))
    return losses


def test_one_pass_when_the_text_fits(model: Any) -> None:
    tokens = text(20)
    logits = model(tokens[None, :-1])[0].detach()
    expected = torch.nn.functional.cross_entropy(logits, tokens[1:])

    for window, stride in product((19, 20, 64), (1, 7, 19, None)):
        made = score(model, tokens, 40, window=window, stride=stride)
        assert math.log(made.perplexity) == pytest.approx(float(expected), rel=1e-5)
        assert made.tokens == 19


@pytest.mark.parametrize(("window", "stride"), [(8, 8), (8, 3), (8, 1), (5, 4), (1, 1)])
def test_each_token_is_scored_once_with_the_context_of_its_window(model: Any, window: int, stride: int) -> None:
    tokens = text(23)

    losses = token_losses(model, tokens, window=window, stride=stride)

    assert losses.tolist() == pytest.approx(reference(model, tokens, window, stride), rel=1e-5)


def test_a_window_is_never_longer_than_asked_and_a_small_stride_costs_passes() -> None:
    seen: list[int] = []

    def uniform(inputs: Any) -> Any:
        seen.append(inputs.size(1))
        return torch.zeros(*inputs.shape, V)

    for stride, passes in ((16, 4), (8, 7), (4, 13)):
        seen.clear()
        losses = token_losses(uniform, text(65), window=16, stride=stride)
        assert losses.tolist() == pytest.approx([math.log(V)] * 64)
        assert len(seen) == passes
        assert max(seen) == 16


def test_texts_are_weighed_by_their_tokens(model: Any) -> None:
    texts = [text(length, seed=length) for length in (2, 3, 4, 60)]
    losses = [token_losses(model, tokens, window=64) for tokens in texts]
    total = sum((score(model, tokens, 1, window=64) for tokens in texts), Score())

    assert math.log(total.perplexity) == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)
    assert total.tokens == 1 + 2 + 3 + 59
    means = torch.stack([loss.mean() for loss in losses]).mean()
    assert abs(float(means) - math.log(total.perplexity)) > 0.01


def test_a_text_of_one_token_counts_for_nothing(model: Any) -> None:
    whole = score(model, text(9), 12, window=8)

    for short in (text(1), text(0)):
        assert whole + score(model, short, 3, window=8) == whole
    with pytest.raises(ModelError, match="one token"):
        _ = Score().perplexity
    with pytest.raises(ModelError, match="empty"):
        _ = Score().bits_per_byte


def test_a_uniform_guess_gives_the_vocabulary() -> None:
    made = score(lambda inputs: torch.full((*inputs.shape, V), 3.0), text(40), 40, window=16)

    assert made.perplexity == pytest.approx(V, rel=1e-5)
    assert made.bits_per_byte == pytest.approx(39 * math.log2(V) / 40, rel=1e-5)


@pytest.mark.parametrize("stride", [0, -1, 9])
def test_a_stride_outside_of_the_window_is_refused(model: Any, stride: int) -> None:
    with pytest.raises(ModelError, match="stride"):
        token_losses(model, text(20), window=8, stride=stride)
