"""Pruning: the same masks as torch.nn.utils.prune and torch's 2:4, masks that last, and what zeros cost in bytes."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.nn.utils import prune as theirs  # noqa: E402

from llmquiz.llm.errors import AdapterError, ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402
from llmquiz.llm.quant import prune  # noqa: E402
from llmquiz.llm.quant.layerwise import visit_layers  # noqa: E402

pytestmark = pytest.mark.labs

TOKENS = torch.randint(0, 64, (2, 11), generator=torch.Generator().manual_seed(0))


def gaussian(*shape: int, seed: int = 0) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def model() -> Any:
    return random_decoder(ModelConfig(64, 32, 2, 2, 2, 16, 64), seed=0)


def linear(rows: int = 24, columns: int = 40) -> Any:
    layer = nn.Linear(columns, rows)
    layer.weight.data = gaussian(rows, columns)
    return layer


def learn(trained: Any, optimizer: Any, steps: int = 3) -> None:
    for _ in range(steps):
        F.cross_entropy(trained(TOKENS[:, :-1]).flatten(0, 1), TOKENS[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("sparsity", [0.0, 0.25, 0.5, 0.713, 1.0])
def test_unstructured_masks_are_torchs(sparsity: float) -> None:
    layer = linear()
    mask = prune.per_layer(layer.weight.detach().abs(), sparsity)
    theirs.l1_unstructured(layer, "weight", sparsity)

    assert torch.equal(mask, layer.weight_mask.bool())
    assert int((~mask).sum()) == round(sparsity * mask.numel())


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.8])
def test_structured_masks_are_torchs(sparsity: float, dim: int) -> None:
    layer = linear()
    mask = prune.per_channel(layer.weight.detach(), sparsity, dim)
    theirs.ln_structured(layer, "weight", sparsity, n=2, dim=dim)

    assert torch.equal(mask, layer.weight_mask.bool())


def test_global_masks_are_torchs_and_spare_layers_of_large_weights() -> None:
    ours = model()
    with torch.no_grad():
        ours.layers[0].mlp.up_proj.weight.mul_(10)
    masks = prune.global_masks(ours, 0.6)
    theirs.global_unstructured(
        [(ours.get_submodule(path), "weight") for path in masks], theirs.L1Unstructured, amount=0.6
    )

    for path, mask in masks.items():
        assert torch.equal(mask, ours.get_submodule(path).weight_mask.bool())
    dropped = {path: 1 - float(mask.double().mean()) for path, mask in masks.items()}
    assert min(dropped, key=lambda path: dropped[path]) == "layers.0.mlp.up_proj"


@pytest.mark.parametrize("shape", [(8, 16), (32, 64)])
def test_two_of_four_is_torchs(shape: tuple[int, int]) -> None:
    from torch.ao.pruning import WeightNormSparsifier

    layer = linear(*shape)
    mask = prune.n_of_m(layer.weight.detach().abs())
    holder = nn.Sequential(copy.deepcopy(layer))
    sparsifier = WeightNormSparsifier(sparsity_level=1.0, sparse_block_shape=(1, 4), zeros_per_block=2)
    sparsifier.prepare(holder, [{"tensor_fqn": "0.weight"}])
    sparsifier.step()

    assert torch.equal(mask, holder[0].parametrizations.weight[0].mask.bool())
    assert (mask.view(-1, 4).sum(1) == 2).all()


def test_two_of_four_is_what_sparse_kernels_can_store() -> None:
    from torch.sparse._semi_structured_conversions import (
        sparse_semi_structured_from_dense_cutlass,
        sparse_semi_structured_to_dense_cutlass,
    )

    weight = gaussian(64, 128).half()
    pruned = weight * prune.n_of_m(weight.abs())
    values, places = sparse_semi_structured_from_dense_cutlass(pruned)

    assert torch.equal(sparse_semi_structured_to_dense_cutlass(values, places), pruned)
    assert (
        values.nbytes + places.nbytes
        == weight.nbytes // 2 + weight.numel() // 8
        == prune.storage_bytes(pruned)["bitmap"]
    )


@pytest.mark.parametrize(("n", "m"), [(1, 4), (2, 8), (4, 8), (3, 5)])
def test_n_of_m_keeps_the_largest_of_each(n: int, m: int) -> None:
    scores = gaussian(6, 40).abs()
    kept = (scores * prune.n_of_m(scores, n, m)).view(-1, m)

    expected = scores.view(-1, m).sort(descending=True).values[:, :n]
    assert torch.equal(kept.sort(descending=True).values[:, :n], expected)
    assert (kept != 0).sum() == n * kept.size(0)


def test_rows_lose_the_same_part_each() -> None:
    mask = prune.per_row(gaussian(9, 40).abs(), 0.7)
    assert mask.sum(1).tolist() == [12] * 9


def test_wanda_weighs_by_the_inputs() -> None:
    weight, x = gaussian(16, 40), gaussian(100, 40, seed=1)
    x[:, :10] *= 30
    by_hand = torch.stack([weight[:, j].abs() * x[:, j].square().sum().sqrt() for j in range(40)], dim=1)
    scores = prune.wanda_scores(weight, x)

    torch.testing.assert_close(scores, by_hand)
    mask = prune.per_row(scores, 0.5)
    assert mask[:, :10].double().mean() > 0.9
    lost = [((weight * kept - weight) @ x.T).norm() for kept in (mask, prune.per_row(weight.abs(), 0.5))]
    assert lost[0] < 0.5 * lost[1]


def test_wanda_sees_what_the_pruned_layers_give() -> None:
    original, pruned = model(), model()
    choose = partial(prune.per_row, sparsity=0.5)
    masks = prune.wanda_masks_(pruned, TOKENS, choose)
    inputs: dict[str, Any] = {}
    visit_layers(pruned, TOKENS, lambda path, layer, x: inputs.update({path: x}))

    for path, mask in masks.items():
        weight = original.get_submodule(path).weight
        assert torch.equal(choose(prune.wanda_scores(weight, inputs[path])), mask)
        assert torch.equal(pruned.get_submodule(path).weight, weight * mask)


@pytest.mark.parametrize(
    "optimizer", [partial(torch.optim.AdamW, weight_decay=0.1), partial(torch.optim.SGD, momentum=0.9)]
)
def test_masks_survive_training_and_zeros_alone_do_not(optimizer: Any) -> None:
    pruned, overwritten = model(), model()
    masks = prune.magnitude_masks(pruned, partial(prune.per_layer, sparsity=0.5))
    prune.prune_(pruned, masks)
    with torch.no_grad():
        for path, mask in masks.items():
            overwritten.get_submodule(path).weight.mul_(mask)
    before = pruned.layers[0].mlp.up_proj.weight.clone()
    for trained in (pruned, overwritten):
        learn(trained, optimizer(trained.parameters(), lr=0.01))

    assert set(prune.sparsity(pruned).values()) == {0.5}
    assert not torch.equal(pruned.layers[0].mlp.up_proj.weight, before)  # the others have learned
    assert max(prune.sparsity(overwritten).values()) < 0.05


def test_a_permanent_mask_leaves_a_plain_model() -> None:
    pruned = model()
    names = set(pruned.state_dict())
    prune.prune_(pruned, prune.magnitude_masks(pruned, prune.n_of_m, ("up_proj", "down_proj")))
    copied, expected = copy.deepcopy(pruned), pruned(TOKENS)
    prune.make_permanent_(copied)

    assert torch.equal(copied(TOKENS), expected)
    assert torch.equal(pruned(TOKENS), expected)  # the original keeps its masks
    assert set(copied.state_dict()) == names
    assert type(copied.layers[0].mlp.up_proj) is nn.Linear
    report = prune.sparsity(copied)
    assert report == prune.sparsity(pruned)
    assert {path for path, part in report.items() if part == 0.5} == {p for p in report if "up" in p or "down" in p}


def test_pruning_again_keeps_the_first_zeros() -> None:
    pruned = model()
    first = prune.magnitude_masks(pruned, partial(prune.per_layer, sparsity=0.3))
    prune.prune_(pruned, first)
    learn(pruned, torch.optim.SGD(pruned.parameters(), lr=0.1))
    second = prune.magnitude_masks(pruned, partial(prune.per_layer, sparsity=0.5))
    prune.prune_(pruned, second)

    assert all(not (second[path] & ~first[path]).any() for path in first)
    assert set(prune.sparsity(pruned).values()) == {0.5}


def test_bytes_of_each_format() -> None:
    weight = gaussian(64, 96).half()
    weight *= prune.per_layer(weight.abs(), 0.75)
    sizes, kept = prune.storage_bytes(weight), 64 * 96 // 4

    assert sizes == {
        "dense": 64 * 96 * 2,
        "bitmap": kept * 2 + 64 * 96 // 8,
        "CSR": kept * (2 + 4) + 4 * 65,
    }
    assert prune.storage_bytes(weight.float())["CSR"] == kept * 8 + 4 * 65
    half = gaussian(64, 96).half()
    half *= prune.per_layer(half.abs(), 0.5)
    assert prune.storage_bytes(half)["CSR"] > half.nbytes  # half of the weights, half as much again in bytes


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="needs rows that 4 divides, this one has 30 weights"):
        prune.n_of_m(gaussian(3, 30).abs())
    with pytest.raises(AdapterError, match="names no linear layer"):
        prune.magnitude_masks(model(), prune.n_of_m, ("qkv",))
