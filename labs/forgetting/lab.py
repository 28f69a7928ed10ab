"""Catastrophic forgetting: what a model loses while it learns something else.

The base model is tuned on the log of a machine, which looks like nothing that it knows. Meanwhile its loss on its own
old texts is measured. Three arms make the same number of steps: all weights, all weights with a little old text in each
batch (replay), and a LoRA adapter. The first drifts away from the old texts because nothing in its loss holds it there;
replay puts that into the loss; the adapter drifts as well, but the old weights are still below it, untouched.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TypeAlias

import torch
from torch import Tensor, nn

from llmquiz.lab.sdk import Params, Report
from llmquiz.llm.base.load import base_model
from llmquiz.llm.base.memory import check_fits, estimate
from llmquiz.llm.base.tokenizer import Tokenizer
from llmquiz.llm.data.corpus import documents
from llmquiz.llm.train.device import fused_adamw
from llmquiz.llm.train.loss import language_model_loss
from llmquiz.llm.train.schedule import warmup_cosine
from llmquiz.llm.train.trainer import Trainer
from llmquiz.llm.tune.lora import LoRAConfig, add_lora, use_adapter
from llmquiz.llm.tune.sft import evaluating

FULL, REPLAY, LORA, OFF = "all weights", "with replay", "LoRA", "LoRA, adapter off"
LEARNING_RATES = {FULL: 2e-3, REPLAY: 2e-3, LORA: 5e-3}  # adapters start at zero and bear more
WARMUP = 3
EXAM = 16  # rows of each domain that no arm has seen
LOOKS = 5  # times that an arm's old loss is measured on the way

LEVELS = {"INFO": "ok", "WARN": "slow", "FAIL": "dead"}
PARTS = ("disk", "link", "fan", "core", "node", "port")

Batch: TypeAlias = tuple[Tensor, Tensor]  # inputs and labels [B, T]


@dataclass(frozen=True, slots=True)
class Losses:
    """Nats per token on unseen texts."""

    old: float
    new: float


@dataclass(frozen=True, slots=True)
class Arm:
    """What came of a way to tune, and how many numbers it trained."""

    losses: Losses
    trained: int


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    tokenizer = base_model(params.model, device=params.device).tokenizer
    bench = Bench(params, report, tokenizer)
    model, _ = bench.fresh_model(FULL)
    before = bench.examine(model)
    arms = {name: bench.tune(name) for name in LEARNING_RATES}
    arms[OFF] = Arm(bench.examine_without_adapter(), 0)
    report_arms(before, arms, report)


class Bench:
    """The two domains, cut into rows, and a way to tune on them."""

    def __init__(self, params: Params, report: Report, tokenizer: Tokenizer) -> None:
        self.params, self.report, self.tokenizer = params, report, tokenizer
        self.exams = {name: self._rows(texts, EXAM) for name, texts in domains(f"exam {params.seed}").items()}
        self.adapted: nn.Module = nn.Module()

    def fresh_model(self, name: str) -> tuple[nn.Module, list[nn.Parameter]]:
        """The base model anew, with what this arm trains."""
        model = base_model(self.params.model, device=self.params.device).model
        if name == LORA:
            add_lora(model, LoRAConfig(rank=self.params.rank, alpha=2 * self.params.rank))
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        total, numbers = (sum(weight.numel() for weight in weights) for weights in (model.parameters(), trained))
        check_fits(estimate(total, trainable=numbers), self.params.device, what="training")
        return model, trained

    def tune(self, name: str) -> Arm:
        """Steps on the new domain; the loss on the old one is drawn as it goes."""
        model, trained = self.fresh_model(name)
        steps, rate = self.params.steps, LEARNING_RATES[name]
        schedule = partial(warmup_cosine, warmup=WARMUP, total=steps, peak=rate)
        trainer = Trainer(model.train(), fused_adamw(trained, lr=rate, device=self.params.device), schedule=schedule)
        texts = domains(f"train {self.params.seed}")
        replayed = max(1, round(self.params.replay * self.params.batch)) if name == REPLAY else 0
        looks = {round(steps * look / LOOKS) for look in range(LOOKS + 1)}
        self.report.point("old_loss", 0, self.loss(model, "old"), name)
        for step in self.report.progress(range(1, steps + 1), unit="step", label=name):
            batches = [self._rows(texts["new"], self.params.batch - replayed)]
            trainer.step([*batches, self._rows(texts["old"], replayed)] if replayed else batches)
            if step in looks:
                self.report.point("old_loss", step, self.loss(model, "old"), name)
        if name == LORA:
            self.adapted = model
        return Arm(self.examine(model), sum(weight.numel() for weight in trained))

    def examine(self, model: nn.Module) -> Losses:
        return Losses(self.loss(model, "old"), self.loss(model, "new"))

    def examine_without_adapter(self) -> Losses:
        use_adapter(self.adapted, None)
        return self.examine(self.adapted)

    @torch.no_grad()
    def loss(self, model: nn.Module, domain: str) -> float:
        with evaluating(model):
            nll, tokens = language_model_loss(model, self.exams[domain])
        return float(nll / tokens)

    def _rows(self, texts: Iterator[str], count: int) -> Batch:
        """Rows of `length` tokens, each from the start of a text on; what is left of the last one is dropped."""
        begin, end = self.tokenizer.token_id("<|bos|>"), self.tokenizer.token_id("<|eos|>")
        rows: list[list[int]] = []
        while len(rows) < count:
            row: list[int] = []
            while len(row) <= self.params.length:
                row += [begin, *self.tokenizer.encode(next(texts), special=True), end]
            rows.append(row[: self.params.length + 1])
        tokens = torch.tensor(rows, device=self.params.device)
        return tokens[:, :-1], tokens[:, 1:]


def domains(seed: str) -> dict[str, Iterator[str]]:
    """Endless texts: the corpus that the shipped model was trained on, and the log of a machine."""
    return {"old": (document.text for document in documents(Random(seed).getrandbits(32))), "new": logs(Random(seed))}


def logs(rng: Random) -> Iterator[str]:
    """Lines whose state and code follow from level and part; the rest is chance."""
    while True:
        lines = []
        for _ in range(4):
            level, part = rng.choice(list(LEVELS)), rng.choice(PARTS)
            code = 3 * PARTS.index(part) + list(LEVELS).index(level)
            clock = f"{rng.randrange(24):02d}:{rng.randrange(60):02d}"
            lines.append(f"[{clock}] {level} {part}/{rng.randrange(10)} state={LEVELS[level]} code={code}")
        yield "\n".join(lines)


def report_arms(before: Losses, arms: dict[str, Arm], report: Report) -> None:
    """What each arm learned and what it forgot, against the model before."""
    forgotten = {name: arm.losses.old - before.old for name, arm in arms.items()}
    learned = {name: before.new - arm.losses.new for name, arm in arms.items()}
    report.metric("forgotten", forgotten[FULL])
    report.metric("forgotten_replay", forgotten[REPLAY])
    report.metric("forgotten_lora", forgotten[LORA])
    report.metric("forgotten_off", forgotten[OFF])
    report.metric("kept_by_replay", 100 * (1 - forgotten[REPLAY] / forgotten[FULL]))
    report.claim("forgets", measured=forgotten[FULL], expected=0.5, relation="at least")
    report.claim("replay", measured=forgotten[REPLAY], expected=forgotten[FULL] / 2, relation="at most")
    report.claim("lora-forgets-less", measured=forgotten[LORA], expected=forgotten[FULL], relation="at most")
    report.claim("off-restores", measured=forgotten[OFF], expected=0.0, tolerance=1e-6)
    for name in LEARNING_RATES:
        report.claim("learned", measured=learned[name], expected=before.new / 2, relation="at least")
    rows: list[tuple[object, ...]] = [("before", None, before.old, before.new, None)]
    for name, arm in arms.items():
        rows.append((name, arm.trained, arm.losses.old, arm.losses.new, forgotten[name]))
    columns = ("trained", "parameters", "old nats/token", "new nats/token", "forgotten")
    report.table("loss on unseen texts", columns, rows)
