"""Muon: orthogonal updates for matrices, AdamW for the rest."""

from __future__ import annotations

from copy import deepcopy

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402
from llmquiz.llm.train.muon import Muon, orthogonalize, parameter_groups  # noqa: E402

pytestmark = pytest.mark.labs


@pytest.mark.parametrize("shape", [(32, 32), (16, 64), (64, 16), (3, 8, 24)])
def test_singular_values_are_near_one_and_vectors_stay(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    assert s.max() / s.min() > 1.5

    y = orthogonalize(x)

    rotated = u.mT @ y @ vt.mT  # diagonal, if the singular vectors are those of x
    values = rotated.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(rotated, torch.diag_embed(values), atol=1e-4, rtol=0)
    large = s / s.norm(dim=-1, keepdim=True) > 0.01  # five iterations lift what is not tiny
    assert ((values > 0.6) & (values < 1.3))[large].all()


def test_a_rank_one_gradient_moves_one_direction_by_its_full_length() -> None:
    u, v = torch.randn(24), torch.randn(16)
    y = orthogonalize(1e-4 * torch.outer(u, v))

    expected = torch.outer(u / u.norm(), v / v.norm())
    assert 0.6 < float((y * expected).sum()) < 1.3
    assert float((y - (y * expected).sum() * expected).norm()) < 1e-3


def test_no_gradient_no_update() -> None:
    assert not orthogonalize(torch.zeros(8, 4)).any()


def test_the_step_does_not_depend_on_the_size_of_the_gradient() -> None:
    gradient = torch.randn(16, 8)
    moved = []
    for size in (1e-3, 1e3):
        weight = nn.Parameter(torch.zeros(16, 8))
        weight.grad = size * gradient
        Muon([{"params": [weight], "lr": 0.1, "orthogonal": True}]).step()
        moved.append(weight.detach())
    torch.testing.assert_close(*moved, atol=1e-4, rtol=1e-3)
    assert torch.linalg.matrix_norm(moved[0], ord=2) == pytest.approx(0.1 * 2**0.5, rel=0.3)  # lr sqrt(16 / 8)


def test_momentum_looks_ahead() -> None:
    """Nesterov: what is made orthogonal is (1 - m) g + m (average after g)."""
    weight = nn.Parameter(torch.zeros(6, 6, dtype=torch.float64))
    optimizer = Muon([{"params": [weight], "lr": 1.0, "orthogonal": True}], momentum=0.8, dtype=torch.float64)
    average, expected = torch.zeros(6, 6, dtype=torch.float64), torch.zeros(6, 6, dtype=torch.float64)
    for step in range(3):
        gradient = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        average = 0.8 * average + 0.2 * gradient
        expected -= orthogonalize(0.2 * gradient + 0.8 * average)
        weight.grad = gradient.clone()
        optimizer.step()
    torch.testing.assert_close(weight.detach(), expected)


def test_the_rest_follows_adamw_of_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(5, 3)) for _ in range(2))
    groups = [{"params": [ours], "lr": 0.02, "orthogonal": False}]
    mine = Muon(groups, betas=(0.8, 0.9), weight_decay=0.1)
    peer = torch.optim.AdamW([theirs], lr=0.02, betas=(0.8, 0.9), weight_decay=0.1)
    for _ in range(5):
        ours.grad = torch.randn(5, 3)
        theirs.grad = ours.grad.clone()
        mine.step()
        peer.step()
    torch.testing.assert_close(ours, theirs)


def test_vectors_are_not_decayed_and_matrices_are() -> None:
    vector, matrix = nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4, 4))
    vector.grad, matrix.grad = torch.zeros(4), torch.zeros(4, 4)
    groups = [
        {"params": [matrix], "lr": 0.1, "orthogonal": True},
        {"params": [vector], "lr": 0.1, "orthogonal": False},
    ]
    Muon(groups, weight_decay=0.5).step()
    assert torch.equal(vector.detach(), torch.ones(4))
    torch.testing.assert_close(matrix.detach(), torch.full((4, 4), 0.95))


@pytest.mark.parametrize("tied", [True, False])
def test_tables_and_vectors_go_to_adamw_and_everything_is_somewhere(tied: bool) -> None:
    model = random_decoder(ModelConfig(32, 16, 2, 4, 2, 4, 24, 64, tie_embeddings=tied), 0)
    model.norm.weight.requires_grad_(False)

    matrices, others = parameter_groups(model, lr=0.02, adamw_lr=0.004)

    assert len(matrices["params"]) == 2 * 7
    assert all(weight.dim() == 2 and 32 not in weight.shape for weight in matrices["params"])
    trainable = sum(weight.requires_grad for weight in model.parameters())
    assert len(matrices["params"]) + len(others["params"]) == trainable
    assert (matrices["lr"], others["lr"]) == (0.02, 0.004)


def test_state_is_restored_exactly() -> None:
    def build() -> tuple[nn.Module, Muon]:
        model = random_decoder(ModelConfig(32, 16, 1, 4, 2, 4, 24, 64, tie_embeddings=True), 0)
        return model, Muon(parameter_groups(model, lr=0.02, adamw_lr=0.01))

    def step(model: nn.Module, optimizer: Muon, seed: int) -> None:
        tokens = torch.randint(32, (2, 8), generator=torch.Generator().manual_seed(seed))
        model(tokens).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    model, optimizer = build()
    step(model, optimizer, 1)
    again, resumed = build()
    again.load_state_dict(model.state_dict())
    resumed.load_state_dict(deepcopy(optimizer.state_dict()))  # torch shares the tensors that it is given
    for one, two in ((model, optimizer), (again, resumed)):
        step(one, two, 2)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
