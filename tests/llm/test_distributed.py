"""Two processes train as one does: gradients, weights and checkpoints, with answers of uneven length on each rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.errors import TrainingError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402
from llmquiz.llm.train.device import fused_adamw  # noqa: E402
from llmquiz.llm.train.distributed import Ranks, launch, torchrun_ranks, whole_weights, wrap  # noqa: E402
from llmquiz.llm.train.loss import IGNORED  # noqa: E402
from llmquiz.llm.train.trainer import Trainer  # noqa: E402

pytestmark = pytest.mark.labs

CONFIG = ModelConfig(64, 32, 2, 4, 2, 8, 48)
STEPS, MICRO, ROWS, LENGTH = 3, 2, 4, 16


def trainer(ranks: Ranks, *, shard: bool, frozen: bool) -> Trainer:
    model = random_decoder(CONFIG, 0)
    if frozen:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = "q_proj" in name
    model = wrap(model, ranks, shard=shard)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    draw = torch.Generator().manual_seed(1)
    return Trainer(model, fused_adamw(trained, lr=1e-2), max_grad_norm=0.5, generator=draw)


def micro_batches(draw: Any) -> list[Any]:
    """Row r keeps a number of labels that grows with r, so ranks have different numbers of them."""
    made = []
    for _ in range(MICRO):
        tokens = torch.randint(64, (ROWS, LENGTH + 1), generator=draw)
        labels = tokens[:, 1:].clone()
        for row in range(ROWS):
            labels[row, 2 + 3 * row :] = IGNORED
        made.append((tokens[:, :-1], labels))
    return made


def train(ranks: Ranks, tell: Any, folder: Path, *kinds: tuple[bool, bool]) -> dict[tuple[bool, bool], Any]:
    """Steps; a save in the middle; what came of it, and what comes when the second half is done again from the file."""
    outcome = {}
    for kind in kinds:
        shard, frozen = kind
        ours = trainer(ranks, shard=shard, frozen=frozen)
        steps = [ours.step([ranks.share(batch) for batch in micro_batches(ours.generator)]) for _ in range(STEPS)]
        path = folder / f"{ranks.world}{shard}{frozen}.ckpt"
        ours.save(path)
        if ranks.world > 1:
            torch.distributed.barrier()
        weights = whole_weights(ours.model)
        again = trainer(ranks, shard=shard, frozen=frozen)
        again.resume(path)
        for each in (ours, again):
            last = each.step([ranks.share(batch) for batch in micro_batches(each.generator)])
        same = all(torch.equal(a, b) for a, b in zip(ours.model.parameters(), again.model.parameters(), strict=True))
        tell(kind, last)
        outcome[kind] = (steps, weights, same)
    return outcome


def fail(ranks: Ranks, tell: Any) -> None:
    if ranks.rank == 1:
        raise ValueError("no such row")
    torch.distributed.all_reduce(torch.zeros(1))


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    kinds = [(False, False), (True, False), (False, True), (True, True)]  # DDP, FSDP2; all trained, or a part
    heard: list[Any] = []
    two = launch(train, tmp_path, *kinds, processes=2, device="cpu", tell=lambda *told: heard.append(told))
    one = launch(train, tmp_path, *kinds, processes=1, device="cpu", tell=lambda *told: None)

    assert [kind for kind, _ in heard] == kinds  # rank 0 alone
    for kind in kinds:
        steps, weights, resumed = two[kind]
        expected_steps, expected, _ = one[kind]
        assert [step.tokens for step in steps] == [MICRO * (2 + 5 + 8 + 11)] * STEPS
        for step, wanted in zip(steps, expected_steps, strict=True):
            assert step.loss == pytest.approx(wanted.loss, abs=1e-6)
            assert step.grad_norm == pytest.approx(wanted.grad_norm, rel=1e-5)
        assert weights.keys() == expected.keys()
        for name, weight in weights.items():
            torch.testing.assert_close(weight, expected[name], rtol=0, atol=1e-6)
        assert resumed


@pytest.mark.slow
def test_a_rank_that_fails_is_named() -> None:
    with pytest.raises(TrainingError, match="ValueError: no such row in rank 1 of 2 processes"):
        launch(fail, processes=2, device="cpu", tell=print)


def test_a_share_is_every_nth_row() -> None:
    batch = (torch.arange(5), torch.arange(10).view(5, 2))

    assert Ranks(1, 2, "cpu").share(batch)[0].tolist() == [1, 3]
    assert Ranks(0, 2, "cpu").share(batch)[1].tolist() == [[0, 1], [4, 5], [8, 9]]
    assert Ranks(0, 1, "cpu").share(batch) is batch
    with pytest.raises(TrainingError, match="a batch of 5 cannot be shared by 6"):
        Ranks(0, 6, "cpu").share(batch)


def test_what_cannot_be_launched_is_refused() -> None:
    with pytest.raises(TrainingError, match="2 processes need a GPU each"):
        launch(train, processes=2, device="cuda", tell=print)
    with pytest.raises(TrainingError, match="on mps are not supported"):
        launch(train, processes=2, device="mps", tell=print)
    with pytest.raises(TrainingError, match="RANK is not set"):
        torchrun_ranks("cpu")
