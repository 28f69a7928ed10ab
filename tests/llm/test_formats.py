"""Encoding and decoding against torch's casts, code by code; block scales against the definition; fp8 against
torch._scaled_mm. torch has a dtype for e2m1 and no cast to it, so that one is held against its table."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from llmquiz.llm.errors import AdapterError, ModelError  # noqa: E402
from llmquiz.llm.quant.formats import (  # noqa: E402
    BF16,
    E2M1,
    E4M3,
    E5M2,
    FORMATS,
    FP16,
    FP32,
    FloatFormat,
    decode,
    encode,
    round_to,
    spell,
)
from llmquiz.llm.quant.fp8 import Fp8Linear, quantize_fp8_, to_fp8, to_mx, to_nvfp4  # noqa: E402
from llmquiz.llm.quant.report import snr_db  # noqa: E402

pytestmark = pytest.mark.labs

TORCHS = {
    FP32: (torch.float32, torch.int32),
    FP16: (torch.float16, torch.int16),
    BF16: (torch.bfloat16, torch.int16),
    E5M2: (torch.float8_e5m2, torch.uint8),
    E4M3: (torch.float8_e4m3fn, torch.uint8),
}
NARROW = [form for form in TORCHS if form is not FP32]
MAGNITUDES = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def named(form: FloatFormat) -> str:
    return form.name


def gaussian(*shape: int, seed: int = 0) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def any_bits(count: int) -> Any:
    """fp32 numbers of every kind: infinities, NaN and subnormals among them."""
    bits = torch.randint(-(2**31), 2**31, (count,), generator=torch.Generator().manual_seed(0))
    special = torch.tensor([0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e-45, 3.4e38, 464.0, 480.0, 65519.9, 65520.0])
    return torch.cat([special, bits.to(torch.int32).view(torch.float32)])


def midpoints(form: FloatFormat) -> Any:
    """Every tie between neighbours, and what lies a little to either side."""
    codes = torch.arange(form.overflow)
    values = decode(codes, form).double()
    ties = ((values[1:] + values[:-1]) / 2).float()
    return torch.cat([ties, torch.nextafter(ties, torch.tensor(torch.inf)), torch.nextafter(ties, torch.tensor(0.0))])


def same(a: Any, b: Any) -> bool:
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


@pytest.mark.parametrize("form", NARROW, ids=named)
def test_every_code_is_decoded_as_torch_does(form: FloatFormat) -> None:
    dtype, integer = TORCHS[form]
    codes = torch.arange(2**form.bits)
    theirs = codes.to(integer).view(dtype).float()
    ours = decode(codes, form)

    assert same(ours, theirs)
    assert torch.equal(torch.signbit(ours)[~ours.isnan()], torch.signbit(theirs)[~ours.isnan()])


@pytest.mark.parametrize("form", TORCHS, ids=named)
def test_every_number_is_encoded_as_torch_casts_it(form: FloatFormat) -> None:
    dtype, integer = TORCHS[form]
    x = any_bits(20_000) if form.bits > 8 else torch.cat([any_bits(5000), midpoints(form), -midpoints(form)])
    theirs = x.to(dtype)
    codes = theirs.view(integer).long() & (2**form.bits - 1)
    number = ~x.isnan()
    if form is E4M3:  # versions of torch differ: NaN or 448
        number &= x.abs() <= 464
        assert (round_to(x, form).abs()[x.abs() > 464] == 448).all()

    assert torch.equal(encode(x, form)[number], codes[number])
    assert round_to(x, form)[x.isnan()].isnan().all()


@pytest.mark.parametrize("form", TORCHS, ids=named)
def test_bits_define_the_limits(form: FloatFormat) -> None:
    info = torch.finfo(TORCHS[form][0])

    assert (form.bits, form.maximum, form.smallest_normal) == (info.bits, info.max, info.smallest_normal)
    assert (form.epsilon, form.smallest) == (info.eps, info.smallest_normal * info.eps)


def test_four_bits_have_eight_magnitudes_and_saturate() -> None:
    codes = torch.arange(16)

    assert decode(codes, E2M1).tolist() == MAGNITUDES + [-value for value in MAGNITUDES]
    assert torch.equal(encode(decode(codes, E2M1), E2M1), codes)
    assert (E2M1.maximum, E2M1.smallest) == (6, 0.5)
    x = torch.linspace(-9, 9, 3001)
    nearest = (x[:, None].abs() - torch.tensor(MAGNITUDES)).abs().amin(1)
    assert torch.equal((round_to(x, E2M1) - x).abs(), nearest)
    assert round_to(torch.tensor([0.25, 0.75, 1.25, 2.5, 5.0, 1e9]), E2M1).tolist() == [
        0,
        1,
        1,
        2,
        4,
        6,
    ]  # ties to even


def test_codes_of_positive_numbers_are_in_order() -> None:
    for form in FORMATS[1:]:
        assert (decode(torch.arange(form.overflow), form).diff() > 0).all()


def test_well_known_numbers() -> None:
    assert spell(int(encode(torch.tensor(1.0), FP16)), FP16) == "0 01111 0000000000"
    assert spell(int(encode(torch.tensor(-0.1), BF16)), BF16) == "1 01111011 1001101"
    assert spell(int(encode(torch.tensor(448.0), E4M3)), E4M3) == "0 1111 110"
    assert round_to(torch.tensor(257.0), BF16) == 256
    assert round_to(torch.tensor(70_000.0), FP16) == torch.inf
    assert round_to(torch.tensor(70_000.0), BF16) == 70_144
    assert round_to(torch.tensor(1e-8), FP16) == 0


def test_an_mx_scale_is_torchs_e8m0() -> None:
    exponents = torch.arange(-120, 120)
    x = torch.ldexp(torch.full((240, 32), 1.0), exponents[:, None])
    scaled = to_mx(x)

    theirs = scaled.scales.view(torch.float8_e8m0fnu).float()
    assert torch.equal(theirs, torch.exp2(exponents - 2.0)[:, None])  # 1 * 2^e becomes 4, the last binade
    assert torch.equal(scaled.dequantize(), x)


@pytest.mark.parametrize("form", [E2M1, E4M3, E5M2], ids=named)
def test_mx_blocks_round_to_the_nearest_and_saturate(form: FloatFormat) -> None:
    x = gaussian(6, 96) * torch.logspace(-6, 6, 6)[:, None]
    scaled = to_mx(x, form)
    blocks, out = x.view(6, 3, 32), scaled.dequantize().view(6, 3, 32)
    scale = scaled.scales.view(torch.float8_e8m0fnu).float()[..., None]
    levels = decode(torch.arange(form.overflow + (form.top != "ieee")), form)
    nearest = (levels - (blocks.abs() / scale)[..., None]).abs().amin(-1)

    assert ((blocks.abs() / scale).amax(-1) < 2 * 2 ** torch.tensor(form.maximum).log2().floor()).all()
    torch.testing.assert_close((out - blocks).abs() / scale, nearest, rtol=1e-5, atol=1e-6)
    assert scaled.bits == form.bits + 8 / 32


def test_nvfp4_puts_the_largest_at_six_and_beats_mx() -> None:
    x = gaussian(64, 256)
    nv, mx = to_nvfp4(x), to_mx(x)

    assert (nv.bits, mx.bits) == (4.5, 4.25)
    assert (nv.codes & 7).amax(-1).min() == 7
    scale = (decode(nv.scales, E4M3) * nv.outer)[..., None]
    quotients = x.view(64, 16, 16) / scale
    nearest = (quotients.abs()[..., None] - torch.tensor(MAGNITUDES)).abs().amin(-1)
    torch.testing.assert_close((nv.dequantize().view(64, 16, 16) - x.view(64, 16, 16)).abs() / scale, nearest)
    assert snr_db(x, nv.dequantize()) > snr_db(x, mx.dequantize()) + 1
    assert to_nvfp4(torch.zeros(2, 32)).dequantize().abs().max() == 0
    assert to_mx(torch.zeros(2, 32)).dequantize().abs().max() == 0
    with pytest.raises(ModelError, match="32 do not divide 40"):
        to_mx(gaussian(2, 40))


def test_a_float_does_not_care_for_its_scale() -> None:
    x = gaussian(64, 256)
    for form in (FP16, BF16, E4M3):
        assert snr_db(x, round_to(x, form)) == pytest.approx(snr_db(x, round_to(x * 8, form) / 8), abs=0.05)


@pytest.mark.parametrize("per", ["row", "tensor"])
def test_the_simulated_product_is_that_of_the_hardware_call(per: Any) -> None:
    torch.manual_seed(0)
    base, x = nn.Linear(64, 32, bias=False), gaussian(16, 64) * torch.logspace(-2, 2, 16)[:, None]
    layer = Fp8Linear(base, per)
    codes, scale = to_fp8(x, per)
    assert codes.float().abs().amax() == 448
    if per == "row":
        theirs = torch._scaled_mm(codes, layer.weight.T, scale, layer.scale.T, out_dtype=torch.bfloat16).float()
        torch.testing.assert_close(layer(x), theirs, rtol=2**-8, atol=1e-6)
    else:
        theirs = torch._scaled_mm(codes, layer.weight.T, scale[0, 0], layer.scale[0, 0], out_dtype=torch.float32)
        torch.testing.assert_close(layer(x), theirs, rtol=1e-5, atol=1e-5)


def test_fp8_layers_replace_named_ones() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)).to(torch.bfloat16)
    x = gaussian(2, 3, 64).to(torch.bfloat16)
    expected = model(x)

    assert quantize_fp8_(model) == 2
    assert model(x).dtype == torch.bfloat16
    assert 20 < snr_db(expected.float(), model(x).float()) < 45
    assert model[0].weight.dtype == torch.float8_e4m3fn
    with pytest.raises(AdapterError, match="names no linear layer"):
        quantize_fp8_(model, targets=("attention",))
