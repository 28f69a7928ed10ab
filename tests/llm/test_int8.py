"""Integers against torch's own quantizers and layers, bitsandbytes' LLM.int8, and what can be known beforehand."""

from __future__ import annotations

import copy
import logging
import warnings
from itertools import islice, pairwise
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from llmquiz.llm.base.load import base_model  # noqa: E402
from llmquiz.llm.data.corpus import documents  # noqa: E402
from llmquiz.llm.errors import AdapterError, ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402
from llmquiz.llm.quant.calibration import (  # noqa: E402
    Observer,
    calibrate,
    least_error,
    min_max,
    percentile,
    plant_outliers_,
    smooth_,
)
from llmquiz.llm.quant.int8 import (  # noqa: E402
    DynamicInt8Linear,
    StaticInt8Linear,
    dequantize,
    integer_product,
    product_in_floats,
    quantize,
    quantize_dynamic_,
    quantize_static_,
    scale_of,
    to_integers,
)
from llmquiz.llm.quant.reference import to_torch_dynamic  # noqa: E402
from llmquiz.llm.quant.report import compare, parameter_bytes, perplexity, serialized_bytes, snr_db  # noqa: E402

pytestmark = pytest.mark.labs

SHAPE = ModelConfig(96, 64, 2, 4, 2, 16, 128)
TOKENS = torch.randint(0, 96, (2, 11), generator=torch.Generator().manual_seed(1))


def gaussian(*shape: int, seed: int = 0) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def linear(inputs: int = 48, outputs: int = 40, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias=bias)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("symmetric", [True, False])
def test_integers_are_those_of_torch(bits: int, symmetric: bool) -> None:
    x = gaussian(16, 64) + (0 if symmetric else 1.5)
    top = 2 ** (bits - 1) - 1
    low = -top if symmetric else -top - 1
    tensor, rows = quantize(x, bits, symmetric=symmetric), quantize(x, bits, axis=0, symmetric=symmetric)
    zero, zeros = (
        torch.zeros_like(q.scale, dtype=torch.int32) if q.zero is None else q.zero.int() for q in (tensor, rows)
    )

    theirs = torch.fake_quantize_per_tensor_affine(x, float(tensor.scale), int(zero), low, top)
    assert torch.equal(dequantize(tensor), theirs)
    theirs = torch.fake_quantize_per_channel_affine(x, rows.scale.flatten(), zeros.flatten(), 0, low, top)
    assert torch.equal(dequantize(rows), theirs)
    assert (int(rows.values.min()), int(rows.values.max())) == (low if bits < 8 or not symmetric else -127, top)


