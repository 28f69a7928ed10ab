"""Packed layers against the weights that they were rounded to, and the fused decoder against the readable one."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from llmquiz.llm.base.load import base_model  # noqa: E402
from llmquiz.llm.cache.base import Cache  # noqa: E402
from llmquiz.llm.cache.growing import GrowingCache  # noqa: E402
from llmquiz.llm.cache.paged import PagedCache  # noqa: E402
from llmquiz.llm.cache.quantized import QuantizedCache  # noqa: E402
from llmquiz.llm.cache.ring import RingCache  # noqa: E402
from llmquiz.llm.cache.static import StaticCache  # noqa: E402
from llmquiz.llm.decode.fused import FusedDecoder, pack_for_decoding  # noqa: E402
from llmquiz.llm.decode.generate import generate  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import Decoder, random_decoder  # noqa: E402
from llmquiz.llm.quant.packed import (  # noqa: E402
    FORMS,
    DynamicInt8Linear,
    FloatLinear,
    Int4Linear,
    Int8Linear,
    pack_linear,
    wide_dtype,
)

pytestmark = pytest.mark.labs

SIZES = {"vocab_size": 128, "hidden_size": 64, "num_layers": 3, "num_heads": 4, "intermediate_size": 96}
MODELS: dict[str, dict[str, Any]] = {
    "llama-gqa": {"num_kv_heads": 2, "head_dim": 16},
    "llama-biases": {"num_kv_heads": 4, "head_dim": 16, "qkv_bias": True, "output_bias": True, "mlp_bias": True},
    "qwen2-tied": {"num_kv_heads": 2, "head_dim": 16, "qkv_bias": True, "tie_embeddings": True},
    "qwen3-wide-heads": {"num_kv_heads": 1, "head_dim": 32, "qk_norm": True},
    "mistral-window": {"num_kv_heads": 2, "head_dim": 16, "sliding_window": 6},
}
ROUNDED = {"fp16": 2e-3, "bf16": 4e-2, "int8": 4e-2, "int4": 4e-2}  # of the largest output: bf16 has 8 bits
TOKENS = 24


def model_of(name: str) -> Decoder:
    """Random, with norms and biases that are not ones and zeros, which would hide one that is never applied."""
    model = random_decoder(ModelConfig(**SIZES, **MODELS[name]), seed=0)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def tokens(batch: int = 1, length: int = TOKENS) -> Any:
    return torch.randint(SIZES["vocab_size"], (batch, length), generator=torch.Generator().manual_seed(2))


def rounded_weight(weight: Any, form: str) -> Any:
    """The weight that a form stands for, in fp32."""
    if form.startswith("int"):
        return (Int8Linear if form == "int8" else Int4Linear)(weight, None, torch.float32).wide
    return weight.to({"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[form]).float()


def rounded(model: Decoder, form: str) -> Decoder:
    """The readable decoder with the weights of the packed one."""
    twin = Decoder(model.config)
    twin.load_state_dict(model.state_dict())
    for module in twin.modules():
        if isinstance(module, nn.Linear):
            module.weight = nn.Parameter(rounded_weight(module.weight.detach(), form))
    return twin.eval()


def caches(config: ModelConfig, batch: int) -> list[Cache]:
    """All kinds, the quantized one with a tail that keeps everything unrounded."""
    return [
        GrowingCache(config),
        StaticCache(config, TOKENS, batch=batch),
        PagedCache(config, batch * TOKENS // 4, block_size=4),
        QuantizedCache(config, group=config.head_dim, residual=TOKENS),
        *([RingCache(config, batch=batch)] if config.sliding_window else []),
    ]


def relative_error(measured: Any, expected: Any) -> float:
    return float((measured.float() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", [1, 5, 40])
def test_few_and_many_rows_use_the_same_rounded_weight(form: str, rows: int) -> None:
    generator = torch.Generator().manual_seed(rows)
    weight, bias, x = (torch.randn(shape, generator=generator) for shape in ((48, 64), (48,), (rows, 64)))
    layer = pack_linear(weight, bias, form)

    expected = x @ rounded_weight(weight, form).T + bias
    tolerance = 1e-6 if form == "fp32" else 2e-3 if form == "fp16" and rows == 1 else 2e-2 if form == "int8" else 1e-2
    assert relative_error(layer(x), expected) < tolerance


@pytest.mark.skipif(not DynamicInt8Linear.is_supported(), reason="needs a CPU that multiplies 8-bit integers")
def test_both_kernels_of_int8_hold_the_same_codes() -> None:
    """Activations of whole numbers up to 127 lose nothing in 8 bits, so the integer product is exact."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(48, 64, generator=generator)
    x = torch.randint(0, 256, (4, 64), generator=generator).float()
    x[:, 0], x[:, 1] = 0, 255
    expected = x @ rounded_weight(weight, "int8").T

    assert relative_error(DynamicInt8Linear(weight, None, None)(x), expected) < 1e-6
    assert relative_error(Int8Linear(weight, None, None)(x), expected) < 1e-2
    assert DynamicInt8Linear(weight, None, None).packed_bytes() == 48 * 64 + 8 * 48


