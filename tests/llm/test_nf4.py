"""NF4 in numbers that can be known: the table, the bits, the errors, the gradient, and bitsandbytes' own results."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from llmquiz.llm.errors import AdapterError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402
from llmquiz.llm.tune.lora import LoRAConfig, adapter_parameters, add_lora, lora_layers  # noqa: E402
from llmquiz.llm.tune.merging import merge  # noqa: E402# noqa: E402
from llmquiz.llm.tune.nf4 import (  # noqa: E402
    DYNAMIC,
    FP4,
    INT4,
    NF4,
    NF4Linear,
    bits_per_parameter,
    dequantize,
    quantize,
    quantize_model_,
)
from llmquiz.llm.tune.qlora import add_qlora, merge_dequantized, merge_requantized  # noqa: E402

pytestmark = pytest.mark.labs

SHAPE = ModelConfig(96, 64, 2, 4, 2, 16, 128)
TOKENS = torch.randint(0, 96, (2, 11), generator=torch.Generator().manual_seed(1))


def gaussian(*shape: int, seed: int = 0) -> Any:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def relative_error(weight: Any, levels: Any = NF4, *, double: bool = False) -> float:
    return float((dequantize(quantize(weight, double=double, levels=levels)) - weight).norm() / weight.norm())


def test_the_levels_are_quantiles_with_an_exact_zero() -> None:
    assert NF4.tolist() == sorted(NF4.tolist())
    assert (len(NF4), int((NF4 < 0).sum()), int((NF4 == 0).sum()), int((NF4 > 0).sum())) == (16, 7, 1, 8)
    assert (NF4[0], NF4[-1]) == (-1, 1)
    share = torch.special.ndtr(torch.special.ndtri(torch.tensor(0.9677083)) * NF4)  # back from levels to probabilities
    steps = share.diff()
    assert steps[:7].max() - steps[:7].min() < 1e-5  # equal shares on each side
    assert steps[7:].max() - steps[7:].min() < 1e-5
    assert (len(FP4), len(INT4), len(DYNAMIC)) == (15, 15, 256)


def test_bits_are_counted_from_the_tensors() -> None:
    weight = gaussian(1024, 256)

    assert bits_per_parameter(quantize(weight, double=False)) == 4 + 32 / 64
    expected = 4 + 8 / 64 + 32 / (64 * 256) + 32 / weight.numel()  # the last is the mean of the scales
    assert bits_per_parameter(quantize(weight)) == pytest.approx(expected, abs=1e-12)
    assert bits_per_parameter(quantize(weight, block=128, double=False)) == 4 + 32 / 128


def test_on_gaussian_weights_nf4_is_closer_than_int4_and_fp4() -> None:
    weight = gaussian(1024, 256)
    errors = [relative_error(weight, levels) for levels in (NF4, INT4, FP4)]

    assert errors == pytest.approx([0.092, 0.108, 0.122], abs=0.001)
    assert relative_error(weight, double=True) == pytest.approx(errors[0], rel=0.01)


def test_every_code_is_the_nearest_level() -> None:
    weight = gaussian(64, 64)
    quantized = quantize(weight, double=False)
    codes = torch.stack([quantized.packed >> 4, quantized.packed & 15], dim=1).view(-1, 64)
    distance = (weight.view(-1, 64, 1) / quantized.absmax[:, None, None] - NF4).abs()

    assert torch.equal(codes.long(), distance.argmin(-1))
    assert torch.equal(quantized.absmax, weight.view(-1, 64).abs().amax(1))


@pytest.mark.parametrize("shape", [(7, 9), (1, 64), (3, 5, 11), (130,)])
@pytest.mark.parametrize("double", [True, False])
def test_any_shape_comes_back(shape: tuple[int, ...], double: bool) -> None:
    weight = gaussian(*shape)
    back = dequantize(quantize(weight, double=double))

    assert back.shape == weight.shape
    assert float((back - weight).norm() / weight.norm()) < 0.2


def test_zeros_stay_exact_and_levels_stay_themselves() -> None:
    assert dequantize(quantize(torch.zeros(4, 64), double=False)).abs().max() == 0
    weight = (NF4.repeat(8) * 3.0).view(2, 64)
    assert torch.equal(dequantize(quantize(weight, double=False)), weight)
    outlier = gaussian(1, 64)
    outlier[0, 0] = 1000.0
    coarse = dequantize(quantize(outlier, double=False))
    assert coarse[0, 0] == 1000
    assert coarse[0, 1:].abs().max() == 0  # the outlier set the scale: all others became zero


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_layer_is_the_dequantized_one(dtype: Any) -> None:
    linear = nn.Linear(48, 32).to(dtype)
    layer, x = NF4Linear(linear), gaussian(3, 5, 48).to(dtype)

    assert layer.weight.dtype == layer(x).dtype == dtype
    expected = nn.functional.linear(x, dequantize(quantize(linear.weight), dtype), linear.bias)
    torch.testing.assert_close(layer(x), expected)
    assert not any(parameter.requires_grad for parameter in layer.parameters())


def test_gradients_flow_to_the_input_and_only_there() -> None:
    layer = NF4Linear(nn.Linear(10, 6).double())
    x = gaussian(4, 10).double().requires_grad_()

    assert torch.autograd.gradcheck(layer, (x,))
    layer(x).sum().backward()
    assert list(layer.parameters()) == [layer.bias]
    assert layer.bias.grad is None
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(4, 10))


def test_the_graph_keeps_the_codes_and_not_the_dequantized_weight() -> None:
    layer = NF4Linear(nn.Linear(256, 256, bias=False))
    kept = []

    def keep(tensor: Any) -> Any:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(gaussian(2, 256).requires_grad_()).sum()
    assert sum(kept) < layer.weight.numel() / 4


def test_a_quantized_layer_travels_in_a_state_dict() -> None:
    one, other = NF4Linear(nn.Linear(64, 32)), NF4Linear(nn.Linear(64, 32))
    x = gaussian(2, 64)
    assert not torch.equal(one(x), other(x))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x), other(x))


def test_quantizing_a_model_takes_the_targets_and_no_others() -> None:
    model = random_decoder(SHAPE, seed=0)
    assert quantize_model_(model, ("q_proj",)) == 2
    assert isinstance(model.layers[1].self_attn.q_proj, NF4Linear)
    assert isinstance(model.layers[1].self_attn.k_proj, nn.Linear)
    assert quantize_model_(model) == 2 * 6  # the rest of the layers, not the head
    assert isinstance(model.lm_head, nn.Linear)
    with pytest.raises(AdapterError, match="'all-linear' names no linear layer"):
        quantize_model_(nn.Sequential(nn.ReLU()))


def test_qlora_trains_the_factors_through_four_bits() -> None:
    model = random_decoder(SHAPE, seed=0)
    count = add_qlora(model, LoRAConfig(4, 8.0))
    optimizer = torch.optim.AdamW(adapter_parameters(model), lr=1e-2)
    losses = []
    for _ in range(6):
        logits = model(TOKENS)[:, :-1]
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), TOKENS[:, 1:].flatten())
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    assert count == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert losses[-1] < losses[0] - 0.3
    assert all(isinstance(layer.base, NF4Linear) for layer in lora_layers(model))


def trained(seed: int = 0, *, dora: bool = False) -> Any:
    model = random_decoder(SHAPE, seed=seed)
    add_qlora(model, LoRAConfig(4, 8.0, dora=dora))
    with torch.no_grad():
        for i, parameter in enumerate(adapter_parameters(model)):
            parameter += 0.02 * gaussian(*parameter.shape, seed=i)
    return model


@pytest.mark.parametrize("dora", [False, True])
def test_only_the_dequantized_base_takes_the_adapter_without_loss(dora: bool) -> None:
    model, x = trained(dora=dora), TOKENS
    expected = model(x)
    with pytest.raises(AdapterError, match="rounding the sum to 4 bits loses a good part of the update; dequantize it"):
        merge(model)
    plain, rounded = copy.deepcopy(model), copy.deepcopy(model)
    merge_dequantized(plain)
    merge_requantized(rounded)

    torch.testing.assert_close(plain(x), expected, rtol=1e-4, atol=1e-5)
    assert not lora_layers(plain)
    assert isinstance(plain.layers[0].mlp.up_proj, nn.Linear)
    assert isinstance(rounded.layers[0].mlp.up_proj, NF4Linear)
    assert (rounded(x) - expected).abs().max() > 100 * (plain(x) - expected).abs().max()


@pytest.fixture(scope="module")
def bitsandbytes() -> Any:
    pytest.importorskip("bitsandbytes")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import bitsandbytes

    return bitsandbytes


@pytest.mark.slow
def test_the_tables_are_those_of_bitsandbytes(bitsandbytes: Any) -> None:
    functional = bitsandbytes.functional
    assert torch.equal(functional.get_4bit_type("nf4", device="cpu"), NF4)
    assert torch.equal(functional.create_dynamic_map(), DYNAMIC)
    torch.testing.assert_close(functional.get_4bit_type("fp4", device="cpu").unique(), FP4, rtol=0, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(256, 192), (64, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_codes_and_weights_are_those_of_bitsandbytes(bitsandbytes: Any, shape: tuple[int, int], dtype: Any) -> None:
    weight = (0.05 * gaussian(*shape)).to(dtype)
    packed, state = bitsandbytes.functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    ours = quantize(weight, double=False)

    assert torch.equal(ours.packed[: packed.numel()], packed.flatten())
    assert torch.equal(ours.absmax, state.absmax)
    assert torch.equal(dequantize(ours, dtype), bitsandbytes.functional.dequantize_4bit(packed, state))


@pytest.mark.slow
def test_double_quantization_is_that_of_bitsandbytes(bitsandbytes: Any) -> None:
    """Its search on the CPU takes a neighbour where a quotient lies within 1e-5 of the middle of two levels: one scale
    in 500, off by one level in 256."""
    weight = 0.05 * gaussian(1024, 512)
    packed, state = bitsandbytes.functional.quantize_4bit(
        weight, blocksize=64, quant_type="nf4", compress_statistics=True
    )
    ours = quantize(weight)
    differing = ours.absmax != state.absmax
    steps = (ours.absmax.int() - state.absmax.int()).abs()

    assert torch.equal(ours.packed, packed.flatten())
    assert torch.equal(ours.outer[:-1], state.state2.absmax)
    assert ours.outer[-1] == state.offset
    assert differing.float().mean() < 0.01
    assert steps.max() <= 1
    same = ~differing.repeat_interleave(64).view(1024, 512)
    theirs = bitsandbytes.functional.dequantize_4bit(packed, state)
    assert torch.equal(dequantize(ours)[same], theirs[same])


@pytest.mark.slow
def test_the_layer_and_its_backward_are_those_of_linear4bit(bitsandbytes: Any) -> None:
    linear = nn.Linear(128, 64)
    theirs = bitsandbytes.nn.Linear4bit(
        128, 64, compute_dtype=torch.float32, quant_type="nf4", compress_statistics=False
    )
    theirs.load_state_dict(linear.state_dict())
    theirs = theirs.to("cpu")
    theirs(torch.zeros(1, 128))  # quantizes where the weights still are as they were loaded
    ours = NF4Linear(linear, double=False)
    x = gaussian(3, 5, 128)
    gradients = []
    for layer in (ours, theirs):
        given = x.clone().requires_grad_()
        out = layer(given)
        out.square().sum().backward()
        gradients.append((out.detach(), given.grad))

    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_lora_wraps_the_layers_of_bitsandbytes_and_does_not_merge_into_them(bitsandbytes: Any) -> None:
    theirs = bitsandbytes.nn.Linear4bit(128, 64, compute_dtype=torch.float32, quant_type="nf4")
    theirs.load_state_dict(nn.Linear(128, 64).state_dict())
    model, x = nn.Sequential(theirs.to("cpu")), gaussian(3, 128)
    before = model(x)
    add_lora(model, LoRAConfig(4, 8.0, ("0",)))

    torch.testing.assert_close(model(x), before, rtol=0, atol=0)
    model(x).sum().backward()
    assert adapter_parameters(model)[1].grad.abs().max() > 0
    with pytest.raises(AdapterError, match="the base is quantized"):
        merge(model)
