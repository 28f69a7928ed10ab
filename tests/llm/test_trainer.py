"""The training step: accumulation, clipping, what it refuses, and what a resumed run repeats bit for bit."""

from __future__ import annotations

import math
import pickle
import random
import resource
from functools import partial
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional as F  # noqa: E402

from llmquiz.llm.errors import TrainingError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import Decoder, random_decoder  # noqa: E402
from llmquiz.llm.train.checkpoint import read_checkpoint, write_checkpoint  # noqa: E402
from llmquiz.llm.train.device import fused_adamw  # noqa: E402
from llmquiz.llm.train.loss import IGNORED, language_model_loss, next_token_loss  # noqa: E402
from llmquiz.llm.train.schedule import warmup_cosine  # noqa: E402
from llmquiz.llm.train.trainer import Trainer  # noqa: E402

pytestmark = pytest.mark.labs

CONFIG = ModelConfig(64, 32, 2, 4, 2, 8, 48)


def ragged(rows: int = 6, length: int = 16, seed: int = 0) -> Any:
    """Inputs and labels [B, T]; row r has 2 r + 1 labels."""
    tokens = torch.randint(64, (rows, length + 1), generator=torch.Generator().manual_seed(seed))
    labels = tokens[:, 1:].clone()
    for row in range(rows):
        labels[row, 2 * row + 1 :] = IGNORED
    return tokens[:, :-1], labels


def parts(batch: Any, sizes: list[int]) -> list[Any]:
    return list(zip(*(tensor.split(sizes) for tensor in batch), strict=True))


def sgd(model: Decoder, **options: Any) -> Trainer:
    """At rate 1 the step is the gradient."""
    return Trainer(model, torch.optim.SGD(model.parameters(), lr=1.0), **options)


def adam(precision: str = "fp32") -> Trainer:
    model = random_decoder(CONFIG, 0).train()
    schedule = partial(warmup_cosine, warmup=3, total=20, peak=1e-2)
    draw = torch.Generator().manual_seed(1)
    groups = [{"params": [w for w in model.parameters() if w.dim() > 1]}]
    groups.append({"params": [w for w in model.parameters() if w.dim() < 2], "lr": 1e-3})
    return Trainer(model, fused_adamw(groups, lr=1e-2), schedule=schedule, precision=precision, generator=draw)


def drawn(trainer: Trainer) -> list[Any]:
    tokens = torch.randint(64, (4, 9), generator=trainer.generator)
    return parts((tokens[:, :-1], tokens[:, 1:]), [2, 2])


def weights(model: Any) -> list[Any]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def test_the_loss_is_a_sum_and_a_count() -> None:
    logits = torch.randn(2, 5, 7)
    labels = torch.tensor([[1, 2, IGNORED, 3, 0], [IGNORED] * 5])
    nll, tokens = next_token_loss(logits, labels)

    assert tokens == 4
    assert nll / tokens == pytest.approx(float(F.cross_entropy(logits.flatten(0, 1), labels.flatten())))
    nothing, none = next_token_loss(logits[1:], labels[1:])
    assert (float(nothing), int(none)) == (0.0, 0)  # torch's mean would be nan


@torch.no_grad()
def mean_loss(model: Decoder, batch: Any) -> float:
    """As torch computes it."""
    return float(F.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten()))


