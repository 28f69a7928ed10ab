"""A reward model and its noisy labels.

Answers to a shared prompt are worth the mean value of their tokens, which only the lab knows. Models see pairs and who
won, and a share eps of these labels is wrong. So each model has two accuracies: against labels like those it learned
from, which is all that can be measured in practice, and against the truth.

Two more models read their score in the wrong place. A backbone that the user names learns from a few pairs in words
instead, whose labels are right. Shapes: B pairs, T tokens of prompt and answer with padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import torch
from torch import Tensor

from llmquiz.lab.sdk import LabError, Params, Report
from llmquiz.llm.align.pairs import PAIRS, UNSEEN_PAIRS, Pair, pair_batches
from llmquiz.llm.align.reward import RewardModel, evaluating, pairwise_loss
from llmquiz.llm.base.load import LanguageModel, base_model
from llmquiz.llm.base.memory import check_fits, estimate
from llmquiz.llm.base.tokenizer import Tokenizer
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder, random_decoder
from llmquiz.llm.train.device import fused_adamw
from llmquiz.llm.tune.lora import LoRAConfig, adapter_parameters, add_lora

VOCABULARY, PROMPT, SHORTEST, LONGEST = 16, 2, 3, 8  # tokens; the last three of a prompt and of an answer
CLEAR = 0.3  # least difference in worth of a pair, in standard deviations of a token's value
TEST_PAIRS = 4000
MORE_PADDING = 8
OWN_STEPS, OWN_BATCH = 24, 4  # on the user's backbone; pairs in words a step
OWN_RATE, OWN_HEAD_RATE = 5e-4, 0.1  # of LoRA; of the head, shared by its weights, as a step of Adam moves each
OWN_ROUNDING = 1e-3  # of a score, relative to their spread: dozens of layers in fp32
Pooling: TypeAlias = Callable[[RewardModel, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is to do."""

    hidden: int
    layers: int
    batch: int
    steps: int
    learning_rate: float


SIZES = {
    "tiny": Size(16, 1, 32, 40, 1e-2),
    "small": Size(32, 1, 64, 120, 5e-3),
    "base": Size(256, 6, 512, 400, 5e-4),
}


@dataclass(frozen=True, slots=True)
class Pairs:
    """Two answers to each prompt, the better one first, as tokens [2, B, T] and their mask."""

    tokens: Tensor
    mask: Tensor


def last_token(model: RewardModel, tokens: Tensor, mask: Tensor) -> Tensor:  # [B, T] twice -> [B]
    """The right place."""
    scores: Tensor = model(tokens, mask)
    return scores


def first_token(model: RewardModel, tokens: Tensor, mask: Tensor) -> Tensor:
    """It has seen nothing but itself."""
    return model.token_scores(tokens, mask)[:, 0]


def last_column(model: RewardModel, tokens: Tensor, mask: Tensor) -> Tensor:
    """Often padding, which has seen everything, other padding too."""
    return model.token_scores(tokens)[:, -1]


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    language = load_backbone(params) if params.model else None  # first of all, as it may be refused
    size, world = SIZES[params.size], World(params)
    test = world.pairs(TEST_PAIRS)
    arms = [Arm(f"noise {noise:.2g}", noise, last_token) for noise in (0.0, params.noise / 3, params.noise)]
    arms += [Arm("first token", 0.0, first_token), Arm("last column", 0.0, last_column)]
    for arm in arms:
        arm.train(size, world, params, report)
    rows = [arm.judge(test, world) for arm in arms]
    columns = (
        "model",
        "label noise",
        "accuracy, noisy",
        "ceiling",
        "accuracy, true",
        "loss",
        "entropy",
        "padding shift",
    )
    report.table("on new pairs", columns, [row.cells() for row in rows])
    report_noise(rows[:3], report)
    report_places(rows, report)
    report_overflow(params.device, report)
    if language is not None:
        train_own_model(language, world, params, report)


