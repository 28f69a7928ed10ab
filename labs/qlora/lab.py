"""QLoRA: what four bits cost, and which merge keeps what was trained.

Formats first, on Gaussian numbers, as trained weights nearly are: bits counted from the tensors, error against the
spread of the weights. Then one adapter is trained twice on the same task, beside the base in fp32 and beside the base
in NF4. At last the adapter of the quantized base is merged in three ways, of which one gives the trained model.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from statistics import fmean

import torch
from torch import Tensor, nn

from llmquiz.lab.sdk import Params, Report, interleaved_medians, quiet_clock
from llmquiz.llm.base.load import LanguageModel, base_model
from llmquiz.llm.base.memory import check_fits, estimate
from llmquiz.llm.train.device import fused_adamw
from llmquiz.llm.train.loss import language_model_loss
from llmquiz.llm.train.trainer import Trainer
from llmquiz.llm.tune.codes import codes
from llmquiz.llm.tune.lora import LoRAConfig, adaptable, adapter_parameters, add_lora, lora_layers
from llmquiz.llm.tune.merging import merge
from llmquiz.llm.tune.nf4 import FP4, INT4, NF4, NF4Linear, NF4Tensor, bits_per_parameter, dequantize, quantize
from llmquiz.llm.tune.qlora import add_qlora, merge_dequantized, merge_requantized
from llmquiz.llm.tune.saving import load_adapter, save_adapter
from llmquiz.llm.tune.targets import ALL_LINEAR

FORMATS = {"NF4": NF4, "int4": INT4, "FP4": FP4}
GAUSSIAN = (1024, 256)
LORA, QLORA = "LoRA on fp32", "QLoRA on NF4"
LR, TURNS = 5e-3, 5
SAME = 1e-4  # of the largest number

Batch = tuple[Tensor, Tensor]


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    report_formats(params, report)
    language = base_model(params.model, device=params.device)
    size = sum(weight.numel() for weight in language.model.parameters())
    check_fits(estimate(5 * size), params.device, what="five copies of the base")
    batch = codes(language.tokenizer, params.seed, params.device)
    trained, quantized = copy.deepcopy(language.model), copy.deepcopy(language.model)
    config = LoRAConfig(params.rank, 2.0 * params.rank, ALL_LINEAR)
    add_lora(trained, config, seed=params.seed)
    add_qlora(quantized, config, seed=params.seed)
    report_memory(language, quantized, report)
    report_training({LORA: trained, QLORA: quantized}, batch, params, report)
    report_merges(language, quantized, batch, report)
    report_layer(language, params, report)


def report_formats(params: Params, report: Report) -> None:
    """Bits and error of each format on the same Gaussian numbers."""
    generator = torch.Generator().manual_seed(params.seed)
    weight, block = torch.randn(GAUSSIAN, generator=generator), params.block
    rows, errors = [], {}
    for name, levels in FORMATS.items():
        single, double = (quantize(weight, block, double, levels) for double in (False, True))
        errors[name] = relative_error(single, weight)
        rows.append(
            (name, bits_per_parameter(single), errors[name], bits_per_parameter(double), relative_error(double, weight))
        )
        if name == "NF4":
            report.metric("bits", bits_per_parameter(single))
            report.claim("bits", measured=bits_per_parameter(single), expected=4 + 32 / block)
            report.metric("bits_double", bits_per_parameter(double))
            expected = 4 + 8 / block + 32 / (256 * block)
            report.claim("double-quantization", measured=bits_per_parameter(double), expected=expected, tolerance=0.01)
    report.metric("nf4_error", errors["NF4"])
    report.claim("nf4-closest", measured=errors["int4"] / errors["NF4"], expected=1.05, relation="at least")
    report.claim("nf4-closest", measured=errors["FP4"] / errors["int4"], expected=1.05, relation="at least")
    columns = ("format", "bits", "relative error", "bits, double quantization", "its relative error")
    report.table(f"Gaussian weights, blocks of {block}", columns, rows)


def relative_error(quantized: NF4Tensor, weight: Tensor) -> float:
    """Root mean square error over the root mean square of the weights."""
    return float((dequantize(quantized) - weight).norm() / weight.norm())


def report_memory(language: LanguageModel, quantized: nn.Module, report: Report) -> None:
    """Bytes of the layers that were quantized, beside bf16; embedding, head and norms stay as they were."""
    layers = [layer.base for layer in lora_layers(quantized) if isinstance(layer.base, NF4Linear)]
    weights = sum(layer.in_features * layer.out_features for layer in layers)
    nbytes = sum(layer.quantized.nbytes for layer in layers)
    rest = sum(weight.numel() for weight in language.model.parameters()) - weights
    report.metric("base_bits", 8 * nbytes / weights)
    report.metric("weights_ratio", 2 * weights / nbytes)
    rows = [
        (name, weights, bits, (weights * bits / 8 + 2 * rest) / 2**20)
        for name, bits in (("fp32", 32.0), ("bf16", 16.0), ("NF4", 8 * nbytes / weights))
    ]
    report.table("the base, its rest in bf16", ("layers in", "weights", "bits each", "MiB in all"), rows)


def report_training(models: dict[str, nn.Module], batch: Batch, params: Params, report: Report) -> None:
    """The same adapter on either base; the curves should lie on each other."""
    trainers = {name: trainer_of(model, batch) for name, model in models.items()}
    losses: dict[str, list[float]] = {name: [] for name in models}
    for step in report.progress(range(params.steps), unit="step"):
        for name, trainer in trainers.items():
            losses[name].append(trainer.step([batch]).loss)
            report.point("loss", x=step, y=losses[name][-1], series=name)
    report.metric("loss_qlora", losses[QLORA][-1])
    report.claim("learns-through-nf4", measured=losses[QLORA][-1] / losses[QLORA][0], expected=0.5, relation="at most")
    ratio = fmean(losses[QLORA]) / fmean(losses[LORA])
    report.claim("like-full-precision", measured=ratio, expected=1.0, tolerance=0.5)
    works = {name: partial(trainer.step, [batch]) for name, trainer in trainers.items()}
    seconds = timed_in_turns(works, params)
    report.metric("slowdown", seconds[QLORA] / seconds[LORA])
    rows = [(name, losses[name][0], losses[name][-1], 1e3 * seconds[name]) for name in models]
    report.table(f"{params.steps} steps", ("adapter", "first loss", "last loss", "ms a step"), rows)


def trainer_of(model: nn.Module, batch: Batch) -> Trainer:
    return Trainer(model, fused_adamw(adapter_parameters(model), lr=LR, device=batch[0].device))


def timed_in_turns(works: Mapping[str, Callable[[], object]], params: Params) -> dict[str, float]:
    """Median seconds of each."""
    clock = quiet_clock(params.device, 1)
    return interleaved_medians(works, device=params.device, repeats=TURNS, clock=clock)


@torch.no_grad()
def report_merges(language: LanguageModel, quantized: nn.Module, batch: Batch, report: Report) -> None:
    """The adapter that was trained on NF4, merged into the dequantized base, the original one, and four bits again."""
    expected = quantized(batch[0])
    update, noise = rounding(quantized)
    dequantized, rounded, original = copy.deepcopy(quantized), copy.deepcopy(quantized), copy.deepcopy(language.model)
    merge_dequantized(dequantized)
    merge_requantized(rounded)
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(quantized, folder)
        load_adapter(original, folder)
    merge(original)
    rows = [("not merged", 0.0, loss_of(quantized, batch))]
    models = {"into the dequantized base": dequantized, "into the original base": original, "rounded again": rounded}
    for name, model in models.items():
        rows.append((name, float((model(batch[0]) - expected).norm() / expected.norm()), loss_of(model, batch)))
    report.table("merging the adapter of NF4", ("merge", "logits moved", "loss"), rows)
    for (_, moved, _), metric in zip(rows[1:], ("moved_dequantized", "moved_original", "moved_rounded"), strict=True):
        report.metric(metric, moved)
    report.claim("merge-dequantized", measured=rows[1][1], expected=0.0, tolerance=SAME)
    for _, moved, _ in rows[2:]:
        report.claim("merge-elsewhere", measured=moved, expected=100 * SAME, relation="at least")
    report.metric("rounding_over_update", noise / update)


def rounding(quantized: nn.Module) -> tuple[float, float]:
    """The norm of all the updates, and of what rounding base plus update to four bits does to them."""
    update = noise = 0.0
    for layer in lora_layers(quantized):
        base, whole = layer.base.weight, layer.weight
        update += float((whole - base).square().sum())
        noise += float((dequantize(quantize(whole)) - whole).square().sum())
    return update**0.5, noise**0.5


def loss_of(model: nn.Module, batch: Batch) -> float:
    """Nats a token."""
    nll, tokens = language_model_loss(model, batch)
    return float(nll / tokens)


def report_layer(language: LanguageModel, params: Params, report: Report) -> None:
    """One layer, its output and the gradient of its input, beside the dequantized weight and bitsandbytes."""
    from llmquiz.llm.tune import reference  # takes seconds to import, where the process is not warm

    linear = largest(language.model)
    ours = NF4Linear(linear, double=False)
    plain = partial(nn.functional.linear, weight=ours.weight, bias=ours.bias)
    others: dict[str, Callable[[Tensor], Tensor]] = {"dequantized weight": plain}
    if reference.BITSANDBYTES:
        others["bitsandbytes"] = reference.to_linear4bit(linear)
    else:
        report.note("bitsandbytes is not installed: it was left out of the comparison")
    x = torch.randn(64, linear.in_features, generator=torch.Generator().manual_seed(params.seed)).to(params.device)
    expected, worst = output_and_gradient(ours, x), 0.0
    for layer in others.values():
        for found, wanted in zip(output_and_gradient(layer, x), expected, strict=True):
            worst = max(worst, float((found - wanted).abs().max() / wanted.abs().max()))
    report.claim("same-layer", measured=worst, expected=0.0, tolerance=SAME)
    works = {name: partial(output_and_gradient, layer, x) for name, layer in others.items()}
    seconds = timed_in_turns({"ours": partial(output_and_gradient, ours, x), **works}, params)
    if reference.BITSANDBYTES:
        report.metric("speedup_over_bitsandbytes", seconds["bitsandbytes"] / seconds["ours"])
    rows = [(name, 1e3 * taken) for name, taken in seconds.items()]
    report.table(f"{linear.in_features} by {linear.out_features}, forward and backward", ("layer", "ms"), rows)


def largest(model: nn.Module) -> nn.Linear:
    """The largest layer that an adapter would take."""
    layers = [layer for layer in adaptable(model, ALL_LINEAR).values() if isinstance(layer, nn.Linear)]
    return max(layers, key=lambda layer: layer.weight.numel())


def output_and_gradient(layer: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """What the layer gives, and the gradient of half its square with respect to the input."""
    given = x.clone().requires_grad_()
    out = layer(given)
    (gradient,) = torch.autograd.grad(out.square().sum() / 2, given)
    return out.detach(), gradient
