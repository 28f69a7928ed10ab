"""Distillation: soft labels, and the temperature squared in front of them.

The language is a Markov source of order two: the next symbol depends on the two before it by a known table. So the best
possible loss, the source's entropy, is known exactly, and a model's loss is measured without sampling noise: its gap to
the entropy is the mean KL(source || model) over held-out contexts.

A teacher learns from plenty of text. Students of a quarter of its parameters see the same few sequences in the same
order for the same number of steps, and differ in their labels alone. A user's own model, if one is named, is the
teacher of two more, on text; the entropy of text is not known, so they are measured against their teacher.

Shapes: N sequences, L tokens, V symbols.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.lab.sdk import Params, Report, growth_exponent
from llmquiz.llm.base.guest import corpus_rows
from llmquiz.llm.base.load import LanguageModel, base_model
from llmquiz.llm.base.memory import check_fits, estimate
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder, random_decoder
from llmquiz.llm.train.device import fused_adamw
from llmquiz.llm.train.distill import distillation_loss
from llmquiz.llm.train.loss import Loss, language_model_loss, next_token_loss
from llmquiz.llm.train.schedule import warmup_cosine
from llmquiz.llm.train.trainer import Trainer

HARD, COOL, SOFT = "hard labels", "soft labels, T = 1", "soft labels, T"
MIXED, UNSCALED = "half hard, half soft, T", "the same without T²"
TEACHER, PLENTY = "teacher", "hard labels, the teacher's text"
SHARPNESS = 2.0  # standard deviation of the source's logits: a few likely symbols after each pair
TEACHER_SEQUENCES, EXAM_SEQUENCES = 4000, 128
EVALUATIONS = 10  # points of a curve
PEAK_RATE = 1e-2
TEMPERATURES = (1, 2, 4, 8, 16, 32)
COLD, HOT = 4, 16  # between which the gradient's fall is measured

Batch: TypeAlias = tuple[Tensor, Tensor]  # inputs and labels, [B, L] each
BatchLoss: TypeAlias = Callable[[nn.Module, Batch], Loss]


@dataclass(frozen=True)
class Size:
    """How much of everything; widths are multiples of a head's 16."""

    symbols: int
    length: int
    teacher_width: int
    student_width: int
    teacher_steps: int
    student_steps: int
    batch: int = 16


SIZES = {
    "tiny": Size(6, 16, 32, 16, 40, 20),
    "small": Size(12, 32, 64, 32, 200, 120),
    "base": Size(24, 64, 256, 64, 2000, 1000, batch=64),
}


class Source:
    """P(next | two symbols before), drawn once, [V, V, V]."""

    def __init__(self, symbols: int, generator: torch.Generator) -> None:
        self.table = (SHARPNESS * torch.randn(symbols, symbols, symbols, generator=generator)).softmax(-1)
        self.generator = generator

    def sample(self, num_sequences: int, length: int) -> Tensor:  # [N, L + 1]
        """Sequences of `length` + 1 symbols: inputs and labels overlap by `length`."""
        V = self.table.size(0)
        symbols = [torch.randint(V, (num_sequences,), generator=self.generator) for _ in range(2)]
        while len(symbols) < length + 3:
            rows = self.table[symbols[-2], symbols[-1]]  # [N, V]
            symbols.append(torch.multinomial(rows, 1, generator=self.generator)[:, 0])
        return torch.stack(symbols[2:], dim=1)


class Exam:
    """Held-out contexts with the true distribution of what follows."""

    def __init__(self, source: Source, num_sequences: int, length: int, device: str) -> None:
        sequences = source.sample(num_sequences, length)
        self.inputs = sequences[:, :-1].to(device)
        self.truth = source.table[sequences[:, :-2], sequences[:, 1:-1]].to(device)  # [N, L - 1, V]

    @torch.no_grad()
    def gap(self, model: nn.Module) -> float:
        """Nats per token above the entropy of the source: KL(source || model)."""
        predicted = model(self.inputs)[:, 1:].log_softmax(-1)  # the first position sees one symbol only
        return float(F.kl_div(predicted, self.truth, reduction="none").sum(-1).mean())

    def entropy(self) -> float:
        """Nats per token that no model can go below."""
        return float(-torch.xlogy(self.truth, self.truth).sum(-1).mean())


def run(params: Params, report: Report) -> None:
    """A teacher, its students, and the gradient of what they learn from."""
    torch.set_num_threads(1)
    size = SIZES[params.size]
    guest = load_guest(size, params) if params.model else None
    generator = torch.Generator().manual_seed(params.seed)
    source = Source(size.symbols, generator)
    exam = Exam(source, EXAM_SEQUENCES, size.length, params.device)
    school = School(size, exam, params, report)

    plenty = source.sample(TEACHER_SEQUENCES, size.length)
    few = plenty[: params.sequences]
    teacher = school.decoder(size.teacher_width)
    gaps = {TEACHER: school.teach(TEACHER, teacher, language_model_loss, plenty, size.teacher_steps)}
    gaps |= school.students(params.temperature, teacher.eval(), few, plenty)
    report_gaps(gaps, exam.entropy(), report)
    report_gradients(school.decoder(size.student_width), teacher, exam, report)
    if guest is not None:
        report_guest(guest, school, params, report)


