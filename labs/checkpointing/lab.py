"""Activation checkpointing and gradient accumulation: two ways to train with less memory, and what each of them costs.

A backward pass needs what the forward pass computed. Checkpointing keeps the inputs of k segments, drops the rest, and
computes a segment again when the backward pass reaches it; at the worst moment the k inputs and the inside of one
segment are held. Accumulation runs a batch in parts and adds their gradients up. Both must give the gradients of the
plain step; bytes and matrix products are counted, only the last column of the table is a time.

What checkpointing does to activations is seen where nothing outweighs them. A user's own model may have a vocabulary
whose logits do, or weights whose gradients do; on it the claims are tested that hold for every decoder.

Shapes: B batch, T tokens, L layers, k segments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from llmquiz.lab.sdk import LabError, Params, Report, interleaved_medians, memory_available, quiet_clock
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder, random_decoder
from llmquiz.llm.model.load import find_checkpoint, load_checkpoint, read_config
from llmquiz.llm.train.device import peak_memory, saved_activation_bytes
from llmquiz.llm.train.loss import IGNORED, next_token_loss

SIZES = {
    "tiny": (ModelConfig(64, 32, 4, 2, 2, 16, 88), 16),
    "small": (ModelConfig(256, 64, 16, 4, 4, 16, 172), 48),
    "base": (ModelConfig(8192, 1024, 16, 16, 16, 64, 2752), 1024),
}
DECODER, CHAIN = "decoder layers", "bare layers"
MIB = 2**20

Layers = Sequence[Callable[[Tensor], Tensor]]


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    config, _ = SIZES[params.size]
    check_fit(config, params.batch * length_for(config, params), params.device)
    guest = load_guest(params) if params.model else None
    model = random_decoder(config, params.seed).to(params.device)
    tokens = draw_tokens(config, params)
    costs = compare_segments(model, tokens, params.device, report)
    report_peaks(costs, model, tokens, report)
    find_best_for_bare_layers(model, tokens, params.device, report)
    means = compare_accumulation(model, tokens, params, report)
    report.claim("mean-of-means", measured=means, expected=0.05, relation="at least")
    if guest is not None:
        tokens = draw_tokens(guest.config, params)
        name = Path(params.model).name or params.model
        compare_segments(guest, tokens, params.device, report, name)
        compare_accumulation(guest, tokens, params, report)
        report.note(f"the metrics are those of {name}; how peaks depend on the split was tested on the random model")


def length_for(config: ModelConfig, params: Params) -> int:
    """T: as the size says, or as many positions as the model has."""
    _, length = SIZES[params.size]
    return min(length, config.max_position)


def draw_tokens(config: ModelConfig, params: Params) -> Tensor:  # [B, T + 1]
    return torch.randint(config.vocab_size, (params.batch, length_for(config, params) + 1)).to(params.device)


def load_guest(params: Params) -> Decoder:
    """The user's checkpoint in our decoder, refused before its weights are read if a step would not fit."""
    try:
        folder = find_checkpoint(params.model)
        config = read_config(folder)
        check_fit(config, params.batch * length_for(config, params), params.device)
        return load_checkpoint(folder, dtype=torch.float32, device=params.device)
    except ModelError as error:
        raise LabError(str(error)) from error


def check_fit(config: ModelConfig, tokens: int, device: str) -> None:
    """Refuse what cannot work: a layer of ours keeps some 14 hidden vectors and 5 intermediate ones of each token,
    and next to the weights there are up to five sets of gradients."""
    layer = 14 * config.hidden_size + 5 * config.intermediate_size
    needed = 4 * (tokens * (config.num_layers * layer + 3 * config.vocab_size) + 6 * config.num_parameters())
    free = memory_available(device)
    if needed > 0.8 * free:
        raise LabError(
            f"the step without checkpointing takes about {needed / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are free; "
            "choose a smaller --batch, --size or --model"
        )


def in_segments(layers: Layers, x: Tensor, segments: int) -> Tensor:
    """The layers one after another, each of `segments` groups of them under one checkpoint; 0 keeps everything."""
    if segments == 0:
        return through(layers, x)
    size = len(layers) // segments
    for start in range(0, len(layers), size):
        x = checkpoint(through, layers[start : start + size], x, use_reentrant=False)
    return x


