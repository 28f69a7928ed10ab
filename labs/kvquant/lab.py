"""KV cache in few bits: where the keys' outliers are decides along which axis to round.

A trained model reads held-out text, and its keys and values are looked at: which channels are large, in how many
tokens? Then they are rounded by channel and by token, at 8, 4 and 2 bits. Last, the model reads the text with real
quantized caches. It is fed a group of tokens at a time: each then sees all whole groups before it rounded and the rest
as it is, which is what it sees when tokens come one by one. A single pass over the text would see nothing rounded.

Shapes: B texts, T tokens, L layers, H_kv K/V heads, D head_dim, G group, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import torch
from torch import Tensor
from torch.nn import functional as F

from llmquiz.lab.sdk import LabError, Params, Report, interleaved_medians, quiet_clock
from llmquiz.llm.base.load import LanguageModel, base_model
from llmquiz.llm.base.memory import Memory, check_fits
from llmquiz.llm.cache.base import Cache
from llmquiz.llm.cache.growing import GrowingCache
from llmquiz.llm.cache.quantized import Axis, QuantizedCache, dequantize, quantize
from llmquiz.llm.data.corpus import documents
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.decoder import Decoder

HELD_OUT_SEED = 80_000  # the shipped model was trained on other seeds
TEXTS = 2
BITS = (8, 4, 2)
AXES: tuple[Axis, ...] = ("channel", "token")
RECENT = 64  # tokens that the last cache leaves as they are
FREE, WORSE = 0.01, 1.1  # of the perplexity at 8 bits; the least ratio that counts as worse
SAME = 1e-3  # part of the numbers that may be rounded the other way than torch does
STEP = 2.0  # 255 / 15 = 17 is met within this


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of the text: logits [B, T, V], the output of each attention [B, T, hidden], bytes of the cache."""

    logits: Tensor
    attention: list[Tensor]
    held: int

    def perplexity(self, text: Tensor) -> float:
        """Of all tokens but the first of each text."""
        return float(F.cross_entropy(self.logits[:, :-1].flatten(0, 1), text[:, 1:].flatten()).exp())


class RecordingCache(GrowingCache):
    """Lets the keys and values of each layer be looked at, [B, H_kv, T, D]."""

    def __init__(self, model: Decoder) -> None:
        super().__init__(model.config)
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        self.keys[layer], self.values[layer] = super().update(layer, k, v)
        return self.keys[layer], self.values[layer]


@torch.inference_mode()
def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    try:
        language = base_model(params.model, device=params.device)
        model, text = check_model(language, params), held_out(language, params)
        recording = RecordingCache(model)
        exact = read(model, text, recording, params.group)
        keys, values = list(recording.keys.values()), list(recording.values.values())
        report_channels(keys, values, report)
        report_rounding(keys, values, params, report)
        report_torch(keys[0], params, report)
        report_caches(model, text, exact, params, report)
    except ModelError as error:
        raise LabError(str(error)) from error


def check_model(language: LanguageModel, params: Params) -> Decoder:
    """Only our own decoder takes a cache of ours."""
    model = language.model
    if not isinstance(model, Decoder):
        raise LabError(f"{language.name} is not of the Llama family; choose a Llama, Mistral or Qwen")
    if params.tokens > model.config.max_position:
        raise LabError(f"the model has {model.config.max_position} positions; use no more --tokens than that")
    if model.config.head_dim % params.group or params.group % 4:  # four numbers of 2 bits fill a byte
        width = model.config.head_dim
        raise LabError(f"groups of {params.group} do not fill heads of {width} evenly; use --group {width}")
    if params.tokens < (least := RECENT + 2 * params.group):
        raise LabError(f"{params.tokens} tokens are too few to round any after {RECENT}; use --tokens {least} or more")
    column = 4 * TEXTS * params.tokens  # bytes of one number a token
    kept = Memory(
        weights=0,
        activations=2 * column * model.config.num_layers * model.config.hidden_size,
        logits=3 * column * model.config.vocab_size,  # two readings, and the chunks of one
    )
    check_fits(kept, params.device, what=f"reading {TEXTS} texts of {params.tokens} tokens")
    return model


