"""Rounding to nearest: grids, packing, bytes; and torch's own fake quantization on the same constants."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.errors import AdapterError, ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402
from llmquiz.llm.quant.rtn import Grid, Quantized, pack, quantize, quantize_model_, unpack  # noqa: E402

pytestmark = pytest.mark.labs

BITS = range(2, 9)


def gaussian(*shape: int, seed: int = 0) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative_error(weight: Any, grid: Grid) -> float:
    return float((quantize(weight, grid).dequantize() - weight).norm() / weight.norm())


@pytest.mark.parametrize("bits", BITS)
def test_packed_codes_come_back_and_take_their_bits(bits: int) -> None:
    codes = torch.randint(0, 2**bits, (37,), generator=torch.Generator().manual_seed(bits))
    packed = pack(codes, bits)

    assert packed.dtype == torch.uint8
    assert packed.numel() == -(-37 * bits // 8)
    assert torch.equal(unpack(packed, bits, 37).long(), codes)


def test_the_order_of_bits_is_the_documented_one() -> None:
    assert pack(torch.tensor([1, 2, 3, 0]), 2).tolist() == [0b00_11_10_01]
    assert pack(torch.tensor([0b101, 0b011, 0b110]), 3).tolist() == [0b10_011_101, 0b1]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group", [None, 32])
def test_bytes_are_codes_scales_and_zeros(bits: int, symmetric: bool, group: int | None) -> None:
    weight = gaussian(16, 96)
    quantized = quantize(weight, Grid(bits, group, symmetric))

    constants = 16 + (0 if symmetric else bits)
    assert quantized.bits_per_weight == bits + constants / (group or 96)
    assert quantized.nbytes * 8 == quantized.bits_per_weight * weight.numel()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_no_weight_is_off_by_more_than_half_a_step(bits: int, symmetric: bool) -> None:
    weight = gaussian(8, 128) + 0.3
    quantized = quantize(weight, Grid(bits, 64, symmetric))
    steps = quantized.scale.float().repeat_interleave(64, dim=1)

    slack = 1 + 2.0**-10 * 2**bits  # the scale is in fp16: at the range's end that adds up over all steps
    off = (quantized.dequantize() - weight).abs() / steps
    assert float(off.max()) <= (0.5 if symmetric else 1.0) * slack  # a zero that is a whole number shifts the range
    assert float(off.mean()) < 0.3


@pytest.mark.parametrize("symmetric", [True, False])
def test_torch_rounds_to_the_same_grid(symmetric: bool) -> None:
    grid, weight = Grid(4, None, symmetric), gaussian(12, 40)
    quantized = quantize(weight, grid)
    scale, zero = (constant[:, 0] for constant in grid.fit(weight))
    theirs = torch.fake_quantize_per_channel_affine(weight, scale, zero.to(torch.int32), 0, 0, grid.top)

    torch.testing.assert_close(quantized.dequantize(), theirs, rtol=0, atol=1e-6)


def test_more_bits_and_smaller_groups_err_less() -> None:
    weight = gaussian(64, 256)
    by_bits = [relative_error(weight, Grid(bits, 64)) for bits in BITS]
    by_group = [relative_error(weight, Grid(4, group)) for group in (16, 64, None)]

    assert by_group == sorted(by_group)
    for coarse, fine in pairwise(by_bits[1:]):
        assert coarse / fine == pytest.approx(2.0, rel=0.2)  # 6 dB a bit


def test_an_outlier_coarsens_its_own_group_only() -> None:
    weight = gaussian(1, 128)
    weight[0, 0] = 100.0
    error = (quantize(weight, Grid(4, 64)).dequantize() - weight).abs()[0]

    assert error[1:64].mean() > 5 * error[64:].mean()


def test_cutting_off_outliers_lowers_the_error() -> None:
    weight = gaussian(32, 256)

    for bits in (2, 3, 4):
        assert relative_error(weight, Grid(bits, clip=True)) < relative_error(weight, Grid(bits))
    assert relative_error(weight, Grid(2, clip=True)) < 0.8 * relative_error(weight, Grid(2))


def test_a_range_that_zero_lies_outside_of_is_widened_to_it() -> None:
    weight = gaussian(4, 64).abs() + 2

    for grid in (Grid(4), Grid(4, symmetric=True)):
        assert relative_error(weight, grid) < 0.1
        assert relative_error(-weight, grid) < 0.1


def test_zeros_and_grid_points_stay_exact() -> None:
    assert quantize(torch.zeros(3, 8), Grid(2)).dequantize().abs().max() == 0
    codes = torch.tensor([[0, 1, 2, 3, 3, 2, 1, 0]])
    stored = Quantized.from_codes(codes, torch.tensor([[0.5]]), torch.tensor([[1]]), Grid(2))
    assert stored.dequantize().tolist() == [[-0.5, 0.0, 0.5, 1.0, 1.0, 0.5, 0.0, -0.5]]
    assert torch.equal(quantize(stored.dequantize(), Grid(2)).codes().long(), codes)


def test_a_model_computes_with_what_its_codes_stand_for() -> None:
    model = random_decoder(ModelConfig(64, 32, 2, 2, 2, 16, 64), seed=0)
    head = model.lm_head.weight.clone()
    codes = quantize_model_(model, Grid(3, 16))

    assert len(codes) == 2 * 7
    for path, quantized in codes.items():
        assert torch.equal(model.get_submodule(path).weight, quantized.dequantize())
    assert torch.equal(model.lm_head.weight, head)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match="use 2 to 8"):
        Grid(1)
    with pytest.raises(ModelError, match="groups of 48 do not divide a row of 64"):
        quantize(torch.ones(2, 64), Grid(4, 48))
    with pytest.raises(AdapterError, match="names no linear layer"):
        quantize_model_(torch.nn.Sequential(torch.nn.Linear(4, 4)), Grid(4), ("q_proj",))