def through(layers: Layers, x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def loss_in_segments(model: Decoder, tokens: Tensor, segments: int) -> Tensor:
    """The mean loss of the model, its layers run in segments."""
    x = model.embed_tokens(tokens[:, :-1])
    layers = [partial(layer, rotation=model.rotary(0, x), cache=None) for layer in model.layers]
    nll, count = next_token_loss(model.lm_head(model.norm(in_segments(layers, x, segments))), tokens[:, 1:])
    return nll / count


@dataclass(frozen=True, slots=True)
class Costs:
    """Of one training step: bytes held between the passes and at the worst moment, and FLOPs of matrix products."""

    saved: int
    peak: int
    work: int


def measure(loss: Callable[[], Tensor], weights: Sequence[Tensor], device: str) -> Costs:
    saved = saved_activation_bytes(loss, weights)
    for weight in weights:
        weight.grad = torch.zeros_like(weight)  # so that the peak is that of activations
    with peak_memory(device) as peak:
        step(loss)
    with FlopCounterMode(display=False) as counter:
        step(loss)
    return Costs(saved, peak.bytes, counter.get_total_flops())


def step(loss: Callable[[], Tensor]) -> None:
    torch.autograd.backward(loss())


def divisors(number: int) -> list[int]:
    return [k for k in range(1, number + 1) if number % k == 0]


def compare_segments(
    model: Decoder, tokens: Tensor, device: str, report: Report, name: str = DECODER
) -> dict[int, Costs]:
    """A step without checkpoints, and with 1, 2, ... L segments, as far as they divide L; its costs by segments."""
    L, weights = model.config.num_layers, list(model.parameters())
    costs, losses, error = {}, {}, 0.0
    plain = gradient(model, [partial(loss_in_segments, model, tokens, 0)])
    for segments in report.progress([0, *divisors(L)], unit="split", label="counting bytes and FLOPs"):
        losses[segments] = partial(loss_in_segments, model, tokens, segments)
        error = max(error, distance(gradient(model, [losses[segments]]), plain))
        costs[segments] = measure(losses[segments], weights, device)
        if segments:
            report.point("peak", segments, costs[segments].peak / MIB, name)
    seconds = interleaved_medians(
        {k: partial(step, loss) for k, loss in losses.items()},
        device=device,
        repeats=3,
        clock=quiet_clock(device, 1),
    )
    rows = []
    for k, cost in costs.items():
        work, time = cost.work / costs[0].work, seconds[k] / seconds[0]
        rows.append((k or "none", cost.saved / MIB, cost.peak / MIB, work, time))
    columns = ("segments", "saved MiB", "peak MiB", "x FLOPs", "x time")
    title = f"{L} layers, {tokens.size(0)} x {tokens.size(1) - 1} tokens"
    report.table(title if name == DECODER else f"{name}: {title}", columns, rows)
    report.metric("time_ratio", seconds[L] / seconds[0])
    report.metric("gradient_error", error)
    report.claim("same-gradients", measured=error, expected=1e-6, relation="at most")
    report_segments(costs, model, tokens, report)
    return costs


def report_segments(costs: dict[int, Costs], model: Decoder, tokens: Tensor, report: Report) -> None:
    """What is true of any decoder."""
    L = model.config.num_layers
    plain, every_layer = costs[0], costs[L]
    layer_input, layer = layer_bytes(costs, model, tokens)
    report.metric("saved_plain", plain.saved / MIB)
    report.metric("saved_every_layer", every_layer.saved / MIB)
    inputs = (every_layer.saved - costs[1].saved) / layer_input  # what both keep around the layers cancels
    report.claim("keeps-inputs", measured=inputs, expected=L - 1)
    report.metric("peak", every_layer.peak / MIB)
    report.metric("peak_ratio", plain.peak / every_layer.peak)
    report.metric("best_segments", min(divisors(L), key=lambda k: costs[k].peak))
    report.metric("inside_over_input", layer / layer_input)
    work = [cost.work / plain.work for k, cost in costs.items() if k]
    report.metric("work_ratio", work[0])
    report.claim("third-more", measured=max(work), expected=4 / 3, relation="at most")


def report_peaks(costs: dict[int, Costs], model: Decoder, tokens: Tensor, report: Report) -> None:
    """What is true where activations are most of the memory, and layers most of the work."""
    L = model.config.num_layers
    _, layer = layer_bytes(costs, model, tokens)
    for k in divisors(L):
        expected = costs[k].saved + L / k * layer
        report.claim("peak", measured=costs[k].peak, expected=expected, tolerance=0.15 * expected)
    best = min(divisors(L), key=lambda k: costs[k].peak)
    report.claim("every-layer-best", measured=best, expected=L)
    work = min(cost.work / costs[0].work for k, cost in costs.items() if k)
    report.claim("third-more", measured=work, expected=1.15, relation="at least")


def layer_bytes(costs: dict[int, Costs], model: Decoder, tokens: Tensor) -> tuple[int, float]:
    """Bytes of a layer's input, and of all that one layer saves for itself."""
    L = model.config.num_layers
    layer_input = tokens.size(0) * (tokens.size(1) - 1) * model.config.hidden_size * 4
    return layer_input, (costs[0].saved - costs[L].saved) / L + layer_input


def find_best_for_bare_layers(model: Decoder, tokens: Tensor, device: str, report: Report) -> None:
    """Layers that save nothing but their input, for which the square root is right."""
    L, hidden = model.config.num_layers, model.config.hidden_size
    x = torch.randn(tokens.numel(), hidden, device=device)
    chain = [nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh()).to(device) for _ in range(L)]
    weights = [weight for layer in chain for weight in layer.parameters()]
    peaks = {}
    for k in divisors(L):
        peaks[k] = measure(partial(chain_loss, chain, x, k), weights, device).peak
        report.point("peak", k, peaks[k] / MIB, CHAIN)
    best = min(peaks, key=lambda k: peaks[k])
    report.metric("best_segments_bare", best)
    off = abs(math.log2(best / math.sqrt(L)))
    report.claim("square-root", measured=off, expected=1.0, relation="at most")


