"""Reward models: where the score is read, how the loss behaves where it matters, and what production libraries say."""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.align.reward import RewardModel, last_real_token, pairwise_loss, predict, right_pad  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402

pytestmark = pytest.mark.labs

CONFIG = ModelConfig(32, 16, 2, 2, 1, 8, 24, max_position=64)


@pytest.fixture
def model() -> RewardModel:
    model = RewardModel(random_decoder(CONFIG, seed=0))
    torch.nn.init.normal_(model.score.weight)
    return model


def test_it_starts_at_ln_2() -> None:
    model = RewardModel(random_decoder(CONFIG, seed=0))
    chosen, rejected = torch.randint(32, (2, 5, 9))
    mask = torch.ones(5, 9, dtype=torch.bool)

    loss = pairwise_loss(model(chosen, mask), model(rejected, mask))
    assert loss.item() == pytest.approx(math.log(2), abs=1e-7)


def test_the_score_is_that_of_the_last_real_token(model: RewardModel) -> None:
    tokens = torch.randint(32, (1, 9))
    mask = torch.arange(9) < 6

    assert torch.equal(model(tokens, mask[None]), model.token_scores(tokens, mask[None])[:, 5])
    torch.testing.assert_close(model(tokens, mask[None]), model(tokens[:, :6], mask[None, :6]))


@pytest.mark.parametrize("left", [0, 3])
@pytest.mark.parametrize("right", [0, 1, 5])
def test_padding_does_not_change_it(model: RewardModel, left: int, right: int) -> None:
    text = torch.randint(32, (2, 7))
    real = torch.ones(2, 7, dtype=torch.bool)
    expected = model(text, real)
    tokens = torch.nn.functional.pad(text, (left, right), value=31)
    padded = model(tokens, torch.nn.functional.pad(real, (left, right)))

    torch.testing.assert_close(padded, expected)
    padded.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_the_last_real_token_is_found_not_counted() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 0, 0], [1, 0, 1, 0]], dtype=torch.bool)

    assert last_real_token(mask).tolist() == [1, 3, 0, 2]
    with pytest.raises(ModelError, match="no real token"):
        last_real_token(torch.zeros(1, 4, dtype=torch.bool))


def test_the_first_token_cannot_tell_answers_apart(model: RewardModel) -> None:
    answers = torch.randint(32, (4, 8))
    answers[:, 0] = 3
    scores = model.token_scores(answers)

    assert scores[:, 0].unique().numel() == 1
    assert scores[:, -1].unique().numel() == 4


def test_the_loss_is_finite_where_the_model_is_most_wrong() -> None:
    difference = torch.tensor([-1000.0, -90.0, 0.0, 1000.0], requires_grad=True)
    losses = [pairwise_loss(d[None], torch.zeros(1)) for d in difference]
    (gradient,) = torch.autograd.grad(sum(losses), difference)

    assert [loss.item() for loss in losses] == pytest.approx([1000.0, 90.0, math.log(2), 0.0])
    assert gradient.tolist() == pytest.approx([-1.0, -1.0, -0.5, 0.0])
    unsafe = torch.tensor(-90.0, requires_grad=True)
    (-torch.log(torch.sigmoid(unsafe))).backward()
    assert not unsafe.grad.isfinite()


def test_margin_and_centering_do_what_the_formula_says() -> None:
    chosen, rejected, margin = torch.randn(3, 6, dtype=torch.float64)
    expected = -(1 / (1 + (-(chosen - rejected - margin)).exp())).log() + 0.01 * (chosen + rejected) ** 2

    torch.testing.assert_close(pairwise_loss(chosen, rejected, margin=margin, centering=0.01), expected.mean())
    assert pairwise_loss(chosen + 5, rejected + 5) == pytest.approx(float(pairwise_loss(chosen, rejected)))


@pytest.mark.parametrize("training", [True, False])
def test_predicting_is_batched_and_keeps_the_mode(model: RewardModel, training: bool) -> None:
    sequences = [torch.randint(32, (length,)) for length in (3, 9, 1, 5, 7)]
    model.train(training)
    scores = predict(model, sequences, batch_size=2)

    alone = [model(sequence[None], torch.ones(1, len(sequence), dtype=torch.bool)) for sequence in sequences]
    torch.testing.assert_close(scores, torch.cat(alone).detach())
    assert not scores.requires_grad
    assert model.training is training


def test_it_learns_which_answers_are_preferred() -> None:
    """The answer with more 7s wins."""
    generator = torch.Generator().manual_seed(0)
    model = RewardModel(random_decoder(CONFIG, seed=0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def pairs(n: int) -> tuple[Any, Any]:
        answers = torch.randint(4, 12, (2, n, 8), generator=generator)
        wins = (answers == 7).sum(-1)
        unequal = wins[0] != wins[1]
        first = (wins[0] > wins[1])[unequal, None]
        return torch.where(first, *answers[:, unequal]), torch.where(first, *answers[:, unequal].flip(0))

    def scores(answers: Any) -> Any:
        return model(answers, torch.ones_like(answers, dtype=torch.bool))

    for _ in range(80):
        chosen, rejected = pairs(64)
        optimizer.zero_grad()
        pairwise_loss(scores(chosen), scores(rejected)).backward()
        optimizer.step()
    chosen, rejected = pairs(400)
    assert (scores(chosen) > scores(rejected)).float().mean() > 0.9


@pytest.mark.slow
def test_it_is_transformers_sequence_classification() -> None:
    transformers = pytest.importorskip("transformers")
    from llmquiz.llm.model.reference import to_transformers

    ours = RewardModel(random_decoder(ModelConfig(32, 64, 2, 4, 2, 16, 96, max_position=64), seed=1))
    torch.nn.init.normal_(ours.score.weight)
    twin = to_transformers(ours.decoder)
    config = twin.config.__class__(**{**twin.config.to_dict(), "num_labels": 1, "pad_token_id": 0})
    theirs = transformers.LlamaForSequenceClassification(config).eval()
    theirs.model.load_state_dict(twin.model.state_dict())
    theirs.score.weight.data.copy_(ours.score.weight.data)
    tokens, mask = right_pad([torch.randint(1, 32, (length,)) for length in (5, 11, 1, 8)])

    expected = theirs(tokens, attention_mask=mask.long()).logits[:, 0]
    torch.testing.assert_close(ours(tokens, mask), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_the_loss_is_trls() -> None:
    """TRL's own `compute_loss`, called on a stand-in for its trainer: building one would need a dataset."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        trl = pytest.importorskip("trl")
        reward_trainer = trl.RewardTrainer
    from types import SimpleNamespace

    rewards = torch.randn(2, 5) * 3

    def score(**_: Any) -> Any:
        return SimpleNamespace(logits=rewards.flatten()[:, None])

    score.training = True
    whole = SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x)
    from collections import defaultdict

    trainer = SimpleNamespace(
        args=SimpleNamespace(center_rewards_coefficient=0.01),
        accelerator=whole,
        model=score,
        _total_train_tokens=0,
        _tp_size=1,
        _metrics={"train": defaultdict(list)},
    )
    inputs = {"attention_mask": torch.ones(10, 3), "margin": torch.rand(5)}
    margin = inputs["margin"]
    expected = reward_trainer.compute_loss(trainer, score, inputs)

    torch.testing.assert_close(pairwise_loss(*rewards, margin=margin, centering=0.01), expected)