class School:
    """Trains every model in the same way and puts it before the same exam."""

    def __init__(self, size: Size, exam: Exam, params: Params, report: Report) -> None:
        self.size, self.exam, self.device, self.seed, self.report = size, exam, params.device, params.seed, report

    def decoder(self, width: int) -> Decoder:
        """A two-layer decoder with seeded weights: students start as twins."""
        config = two_layers(self.size.symbols, width, self.size.length)
        return random_decoder(config, seed=self.seed).to(self.device)

    def teach(self, name: str, model: Decoder, loss: BatchLoss, sequences: Tensor, steps: int) -> float:
        """Train `model` on `sequences` [N, L + 1] and give its gap."""
        for step in self.train(name, model, loss, sequences, steps):
            if step % max(1, steps // EVALUATIONS) == 0:
                self.report.point("gap", x=step, y=self.exam.gap(model), series=name)
        return self.exam.gap(model.eval())

    def train(self, name: str, model: Decoder, loss: BatchLoss, sequences: Tensor, steps: int) -> Iterator[int]:
        """Each step when it is done; models of equal data draw equal batches."""
        schedule = partial(warmup_cosine, warmup=steps // 10, total=steps, peak=PEAK_RATE)
        optimizer = fused_adamw(model.parameters(), lr=PEAK_RATE, device=self.device)
        trainer = Trainer(model.train(), optimizer, loss_fn=loss, schedule=schedule)
        generator = torch.Generator().manual_seed(self.seed)
        for step in self.report.progress(range(1, steps + 1), unit="step", label=name):
            drawn = sequences[torch.randint(len(sequences), (self.size.batch,), generator=generator)].to(self.device)
            trainer.step([(drawn[:, :-1], drawn[:, 1:])])
            yield step

    def students(self, temperature: float, teacher: Decoder, few: Tensor, plenty: Tensor) -> dict[str, float]:
        """The gaps of twins that differ in their labels; the last one in its text."""
        labels = partial(mixed_labels, teacher=teacher, temperature=temperature)
        lessons: dict[str, tuple[BatchLoss, Tensor]] = {
            HARD: (language_model_loss, few),
            COOL: (partial(labels, soft=1.0, temperature=1.0), few),
            SOFT: (partial(labels, soft=1.0), few),
            MIXED: (partial(labels, soft=0.5), few),
            UNSCALED: (partial(labels, soft=0.5, compensated=False), few),
            PLENTY: (language_model_loss, plenty),
        }
        width, steps = self.size.student_width, self.size.student_steps
        return {name: self.teach(name, self.decoder(width), *lesson, steps) for name, lesson in lessons.items()}


def two_layers(vocab_size: int, width: int, length: int) -> ModelConfig:
    heads = width // 16
    return ModelConfig(vocab_size, width, 2, heads, heads, 16, 2 * width, max_position=length)


def mixed_labels(
    model: nn.Module, batch: Batch, *, teacher: nn.Module, temperature: float, soft: float, compensated: bool = True
) -> Loss:
    """`soft` parts of the teacher's distribution, the rest what came next; the T² left out unless `compensated`."""
    inputs, labels = batch
    with torch.no_grad():
        told = teacher(inputs)
    logits = model(inputs)
    divergence, tokens = distillation_loss(logits, told, temperature=temperature)
    if not compensated:
        divergence = divergence / temperature**2
    return soft * divergence + (1 - soft) * next_token_loss(logits, labels)[0], tokens


def report_gaps(gaps: dict[str, float], entropy: float, report: Report) -> None:
    """Who came how near to the source."""
    rows = [(name, gap, entropy + gap) for name, gap in gaps.items()]
    report.table("gap to the entropy of the source", ("learned from", "gap (nats)", "loss (nats)"), rows)
    report.metric("gap", gaps[SOFT])
    report.metric("gap_ratio", gaps[HARD] / gaps[SOFT])
    report.claim("soft-labels", measured=gaps[HARD] / gaps[SOFT], expected=1.2, relation="at least")
    report.metric("compensation_ratio", gaps[UNSCALED] / gaps[MIXED])
    report.claim("compensation", measured=gaps[UNSCALED] / gaps[MIXED], expected=1.1, relation="at least")


def report_gradients(student: Decoder, teacher: Decoder, exam: Exam, report: Report) -> None:
    """How the gradient of the divergence by the logits falls with the temperature, before any T² repairs it."""
    told, z = teacher(exam.inputs).detach(), student(exam.inputs).detach().requires_grad_()
    centred = (z - told).detach()
    centred = centred - centred.mean(-1, keepdim=True)
    norms, rows = {}, []
    for T in TEMPERATURES:
        loss, tokens = distillation_loss(z, told, temperature=T)
        (gradient,) = torch.autograd.grad(loss / tokens / T**2, z)
        norms[T] = float(gradient.norm())
        likeness = float(F.cosine_similarity(gradient.flatten(), centred.flatten(), dim=0))
        rows.append((T, norms[T], T**2 * norms[T], likeness))
    columns = ("T", "gradient of KL", "gradient of T² KL", "cosine to the difference of logits")
    report.table("gradient by the student's logits", columns, rows)
    report.metric("gradient_fall", norms[COLD] / norms[HOT])
    exponent = growth_exponent([(T, norm) for T, norm in norms.items() if T >= COLD])
    report.claim("inverse-square", measured=exponent, expected=-2.0, tolerance=0.25)
    report.claim("matches-logits", measured=rows[-1][-1], expected=0.98, relation="at least")
    report_reductions(z.detach(), told, report)


def report_reductions(student: Tensor, teacher: Tensor, report: Report) -> None:
    """One divergence, as torch's reductions give it: only the first is per token."""
    pointwise = F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), log_target=True, reduction="none")
    loss, tokens = distillation_loss(student, teacher)
    reductions = {
        "sum over the vocabulary, mean over tokens": float(loss / tokens),
        "F.kl_div's 'mean': over the vocabulary too": float(pointwise.mean()),
        "F.kl_div's 'batchmean': per sequence": float(pointwise.sum() / len(pointwise)),
    }
    rows = [(name, value, value / float(loss / tokens)) for name, value in reductions.items()]
    report.table("one divergence, three reductions", ("reduction", "nats", "of the first"), rows)


