"""GPTQ and AWQ against what they claim: a column-by-column reference, exact identities, lower error of outputs."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402
from llmquiz.llm.quant import awq, gptq  # noqa: E402
from llmquiz.llm.quant.awq import AWQ, fold_  # noqa: E402
from llmquiz.llm.quant.gptq import GPTQ, hessian_of, output_error  # noqa: E402
from llmquiz.llm.quant.layerwise import visit_layers  # noqa: E402
from llmquiz.llm.quant.rtn import Grid, quantize  # noqa: E402

pytestmark = pytest.mark.labs

TOKENS = torch.randint(0, 64, (4, 16), generator=torch.Generator().manual_seed(0))
GRIDS = [Grid(3), Grid(4, 16), Grid(2, 16, symmetric=True), Grid(3, clip=True)]


def gaussian(*shape: int, seed: int = 0) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def correlated(rows: int, columns: int, seed: int = 0) -> Any:
    """Inputs as layers have them: a few directions with most of the variance, a few large channels."""
    x = gaussian(rows, 6, seed=seed) @ gaussian(6, columns, seed=seed + 1) + 0.3 * gaussian(
        rows, columns, seed=seed + 2
    )
    x[:, ::11] *= 6
    return x


def model() -> Any:
    return random_decoder(ModelConfig(64, 32, 2, 2, 2, 16, 64), seed=0)


def column_by_column(weight: Any, hessian: Any, config: GPTQ) -> Any:
    """The paper's equations 2 and 3 as they stand, in fp64: after each column the inverse of what is left of H is taken
    anew. No Cholesky factor, no blocks. O(D_in^4)."""
    grid, w = config.grid, weight.double().clone()
    size = w.size(1)
    h = hessian.double() + config.damping * hessian.diagonal().mean() * torch.eye(size)
    order = hessian.diagonal().argsort(descending=True) if config.act_order else torch.arange(size)
    width = grid.group or size
    constants = [grid.fit(weight[:, start : start + width]) for start in range(0, size, width)]
    free, result = order.tolist(), torch.zeros_like(w)
    while free:
        column, group = free[0], free[0] // width
        if grid.group and not config.act_order and column % width == 0:
            constants[group] = grid.fit(w[:, column : column + width].float())
        result[:, column] = grid.round(w[:, [column]].float(), *constants[group])[:, 0]
        inverse = torch.linalg.inv(h[free][:, free])
        error = (w[:, column] - result[:, column]) / inverse[0, 0]
        w[:, free] -= torch.outer(error, inverse[0])
        free = free[1:]
    return result.float()


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_blocks_and_cholesky_are_the_plain_algorithm(
    grid: Grid, act_order: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gptq, "BLOCK", 12)  # blocks that do not divide the row
    weight, hessian = gaussian(24, 64), hessian_of(correlated(200, 64))
    config = GPTQ(grid, act_order=act_order)
    ours, plain = config.quantize(weight, hessian).dequantize(), column_by_column(weight, hessian, config)

    same = (ours - plain).abs() < 1e-5
    assert float(same.double().mean()) > 0.99  # fp32 and fp64 may part where a weight stands between two codes
    assert output_error(weight, ours, hessian) == pytest.approx(output_error(weight, plain, hessian), rel=0.02)


@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_outputs_come_nearer_while_weights_go_further(bits: int, act_order: bool) -> None:
    weight, hessian, grid = gaussian(48, 64), hessian_of(correlated(400, 64)), Grid(bits, 16)
    plain, moved = quantize(weight, grid).dequantize(), GPTQ(grid, act_order=act_order).quantize(weight, hessian)

    assert output_error(weight, moved.dequantize(), hessian) < 0.6 * output_error(weight, plain, hessian)
    assert (moved.dequantize() - weight).norm() > 1.1 * (plain - weight).norm()


def test_uncorrelated_inputs_leave_rounding_to_nearest() -> None:
    weight, hessian = gaussian(16, 64), torch.diag(torch.rand(64, generator=torch.Generator().manual_seed(1)) + 0.1)

    for act_order in (False, True):
        found = GPTQ(Grid(3, 16), act_order=act_order).quantize(weight, hessian)
        assert torch.equal(found.packed, quantize(weight, Grid(3, 16)).packed)


def test_the_error_of_outputs_needs_no_outputs() -> None:
    x, weight, other = correlated(300, 64), gaussian(16, 64), gaussian(16, 64, seed=3)
    expected = (x @ (weight - other).T).square().sum() / (x @ weight.T).square().sum()

    assert output_error(weight, other, hessian_of(x)) == pytest.approx(float(expected), rel=1e-4)


def test_the_hessian_is_summed_over_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = correlated(100, 24)
    monkeypatch.setattr(gptq, "ROWS", 7)

    assert hessian_of(x).dtype == torch.float64
    torch.testing.assert_close(hessian_of(x), x.double().T @ x.double(), rtol=1e-5, atol=1e-3)


def test_damping_takes_few_inputs_and_none_is_refused() -> None:
    weight, few = gaussian(8, 64), hessian_of(correlated(3, 64))

    assert GPTQ(Grid(4)).quantize(weight, few).shape == weight.shape
    with pytest.raises(ModelError, match="give more calibration text, or more damping"):
        GPTQ(Grid(4)).quantize(weight, torch.zeros(64, 64))


def test_each_layer_sees_what_the_quantized_ones_before_it_give() -> None:
    original, quantized, config = model(), model(), GPTQ(Grid(2, 16))
    codes = gptq.quantize_model_(quantized, TOKENS, config)
    inputs: dict[str, Any] = {}
    visit_layers(quantized, TOKENS, lambda path, layer, x: inputs.update({path: x}))

    assert list(inputs) == list(codes)
    for path, x in inputs.items():  # the finished model's own inputs give the same codes
        again = config.quantize(original.get_submodule(path).weight, hessian_of(x))
        assert torch.equal(again.packed, codes[path].packed)


def test_a_layer_that_never_runs_is_named() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            return self.used(x)

    half = Half()
    with pytest.raises(ModelError, match="idle saw no token"):
        visit_layers(half, torch.ones(2, 4), lambda path, layer, x: None)
    assert not half.used._forward_pre_hooks


def test_awq_is_never_worse_than_rounding_and_finds_large_channels() -> None:
    grid, weight = Grid(3, 16), gaussian(48, 64)
    for seed in range(3):
        x = correlated(300, 64, seed=seed)
        plain, scaled = quantize(weight, grid).dequantize(), AWQ(grid).quantize(weight, x)
        assert output_error(weight, scaled.dequantize(), hessian_of(x)) < 0.9 * output_error(
            weight, plain, hessian_of(x)
        )
        assert scaled.alpha > 0
        assert scaled.scales[::11].min() > scaled.scales.median()
    even = AWQ(grid).quantize(weight, torch.ones(10, 64))  # no channel is larger than another: every alpha is the same
    assert torch.equal(even.dequantize(), plain)


def test_awq_leaves_weights_alone_where_scaling_hurts() -> None:
    """A channel that is large in weights and inputs sets every step already; larger, it would coarsen all others."""
    grid, weight, x = Grid(3), gaussian(48, 64), gaussian(300, 64, seed=1)
    weight[:, 0] *= 20
    x[:, 0] *= 5
    scaled = AWQ(grid).quantize(weight, x)

    assert scaled.alpha == 0
    assert torch.equal(scaled.dequantize(), quantize(weight, grid).dequantize())


def test_awq_counts_the_scales_it_keeps() -> None:
    scaled = AWQ(Grid(4, 16)).quantize(gaussian(48, 64), correlated(100, 64))

    assert scaled.nbytes == scaled.quantized.nbytes + 2 * 64


@torch.no_grad()
def test_folded_scales_change_no_output_and_round_as_awq_does() -> None:
    block, x, grid = model().layers[0], correlated(200, 32), Grid(3, 16)
    block.input_layernorm.weight.copy_(gaussian(32).abs() + 0.5)
    attention = block.self_attn
    readers = [layer.weight for layer in (attention.q_proj, attention.k_proj, attention.v_proj)]
    normed = block.input_layernorm(x)
    originals = [weight.clone() for weight in readers]
    scales, _ = AWQ(grid).search(originals, normed)
    fold_(block.input_layernorm.weight, readers, scales)

    for folded, original in zip(readers, originals, strict=True):
        torch.testing.assert_close(block.input_layernorm(x) @ folded.T, normed @ original.T, rtol=1e-4, atol=1e-4)
        beside = quantize(original * scales, grid).dequantize() / scales
        ours = block.input_layernorm(x) @ quantize(folded, grid).dequantize().T
        torch.testing.assert_close(ours, normed @ beside.T, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_scales_fold_into_the_rows_of_a_layer_before() -> None:
    mlp, x = model().layers[0].mlp, gaussian(50, 32)
    expected, scales = mlp(x), gaussian(64).abs() + 0.5
    fold_(mlp.up_proj.weight, [mlp.down_proj.weight], scales)

    torch.testing.assert_close(mlp(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "compress", [partial(gptq.quantize_model_, gptq=GPTQ(Grid(8))), partial(awq.quantize_model_, awq=AWQ(Grid(8), 2))]
)
def test_eight_bits_leave_the_model_nearly_as_it_was(compress: Any) -> None:
    original, compressed = model(), model()
    codes = compress(compressed, TOKENS)

    difference = compressed(TOKENS) - original(TOKENS)
    assert difference.norm() < 0.02 * original(TOKENS).norm()
    for path, quantized in codes.items():
        assert torch.equal(compressed.get_submodule(path).weight, quantized.dequantize())
