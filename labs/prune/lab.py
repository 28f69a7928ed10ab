"""Pruning: where quality breaks, and what zeros are worth.

The weights of one model are set to zero, more and more of them: by magnitude, and by Wanda's score, which also looks at
the inputs. Then 2:4, where the zeros must lie in a pattern; a little training that keeps its zeros, beside one that
does not; and the bytes and the time of one layer, in formats that leave the zeros out and in the one that does not.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial
from statistics import fmean

import torch
from torch import Tensor, nn

from llmquiz.lab.sdk import LabError, Params, Report, interleaved_medians, quiet_clock
from llmquiz.llm.base.load import LanguageModel, base_model
from llmquiz.llm.base.memory import check_fits, estimate
from llmquiz.llm.data.batches import packed_rows
from llmquiz.llm.data.corpus import documents
from llmquiz.llm.quant import prune
from llmquiz.llm.quant.gptq import hessian_of, output_error
from llmquiz.llm.quant.layerwise import visit_layers
from llmquiz.llm.train.device import fused_adamw
from llmquiz.llm.train.loss import language_model_loss
from llmquiz.llm.train.trainer import Trainer
from llmquiz.llm.tune.targets import ALL_LINEAR, find_targets

PARTS = (0.3, 0.5, 0.6, 0.7, 0.8)  # of the weights that are zero
LOW, HIGH = 0.5, 0.8  # on either side of the knee
STORED = (0.5, 0.7, 0.9)
WINDOW, UNSEEN, BATCH = 128, 6, 3  # tokens of a text, texts of the exam and of a training step
HELD_OUT_SEED, CALIBRATION_SEED, TRAINING_SEED = 70_000, 80_000, 90_000  # the shipped model was trained on other seeds
RATE = 1e-3
ROWS, TURNS = 64, 7  # of the input of the timed layer; repeats
BLOCK = 7  # layers whose output errors are compared: the first block's


def run(params: Params, report: Report) -> None:
    """The knee, the pattern, the recovery, the price."""
    torch.set_num_threads(1)
    language = base_model(params.model, device=params.device)
    size = sum(weight.numel() for weight in language.model.parameters())
    check_fits(estimate(6 * size), params.device, what="two copies of the model and the training of one")
    if params.tokens < WINDOW:
        raise LabError(f"{params.tokens} tokens are less than one text of {WINDOW}; calibrate on more")
    bench = Bench(language, params)
    report_knee(bench, report)
    report_scores(bench, report)
    report_recovery(bench, params, report)
    weight = largest(language.model)
    report_bytes(weight, report)
    report_time(weight, params, report)


class Bench:
    """One model, the text that its inputs are measured on, and the text that judges it."""

    def __init__(self, language: LanguageModel, params: Params) -> None:
        self.model, self.device, tokenizer = language.model, params.device, language.tokenizer
        texts = packed_rows(documents(CALIBRATION_SEED + params.seed), tokenizer, params.tokens // WINDOW, WINDOW)
        self.text = texts[:, :-1].to(self.device)
        self.lessons = packed_rows(documents(TRAINING_SEED + params.seed), tokenizer, BATCH * params.steps, WINDOW).to(
            self.device
        )
        unseen = packed_rows(documents(HELD_OUT_SEED + params.seed), tokenizer, UNSEEN, WINDOW).to(self.device)
        self.exam = unseen[:, :-1], unseen[:, 1:]
        self.loss = self.loss_of(self.model)

    @torch.no_grad()
    def loss_of(self, model: nn.Module) -> float:
        """Nats a token on unseen text."""
        nll, tokens = language_model_loss(model, self.exam)
        return float(nll / tokens)

    def magnitude(self, choose: prune.Choose) -> nn.Module:
        """A copy with masks before its weights: where the weights are smallest."""
        copied = copy.deepcopy(self.model)
        prune.prune_(copied, prune.magnitude_masks(copied, choose))
        return copied

    def wanda(self, choose: prune.Choose) -> nn.Module:
        """A copy without the weights that, with their inputs, are smallest."""
        copied = copy.deepcopy(self.model)
        prune.wanda_masks_(copied, self.text, choose)
        return copied


def report_knee(bench: Bench, report: Report) -> None:
    """The loss over the part of zeros, for two scores; and half of them in the pattern of 2:4."""
    losses: dict[tuple[str, float], float] = {}
    for part in report.progress(PARTS, unit="sparsity"):
        losses["magnitude", part] = bench.loss_of(bench.magnitude(partial(prune.per_layer, sparsity=part)))
        losses["Wanda", part] = bench.loss_of(bench.wanda(partial(prune.per_row, sparsity=part)))
    for (series, part), loss in losses.items():
        report.point("loss", x=100 * part, y=loss, series=series)
    losses["magnitude, 2:4", 0.5] = bench.loss_of(bench.magnitude(prune.n_of_m))
    losses["Wanda, 2:4", 0.5] = bench.loss_of(bench.wanda(prune.n_of_m))
    added = {key: loss - bench.loss for key, loss in losses.items()}
    rows = [(name, 100 * part, loss, added[name, part]) for (name, part), loss in losses.items()]
    columns = ("score", "zeros (%)", "loss (nats)", "added (nats)")
    report.table("text that nobody was fitted to", columns, [("not pruned", 0.0, bench.loss, 0.0), *rows])
    before_knee = 100 * added["magnitude", LOW] / added["magnitude", HIGH]
    report.metric("before_knee", before_knee)
    report.claim("knee", measured=before_knee, expected=20.0, relation="at most")
    unstructured = 100 * added["magnitude", 0.5] / added["magnitude, 2:4", 0.5]
    report.metric("unstructured_share", unstructured)
    report.claim("pattern-costs", measured=unstructured, expected=70.0, relation="at most")
    if losses["Wanda", HIGH] > losses["magnitude", HIGH]:
        report.note(
            f"at {HIGH:.0%} zeros Wanda's loss is the larger one: a score for a layer's outputs is not the loss"
        )


def report_scores(bench: Bench, report: Report) -> None:
    """Half of each row gone: the error of the first layers' outputs by either score, on the original's inputs."""
    choose = partial(prune.per_row, sparsity=0.5)
    rows: list[tuple[str, float, float, float]] = []

    def visit(path: str, layer: nn.Linear, x: Tensor) -> None:
        if len(rows) < BLOCK:
            weight, hessian = layer.weight, hessian_of(x)
            masks = choose(weight.abs()), choose(prune.wanda_scores(weight, x))
            by_magnitude, by_wanda = (output_error(weight, weight * mask, hessian) for mask in masks)
            rows.append((path, by_magnitude, by_wanda, by_magnitude / by_wanda))

    visit_layers(bench.model, bench.text, visit)
    report.table("half of each row gone: squared error of outputs", ("layer", "magnitude", "Wanda", "ratio"), rows)
    ratio = fmean(row[1] for row in rows) / fmean(row[2] for row in rows)
    report.metric("wanda_ratio", ratio)
    report.claim("inputs-matter", measured=ratio, expected=1.03, relation="at least")


def report_recovery(bench: Bench, params: Params, report: Report) -> None:
    """A little training after pruning: with the masks, and with zeros that were only written."""
    masked = bench.magnitude(partial(prune.per_layer, sparsity=params.sparsity))
    written = copy.deepcopy(masked)
    prune.make_permanent_(written)
    broken = bench.loss_of(masked)
    rows = [("pruned", 100 * params.sparsity, broken)]
    for name, model in (("trained with masks", masked), ("trained without", written)):
        train(model, bench, report, name)
        rows.append((name, zeros(model), bench.loss_of(model)))
    report.table(f"{params.steps} steps", ("model", "zeros (%)", "loss (nats)"), rows)
    recovered = 100 * (broken - rows[1][2]) / (broken - bench.loss)
    report.metric("recovered", recovered)
    report.claim("recovers", measured=recovered, expected=40.0, relation="at least")
    report.metric("zeros_kept", rows[1][1])
    report.claim("masks-last", measured=rows[1][1], expected=100 * params.sparsity, tolerance=0.1)
    report.metric("zeros_left", rows[2][1])
    report.claim("zeros-do-not", measured=rows[2][1], expected=5.0, relation="at most")


def train(model: nn.Module, bench: Bench, report: Report, name: str) -> None:
    trainer = Trainer(model, fused_adamw(model.parameters(), lr=RATE, device=bench.device))
    for rows in report.progress(bench.lessons.split(BATCH), unit="step", label=name):  # type: ignore[no-untyped-call]
        trainer.step([(rows[:, :-1], rows[:, 1:])])


def zeros(model: nn.Module) -> float:
    """Per cent, the mean of the layers."""
    return 100 * fmean(prune.sparsity(model).values())


def largest(model: nn.Module) -> Tensor:
    """The largest weight of the targets."""
    layers = find_targets(model, ALL_LINEAR, (nn.Linear,)).values()
    weights = [layer.weight.detach() for layer in layers if isinstance(layer, nn.Linear)]
    return max(weights, key=lambda weight: weight.numel())


def report_bytes(weight: Tensor, report: Report) -> None:
    """One weight in fp16, counted from what each format would store."""
    rows = []
    for part in STORED:
        pruned = weight.half() * prune.per_layer(weight.abs(), part)
        sizes = prune.storage_bytes(pruned)
        of_dense = {name: size / sizes["dense"] for name, size in sizes.items()}
        rows.append((100 * part, sizes["dense"], of_dense["bitmap"], of_dense["CSR"], 1 - part))
        report.claim("bitmap-bytes", measured=of_dense["bitmap"], expected=1 - part + 1 / 16, tolerance=0.01)
        if part == STORED[0]:
            report.metric("csr_ratio", of_dense["CSR"])
            report.claim("csr-bytes", measured=of_dense["CSR"], expected=1.5, relation="at least")
    columns = ("zeros (%)", "dense bytes", "bitmap, of dense", "CSR, of dense", "zeros free, of dense")
    report.table(f"a weight of {tuple(weight.shape)} in fp16", columns, rows)


def report_time(weight: Tensor, params: Params, report: Report) -> None:
    """One product in fp32: the weight as it was, with zeros in it, and with the zeros left out."""
    x = torch.randn(weight.size(1), ROWS, generator=torch.Generator().manual_seed(params.seed)).to(weight.device)
    dense = weight.float()
    works: dict[str, Callable[[], Tensor]] = {"dense, no zeros": partial(torch.mm, dense, x)}
    for part in STORED:
        pruned = dense * prune.per_layer(dense.abs(), part)
        works[f"dense, {part:.0%} zeros"] = partial(torch.mm, pruned, x)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that sparse rows are in beta
            works[f"CSR, {part:.0%} zeros"] = partial(torch.mm, pruned.to_sparse_csr(), x)
    clock = quiet_clock(params.device, 1)
    seconds = interleaved_medians(works, device=params.device, repeats=TURNS, warmup=2, clock=clock)
    full = seconds["dense, no zeros"]
    rows = [(name, 1e6 * taken, taken / full) for name, taken in seconds.items()]
    report.table(f"{tuple(weight.shape)} times {ROWS} columns in fp32", ("weight", "µs", "of dense, no zeros"), rows)
    report.metric("time_with_zeros", seconds["dense, 90% zeros"] / full)
    report.claim("zeros-take-time", measured=seconds["dense, 90% zeros"] / full, expected=0.6, relation="at least")
    report.metric("csr_time", seconds["CSR, 50% zeros"] / full)