class World:
    """Prompts, answers, and what they are worth."""

    def __init__(self, params: Params) -> None:
        self.generator = torch.Generator().manual_seed(params.seed)
        self.device = params.device
        self.values = torch.randn(VOCABULARY, generator=self.generator)
        self.values = (self.values - self.values.mean()) / self.values.std()

    def pairs(self, count: int) -> Pairs:
        """`count` pairs that differ clearly, each padded on the right to the longest answer there may be."""
        rows = 4 * count
        answers = torch.randint(VOCABULARY, (2, rows, LONGEST), generator=self.generator)
        lengths = torch.randint(SHORTEST, LONGEST + 1, (2, rows, 1), generator=self.generator)
        real = torch.arange(LONGEST) < lengths
        worth = torch.where(real, self.values[answers], 0.0).sum(-1) / lengths.squeeze(-1)  # [2, rows]
        clear = ((worth[0] - worth[1]).abs() > CLEAR).nonzero().squeeze(1)[:count]
        order = (worth[0] < worth[1]).long()[clear]  # 1 where the second is the better one
        order = torch.stack((order, 1 - order))  # [2, B]
        prompts = torch.randint(VOCABULARY, (1, count, PROMPT), generator=self.generator).expand(2, -1, -1)
        tokens = torch.cat((prompts, answers[order, clear]), dim=-1)
        mask = torch.cat((torch.ones_like(prompts, dtype=torch.bool), real[order, clear]), dim=-1)
        return Pairs(torch.where(mask, tokens, 0).to(self.device), mask.to(self.device))

    def signs(self, count: int, noise: float) -> Tensor:  # -> [B]
        """+1 where the label is right, -1 where it is flipped."""
        return (1 - 2 * (torch.rand(count, generator=self.generator) < noise).float()).to(self.device)


@dataclass(frozen=True, slots=True)
class Row:
    """What an arm measured on new pairs; the shift is of a score by more padding, of the scores' standard deviation."""

    name: str
    noise: float
    agreement: float
    accuracy: float
    first_loss: float
    loss: float
    padding_shift: float

    @property
    def entropy(self) -> float:
        """Of a label, in nats."""
        return sum(p * math.log(1 / p) for p in (self.noise, 1 - self.noise) if p > 0)

    def cells(self) -> tuple[object, ...]:
        ceiling = 1 - self.noise
        return (
            self.name,
            self.noise,
            self.agreement,
            ceiling,
            self.accuracy,
            self.loss,
            self.entropy,
            self.padding_shift,
        )


