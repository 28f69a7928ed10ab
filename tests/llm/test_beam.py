"""Beam search against brute force, against greedy decoding, and where it goes wrong."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.cache.growing import GrowingCache  # noqa: E402
from llmquiz.llm.cache.static import StaticCache  # noqa: E402
from llmquiz.llm.decode.beam import beam_search  # noqa: E402
from llmquiz.llm.decode.generate import generate  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import Decoder, random_decoder  # noqa: E402

pytestmark = pytest.mark.labs

V, EOS = 5, 4


def spread(seed: int = 0, vocab_size: int = V) -> Decoder:
    """A small model whose likeliest token depends on the text: random weights as they are would nearly tie."""
    model = random_decoder(ModelConfig(vocab_size, 32, 2, 4, 2, 8, 48, max_position=32), seed)
    with torch.no_grad():
        model.lm_head.weight.mul_(2.0)
    return model


def prompts(batch: int, seed: int = 0) -> Any:
    return torch.randint(0, V, (batch, 3), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def every_text(model: Decoder, prompt: Any, length: int, penalty: float) -> list[tuple[float, tuple[int, ...]]]:
    """All texts that end with EOS or have `length` tokens, best first."""
    scored = []
    for n in range(1, length + 1):
        texts = [t for t in product(range(V), repeat=n) if EOS not in t[:-1] and (n == length or t[-1] == EOS)]
        made = torch.tensor(texts)
        whole = torch.cat((prompt.expand(len(made), -1), made), dim=1)
        logprobs = model(whole).log_softmax(-1)[:, prompt.size(1) - 1 : -1]
        totals = logprobs.gather(2, made[:, :, None]).sum((1, 2)) / n**penalty
        scored += zip(totals.tolist(), texts, strict=True)
    return sorted(scored, reverse=True)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_beam_as_wide_as_there_are_texts_finds_the_best_ones_in_order(penalty: float) -> None:
    model, prompt, N = spread(), prompts(1), 3
    expected = every_text(model, prompt, N, penalty)
    found = beam_search(model, prompt, N, beams=V**N, length_penalty=penalty, eos=[EOS], early_stopping="never")
    texts = [tuple(row[:n]) for row, n in zip(found.tokens[0].tolist(), found.lengths[0].tolist(), strict=True)]

    assert texts[: len(expected)] == [text for _, text in expected]
    torch.testing.assert_close(found.scores[0, : len(expected)], torch.tensor([score for score, _ in expected]))
    assert found.scores[0, len(expected) :].isneginf().all()


@pytest.mark.parametrize("kind", ["growing", "static"])
def test_a_cache_and_a_batch_change_nothing(kind: str) -> None:
    model, prompt = spread(), prompts(3)
    cache = GrowingCache(model.config) if kind == "growing" else StaticCache(model.config, 12, batch=3)
    settings = {"beams": 3, "eos": [EOS]}
    cached = beam_search(model, prompt, 8, cache=cache, **settings)
    plain = beam_search(model, prompt, 8, **settings)

    assert torch.equal(cached.tokens, plain.tokens)
    torch.testing.assert_close(cached.scores, plain.scores)
    for row in range(3):
        alone = beam_search(model, prompt[row : row + 1], 8, **settings)
        assert torch.equal(alone.lengths[0], plain.lengths[row])
        assert torch.equal(alone.tokens[0], plain.tokens[row, :, : alone.tokens.size(2)])


def test_one_beam_is_greedy_decoding_and_a_wider_one_may_find_a_worse_text() -> None:
    model, prompt = spread(vocab_size=12), prompts(200)
    one, two, three = (beam_search(model, prompt, 6, beams=w, length_penalty=0.0) for w in (1, 2, 3))

    assert torch.equal(one.tokens[:, 0], generate(model, prompt, 6).tokens)
    assert (two.scores[:, 0] > one.scores[:, 0] + 1e-3).any()
    assert (two.scores[:, 0] < one.scores[:, 0] - 1e-3).any() or (three.scores[:, 0] < two.scores[:, 0] - 1e-3).any()


def test_by_sums_short_texts_win_and_by_means_long_ones() -> None:
    model, prompt = spread(), prompts(16)
    lengths = [
        beam_search(model, prompt, 12, beams=4, length_penalty=penalty, eos=[EOS]).lengths[:, 0].double().mean()
        for penalty in (0.0, 1.0, 2.0)
    ]
    assert lengths[0] < lengths[1] < lengths[2]


def test_a_finished_hypothesis_is_scored_with_its_end_and_filled_with_it() -> None:
    model, prompt = spread(), prompts(6)
    found = beam_search(model, prompt, 10, beams=4, eos=[EOS])

    short = found.lengths < found.tokens.size(2)
    assert short.any()
    assert (found.tokens[:, :, -1][short] == EOS).all()
    assert (found.scores[:, :-1] >= found.scores[:, 1:]).all()
    for row, n in zip(found.tokens[:, 0], found.lengths[:, 0].tolist(), strict=True):
        assert EOS not in row[: n - 1].tolist()
    row, n, score = found.tokens[0, 0], int(found.lengths[0, 0]), found.scores[0, 0]
    whole = torch.cat((prompt[0], row[:n]))
    with torch.inference_mode():
        logprobs = model(whole[None])[0, 2:-1].log_softmax(-1)
    torch.testing.assert_close(logprobs.gather(1, row[:n, None]).mean(), score)


def test_stopping_early_may_miss_a_better_text() -> None:
    model, prompt = spread(), prompts(40)
    best = {
        how: beam_search(model, prompt, 10, beams=3, length_penalty=1.5, eos=[EOS], early_stopping=how).scores[:, 0]
        for how in (True, False, "never")
    }
    assert (best["never"] >= best[True] - 1e-5).all()
    assert (best["never"] >= best[False] - 1e-5).all()
    assert (best["never"] > best[True] + 1e-3).any()


def test_a_processor_keeps_a_token_out_of_every_beam() -> None:
    def without_zero(tokens: Any, logprobs: Any) -> Any:
        assert len(tokens) == len(logprobs) == 4 * 2
        return logprobs.index_fill(1, torch.tensor([0]), -torch.inf)

    found = beam_search(spread(), prompts(2), 6, beams=4, processors=[without_zero])
    assert (found.tokens != 0).all()


def test_what_cannot_work_is_refused() -> None:
    model, cache = spread(), GrowingCache(spread().config)
    with pytest.raises(ModelError, match="0 beams of 4 new tokens"):
        beam_search(model, prompts(1), 4, beams=0)
    with pytest.raises(ModelError, match="33 tokens exceed the model's 32 positions"):
        beam_search(model, prompts(1), 30, beams=2)
    with torch.inference_mode():
        model(prompts(1), cache)
    with pytest.raises(ModelError, match="already holds 3 tokens"):
        beam_search(model, prompts(1), 4, beams=2, cache=cache)
