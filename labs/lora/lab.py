"""LoRA: what a low rank can learn, and what it saves.

First a teacher whose update has known singular values: no update of rank r comes nearer than the tail of their squares
(Eckart and Young 1936), so LoRA's loss has a floor that is known before it trains. Then the base model learns codes by
heart that no text holds: full fine-tuning beside several ranks, on the same batch. What is compared is what does not
depend on the machine: parameters, bytes of optimizer state and file, losses, and whether the adapted model survives
being merged, saved, loaded, and turned off. Where peft is installed the same adapter trains there too, in turns.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn

from llmquiz.lab.sdk import Params, Report, interleaved_medians, quiet_clock
from llmquiz.llm.base.load import LanguageModel, base_model
from llmquiz.llm.base.memory import check_fits, estimate
from llmquiz.llm.model.decoder import Decoder
from llmquiz.llm.train.device import fused_adamw, maybe_compile, note_peak
from llmquiz.llm.train.distributed import Ranks, launch, wrap
from llmquiz.llm.train.loss import language_model_loss, next_token_loss
from llmquiz.llm.train.trainer import Trainer
from llmquiz.llm.tune.codes import codes
from llmquiz.llm.tune.lora import (
    LoRAConfig,
    LoRALinear,
    adaptable,
    adapter_parameters,
    add_lora,
    base_only,
    lora_layers,
    use_adapter,
)
from llmquiz.llm.tune.merging import merge, unmerge
from llmquiz.llm.tune.saving import WEIGHTS, load_adapter, save_adapter
from llmquiz.llm.tune.targets import ALL_LINEAR

SIDE, TEACHER_RANKS, TEACHER_STEPS = 32, (1, 2, 4), 300
RANKS = (1, 4, 16)
FULL, OURS, PEFT = "full", "ours", "peft"
FULL_LR, LORA_LR = 1e-3, 5e-3  # an adapter takes several times the rate of its base
PEFT_STEPS, TURNS = 20, 5
SAME = 1e-4  # of the largest logit

Batch = tuple[Tensor, Tensor]


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    tell = partial(report.point, "loss")
    if params.adapter:
        examine_adapter(params, report)
    imitate_teacher(params, report)
    language = base_model(params.model, device=params.device)
    size = count(language.model.parameters())
    check_fits(estimate(2 * size, trainable=size), params.device, what="full fine-tuning beside the base")
    full, tuned, model = launch(tune_all, params, processes=params.processes, device=params.device, tell=tell)
    note_peak(params.device, report.note)
    alone = Course(Ranks(0, 1, params.device), tell, params, language)
    report_counts(language.model, tuned, full, params, report)
    report_equalities(alone, model, report)
    report_peft(alone, model, report)


@torch.no_grad()
def examine_adapter(params: Params, report: Report) -> None:
    """The adapter of somebody's file: what it is, how much it changes each layer, and whether merging keeps what it
    computes."""
    language = base_model(params.model, device=params.device)
    model, (inputs, _) = language.model, codes(language.tokenizer, params.seed, params.device)
    config = load_adapter(model, Path(params.adapter).expanduser())
    report.note(f"{params.adapter}: {config}, {count(adapter_parameters(model))} parameters")
    sizes = {path: size_of_update(layer) for path, layer in model.named_modules() if isinstance(layer, LoRALinear)}
    rows = [(path, weight, update, update / weight) for path, (weight, update) in sizes.items()]
    report.table("the given adapter, layer by layer", ("layer", "‖W‖", "‖update‖", "ratio"), rows)
    report.claim("one-model", measured=merge_error(model, inputs), expected=0.0, tolerance=SAME)


def size_of_update(layer: LoRALinear) -> tuple[float, float]:
    """Frobenius norms of the base's weight and of what the acting adapter adds: scale B A, and more with DoRA."""
    weight = layer.base.weight
    return float(weight.norm()), float((layer.weight - weight).norm())


def merge_error(model: nn.Module, inputs: Tensor) -> float:
    """How far the logits move when the acting adapter is merged; it is taken out again."""
    beside = model(inputs)
    merge(model)
    merged = model(inputs)
    unmerge(model)
    return relative_error(merged, beside)