class Arm:
    """A reward model, the noise of its labels, and where its score is read."""

    def __init__(self, name: str, noise: float, pooling: Pooling) -> None:
        self.name, self.noise, self.pooling = name, noise, pooling
        self.first_loss = math.nan

    def train(self, size: Size, world: World, params: Params, report: Report) -> None:
        shape = ModelConfig(VOCABULARY, size.hidden, size.layers, 2, 2, size.hidden // 2, 3 * size.hidden)
        self.model = RewardModel(random_decoder(shape, params.seed).to(params.device)).train()
        optimizer = torch.optim.AdamW(self.model.parameters(), weight_decay=0.0)
        for step in report.progress(range(size.steps), unit="step", label=self.name):
            for group in optimizer.param_groups:
                group["lr"] = size.learning_rate * (1 - step / size.steps)
            loss = self.loss(world.pairs(size.batch), world.signs(size.batch, self.noise))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if step == 0:
                self.first_loss = loss.item()
            report.point("loss", x=step, y=loss.item(), series=self.name)

    def scores(self, pairs: Pairs) -> Tensor:  # -> [2, B]
        """Both answers in one batch, as both must be read the same way."""
        return self.pooling(self.model, pairs.tokens.flatten(0, 1), pairs.mask.flatten(0, 1)).view(2, -1)

    def loss(self, pairs: Pairs, signs: Tensor) -> Tensor:
        """With the answers swapped where the label is flipped."""
        better, worse = self.scores(pairs)
        flipped = signs < 0
        return pairwise_loss(torch.where(flipped, worse, better), torch.where(flipped, better, worse))

    @torch.no_grad()
    def judge(self, test: Pairs, world: World) -> Row:
        signs = world.signs(test.mask.size(1), self.noise)
        with evaluating(self.model):
            scores = self.scores(test)
            loss = self.loss(test, signs).item()
            padding = (0, MORE_PADDING)
            padded = Pairs(*(torch.nn.functional.pad(x, padding) for x in (test.tokens, test.mask)))
            shift = (self.scores(padded) - scores).abs().mean() / scores.std().clamp(min=1e-9)
        difference = scores[0] - scores[1]
        accuracy, agreement = (((x > 0).float() + 0.5 * (x == 0)).mean() for x in (difference, difference * signs))
        return Row(self.name, self.noise, float(agreement), float(accuracy), self.first_loss, loss, float(shift))


def report_noise(rows: list[Row], report: Report) -> None:
    """What noise does to what can be seen, and how little to what is learned."""
    noisiest = rows[-1]
    report.metric("first_loss", rows[0].first_loss)
    report.metric("accuracy_noisy", noisiest.agreement)
    report.metric("accuracy_clean", noisiest.accuracy)
    report.metric("loss", noisiest.loss)
    report.metric("loss_floor", noisiest.entropy)
    sampling = 3 * math.sqrt(0.25 / TEST_PAIRS)  # three standard errors of a share
    for row in rows:
        a, eps = row.accuracy, row.noise
        report.claim("starts-at-ln2", measured=row.first_loss, expected=math.log(2), tolerance=1e-5)
        report.claim("noise-ceiling", measured=row.agreement, expected=1 - eps, tolerance=sampling, relation="at most")
        report.claim(
            "noisy-mixture", measured=row.agreement, expected=a * (1 - eps) + (1 - a) * eps, tolerance=sampling
        )
        report.claim("entropy-floor", measured=row.loss, expected=row.entropy, tolerance=sampling, relation="at least")
    report.claim("better-than-its-labels", measured=noisiest.accuracy, expected=1 - noisiest.noise, relation="at least")


def report_places(rows: list[Row], report: Report) -> None:
    """Where the score is read."""
    last, first, column = rows[0], rows[-2], rows[-1]
    report.metric("first_token_loss", first.loss)
    report.claim("first-token-is-blind", measured=first.loss, expected=math.log(2), tolerance=1e-5)
    report.metric("padding_shift", last.padding_shift)
    report.claim("padding-invariant", measured=last.padding_shift, expected=0.0, tolerance=1e-4)
    report.metric("padding_shift_last_column", column.padding_shift)
    report.claim("last-column-is-not", measured=column.padding_shift, expected=0.02, relation="at least")


def report_overflow(device: str, report: Report) -> None:
    """The same formula, computed in two ways."""
    margins = torch.arange(1.0, 201.0, device=device)
    overflown = (-torch.log(torch.sigmoid(-margins))).isinf()
    report.metric("overflow_margin", margins[overflown][0])
    report.claim("log-of-sigmoid-is-not", measured=margins[overflown][0], expected=96.0, tolerance=10.0)
    safe = pairwise_loss(torch.tensor([-1000.0], device=device), torch.zeros(1, device=device))
    report.claim("logsigmoid-is-finite", measured=safe, expected=1000.0)


def load_backbone(params: Params) -> LanguageModel:
    """The model that the user names, if it can be a backbone here."""
    language = base_model(params.model, device=params.device)
    if not isinstance(language.model, Decoder):
        raise LabError(
            "a reward model reads hidden states, which our decoder alone gives; use a model of the Llama family"
        )
    return language


def train_own_model(language: LanguageModel, world: World, params: Params, report: Report) -> None:
    """The user's backbone with LoRA and a new head, on pairs in words."""
    backbone = cast(Decoder, language.model)
    groups = {
        name: in_words(pairs, language.tokenizer, params.device)
        for name, pairs in (("learned", PAIRS), ("unseen", UNSEEN_PAIRS))
    }
    learned = groups["learned"]
    trained = add_lora(backbone, LoRAConfig(), seed=params.seed) + backbone.config.hidden_size
    tokens = learned.tokens[:, :OWN_BATCH].numel()
    needed = estimate(trained, trainable=trained, config=backbone.config, tokens=tokens)
    check_fits(needed, params.device, what=f"LoRA beside {language.name}")
    arm = Arm("your model", 0.0, last_token)
    arm.model = RewardModel(backbone)
    before = {name: arm.judge(pairs, world) for name, pairs in groups.items()}
    head = {"params": arm.model.score.parameters(), "lr": OWN_HEAD_RATE / backbone.config.hidden_size}
    optimizer = fused_adamw([{"params": adapter_parameters(backbone)}, head], lr=OWN_RATE, device=params.device)
    for step in report.progress(range(OWN_STEPS), unit="step", label=language.name):
        start = step * OWN_BATCH % len(PAIRS)
        part = slice(start, start + OWN_BATCH)
        batch = Pairs(learned.tokens[:, part], learned.mask[:, part])
        loss = arm.loss(batch, world.signs(batch.mask.size(1), noise=0.0))
        report.point("loss", x=step, y=loss.item(), series=arm.name)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    rows = []
    for name, pairs in groups.items():
        first, last = before[name], arm.judge(pairs, world)
        report.claim("starts-at-ln2", measured=first.loss, expected=math.log(2), tolerance=1e-5)
        report.claim("padding-invariant", measured=last.padding_shift, expected=0.0, tolerance=OWN_ROUNDING)
        count = pairs.mask.size(1)
        rows.append((f"{count} {name}", first.loss, last.loss, first.accuracy, last.accuracy, last.padding_shift))
    columns = ("pairs", "first loss", "loss after", "accuracy", "after", "padding shift")
    report.table("your model, LoRA and a new head", columns, rows)


def in_words(pairs: Sequence[Pair], tokenizer: Tokenizer, device: str) -> Pairs:
    """Pairs of texts as the arms take them."""
    (batch,) = pair_batches(pairs, tokenizer, len(pairs), device)
    return Pairs(*(rows.view(2, len(pairs), -1) for rows in (batch.tokens, batch.real)))
