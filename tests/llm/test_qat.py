"""Fake quantization: values and gradients against torch's own, learned steps, and an export that changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from llmquiz.llm.errors import AdapterError, ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402
from llmquiz.llm.quant.qat import FakeQuantLinear, add_fake_quantization, export_, fake_quantize  # noqa: E402
from llmquiz.llm.quant.rtn import Grid, as_stored, quantize  # noqa: E402

pytestmark = pytest.mark.labs

SETTINGS = [
    (Grid(2, 16, symmetric=True), True),
    (Grid(4, None, symmetric=True), True),
    (Grid(2, 16), False),
    (Grid(3, None, clip=True), False),
]
TOKENS = torch.randint(0, 64, (2, 11), generator=torch.Generator().manual_seed(0))


def gaussian(*shape: int, seed: int = 0) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def model() -> Any:
    return random_decoder(ModelConfig(64, 32, 2, 2, 2, 16, 64), seed=0)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_values_and_gradients_are_torchs(bits: int, symmetric: bool) -> None:
    grid = Grid(bits, None, symmetric)
    x, upstream = gaussian(6, 50).requires_grad_(), gaussian(6, 50, seed=1)
    scale, zero = grid.fit(x.detach())
    scale = as_stored(0.6 * scale)  # so that many are clamped
    ours = fake_quantize(x, scale, zero, grid)
    (gradient,) = torch.autograd.grad(ours, x, upstream)
    theirs = torch.fake_quantize_per_channel_affine(x, scale[:, 0], zero[:, 0].int(), 0, 0, grid.top)
    (expected,) = torch.autograd.grad(theirs, x, upstream)

    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)
    assert 0 < int((gradient == 0).sum()) < x.numel()  # some are clamped, not all


def test_the_gradient_of_the_step_is_the_papers() -> None:
    """Equation 3 of LSQ by hand, and torch's own learnable fake quantization."""
    grid, x, upstream = Grid(3, None, symmetric=True), gaussian(6, 50), gaussian(6, 50, seed=1)
    scale = torch.full((6, 1), 0.5, requires_grad=True)
    zero = torch.full((6, 1), 4.0)
    (gradient,) = torch.autograd.grad(fake_quantize(x, scale, zero, grid), scale, upstream)
    ratio = x / 0.5
    by_hand = torch.where(ratio.round() < -4, -4.0, torch.where(ratio.round() > 3, 3.0, ratio.round() - ratio))
    theirs = scale.detach()[:, 0].clone().requires_grad_()
    out = torch._fake_quantize_learnable_per_channel_affine(x, theirs, zero[:, 0], 0, 0, grid.top, 1.0)
    (expected,) = torch.autograd.grad(out, theirs, upstream)

    torch.testing.assert_close(gradient[:, 0], (by_hand * upstream).sum(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient[:, 0], expected, rtol=1e-5, atol=1e-5)


def test_the_step_learns_slower_by_the_papers_factor() -> None:
    grid, x = Grid(3, 10, symmetric=True), gaussian(4, 20, seed=1)
    layer = FakeQuantLinear(nn.Linear(20, 6, bias=False), grid, learned_step=True)
    layer(x).square().sum().backward()  # type: ignore[no-untyped-call]
    step = as_stored(layer.step.detach()).requires_grad_()
    weight = fake_quantize(grid.groups(layer.weight.detach()), step, torch.full_like(step, 4.0), grid).flatten(1)
    F.linear(x, weight).square().sum().backward()  # type: ignore[no-untyped-call]

    torch.testing.assert_close(layer.step.grad, step.grad / (10 * 3) ** 0.5, rtol=1e-4, atol=1e-6)
    assert torch.allclose(layer.step[0, 0], 2 * layer.weight[0, :10].abs().mean() / 3**0.5)


@pytest.mark.parametrize(("grid", "learned"), SETTINGS, ids=str)
def test_after_training_the_export_computes_the_same_numbers(grid: Grid, learned: bool) -> None:
    trained = model()
    layers = add_fake_quantization(trained, grid, learned_step=learned)
    optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-2)
    for _ in range(3):
        F.cross_entropy(trained(TOKENS[:, :-1]).flatten(0, 1), TOKENS[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        expected = trained(TOKENS)
        codes = export_(trained)
        assert torch.equal(trained(TOKENS), expected)

    assert len(layers) == len(codes) == 14
    for path, quantized in codes.items():
        plain = trained.get_submodule(path)
        assert type(plain) is nn.Linear
        assert torch.equal(plain.weight, quantized.dequantize())
    assert codes["layers.0.mlp.up_proj"].codes().max() <= grid.top


def test_without_a_learned_step_the_codes_are_those_of_rounding() -> None:
    linear, grid = nn.Linear(32, 8), Grid(3, 16)
    expected = quantize(linear.weight, grid)
    layer = FakeQuantLinear(linear, grid)

    assert torch.equal(layer.quantized().packed, expected.packed)
    assert torch.equal(layer(torch.eye(32)) - linear.bias, expected.dequantize().T + linear.bias - linear.bias)


def test_a_layer_keeps_the_format_of_its_input() -> None:
    layer, x = FakeQuantLinear(nn.Linear(32, 8).bfloat16(), Grid(3, 16)), gaussian(5, 32).bfloat16()

    assert layer(x).dtype == torch.bfloat16
    assert torch.equal(layer(x), F.linear(x, layer.quantized().dequantize(torch.bfloat16), layer.bias))


def test_small_updates_add_up_where_a_rounded_weight_forgets_them() -> None:
    """A target one step of the grid away, reached in updates far smaller than half a step; by rounding the stored
    weight after each update, never."""
    grid, goal = Grid(2, 4, symmetric=True), torch.tensor([[1.0, 0.0, 0.0, 1.0]])

    def train(forget: bool) -> Any:
        linear = nn.Linear(4, 1, bias=False)
        with torch.no_grad():
            linear.weight.copy_(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
        layer = FakeQuantLinear(linear, grid)
        for _ in range(100):
            loss = (layer(torch.eye(4)).T - goal).square().sum()
            (gradient,) = torch.autograd.grad(loss, layer.weight)
            with torch.no_grad():
                layer.weight -= 0.01 * gradient
                if forget:
                    layer.weight.copy_(layer.quantized().dequantize())
        return layer.quantized().dequantize()

    assert torch.equal(train(forget=False), goal)
    assert torch.equal(train(forget=True), torch.tensor([[1.0, 0.0, 0.0, 0.0]]))


def test_only_named_layers_are_changed_and_weights_are_shared() -> None:
    changed = model()
    before = changed.layers[0].self_attn.q_proj.weight
    add_fake_quantization(changed, Grid(4), ("q_proj",))

    kinds = {path.rpartition(".")[2] for path, layer in changed.named_modules() if isinstance(layer, FakeQuantLinear)}
    assert kinds == {"q_proj"}
    assert changed.layers[0].self_attn.q_proj.weight is before
    assert all(weight.grad is None and weight.requires_grad for weight in changed.parameters())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(AdapterError, match="names no linear layer"):
        add_fake_quantization(model(), Grid(4), ("qkv",))
    with pytest.raises(ModelError, match="do not divide"):
        add_fake_quantization(model(), Grid(4, 48))
    with pytest.raises(ModelError, match="symmetric grid"):
        add_fake_quantization(model(), Grid(4), learned_step=True)