@pytest.mark.parametrize("sizes", [[1] * 6, [5, 1], [2, 2, 2]])
def test_accumulated_gradients_are_those_of_the_large_batch(sizes: list[int]) -> None:
    batch = ragged()
    whole, accumulated = random_decoder(CONFIG, 0), random_decoder(CONFIG, 0)
    expected = sgd(whole, max_grad_norm=float("inf")).step([batch])
    step = sgd(accumulated, max_grad_norm=float("inf")).step(parts(batch, sizes))

    assert step.tokens == expected.tokens == 36
    assert step.loss == pytest.approx(expected.loss, abs=1e-6)
    assert step.loss == pytest.approx(mean_loss(random_decoder(CONFIG, 0), batch), abs=1e-6)
    for ours, theirs in zip(accumulated.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_a_mean_of_means_is_another_gradient() -> None:
    """What `(loss / accumulation).backward()` gives, which is why the trainer does not."""
    batch = ragged()
    model = random_decoder(CONFIG, 0)
    for part in parts(batch, [1] * 6):
        nll, tokens = language_model_loss(model, part)
        (nll / tokens / 6).backward()
    wrong = torch.cat([w.grad.flatten() for w in model.parameters()])
    nll, tokens = language_model_loss(model.requires_grad_(), batch)
    right = torch.cat([g.flatten() for g in torch.autograd.grad(nll / tokens, list(model.parameters()))])

    assert (wrong - right).norm() / right.norm() > 0.5


def test_a_micro_batch_without_labels_changes_nothing() -> None:
    inputs, labels = ragged()
    silent = (inputs, torch.full_like(labels, IGNORED))
    one, two = random_decoder(CONFIG, 0), random_decoder(CONFIG, 0)
    sgd(one).step([(inputs, labels)])
    step = sgd(two).step([(inputs, labels), silent])

    assert step.tokens == 36
    assert all(map(torch.equal, weights(one), weights(two)))
    with pytest.raises(TrainingError, match="step 0: no token has a label"):
        sgd(two).step([silent])


@pytest.mark.parametrize("limit", [0.1, 1e6])
def test_the_gradient_is_clipped_after_it_is_divided(limit: float) -> None:
    model = random_decoder(CONFIG, 0)
    before = weights(model)
    step = sgd(model, max_grad_norm=limit).step(parts(ragged(), [3, 3]))
    moved = sum(float((a - b).square().sum()) for a, b in zip(weights(model), before, strict=True)) ** 0.5

    assert moved == pytest.approx(min(limit, step.grad_norm), rel=1e-4)
    assert step.grad_norm > 0.5


def test_checkpointed_layers_give_the_same_step_even_when_the_embedding_is_frozen() -> None:
    """With reentrant checkpointing no gradient would reach layers whose input needs none; ours is not."""
    models = [random_decoder(CONFIG, 0), random_decoder(CONFIG, 0)]
    for model, checkpointing in zip(models, (False, True), strict=True):
        model.requires_grad_(False)
        model.layers.requires_grad_(True)
        model.checkpointing = checkpointing
        Trainer(model, torch.optim.SGD(model.layers.parameters(), lr=0.1)).step([ragged()])

    assert all(map(torch.equal, weights(models[0]), weights(models[1])))
    assert not torch.equal(
        models[0].layers[0].mlp.up_proj.weight, random_decoder(CONFIG, 0).layers[0].mlp.up_proj.weight
    )


def test_the_schedule_keeps_the_ratio_of_the_groups() -> None:
    trainer = adam()
    step = trainer.step(drawn(trainer))

    assert step.lr == pytest.approx(1e-2 / 3)
    assert [group["lr"] for group in trainer.optimizer.param_groups] == pytest.approx([1e-2 / 3, 1e-3 / 3])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mixed_precision_is_near_fp32_and_keeps_fp32_weights(precision: str) -> None:
    trainers = [adam(), adam(precision)]
    losses = [[each.step(drawn(each)).loss for _ in range(4)] for each in trainers]

    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[0] != losses[1]
    assert {weight.dtype for weight in trainers[1].model.parameters()} == {torch.float32}


def test_an_overflow_in_fp16_skips_the_step_and_lowers_the_scale() -> None:
    trainer = adam("fp16")
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = weights(trainer.model)
    step = trainer.step(drawn(trainer))

    assert not math.isfinite(step.grad_norm)
    assert all(map(torch.equal, before, weights(trainer.model)))
    assert trainer.scaler.get_scale() == 2.0**39


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_before_the_weights_change(value: float) -> None:
    trainer = adam()
    trainer.step(drawn(trainer))
    before, moments = weights(trainer.model), trainer.optimizer.state_dict()["state"][0]["exp_avg"].clone()
    good = trainer.loss_fn
    trainer.loss_fn = lambda model, batch: (good(model, batch)[0] * value, good(model, batch)[1])
    with pytest.raises(TrainingError, match=f"step 1: the loss is {value}; lower the learning rate"):
        trainer.step(drawn(trainer))

    assert all(map(torch.equal, before, weights(trainer.model)))
    assert torch.equal(moments, trainer.optimizer.state_dict()["state"][0]["exp_avg"])
    assert trainer.steps == 1
    trainer.loss_fn = good
    assert trainer.step(drawn(trainer)).loss > 0


def test_a_gradient_that_is_no_number_stops_too() -> None:
    trainer = adam()
    before = weights(trainer.model)
    trainer.model.norm.weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(TrainingError, match="step 0: the gradient's norm is nan at a loss of"):
        trainer.step(drawn(trainer))

    assert all(map(torch.equal, before, weights(trainer.model)))


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_resumed_run_repeats_the_uninterrupted_one(tmp_path: Path, precision: str) -> None:
    def noisy(model: Any, batch: Any) -> Any:
        """Draws from each generator that a run may use."""
        nll, tokens = language_model_loss(model, batch)
        return nll * (1 + 0.1 * torch.rand(()) + 0.1 * random.random()), tokens

    first = adam(precision)
    first.loss_fn = noisy
    for _ in range(3):
        first.step(drawn(first))
    first.save(tmp_path / "run.ckpt")
    expected = [first.step(drawn(first)) for _ in range(3)]
    second = adam(precision)
    second.loss_fn = noisy
    second.resume(tmp_path / "run.ckpt")

    assert [second.step(drawn(second)) for _ in range(3)] == expected
    assert all(map(torch.equal, weights(first.model), weights(second.model)))


def test_another_model_or_optimizer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    adam().save(path)
    frozen = adam()
    frozen.model.norm.requires_grad_(False)
    with pytest.raises(TrainingError, match=r"'norm.weight' is \(32,\), the model's trainable one is not there"):
        frozen.resume(path)
    with pytest.raises(TrainingError, match="other parameter groups"):
        sgd(random_decoder(CONFIG, 0)).resume(path)


@pytest.mark.parametrize("damage", ["cut", "flipped", "other", "missing"])
def test_a_damaged_checkpoint_is_refused_and_changes_nothing(tmp_path: Path, damage: str) -> None:
    path, trainer = tmp_path / "run.ckpt", adam()
    trainer.step(drawn(trainer))
    trainer.save(path)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[:-100])
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "other":
        path.write_bytes(pickle.dumps({"model": {}}))
    else:
        path.unlink()
    fresh = adam()
    before = weights(fresh.model)
    words = {"cut": "damaged", "flipped": "damaged", "other": "not a checkpoint", "missing": "not readable"}
    with pytest.raises(TrainingError, match=words[damage]) as refusal:
        fresh.resume(path)

    assert "\n" not in str(refusal.value)
    assert all(map(torch.equal, before, weights(fresh.model)))


class Bomb:
    """Would run a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("exploded"),))


def test_a_checkpoint_that_holds_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_checkpoint(tmp_path / "bomb.ckpt", {"model": Bomb()})
    with pytest.raises(TrainingError, match="more than tensors and plain values"):
        read_checkpoint(tmp_path / "bomb.ckpt")

    assert not (tmp_path / "exploded").exists()


def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path: Path) -> None:
    path, trainer = tmp_path / "run.ckpt", adam()
    trainer.save(path)
    earlier = path.read_bytes()
    trainer.step(drawn(trainer))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # stands for a disk without space
    try:
        with pytest.raises(TrainingError, match=r"not saved .* An earlier checkpoint there is untouched"):
            trainer.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    assert path.read_bytes() == earlier
    assert list(tmp_path.iterdir()) == [path]


def test_only_what_the_optimizer_holds_moves() -> None:
    model = random_decoder(CONFIG, 0)
    model.requires_grad_(False)
    model.lm_head.requires_grad_(True)
    before = weights(model)
    Trainer(model, torch.optim.SGD(model.lm_head.parameters(), lr=0.1)).step([ragged()])
    moved = [not torch.equal(a, b) for a, b in zip(weights(model), before, strict=True)]

    assert sum(moved) == 1
