"""Speculative decoding: greedily the same tokens, by sampling the same distribution; and mistakes that change it."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.cache.growing import GrowingCache  # noqa: E402
from llmquiz.llm.cache.static import StaticCache  # noqa: E402
from llmquiz.llm.decode.generate import generate  # noqa: E402
from llmquiz.llm.decode.speculative import (  # noqa: E402
    Choice,
    Judge,
    ModelDraft,
    NGramDraft,
    draw,
    judge,
    speculate,
)
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import Decoder, random_decoder  # noqa: E402

pytestmark = pytest.mark.labs

V = 6
CRITICAL = 20.5  # chi-square, 5 degrees of freedom: one of 1000 right judges is above


def spread(seed: int, vocab_size: int = 32, layers: int = 2) -> Decoder:
    model = random_decoder(ModelConfig(vocab_size, 32, layers, 4, 2, 8, 48, max_position=96), seed)
    with torch.no_grad():
        model.lm_head.weight.mul_(2.0)
    return model


def prompt(length: int = 5, seed: int = 0) -> Any:
    return torch.randint(0, 32, (1, length), generator=torch.Generator().manual_seed(seed))


def accept_everything(token: int, p: Any, q: Any, generator: Any) -> int:
    return token


def draw_again_from_p(token: int, p: Any, q: Any, generator: Any) -> int:
    accepted = float(torch.rand((), generator=generator)) < float(p[token] / q[token])
    return token if accepted else draw(p, generator)


def accept_if_likelier(token: int, p: Any, q: Any, generator: Any) -> int:
    return token if p[token] >= q[token] else draw((p - q).clamp(min=0), generator)


def chi_square(judge: Judge, samples: int = 2000) -> float:
    """Of the tokens that a judge lets stand, against p."""
    generator = torch.Generator().manual_seed(0)
    p, q = torch.tensor([0.4, 0.25, 0.15, 0.1, 0.06, 0.04]), torch.tensor([0.1, 0.3, 0.1, 0.3, 0.15, 0.05])
    proposals = torch.multinomial(q, samples, replacement=True, generator=generator).tolist()
    counts = torch.bincount(torch.tensor([judge(x, p, q, generator) for x in proposals]), minlength=V)
    return float(((counts - samples * p).square() / (samples * p)).sum())


def test_what_stands_is_distributed_as_the_target() -> None:
    assert chi_square(judge) < CRITICAL


@pytest.mark.parametrize("wrong", [accept_everything, draw_again_from_p, accept_if_likelier])
def test_the_usual_mistakes_are_caught(wrong: Judge) -> None:
    assert chi_square(wrong) > 3 * CRITICAL


def test_acceptance_is_the_overlap_of_the_distributions() -> None:
    generator = torch.Generator().manual_seed(1)
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    proposals = torch.multinomial(q, 3000, replacement=True, generator=generator).tolist()
    accepted = sum(judge(x, p, q, generator) == x for x in proposals)

    assert accepted / 3000 == pytest.approx(float(torch.minimum(p, q).sum()), abs=0.035)


class Bigrams(torch.nn.Module):
    """Logits that depend on the last token alone; caches stay empty."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.config = spread(0, V).config
        self.logits = 0.7 * torch.randn(V, V, generator=torch.Generator().manual_seed(seed))

    def forward(self, tokens: Any, cache: Any = None, *, last_only: bool = False, **_: Any) -> Any:
        return self.logits[tokens[:, -1:] if last_only else tokens]


def pairs_chi_square(judge: Judge, runs: int) -> float:
    """Of two tokens after the same prompt, in 36 cells, with a draft of another mind."""
    target, other = Bigrams(0), Bigrams(1)
    choice, draft = Choice(torch.Generator().manual_seed(0)), ModelDraft(other, GrowingCache(other.config))
    table = target.logits.softmax(-1)
    expected = runs * table[2][:, None] * table  # [V, V]
    counts = torch.zeros(V, V)
    for _ in range(runs):
        made = speculate(target, draft, torch.tensor([[2]]), 2, tokens_ahead=2, choice=choice, judge=judge)
        counts[made.tokens[0, 0], made.tokens[0, 1]] += 1
    return float(((counts - expected).square() / expected).sum())