def test_int8_per_channel_is_torchs_tensor_of_that_name() -> None:
    x = gaussian(16, 64)
    ours = quantize(x, axis=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*deprecated.*")
        theirs = torch.quantize_per_channel(x, ours.scale.flatten().double(), torch.zeros(16), 0, torch.qint8)

    assert torch.equal(ours.values, theirs.int_repr())


@pytest.mark.parametrize("symmetric", [True, False])
def test_the_error_is_at_most_half_a_step(symmetric: bool) -> None:
    x = gaussian(8, 96).exp()
    for kwargs in ({}, {"axis": 0}, {"axis": -1}, {"group": 24}):
        q = quantize(x, 5, symmetric=symmetric, **kwargs)
        step = q.scale.expand(q.values.shape).reshape(x.shape)
        assert ((dequantize(q) - x).abs() <= step * 0.5001).all()
        assert dequantize(q).shape == x.shape


def test_what_lies_beyond_is_cut_off() -> None:
    x, scale = torch.tensor([-1e3, 2.5, 3.5, 1e3]), torch.tensor(1.0)

    assert to_integers(x, scale).tolist() == [-127, 2, 4, 127]
    assert to_integers(x, scale, torch.tensor(-10.0)).tolist() == [-128, -8, -6, 127]


def test_zero_is_exact_and_stays_so_when_everything_is_zero() -> None:
    x = gaussian(4, 8).abs() + 3
    x[0, 0] = 0.0
    assert dequantize(quantize(x, symmetric=False))[0, 0] == 0
    assert (dequantize(quantize(torch.zeros(4, 8), axis=0)) == 0).all()


def test_a_row_does_not_hear_of_another_rows_outlier() -> None:
    x = gaussian(8, 64)
    with_outlier = x.clone()
    with_outlier[0] *= 100

    rows, tensor = (snr_db(x[1:], dequantize(quantize(with_outlier, **kwargs))[1:]) for kwargs in ({"axis": 0}, {}))
    assert rows == snr_db(x[1:], dequantize(quantize(x, axis=0))[1:])
    assert rows - tensor == pytest.approx(40, abs=6)


def test_a_bit_is_six_decibels() -> None:
    x = gaussian(64, 256)
    snrs = [snr_db(x, dequantize(quantize(x, bits, axis=0))) for bits in range(4, 9)]

    assert all(after - before == pytest.approx(6.02, abs=0.6) for before, after in pairwise(snrs))


def test_what_cannot_be_quantized_is_refused() -> None:
    with pytest.raises(ModelError, match="9 bits; use 2 to 8"):
        quantize(gaussian(2, 8), 9)
    with pytest.raises(ModelError, match="groups of 5 do not divide 8"):
        quantize(gaussian(2, 8), group=5)


def test_the_integer_product_is_exact() -> None:
    K = 2501  # odd, as every product of 127 is: their sum needs all of its bits
    x = torch.tensor([[127], [-128], [-127]], dtype=torch.int8).repeat(1, K)
    weight = torch.randint(-128, 128, (5, K), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    weight[0], weight[1] = 127, -128
    expected = x.long() @ weight.long().T

    assert torch.equal(integer_product(x, weight).long(), expected)
    assert torch.equal(product_in_floats(x, weight).long(), expected)
    assert expected[0, 0] > 2**24  # beyond what fp32 adds exactly


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_dynamic_layer_is_the_product_of_its_dequantized_parts(bias: bool, dtype: Any) -> None:
    base, x = linear(bias=bias).to(dtype), gaussian(2, 5, 48).to(dtype)
    layer = DynamicInt8Linear(base)
    weight = layer.weight * layer.scale[:, None]
    inputs = dequantize(quantize(x.flatten(0, 1), axis=0)).view(2, 5, 48)
    expected = nn.functional.linear(inputs, weight, None if base.bias is None else base.bias.float())
    out = layer(x)

    assert out.dtype == dtype
    torch.testing.assert_close(out, expected.to(dtype), rtol=1e-5 if dtype == torch.float32 else 1e-2, atol=1e-5)
    assert snr_db(base(x).float(), out.float()) > 35
    assert torch.equal(layer(x)[1:], layer(x[1:]))  # no token hears of another's outlier


def test_a_static_layer_is_the_product_of_its_dequantized_parts_and_cuts_off() -> None:
    base, x = linear(), gaussian(6, 48).abs() - 0.2
    layer = StaticInt8Linear(base, float(x.min()), float(x.max()))
    scale, zero = layer.input_scale, layer.input_zero
    inputs = (to_integers(x, scale, zero).float() - zero) * scale
    expected = nn.functional.linear(inputs, layer.weight * layer.scale[:, None], base.bias)

    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)
    assert snr_db(base(x), layer(x)) > 35
    beyond = x.clone()
    beyond[0] *= 20
    assert snr_db(base(beyond)[0], layer(beyond)[0]) < 10 < snr_db(base(beyond)[1:], layer(beyond)[1:])
    assert snr_db(base(beyond)[0], DynamicInt8Linear(base)(beyond)[0]) > 35


def test_outlier_features_apart_cost_nothing_of_the_others() -> None:
    base, x = linear(), gaussian(6, 48)
    x[2, 7] = 200.0  # one token is enough for the feature to go in float

    plain, apart = (snr_db(base(x), DynamicInt8Linear(base, threshold)(x)) for threshold in (None, 20.0))
    assert apart > plain
    rest = x.clone()
    rest[:, 7] = 0  # for every token
    expected = DynamicInt8Linear(base)(rest) + x[:, 7:8] @ dequantize(quantize(base.weight, axis=0))[:, 7:8].T
    torch.testing.assert_close(DynamicInt8Linear(base, 20.0)(x), expected, rtol=1e-5, atol=1e-4)


def test_named_layers_are_replaced_and_no_other() -> None:
    model = random_decoder(SHAPE, seed=0)
    original, expected = copy.deepcopy(model), model(TOKENS)

    assert quantize_dynamic_(model, ("q_proj", "down_proj")) == 4
    kinds = {path.rpartition(".")[2]: type(layer).__name__ for path, layer in model.named_modules()}
    assert (kinds["q_proj"], kinds["k_proj"], kinds["lm_head"]) == ("DynamicInt8Linear", "Linear", "Linear")
    assert 20 < snr_db(expected, model(TOKENS)) < 60
    assert torch.equal(original(TOKENS), expected)
    with pytest.raises(AdapterError, match="'w_q' names no linear layer"):
        quantize_dynamic_(original, ("w_q",))
    with pytest.raises(ModelError, match=r"no range for layers.0.mlp.down_proj"):
        quantize_static_(original, {}, ("down_proj",))


def test_an_observer_forgets_nothing() -> None:
    seen, parts = Observer(), [gaussian(50, 8), 30 * gaussian(50, 8, seed=1), 1e-3 * gaussian(50, 8, seed=2)]
    for part in parts:
        seen.see(part)
    x = torch.cat(parts)

    assert min_max(seen) == (float(x.min()), float(x.max()))
    assert torch.equal(seen.peaks, x.abs().amax(0))
    assert seen.counts.sum() == x.numel()
    cell = 2 * seen.reach / len(seen.counts)
    low, high = percentile(seen, 0.9)
    for edge, side in ((low, x < low), (high, x > high)):
        assert float(side.float().mean()) == pytest.approx(0.05, abs=0.002)
        assert seen.low < edge < seen.high
    assert percentile(seen, 1.0) == pytest.approx(min_max(seen), abs=cell)


@pytest.mark.parametrize("bits", [4, 8])
def test_the_least_error_is_the_least(bits: int) -> None:
    x = gaussian(4000)
    x[0] = 40.0
    seen = Observer()
    seen.see(x[:, None])

    def error(low: float, high: float) -> float:
        scale, zero = scale_of(torch.tensor(low), torch.tensor(high), bits, symmetric=False)
        return float(((to_integers(x, scale, zero, bits) - zero) * scale - x).square().sum())

    best = error(*least_error(seen, bits))
    assert best <= 1.02 * min(error(*(part * edge for edge in min_max(seen))) for part in (0.05, 0.1, 0.2, 0.5, 1.0))
    assert best < error(*min_max(seen)) or bits == 8


@torch.no_grad()
def test_smoothing_keeps_the_function_and_rescues_outlier_features() -> None:
    model = random_decoder(SHAPE, seed=0)
    expected = model(TOKENS)
    plant_outliers_(model, 64.0, features=2)
    torch.testing.assert_close(model(TOKENS), expected, rtol=1e-4, atol=1e-5)
    smooth = copy.deepcopy(model)
    smooth_(smooth, calibrate(smooth, [TOKENS]))
    torch.testing.assert_close(smooth(TOKENS), expected, rtol=1e-4, atol=1e-5)

    snrs = []
    for one in (model, smooth):
        seen = calibrate(one, [TOKENS])
        assert sum(len(module._forward_pre_hooks) for module in one.modules()) == 0
        assert quantize_static_(one, {path: min_max(observer) for path, observer in seen.items()}) == 14
        snrs.append(snr_db(expected, one(TOKENS)))
    assert snrs[1] > snrs[0] + 10


def texts(count: int) -> list[Any]:
    tokenizer = base_model().tokenizer
    made = islice(documents(70_000), count)
    return [torch.tensor(tokenizer.encode("<|bos|>" + document.text, special=True)) for document in made]


@torch.no_grad()
def test_the_base_model_in_int8_is_as_good_and_its_file_is_the_formula() -> None:
    model = base_model().model
    original = copy.deepcopy(model)
    layers = [
        layer.weight for path, layer in model.named_modules() if isinstance(layer, nn.Linear) and path != "lm_head"
    ]
    saved = sum(weight.numel() * 3 - 4 * weight.size(0) for weight in layers)
    quantize_dynamic_(model)

    held_out = texts(3)
    assert perplexity(model, held_out) / perplexity(original, held_out) == pytest.approx(1, abs=0.02)
    assert serialized_bytes(original) - serialized_bytes(model) == pytest.approx(saved, rel=0.002)
    assert parameter_bytes(model) == parameter_bytes(original) - 4 * sum(weight.numel() for weight in layers)
    reports = compare({"fp32": original, "int8": model}, held_out[0][None, :16], held_out[:1], repeats=1)
    assert reports["fp32"].snr == float("inf")
    assert 20 < reports["int8"].snr < 60
    assert all(report.latency > 0 for report in reports.values())


@torch.no_grad()
def test_torchs_dynamic_layer_is_ours_with_coarser_scales() -> None:
    """It has one scale for a weight, and one for all tokens, over 7 of 8 bits; given these, our integers give its
    numbers."""
    base, x = linear(64, 32), gaussian(9, 64)
    theirs = to_torch_dynamic(nn.Sequential(base), {"0"})
    scale, zero = scale_of(x.min(), x.max(), 7, symmetric=False)
    q = to_integers(x, scale, zero, 7)
    # torch takes a scale over 2 * 127.5 steps for symmetric weights
    weight_scale = base.weight.abs().max() / 127.5
    weight = (base.weight / weight_scale).round().clamp(-128, 127).to(torch.int8)
    product = integer_product(q, weight) - zero.int() * weight.sum(1, dtype=torch.int32)
    torch.testing.assert_close(product * (scale * weight_scale) + base.bias, theirs(x), rtol=1e-5, atol=1e-5)

    assert snr_db(base(x), DynamicInt8Linear(base)(x)) > snr_db(base(x), theirs(x)) + 3
    assert parameter_bytes(theirs) == 0
    assert serialized_bytes(theirs) > 64 * 32


@pytest.mark.slow
@torch.no_grad()
def test_bitsandbytes_llm_int8_has_our_integers() -> None:
    """It rounds the weight to fp16 first, and on a CPU it multiplies the dequantized weight: "no fast kernel"."""
    pytest.importorskip("bitsandbytes")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from bitsandbytes.nn import Linear8bitLt

        base, x = linear(64, 32), gaussian(9, 64)
        theirs = Linear8bitLt(64, 32, has_fp16_weights=False, threshold=0.0)
        theirs.load_state_dict({name: tensor.clone() for name, tensor in base.state_dict().items()})
        out = theirs.to("cpu")(x)
    base.weight.copy_(base.weight.half())
    ours = DynamicInt8Linear(base)

    assert torch.equal(theirs.state_dict()["weight"], ours.weight)
    torch.testing.assert_close(theirs.state_dict()["SCB"] / 127, ours.scale, rtol=1e-6, atol=0)
    expected = nn.functional.linear(x, ours.weight * ours.scale[:, None], base.bias)
    assert snr_db(expected, out) > 60  # fp16
    assert snr_db(expected, ours(x)) > 40