def held_out(language: LanguageModel, params: Params) -> Tensor:  # [B, T]
    """Documents that the shipped model was not trained on, one after the other."""
    tokenizer = language.tokenizer
    try:
        begin = tokenizer.token_id("<|bos|>")
    except ModelError:
        begin = tokenizer.token_id("<|eos|>")  # some begin a text with what ended the one before
    source, rows = documents(HELD_OUT_SEED + params.seed), []
    for _ in range(TEXTS):
        ids: list[int] = []
        while len(ids) < params.tokens:
            ids += [begin, *tokenizer.encode(next(source).text, special=True)]
        rows.append(ids[: params.tokens])
    return torch.tensor(rows, device=params.device)


def read(model: Decoder, text: Tensor, cache: Cache, group: int) -> Reading:
    """The text in chunks of a group."""
    outputs: list[list[Tensor]] = [[] for _ in model.layers]
    handles = [
        layer.get_submodule("self_attn").register_forward_hook(lambda _, __, output, kept=kept: kept.append(output))
        for layer, kept in zip(model.layers, outputs, strict=True)
    ]
    try:
        logits = torch.cat([model(chunk, cache).float() for chunk in torch.split(text, group, dim=1)], dim=1)
    finally:
        for handle in handles:
            handle.remove()
    return Reading(logits, [torch.cat(kept, dim=1) for kept in outputs], cache.bytes())


def report_channels(keys: list[Tensor], values: list[Tensor], report: Report) -> None:
    """How far the largest channel of a head stands out, and in how many tokens."""
    rows = [
        (layer, prominence(k), prominence(v), persistence(k), persistence(v))
        for layer, (k, v) in enumerate(zip(keys, values, strict=True))
    ]
    key, value = (fmean(row[column] for row in rows) for column in (1, 2))
    report.metric("key_prominence", key)
    report.metric("value_prominence", value)
    report.claim("outlier-channels", measured=key / value, expected=WORSE, relation="at least")
    columns = ("layer", "keys: largest over median", "values", "keys: in so many tokens", "values")
    report.table("a head's largest channel", columns, rows)


def prominence(x: Tensor) -> float:  # [B, H_kv, T, D]
    """Mean magnitude of a head's largest channel over that of its median one; mean over heads."""
    size = x.abs().mean(dim=(0, 2))  # [H_kv, D]
    return float((size.amax(-1) / size.median(-1).values).mean())


def persistence(x: Tensor) -> float:  # [B, H_kv, T, D]
    """The share of tokens in which that channel is larger than the median one: chance is a half."""
    size = x.abs()
    largest = size.mean(dim=(0, 2)).argmax(-1)  # [H_kv]
    chosen = size.gather(-1, largest[None, :, None, None].expand(*x.shape[:3], 1))[..., 0]
    return float((chosen > size.median(-1).values).float().mean())


def report_rounding(keys: list[Tensor], values: list[Tensor], params: Params, report: Report) -> None:
    """The error of rounding alone, over the numbers' own size."""
    rows, errors = [], {}
    for bits in BITS:
        for axis in AXES:
            of_keys, of_values = (rounding_error(x, bits, axis, params.group) for x in (keys, values))
            report.point("key_error", x=bits, y=of_keys, series=f"by {axis}")
            rows.append((bits, axis, of_keys, of_values))
            errors[bits, axis] = of_keys
    ratio = errors[4, "token"] / errors[4, "channel"]
    report.metric("key_error", errors[4, "channel"])
    report.metric("key_error_ratio", ratio)
    report.claim("keys-by-channel", measured=ratio, expected=WORSE, relation="at least")
    step = errors[4, "channel"] / errors[8, "channel"]
    report.metric("step_ratio", step)
    report.claim("step", measured=step, expected=(2**8 - 1) / (2**4 - 1), tolerance=STEP)
    report.table(f"rounding in groups of {params.group}", ("bits", "a scale by", "keys off by", "values off by"), rows)