def test_whole_texts_are_distributed_as_the_target() -> None:
    """With 35 degrees of freedom one of 1000 right loops is above 66.6."""
    assert pairs_chi_square(judge, 800) < 66.6
    assert pairs_chi_square(accept_everything, 600) > 1.5 * 66.6


@pytest.mark.parametrize(("kind", "tokens_ahead"), [("none", 4), ("growing", 1), ("static", 4)])
def test_greedy_tokens_are_those_of_the_target_alone(kind: str, tokens_ahead: int) -> None:
    target, other = spread(0), spread(1)
    caches = {
        "none": lambda: None,
        "growing": lambda: GrowingCache(target.config),
        "static": lambda: StaticCache(target.config, 64),
    }
    expected = generate(target, prompt(), 18).tokens
    drafts = [ModelDraft(target, GrowingCache(target.config)), ModelDraft(other, StaticCache(other.config, 64))]
    for draft in (*drafts, NGramDraft(32)):
        made = speculate(target, draft, prompt(), 18, tokens_ahead=tokens_ahead, cache=caches[kind]())
        assert torch.equal(made.tokens, expected)
        assert made.accepted + made.passes == 18


def test_a_perfect_draft_saves_all_passes_but_one_in_each_round() -> None:
    target = spread(0)
    made = speculate(target, ModelDraft(target, GrowingCache(target.config)), prompt(), 30, tokens_ahead=4)

    assert made.accepted == made.proposed == 24
    assert made.passes == 6


def test_a_draft_may_serve_one_text_after_the_other() -> None:
    target, draft = spread(0), ModelDraft(spread(1), GrowingCache(spread(1).config))
    for seed in range(2):
        text = prompt(8, seed)
        fresh = ModelDraft(draft.model, GrowingCache(target.config))
        again, first = (speculate(target, d, text, 9, tokens_ahead=3) for d in (draft, fresh))
        assert again.rounds == first.rounds


def test_it_ends_at_the_end_token_and_drops_what_was_proposed_after_it() -> None:
    target = spread(0)
    tokens = generate(target, prompt(), 30).tokens[0].tolist()
    eos = tokens[8]
    for draft in (ModelDraft(target, GrowingCache(target.config)), NGramDraft(32)):
        made = speculate(target, draft, prompt(), 30, tokens_ahead=7, eos=[eos])
        assert made.tokens[0].tolist() == tokens[: tokens.index(eos) + 1]


def test_processors_bind_target_and_draft() -> None:
    def only_even(tokens: Any, logits: Any) -> Any:
        return logits.index_fill(1, torch.arange(1, 32, 2), -torch.inf)

    choice = Choice(torch.Generator().manual_seed(0), [only_even])
    for draft in (ModelDraft(spread(1), GrowingCache(spread(1).config)), NGramDraft(32)):
        made = speculate(spread(0), draft, prompt(), 30, tokens_ahead=3, choice=choice)
        assert (made.tokens % 2 == 0).all()


def test_the_latest_and_longest_place_is_copied() -> None:
    draft, text = NGramDraft(32, longest=2), torch.tensor([[1, 2, 3, 7, 2, 4, 1, 2, 5, 6, 1, 2]])

    assert draft.propose(text, 3, Choice()).tokens.tolist() == [5, 6, 1]
    assert draft.propose(text[:, :5], 2, Choice()).tokens.tolist() == [3, 7]
    assert draft.propose(text[:, :4], 2, Choice()).tokens.tolist() == []


def test_what_cannot_work_is_refused() -> None:
    target, draft = spread(0), NGramDraft(32)
    with pytest.raises(ModelError, match="2 prompts"):
        speculate(target, draft, prompt().repeat(2, 1), 4, tokens_ahead=2)
    with pytest.raises(ModelError, match="105 tokens exceed the model's 96 positions"):
        speculate(target, draft, prompt(), 100, tokens_ahead=2)
    cache = GrowingCache(target.config)
    with torch.inference_mode():
        target(prompt(), cache)
    with pytest.raises(ModelError, match="already holds 5 tokens"):
        speculate(target, draft, prompt(), 4, tokens_ahead=2, cache=cache)
