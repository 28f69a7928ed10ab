"""MHA, GQA, MQA, MLA: what sharing key-value heads saves, what it leaves as it was, and what it costs.

Random layers first: bytes and operations depend on shapes alone, and the time to attend a long context nearly so. Then
a trained model, whose heads differ for a reason: its K/V heads are averaged into fewer (Ainslie et al. 2023, section
2.1) and trained a little further. Sharing is a property of the weights, not a switch of the engine.

Shapes: S tokens cached, H query heads, H_kv K/V heads, G = H / H_kv, D head width, W and W' widths of keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from llmquiz.lab.sdk import (
    LabError,
    Params,
    Report,
    interleaved_medians,
    memory_available,
    quiet_clock,
)
from llmquiz.llm.base.load import base_model
from llmquiz.llm.base.memory import check_fits, estimate
from llmquiz.llm.cache.growing import GrowingCache
from llmquiz.llm.data.batches import Batch, packed_batch, weighted_loss
from llmquiz.llm.data.corpus import documents
from llmquiz.llm.model.attention import Attention, scaled_dot_product
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder
from llmquiz.llm.model.latent import LatentAttention, LatentConfig
from llmquiz.llm.model.load import build
from llmquiz.llm.model.positions import RotaryEmbedding
from llmquiz.llm.train.device import fused_adamw

MHA, GQA, MQA, MLA = "MHA", "GQA", "MQA", "MLA"
HIDDEN, CACHED, COUNTED, TURNS = 64, 64, 64, 5
HELD_OUT, LENGTH = 10**6, 96  # seed of the held-out documents, and tokens of a window
TRAIN_WINDOWS, TEST_WINDOWS, TESTS = 3, 8, 3
LR = 1e-3


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    compare_layers(params, report)
    share_heads(params, report)


def compare_layers(params: Params, report: Report) -> None:
    """Bytes, time and operations of one layer of each kind."""
    H, D = params.heads, params.head_dim
    if H % 4 or D % 4:
        raise LabError(f"{H} heads of {D}: both must be multiples of 4; choose others")
    needed, free = 4 * 2.5 * H * D * params.context, memory_available(params.device)
    if needed > 0.8 * free:
        raise LabError(f"the caches need {needed / 2**30:.1f} GiB; choose a shorter --context or fewer --heads")
    latent = LatentConfig(rank=4 * D, rope_dim=D // 2)
    kv_heads = {MHA: H, GQA: H // 4, MQA: 1}
    held = {name: cached_bytes(ModelConfig(8, HIDDEN, 1, H, kv, D, 8)) for name, kv in kv_heads.items()}
    held[MLA] = cached_bytes(ModelConfig(8, HIDDEN, 1, H, H, D, 8), latent)
    expected = {name: 4 * 2 * kv * D for name, kv in kv_heads.items()} | {MLA: 4 * (latent.rank + latent.rope_dim)}
    for name, found in held.items():
        report.metric(f"cache_{name.lower()}", found)
        report.claim("cache-bytes", measured=found, expected=expected[name])
    report.metric("mha_over_mla", held[MHA] / held[MLA])
    seconds = time_attending(kv_heads, latent, params, report)
    flops = count_operations(kv_heads, latent, params, report)
    rows = [
        (name, kv_heads.get(name), held[name], held[name] * params.context / 2**20, 1e3 * seconds[name], flops[name])
        for name in held
    ]
    columns = ("layer", "K/V heads", "bytes a token", "MiB in all", "ms a new token", "operations x MHA")
    report.table(f"{H} heads of {D}, fp32, {params.context} tokens in the cache", columns, rows)


def cached_bytes(config: ModelConfig, latent: LatentConfig | None = None) -> float:
    """Bytes a token that a layer leaves in its cache, counted from the tensors there."""
    cache, x = GrowingCache(config), torch.randn(1, CACHED, HIDDEN)
    with torch.inference_mode():
        if latent:
            LatentAttention(config, latent)(x, cache)
        else:
            Attention(config, 0)(x, RotaryEmbedding(config)(0, x), cache)
    return cache.bytes() / CACHED


def new_token(
    kv_heads: int | None, latent: LatentConfig, params: Params, tokens: int
) -> tuple[Tensor, Tensor, Tensor]:  # -> [1, H_kv, G, W], [1, H_kv, S, W], [1, H_kv, S, W']
    """One query a head, and the keys and values it meets. The G heads of a group are G rows of one query, so that K and
    V are read once. An absorbed MLA is one group: all heads read the latents, as keys with the rotary part beside."""
    if kv_heads is None:
        q = torch.randn(1, 1, params.heads, latent.rank + latent.rope_dim, device=params.device)
        c = torch.randn(1, 1, tokens, latent.rank + latent.rope_dim, device=params.device)
        return q, c, c[..., : latent.rank]
    q = torch.randn(1, kv_heads, params.heads // kv_heads, params.head_dim, device=params.device)
    k, v = torch.randn(2, 1, kv_heads, tokens, params.head_dim, device=params.device).unbind(0)
    return q, k, v


def time_attending(kv_heads: dict[str, int], latent: LatentConfig, params: Params, report: Report) -> dict[str, float]:
    """Seconds that one new token takes to attend the whole context."""
    works: dict[str, Callable[[], object]] = {}
    for name in (*kv_heads, MLA):
        works[name] = partial(
            F.scaled_dot_product_attention, *new_token(kv_heads.get(name), latent, params, params.context)
        )
    clock = quiet_clock(params.device, 1)
    seconds = interleaved_medians(works, device=params.device, repeats=TURNS, clock=clock)
    report.metric("speedup_gqa", seconds[MHA] / seconds[GQA])
    report.metric("speedup_mqa", seconds[MHA] / seconds[MQA])
    report.claim("fewer-bytes-faster", measured=seconds[MHA] / seconds[MQA], expected=2.0, relation="at least")
    return seconds


def count_operations(
    kv_heads: dict[str, int], latent: LatentConfig, params: Params, report: Report
) -> dict[str, float]:
    """Operations of scores and sums for one new token, as the dispatcher counts them, over those of MHA."""
    flops = {name: operations(*new_token(kv_heads.get(name), latent, params, COUNTED)) for name in (*kv_heads, MLA)}
    for name in (GQA, MQA):
        report.claim("same-operations", measured=flops[name] / flops[MHA], expected=1.0)
    one = torch.randn(1, 1, COUNTED, params.heads * params.head_dim)
    several = one.view(COUNTED, params.heads, params.head_dim).transpose(0, 1)[None]
    ratio = operations(several, several, several) / operations(one, one, one)
    report.claim("same-operations", measured=ratio, expected=1.0)
    report.metric("mla_operations", flops[MLA] / flops[MHA])
    return {name: counted / flops[MHA] for name, counted in flops.items()}


def operations(q: Tensor, k: Tensor, v: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        scaled_dot_product(q, k, v)
    return int(counter.get_total_flops())


def share_heads(params: Params, report: Report) -> None:
    """A trained model with half of its K/V heads and with one, before and after a little training."""
    language = base_model(params.model, device=params.device)
    model, tokenizer = language.model, language.tokenizer
    if not isinstance(model, Decoder) or model.config.num_kv_heads < 2:
        raise LabError(f"{language.name} has no K/V heads to average; use a model of the Llama family with several")
    size = sum(weight.numel() for weight in model.parameters())
    check_fits(estimate(6 * size), params.device, what="the model and a copy in training")
    test = packed_batch(documents(HELD_OUT + params.seed), tokenizer, TEST_WINDOWS, LENGTH)
    before, all_heads = loss_of(model, test, params), model.config.num_kv_heads
    half = next(all_heads // factor for factor in range(2, all_heads + 1) if all_heads % factor == 0)
    averaged, retrained, models = {}, {}, {}
    for heads in sorted({half, 1}, reverse=True):
        models[heads] = regroup(model, heads, partial(average, heads=heads))
        averaged[heads] = loss_of(models[heads], test, params)
        steps = train(models[heads], tokenizer, params)
        for step in report.progress(steps, "step", f"{heads} K/V heads", params.steps + 1):
            if step % max(1, params.steps // TESTS) == 0 or step == params.steps:
                retrained[heads] = loss_of(models[heads], test, params)
                report.point("loss", x=step, y=retrained[heads], series=f"{heads} of {all_heads} K/V heads")
    report_sharing(before, averaged, retrained, half, report)
    first = regroup(model, half, lambda heads: heads[:: all_heads // half])
    rows: list[tuple[object, ...]] = [("as trained", all_heads, before, None)]
    rows += [("averaged", heads, averaged[heads], retrained[heads]) for heads in averaged]
    rows.append(("the first of each group kept", half, loss_of(first, test, params), None))
    rows += write_out(model if model.config.group_size > 1 else models[half], test, params, report)
    columns = ("K/V heads of the model", "how many", "loss", f"after {params.steps} steps")
    report.table(f"{language.name}, nats a token on held-out documents", columns, rows)


def report_sharing(
    before: float, averaged: dict[int, float], retrained: dict[int, float], half: int, report: Report
) -> None:
    report.metric("loss_before", before)
    report.metric("loss_averaged", averaged[half])
    report.metric("loss_retrained", retrained[half])
    recovered = (averaged[half] - retrained[half]) / (averaged[half] - before)
    report.metric("recovered", recovered)
    report.claim("sharing-hurts", measured=averaged[half] / before, expected=1.5, relation="at least")
    report.claim("sharing-hurts", measured=averaged[1] / averaged[half], expected=1.0, relation="at least")
    report.claim("retraining-heals", measured=recovered, expected=0.25, relation="at least")
    report.claim("retraining-heals", measured=retrained[1] / retrained[half], expected=1.0, relation="at least")


def write_out(model: Decoder, test: Batch, params: Params, report: Report) -> list[tuple[object, ...]]:
    """The same model with a K/V head for every query head: equal ones side by side, and, as `repeat` does it, apart."""
    group, heads, plain = model.config.group_size, model.config.num_heads, loss_of(model, test, params)
    in_order = loss_of(regroup(model, heads, lambda kv: kv.repeat_interleave(group, dim=0)), test, params)
    repeated = loss_of(regroup(model, heads, lambda kv: torch.cat([kv] * group)), test, params)
    report.claim("special-case", measured=in_order, expected=plain, tolerance=1e-4 * plain)
    report.claim("special-case", measured=repeated / plain, expected=2.0, relation="at least")
    return [
        ("written out, 0 0 1 1", heads, in_order, None),
        ("written out, 0 1 0 1: the wrong order", heads, repeated, None),
    ]


def average(kv: Tensor, heads: int) -> Tensor:  # [H_kv, D, hidden] -> [heads, D, hidden]
    """The mean of each group, of weights and so of keys and values: they are linear, and RoPE turns all heads alike."""
    return kv.view(heads, -1, *kv.shape[1:]).mean(1)


def regroup(model: Decoder, heads: int, change: Callable[[Tensor], Tensor]) -> Decoder:
    """A copy of the model with another number of K/V heads, made by `change`: [H_kv, D, ...] -> [heads, D, ...]."""
    weights, D = {}, model.config.head_dim
    for name, tensor in model.state_dict().items():
        is_kv = "k_proj" in name or "v_proj" in name
        weights[name] = change(tensor.view(-1, D, *tensor.shape[1:])).flatten(0, 1) if is_kv else tensor.clone()
    return build(replace(model.config, num_kv_heads=heads), weights)


def train(model: Decoder, tokenizer: Any, params: Params) -> Iterator[int]:
    """Steps of AdamW on documents of the corpus; yields how many are done, first that none is."""
    optimizer = fused_adamw(model.parameters(), lr=LR, device=params.device)
    texts = documents(params.seed)
    yield 0
    for step in range(1, params.steps + 1):
        batch = on_device(packed_batch(texts, tokenizer, TRAIN_WINDOWS, LENGTH), params)
        nll, weight = weighted_loss(model.train(), batch)
        optimizer.zero_grad()
        (nll / weight).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield step


@torch.no_grad()
def loss_of(model: nn.Module, batch: Batch, params: Params) -> float:
    """Nats a token."""
    nll, weight = weighted_loss(model.eval(), on_device(batch, params))
    return float(nll / weight)


def on_device(batch: Batch, params: Params) -> Batch:
    return Batch(*(part.to(params.device) for part in batch))