def rounding_error(layers: list[Tensor], bits: int, axis: Axis, group: int) -> float:
    """Of the whole groups, over their own size; mean over layers."""
    errors = []
    for x in layers:
        whole = x[:, :, : x.size(2) // group * group]
        q = quantize(whole, bits=bits, axis=axis, group=group)
        errors.append(distance(dequantize(q, bits=bits, axis=axis, dtype=x.dtype), whole))
    return fmean(errors)


def distance(found: Tensor, expected: Tensor) -> float:
    """Of the difference's norm to that of what was expected."""
    return float((found - expected).norm() / expected.norm())


def report_torch(keys: Tensor, params: Params, report: Report) -> None:
    """torch's own kernel on the same groups with the same scales: it rounds alike, and stores nothing smaller."""
    whole, group = keys[:, :, : keys.size(2) // params.group * params.group], params.group
    q = quantize(whole, bits=4, axis="token", group=group)
    scale, zero = q.scale.float().flatten(), q.zero.float().flatten()
    matrix = whole.reshape(-1, group)  # each group is a channel to it
    theirs = partial(torch.fake_quantize_per_channel_affine, matrix, scale, -zero / scale, 0, 0, 15)
    ours = partial(dequantize, q, bits=4, axis="token", dtype=torch.float32)
    apart = (theirs() - ours().reshape(-1, group)).abs() > scale[:, None] / 2
    report.claim("same-as-torch", measured=apart.float().mean(), expected=0.0, tolerance=SAME)
    works: dict[str, Callable[[], object]] = {
        "ours, to codes": partial(quantize, whole, bits=4, axis="token", group=group),
        "ours, and back": ours,
        "torch, there and back": theirs,
    }
    seconds = interleaved_medians(works, device=params.device, clock=quiet_clock(params.device, 1))
    rows = [(name, 1e9 * taken / whole.numel()) for name, taken in seconds.items()]
    report.table("rounding to 4 bits by token", ("work", "ns a number"), rows)


def report_caches(model: Decoder, text: Tensor, exact: Reading, params: Params, report: Report) -> None:
    """The text read with quantized caches: bytes, and how far attention, logits and perplexity move."""
    group, perplexity = params.group, exact.perplexity(text)
    rows: list[tuple[object, ...]] = [("as computed", 8 * exact.held / numbers(model, text), 0.0, 0.0, perplexity, 1.0)]
    off: dict[tuple[int, Axis, int], float] = {}
    worse: dict[tuple[int, Axis, int], float] = {}
    variants = [(bits, axis, 0) for bits in BITS for axis in AXES] + [(2, AXES[0], RECENT)]
    for kind in report.progress(variants, unit="cache"):
        bits, axis, residual = kind
        cache = QuantizedCache(model.config, bits=bits, keys=axis, group=group, residual=residual)
        found = read(model, text, cache, group)
        attention = fmean(distance(ours, true) for ours, true in zip(found.attention, exact.attention, strict=True))
        off[kind], worse[kind] = distance(found.logits, exact.logits), found.perplexity(text) / perplexity
        stored = 8 * found.held / numbers(model, text)
        if kind == (4, "channel", 0):
            report_bits(stored, text.size(1), params.group, report)
        name = f"{bits} bits, keys by {axis}" + (f", {residual} recent exact" if residual else "")
        rows.append((name, stored, attention, off[kind], found.perplexity(text), worse[kind]))
    report.metric("perplexity", perplexity)
    report.metric("perplexity_ratio_4", worse[4, "channel", 0])
    report.metric("perplexity_ratio_2", worse[2, "channel", 0])
    report.metric("logit_error", off[4, "channel", 0])
    ratio = off[4, "token", 0] / off[4, "channel", 0]
    report.metric("logit_error_ratio", ratio)
    report.claim("keys-by-channel", measured=ratio, expected=1.0, relation="at least")
    report.claim("eight-bits-free", measured=worse[8, "channel", 0], expected=1.0, tolerance=FREE)
    recent = off[2, "channel", 0] / off[2, "channel", RECENT]
    report.metric("recent_ratio", recent)
    report.claim("recent-exact", measured=recent, expected=WORSE, relation="at least")
    columns = ("cache", "bits a number", "attention off by", "logits off by", "perplexity", "x exact")
    report.table(f"{text.size(0)} texts of {text.size(1)} tokens", columns, rows)


def report_bits(stored: float, tokens: int, group: int, report: Report) -> None:
    """4 bits, 32 more for each group, and in fp32 the tokens that wait for their group."""
    rounded = tokens // group * group
    expected = (rounded * (4 + 32 / group) + (tokens - rounded) * 32) / tokens
    report.metric("bits_per_number", stored)
    report.claim("bits", measured=stored, expected=expected, tolerance=1e-6)


def numbers(model: Decoder, text: Tensor) -> int:
    """Keys and values of the text, counted one by one."""
    return model.config.cache_bytes(text.size(1), batch=text.size(0), itemsize=1)