def load_guest(size: Size, params: Params) -> LanguageModel:
    """The user's model, and a look whether its students fit beside it: logits over its vocabulary are most of it."""
    guest = base_model(params.model, device=params.device)
    student = two_layers(vocabulary(guest, params.device), size.student_width, size.length)
    tokens = 3 * size.batch * size.length  # of logits: the student's, the teacher's, and what lies between them
    needed = estimate(student.num_parameters(), trainable=student.num_parameters(), config=student, tokens=tokens)
    check_fits(needed, params.device, what=f"teaching a student of {guest.name}")
    return LanguageModel(guest.model, guest.tokenizer, Path(params.model).name or guest.name)


@torch.no_grad()
def vocabulary(guest: LanguageModel, device: str) -> int:
    """Logits of a token: often more than the tokenizer has ids, since embeddings are padded to a round number."""
    logits: Tensor = guest.model(torch.zeros(1, 1, dtype=torch.long, device=device))
    return logits.size(-1)


def report_guest(guest: LanguageModel, school: School, params: Params, report: Report) -> None:
    """Twins that learn the same text from the model's distributions, or from what came next."""
    size = school.size
    text = corpus_rows(guest.tokenizer, params.sequences, size.length, params.seed)
    unseen = corpus_rows(guest.tokenizer, EXAM_SEQUENCES, size.length, params.seed + 10_000).to(params.device)
    soft = partial(mixed_labels, teacher=guest.model, temperature=params.temperature, soft=1.0)
    config = two_layers(vocabulary(guest, params.device), size.student_width, size.length)
    rows = [(f"{guest.name}, the teacher", *compare_on_text(guest.model, guest.model, unseen, size.batch))]
    for name, loss in ((HARD, language_model_loss), (SOFT, soft)):
        student = random_decoder(config, seed=params.seed).to(params.device)
        for _ in school.train(f"{guest.name}: {name}", student, loss, text, size.student_steps):
            pass
        rows.append((name, *compare_on_text(student.eval(), guest.model, unseen, size.batch)))
    columns = ("learned from", "KL from the teacher (nats)", "loss on unseen text (nats)")
    report.table(f"students of {guest.name}, {size.student_steps} steps on text", columns, rows)


@torch.no_grad()
def compare_on_text(model: nn.Module, teacher: nn.Module, sequences: Tensor, batch: int) -> tuple[float, float]:
    """Nats per token: KL(teacher || model), and the model's loss on what came next."""
    divergence = nll = tokens = 0.0
    for rows in torch.split(sequences, batch):
        logits = model(rows[:, :-1])
        divergence += float(distillation_loss(logits, teacher(rows[:, :-1]))[0])
        loss, count = next_token_loss(logits, rows[:, 1:])
        nll, tokens = nll + float(loss), tokens + float(count)
    return divergence / tokens, nll / tokens