def chain_loss(chain: Layers, x: Tensor, segments: int) -> Tensor:
    return in_segments(chain, x, segments).sum()


def compare_accumulation(model: Decoder, tokens: Tensor, params: Params, report: Report) -> float:
    """A batch of answers of unequal length in parts: sums over all tokens, or the usual mean of the parts' means, whose
    error is returned."""
    inputs, labels = tokens[:, :-1], tokens[:, 1:].clone()
    lengths = torch.linspace(2, labels.size(1), len(labels)).long()
    for row, length in zip(labels, lengths.tolist(), strict=True):
        row[length:] = IGNORED  # sorted by length, as batches often are
    parts = list(zip(inputs.chunk(params.parts), labels.chunk(params.parts), strict=True))
    total = int((labels != IGNORED).sum())
    whole = gradient(model, [partial(part_loss, model, inputs, labels, total)])
    by_tokens = gradient(model, [partial(part_loss, model, x, y, total) for x, y in parts])
    means = gradient(model, [partial(part_loss, model, x, y, int((y != IGNORED).sum()) * len(parts)) for x, y in parts])
    report.metric("accumulation_error", distance(by_tokens, whole))
    report.metric("mean_of_means_error", distance(means, whole))
    report.claim("accumulate", measured=distance(by_tokens, whole), expected=1e-5, relation="at most")
    weights = list(model.parameters())
    one = saved_activation_bytes(partial(part_loss, model, *parts[0], total), weights)
    all_ = saved_activation_bytes(partial(part_loss, model, inputs, labels, total), weights)
    report.metric("part_share", one / all_)
    expected = len(parts[0][0]) / len(inputs)
    report.claim("part-memory", measured=one / all_, expected=expected, tolerance=0.1 * expected)
    return distance(means, whole)


def part_loss(model: Decoder, inputs: Tensor, labels: Tensor, total: int) -> Tensor:
    """The summed loss of a part over `total`: the tokens of the whole step, or what someone took for them."""
    return next_token_loss(model(inputs), labels)[0] / total


def gradient(model: Decoder, losses: list[Callable[[], Tensor]]) -> Tensor:
    """Gradients of the sum of the losses, one backward pass each, all in a row."""
    model.zero_grad()
    for loss in losses:
        step(loss)
    return torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])


def distance(found: Tensor, right: Tensor) -> float:
    """Length of the difference over the length of what is right."""
    return float((found - right).norm() / right.norm())