def imitate_teacher(params: Params, report: Report) -> None:
    """Train updates of each rank towards one whose squared singular values halve: rank r leaves 2^-r of it.

    The inputs are the unit vectors, so that the loss is the squared distance between the matrices, exactly.
    """
    generator = torch.Generator().manual_seed(params.seed)
    left, right = (torch.linalg.qr(torch.randn(SIDE, SIDE, generator=generator)).Q for _ in range(2))
    squares = 0.5 ** torch.arange(SIDE)  # sigma^2: 1, 1/2, 1/4, ...
    update = (left * squares.sqrt() @ right).to(params.device)
    units = torch.eye(SIDE, device=params.device)
    worst, rows = 0.0, []
    for rank in sorted({*TEACHER_RANKS, min(params.rank, SIDE // 4)}):
        student = nn.Sequential(nn.Linear(SIDE, SIDE, bias=False, device=params.device))
        target = student(units).detach() + update.T
        add_lora(student, LoRAConfig(rank, rank, ("0",)), seed=params.seed)
        left_over = distance_after_training(student, units, target) / float(squares.sum())
        floor = float(squares[rank:].sum() / squares.sum())
        rows.append((rank, left_over, floor))
        worst = max(worst, abs(left_over / floor - 1))
        if rank == min(params.rank, SIDE // 4):
            report.metric("share_left", left_over)
    report.table("linear teacher: share of the update that is left", ("rank", "LoRA", "floor"), rows)
    report.claim("eckart-young", measured=worst, expected=0.0, tolerance=0.05)


def distance_after_training(student: nn.Module, units: Tensor, target: Tensor) -> float:
    """The squared distance that is left when Adam no longer gets nearer."""
    optimizer = torch.optim.Adam(adapter_parameters(student), lr=0.05)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, TEACHER_STEPS)
    for _ in range(TEACHER_STEPS):
        loss = (student(units) - target).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
    return float((student(units) - target).detach().square().sum())


@dataclass(frozen=True, slots=True)
class Tuned:
    """What one training took and gave."""

    losses: list[float]
    trainable: int
    optimizer_bytes: int
    file_bytes: int = 0
    first_gradients: tuple[float, float] = (0.0, 0.0)  # the largest of A and of B before the first step


@dataclass(frozen=True, slots=True)
class Course:
    """What every training has in common: who takes part, whom to tell, the base and the batch."""

    ranks: Ranks
    tell: Callable[..., object]
    params: Params
    language: LanguageModel

    @property
    def batch(self) -> Batch:
        """The codes, whole."""
        return codes(self.language.tokenizer, self.params.seed, self.ranks.device)

    def train(self, model: nn.Module, weights: list[nn.Parameter], lr: float, series: str) -> Tuned:
        """Steps of AdamW on the batch, each process with its rows; the losses are the curve `series`."""
        shared = wrap(maybe_compile(model, self.params.compile), self.ranks)
        optimizer = fused_adamw(weights, lr=lr, device=self.ranks.device)
        trainer = Trainer(shared, optimizer, precision=self.params.precision)
        losses, batch = [], self.ranks.share(self.batch)
        for step in range(self.params.steps):
            losses.append(trainer.step([batch]).loss)
            self.tell(step, losses[-1], series)
        moments = sum(state[key].nbytes for state in optimizer.state.values() for key in ("exp_avg", "exp_avg_sq"))
        return Tuned(losses, count(weights), moments)


def tune_all(ranks: Ranks, tell: Callable[..., object], params: Params) -> tuple[Tuned, dict[int, Tuned], nn.Module]:
    """The whole model, then an adapter of each rank, all on one base that is given back. Every process runs this."""
    torch.set_num_threads(1)
    course = Course(ranks, tell, params, base_model(params.model, device=ranks.device))
    model = copy.deepcopy(course.language.model).requires_grad_(True)
    full = course.train(model, list(model.parameters()), FULL_LR, FULL)
    full = replace(full, file_bytes=weight_bytes(model))
    model = course.language.model
    tuned = {rank: tune(course, model, rank) for rank in sorted({*RANKS, params.rank})}
    return (
        full,
        tuned,
        copy.deepcopy(model) if params.compile else model,
    )  # a copy computes as the base does, to the bit


def tune(course: Course, model: nn.Module, rank: int) -> Tuned:
    """One more adapter on the same base, alpha twice the rank."""
    name = name_of(rank)
    add_lora(model, config_of(rank, course.params), name, seed=course.params.seed)
    gradients = first_gradients(model, name, course.batch)
    tuned = course.train(model, adapter_parameters(model, name), LORA_LR, name)
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(model, folder, name)
        file_bytes = (Path(folder) / WEIGHTS).stat().st_size
    return replace(tuned, file_bytes=file_bytes, first_gradients=gradients)


def first_gradients(model: nn.Module, name: str, batch: Batch) -> tuple[float, float]:
    """The largest gradient of A and of B."""
    loss, _ = language_model_loss(model, batch)
    torch.autograd.backward(loss)
    updates = [layer.updates()[name] for layer in lora_layers(model) if name in layer.updates()]
    largest = [max(float(getattr(update, factor).grad.abs().max()) for update in updates) for factor in "AB"]
    model.zero_grad()
    return largest[0], largest[1]


def name_of(rank: int) -> str:
    return f"r={rank}"


def config_of(rank: int, params: Params) -> LoRAConfig:
    return LoRAConfig(rank, 2.0 * rank, ALL_LINEAR if params.targets == ALL_LINEAR else ("q_proj", "v_proj"))


def count(weights: Iterable[nn.Parameter]) -> int:
    return sum(weight.numel() for weight in weights)


def weight_bytes(model: nn.Module) -> int:
    return sum(weight.nbytes for weight in model.parameters())


def report_counts(base: nn.Module, tuned: dict[int, Tuned], full: Tuned, params: Params, report: Report) -> None:
    """Parameters, bytes and losses of every way to train, and the formulas that they follow."""
    base_bytes, chosen = weight_bytes(base), tuned[params.rank]
    rows = [
        (name, run.trainable, run.optimizer_bytes / 2**20, run.file_bytes / 2**20, run.losses[0], run.losses[-1])
        for name, run in [(FULL, full), *((name_of(rank), run) for rank, run in tuned.items())]
    ]
    columns = ("trained", "parameters", "optimizer MiB", "file MiB", "first loss", "last loss")
    report.table("codes learned by heart", columns, rows)
    layers = adaptable(base, config_of(params.rank, params).targets).values()
    expected = params.rank * sum(layer.in_features + layer.out_features for layer in layers)
    report.metric("trainable", chosen.trainable)
    report.claim("parameter-count", measured=chosen.trainable, expected=expected)
    report.metric("optimizer_bytes", chosen.optimizer_bytes)
    report.claim("optimizer-bytes", measured=chosen.optimizer_bytes, expected=8 * chosen.trainable)
    report.metric("optimizer_ratio", full.optimizer_bytes / chosen.optimizer_bytes)
    report.metric("file_share", chosen.file_bytes / base_bytes)
    report.metric("loss_full", full.losses[-1])
    report.metric("loss_lora", chosen.losses[-1])
    report.claim("b-moves-first", measured=max(run.first_gradients[0] for run in tuned.values()), expected=0.0)
    least = min(run.first_gradients[1] for run in tuned.values())
    report.claim("b-moves-first", measured=least, expected=1e-6, relation="at least")
    low, high = tuned[min(RANKS)], tuned[max(RANKS)]
    report.claim("more-rank-faster", measured=fmean(low.losses) / fmean(high.losses), expected=1.2, relation="at least")
    report.claim("low-rank-learns", measured=low.losses[-1] / low.losses[0], expected=0.5, relation="at most")


@torch.no_grad()
def report_equalities(course: Course, model: nn.Module, report: Report) -> None:
    """One model three ways, with its adapter beside the weights, merged, and from its file; and the base without it."""
    base, (inputs, _), name = course.language.model, course.batch, name_of(course.params.rank)
    use_adapter(model, name)
    merged = merge_error(model, inputs)
    report.metric("merge_error", merged)
    report.claim("one-model", measured=merged, expected=0.0, tolerance=SAME)
    with base_only(model):
        report.claim("base-untouched", measured=relative_error(model(inputs), base(inputs)), expected=0.0)
    report.claim("frozen-first", measured=reload_error(model, name, base, inputs), expected=0.0)
    with torch.enable_grad():
        careless = tune_carelessly(course)
    lost = reload_error(careless, name, base, inputs)
    report.metric("reload_error_unfrozen", lost)
    report.claim("frozen-first", measured=lost, expected=0.01, relation="at least")


def tune_carelessly(course: Course) -> nn.Module:
    """The same adapter on a model whose norms train along."""
    model, name = copy.deepcopy(course.language.model), name_of(course.params.rank)
    add_lora(model, config_of(course.params.rank, course.params), name, seed=course.params.seed)
    weights = adapter_parameters(model, name)
    weights += [weight for path, weight in model.named_parameters() if "norm" in path]
    for weight in weights:
        weight.requires_grad_(True)
    course.train(model, weights, LORA_LR, "norms not frozen")
    return model


def reload_error(model: nn.Module, name: str, base: nn.Module, inputs: Tensor) -> float:
    """How far the logits move when the adapter is saved and put on a fresh base."""
    fresh = copy.deepcopy(base)
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(model, folder, name)
        load_adapter(fresh, folder)
    return relative_error(fresh(inputs), model(inputs))


def relative_error(found: Tensor, expected: Tensor) -> float:
    """The largest difference as a part of the largest logit."""
    return float((found - expected).abs().max() / expected.abs().max())


def report_peft(course: Course, model: nn.Module, report: Report) -> None:
    """The trained adapter in peft on transformers' model gives the same logits, a new one the same losses; and the
    ratio of the steps' times."""
    from llmquiz.llm.tune import reference  # takes seconds to import, where the process is not warm

    base, batch, params = course.language.model, course.batch, course.params
    if not reference.PEFT or not isinstance(base, Decoder):
        report.note("peft is not installed, or the model is not of the Llama family: the comparison was left out")
        return
    with torch.no_grad():
        theirs = in_peft(base, model, name_of(params.rank))
        error = relative_error(theirs(batch[0]).logits, model(batch[0]))
    report.claim("one-model", measured=error, expected=0.0, tolerance=SAME)
    ours = copy.deepcopy(base)
    add_lora(ours, config_of(params.rank, params), seed=params.seed)
    theirs = in_peft(base, ours, "default")
    make = partial(Trainer, precision=params.precision)
    trainers = {OURS: make(ours, adamw(ours)), PEFT: make(theirs, adamw(theirs), loss_fn=loss_in_transformers)}
    steps = min(PEFT_STEPS, params.steps)
    losses = {name: [trainer.step([batch]).loss for _ in range(steps)] for name, trainer in trainers.items()}
    report.metric("peft_loss_gap", max(abs(a - b) for a, b in zip(losses[OURS], losses[PEFT], strict=True)))
    works = {name: partial(trainer.step, [batch]) for name, trainer in trainers.items()}
    clock = quiet_clock(params.device, 1)
    seconds = interleaved_medians(works, device=params.device, repeats=TURNS, clock=clock)
    report.metric("speedup_over_peft", seconds[PEFT] / seconds[OURS])
    rows = [(name, losses[name][0], losses[name][-1], 1e3 * seconds[name]) for name in trainers]
    report.table(f"{steps} steps beside peft", ("library", "first loss", "last loss", "ms a step"), rows)


def in_peft(base: Decoder, model: nn.Module, name: str) -> nn.Module:
    """The adapter `name` of `model` on the same base, as peft reads its file."""
    from llmquiz.llm.tune import reference

    with tempfile.TemporaryDirectory() as folder:
        save_adapter(model, folder, name)
        theirs: nn.Module = reference.load_in_peft(base, Path(folder))
    return theirs


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return fused_adamw(weights, lr=1e-3, device=weights[0].device)


def loss_in_transformers(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    return next_token_loss(model(batch[0]).logits, batch[1])