@pytest.mark.parametrize(("form", "levels"), [("int8", 254), ("int4", 15)])
def test_rounding_errs_by_half_a_step(form: str, levels: int) -> None:
    weight = torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    weight[3] = 0  # a scale of zero would make it nan
    error = (rounded_weight(weight, form) - weight).abs()
    shared = weight.view(32, 1, 64) if form == "int8" else weight.view(32, 2, 32)
    span = 2 * shared.abs().amax(2) if form == "int8" else shared.amax(2) - shared.amin(2)
    step = span / levels

    assert (error.view(shared.shape).amax(2) <= 0.5 * step + 0.01 * shared.abs().amax(2)).all()  # scales are in bf16
    assert error[3].max() < 1e-6
    assert error.mean() > 0.15 * step.mean()


def test_bytes_fall_with_the_bits() -> None:
    weight = torch.randn(64, 128)
    read = {form: pack_linear(weight, None, form).packed_bytes() for form in FORMS}
    read["int8"] = Int8Linear(weight, None, None).packed_bytes()
    scales = {"int8": 2 * 64, "int4": 4 * 64 * 128 // 32}

    assert read["fp32"] == weight.nbytes
    assert read["fp16"] == read["bf16"] == weight.nbytes // 2
    assert read["int8"] == weight.nbytes // 4 + scales["int8"]
    assert read["int4"] == weight.nbytes // 8 + scales["int4"]


def test_only_forms_that_are_slow_on_prompts_keep_the_weight_twice() -> None:
    weight = torch.randn(32, 64)
    wide = {form: pack_linear(weight, None, form).wide for form in FORMS}

    assert wide["fp32"] is None
    assert wide["bf16"] is None
    assert {wide[form].dtype for form in ("fp16", "int8", "int4")} == {wide_dtype()}
    assert FloatLinear(weight, None, None, torch.float16)(torch.randn(5, 64)).dtype == torch.float16


@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_the_fused_decoder_gives_the_logits_of_the_readable_one(name: str) -> None:
    model, text = model_of(name), tokens(batch=2)
    fused, expected = pack_for_decoding(model, "fp32"), model(text)

    assert expected.std() > 0.3
    torch.testing.assert_close(fused(text), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fused(text, last_only=True), expected[:, -1:], rtol=1e-5, atol=1e-5)
    for cache in caches(model.config, batch=2):
        steps = [fused(part, cache) for part in text.split([9, 1, 1, 1, 5, *[1] * 7], dim=1)]
        torch.testing.assert_close(torch.cat(steps, dim=1), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["llama-gqa", "llama-biases"])
@pytest.mark.parametrize("form", list(ROUNDED))
@torch.inference_mode()
def test_packed_decoders_give_the_logits_of_the_rounded_weights(name: str, form: str) -> None:
    """What differs is how activations are rounded before a product, to bf16 at worst."""
    model, text = model_of(name), tokens()
    packed, expected = pack_for_decoding(model, form), rounded(model, form)(text)
    for cache in (None, *caches(model.config, batch=1)):
        parts = [TOKENS] if cache is None else [1] * TOKENS
        logits = torch.cat([packed(part, cache) for part in text.split(parts, dim=1)], dim=1)
        assert relative_error(logits, expected) < (ROUNDED["bf16"] if cache is None else ROUNDED[form])
        assert logits.dtype == torch.float32
    if form == "int4":
        assert relative_error(model(text), expected) > 5 * relative_error(logits, expected)


@torch.inference_mode()
def test_a_padded_row_decodes_as_if_alone() -> None:
    model = model_of("llama-gqa")
    fused, text = pack_for_decoding(model, "fp32"), tokens(batch=2)
    mask = torch.ones(2, TOKENS, dtype=torch.bool)
    mask[1, :5] = False
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache = StaticCache(model.config, TOKENS, batch=2)
    for start, end in ((0, 20), (20, 21), (21, TOKENS)):
        logits = fused(text[:, start:end], cache, mask=mask[:, :end], positions=positions[:, start:end])

    alone = model(text[1:, 5:])
    torch.testing.assert_close(logits[1:], alone[:, -3:], rtol=1e-5, atol=1e-5)


def test_it_decodes_the_same_tokens() -> None:
    language = base_model()
    prompt = torch.randint(language.model.config.vocab_size, (4, 12), generator=torch.Generator().manual_seed(0))
    expected = generate(language.model, prompt, 16, cache=GrowingCache(language.model.config)).tokens
    fused = pack_for_decoding(language.model, "fp32")

    assert isinstance(fused, FusedDecoder)
    assert len(expected.unique()) > 8
    assert torch.equal(generate(fused, prompt, 16, cache=GrowingCache(fused.config)).tokens, expected)


def test_what_cannot_be_packed_is_refused() -> None:
    model = model_of("llama-gqa")
    with pytest.raises(ModelError, match="form 'int3' is not one of fp32, fp16, bf16, int8, int4 on cpu"):
        pack_for_decoding(model, "int3")
    with pytest.raises(ModelError, match="multiples of 16 x 32; use int8"):
        pack_linear(torch.randn(32, 48), None, "int4")
    with pytest.raises(ModelError, match="exceed the model's"):
        pack_for_decoding(model, "fp32")(torch.zeros(1, model.config.max_position + 1, dtype=torch.long))
