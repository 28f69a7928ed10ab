"""DPO and its family, on preferences whose best policy is known.

A small decoder writes a few letters after a prompt of one letter. A hidden reward scores what it wrote; pairs of its
own completions are labelled by that reward through the model of Bradley and Terry, P(a beats b) = sigmoid(r_a - r_b).
There are so few completions that the whole policy fits in a table: KL and expected reward are exact, and so is the
policy that DPO is after, ref e^(r / beta) / Z.

Pairs are drawn afresh at every step, as if there were no end of data: what is left is the loss, not overfitting.
A model that the user names learns from a few pairs in words instead, with LoRA: its base is the reference.
Shapes: X prompts (one a letter), N letters of a completion, C = X^N completions, B pairs. Log-probs in nats.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from llmquiz.lab.sdk import Params, Report
from llmquiz.llm.align.logprobs import token_logprobs
from llmquiz.llm.align.pairs import PAIRS, UNSEEN_PAIRS, PairBatch, pair_batches, pair_logprobs
from llmquiz.llm.align.preference import dpo_loss, ipo_loss, kto_kl, kto_loss, orpo_loss, simpo_loss
from llmquiz.llm.base.load import LanguageModel, base_model
from llmquiz.llm.base.memory import check_fits, estimate
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder, random_decoder
from llmquiz.llm.train.device import fused_adamw
from llmquiz.llm.tune.lora import LoRAConfig, adapter_parameters, add_lora, base_only

LEARNING_RATE, WARMUP = 6e-3, 10
OWN_RATE, OWN_STEPS, OWN_BATCH = 5e-4, 24, 4  # of LoRA on the user's model; pairs in words a step
FRONTIER = [2.0**k for k in range(4, -4, -1)]  # betas of the closed form that are drawn
LOOKS = 12  # points of each curve


@dataclass(frozen=True, slots=True)
class Size:
    """How many letters there are and how many a completion has; the model's width; pairs a step and steps."""

    letters: int
    length: int
    hidden: int
    pairs: int
    steps: int


SIZES = {"tiny": Size(3, 2, 32, 300, 60), "small": Size(5, 3, 64, 1000, 130), "base": Size(6, 4, 256, 16_000, 1000)}


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    language = base_model(params.model, device=params.device) if params.model else None  # first: it may be refused
    task = prepare(params)
    for beta in FRONTIER:
        best = task.optimum(beta)
        report.point("reward", x=task.kl(best), y=task.reward(best), series="optimum")
    arms = list_arms(task, params.beta)
    outcomes = [train(task, arm, report) for arm in arms]
    report_tables(task, arms, outcomes, report)
    report_claims(task, arms, outcomes, report)
    if language is not None:
        tune_own_model(language, params, report)


@dataclass(frozen=True, slots=True)
class Task:
    """The reference with its table of log-probs [X, C], the hidden rewards [X, C], and how likely each pair is to come,
    first one chosen [X, C, C]."""

    model: Decoder
    size: Size
    steps: int
    reference: Tensor
    rewards: Tensor
    pairs: Tensor
    generator: torch.Generator

    def optimum(self, beta: float) -> Tensor:  # [X, C]
        """log of ref e^(r / beta) / Z: nothing has a larger E[r] - beta KL(policy || ref)."""
        return (self.reference + self.rewards / beta).log_softmax(dim=1)

    def kl(self, log_p: Tensor, log_q: Tensor | None = None) -> float:
        """KL(p || q), q the reference unless told, over whole completions; the mean over prompts."""
        log_q = self.reference if log_q is None else log_q
        return float((log_p.exp() * (log_p - log_q)).sum(dim=1).mean())

    def reward(self, log_p: Tensor) -> float:
        return float((log_p.exp() * self.rewards).sum(dim=1).mean())


def prepare(params: Params) -> Task:
    """A seeded random decoder as reference, and rewards that are a sum over neighbouring letters, bent into (-2, 2)."""
    size = SIZES[params.size]
    X, N = size.letters, size.length
    generator = torch.Generator().manual_seed(params.seed)
    config = ModelConfig(X, size.hidden, 1, 4, 4, size.hidden // 4, 3 * size.hidden, max_position=16)
    model = random_decoder(config, params.seed)
    with torch.no_grad():
        model.lm_head.weight *= 0.5  # flatter, so that the pairs cover every completion
        reference = completion_logprobs(model, N)
    liking = torch.randn(X, X, generator=generator)
    texts = every_text(X, N + 1)
    scores = liking[texts[:, :-1], texts[:, 1:]].sum(dim=1).view(X, -1)
    p = reference.exp()
    centred = scores - (p * scores).sum(dim=1, keepdim=True)
    rewards = 2 * torch.tanh(centred / (p * centred**2).sum(dim=1, keepdim=True).sqrt() / 2)
    pairs = 2 * p[:, :, None] * p[:, None, :] * torch.sigmoid(rewards[:, :, None] - rewards[:, None, :])
    steps = params.steps or size.steps
    reference, rewards, pairs = (table.to(params.device) for table in (reference, rewards, pairs))
    return Task(model.to(params.device), size, steps, reference, rewards, pairs, generator)


def every_text(letters: int, length: int) -> Tensor:  # [letters^length, length]
    """All texts, in the order of a number's digits: so [X * C, N + 1] is a table [X, C]."""
    texts: Tensor = torch.cartesian_prod(*[torch.arange(letters)] * length)
    return texts.view(-1, length)


def completion_logprobs(model: Decoder, length: int) -> Tensor:  # [X, C]
    """log p(completion | prompt) of every completion of every prompt, from one pass over all but their last letters."""
    letters = model.config.vocab_size
    texts = every_text(letters, length).to(model.embed_tokens.weight.device)  # prompt and all letters but the last
    logits = model(texts)
    before = token_logprobs(logits, texts).sum(dim=1, keepdim=True)  # [X^N, 1]
    table: Tensor = before + logits[:, -1].log_softmax(-1)
    return table.view(letters, -1)


@dataclass(frozen=True, slots=True)
class Batch:
    """Log-probs [B] of chosen and rejected completions under policy and reference, [2B] of completions under prompts
    that are not theirs (KTO), and how many letters they have."""

    chosen: Tensor
    rejected: Tensor
    reference_chosen: Tensor
    reference_rejected: Tensor
    mismatched: Tensor
    reference_mismatched: Tensor
    length: int

    @property
    def sums(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.chosen, self.rejected, self.reference_chosen, self.reference_rejected

    @property
    def means(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        chosen, rejected, reference_chosen, reference_rejected = (logprob / self.length for logprob in self.sums)
        return chosen, rejected, reference_chosen, reference_rejected


@dataclass(frozen=True, slots=True)
class Arm:
    """A loss with its beta, and the policy [X, C] that it should end at, where that is known."""

    name: str
    beta: float
    loss: Callable[[Batch, float], Tensor]
    optimum: Tensor | None = None

    @property
    def title(self) -> str:
        return f"{self.name}, beta {self.beta:g}"


def dpo(batch: Batch, beta: float) -> Tensor:
    return dpo_loss(*batch.sums, beta=beta)


def dpo_on_means(batch: Batch, beta: float) -> Tensor:
    """Wrong: means where sums belong."""
    return dpo_loss(*batch.means, beta=beta)


def dpo_without_reference(batch: Batch, beta: float) -> Tensor:
    """Wrong: the reference forgotten."""
    return dpo_loss(batch.chosen, batch.rejected, 0 * batch.chosen, 0 * batch.rejected, beta=beta)


def ipo(batch: Batch, beta: float) -> Tensor:
    return ipo_loss(*batch.means, beta=beta)


def kto(batch: Batch, beta: float) -> Tensor:
    good = torch.ones_like(batch.chosen, dtype=torch.bool)
    kl = kto_kl(batch.mismatched, batch.reference_mismatched)
    policy, reference = (batch.chosen, batch.rejected), (batch.reference_chosen, batch.reference_rejected)
    return kto_loss(torch.cat(policy), torch.cat(reference), torch.cat((good, ~good)), kl, beta=beta)


def simpo(batch: Batch, beta: float) -> Tensor:
    return simpo_loss(*batch.means[:2], beta=beta)


def orpo(batch: Batch, beta: float) -> Tensor:
    return orpo_loss(*batch.means[:2], beta=beta)


SWEEP = (4.0, 2.0, 1.0, 0.5)  # of DPO's beta, in units of the parameter; wrong ways are compared at the second


def list_arms(task: Task, beta: float) -> list[Arm]:
    """DPO at several betas, its relatives, and two mistakes, each with its optimum where there is a formula for it."""
    p, r, N = task.reference.exp(), task.rewards, task.size.length
    wins = (torch.sigmoid(r[:, :, None] - r[:, None, :]) * p[:, None, :]).sum(dim=2)  # P(beats the reference) [X, C]
    middle = SWEEP[1] * beta
    return [
        *(Arm("DPO", scale * beta, dpo, task.optimum(scale * beta)) for scale in SWEEP),
        Arm("IPO", beta, ipo, (task.reference + N * wins / beta).log_softmax(dim=1)),
        Arm("KTO", beta, kto),
        Arm("SimPO", 4 * beta, simpo),
        Arm("ORPO", beta, orpo),
        Arm("DPO on means", middle, dpo_on_means, task.optimum(middle / N)),
        Arm("DPO, no reference", middle, dpo_without_reference, (r / middle).log_softmax(dim=1)),
    ]


@dataclass(frozen=True, slots=True)
class Outcome:
    """An arm's policy [X, C] after training, its loss before the first step, and how much that loss changes if the
    reference is another."""

    policy: Tensor
    first_loss: float
    sensitivity: float


def train(task: Task, arm: Arm, report: Report) -> Outcome:
    """From the reference, over fresh pairs at every step."""
    policy = copy.deepcopy(task.model)
    optimizer = fused_adamw(policy.parameters(), lr=LEARNING_RATE, device=task.reference.device)
    first_loss = sensitivity = 0.0
    for step in report.progress(range(task.steps), unit="step", label=arm.title):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1.0, (step + 1) / WARMUP) * (1 - step / task.steps)
        table, rows = completion_logprobs(policy, task.size.length), draw_pairs(task)
        loss = arm.loss(gather(table, task.reference, rows, task.size.length), arm.beta).mean()
        if step == 0:
            first_loss = float(loss.detach())
            other = arm.loss(gather(table, task.reference.flip(1), rows, task.size.length), arm.beta).mean()
            sensitivity = abs(float(other.detach()) - first_loss)
        if step % -(-task.steps // LOOKS) == 0:
            report.point("reward", x=task.kl(table.detach()), y=task.reward(table.detach()), series=arm.name)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        final = completion_logprobs(policy, task.size.length)
    report.point("reward", x=task.kl(final), y=task.reward(final), series=arm.name)
    return Outcome(final, first_loss, sensitivity)


def draw_pairs(task: Task) -> tuple[Tensor, Tensor, Tensor]:
    """Prompts [B] with two samples of the reference each, the one that was chosen first."""
    X, device = len(task.reference), task.reference.device
    prompts = torch.arange(X, device=device).repeat(task.size.pairs // X)
    probabilities = task.reference.exp().cpu()[prompts.cpu()]
    samples = torch.multinomial(probabilities, 2, replacement=True, generator=task.generator).to(device)  # [B, 2]
    first, second = task.rewards[prompts, samples[:, 0]], task.rewards[prompts, samples[:, 1]]
    coin = torch.rand(len(prompts), generator=task.generator).to(device)
    first_wins = coin < torch.sigmoid(first - second)
    return (
        prompts,
        torch.where(first_wins, samples[:, 0], samples[:, 1]),
        torch.where(first_wins, samples[:, 1], samples[:, 0]),
    )


def gather(table: Tensor, reference: Tensor, rows: tuple[Tensor, Tensor, Tensor], length: int) -> Batch:
    """The log-probs of a batch from the tables of policy and reference."""
    prompts, chosen, rejected = rows
    others, completions = prompts.roll(1).repeat(2), torch.cat((chosen, rejected))
    return Batch(
        chosen=table[prompts, chosen],
        rejected=table[prompts, rejected],
        reference_chosen=reference[prompts, chosen],
        reference_rejected=reference[prompts, rejected],
        mismatched=table[others, completions],
        reference_mismatched=reference[others, completions],
        length=length,
    )


@dataclass(frozen=True, slots=True)
class Shifts:
    """How far training moved the log-probs of chosen and rejected completions (nats, over all pairs as they come), and
    how often the arm's own reward ranks a pair as its label does."""

    chosen: float
    rejected: float
    accuracy: float


def measure_shifts(task: Task, outcome: Outcome) -> Shifts:
    moved = outcome.policy - task.reference
    reward = moved if outcome.sensitivity > 0 else outcome.policy
    return Shifts(
        chosen=float((task.pairs.sum(dim=2) * moved).sum(dim=1).mean()),
        rejected=float((task.pairs.sum(dim=1) * moved).sum(dim=1).mean()),
        accuracy=float((task.pairs * (reward[:, :, None] > reward[:, None, :])).sum(dim=(1, 2)).mean()),
    )


def report_tables(task: Task, arms: list[Arm], outcomes: list[Outcome], report: Report) -> None:
    """What training did to the pairs, and where it left the policy."""
    pairs, ends = [], []
    for arm, outcome in zip(arms, outcomes, strict=True):
        shifts, policy = measure_shifts(task, outcome), outcome.policy
        away = None if arm.optimum is None else task.kl(policy, arm.optimum)
        pairs.append((arm.name, arm.beta, outcome.first_loss, shifts.accuracy, shifts.chosen, shifts.rejected))
        ends.append((arm.name, arm.beta, task.kl(policy), task.reward(policy), away, outcome.sensitivity > 0))
    report.table("pairs", ("loss", "beta", "first loss", "accuracy", "chosen", "rejected"), pairs)
    report.table("policies", ("loss", "beta", "KL", "reward", "KL to its optimum", "reference"), ends)
    best = (task.pairs * (task.rewards[:, :, None] > task.rewards[:, None, :])).sum(dim=(1, 2)).mean()
    report.note(
        f"labels are noisy: the hidden reward itself would rank {float(best):.1%} of the pairs as they are labelled"
    )


def report_claims(task: Task, arms: list[Arm], outcomes: list[Outcome], report: Report) -> None:
    sweep = outcomes[: len(SWEEP)]
    by_name = dict(zip((arm.name for arm in arms[len(SWEEP) :]), outcomes[len(SWEEP) :], strict=True))
    middle, smallest = sweep[1], measure_shifts(task, sweep[-1])
    report.metric("first_loss", middle.first_loss)
    report.claim("first-loss", measured=middle.first_loss, expected=math.log(2), tolerance=1e-5)
    report.metric("chosen_shift", smallest.chosen)
    report.metric("rejected_shift", smallest.rejected)
    report.claim("chosen-falls", measured=smallest.chosen, expected=-0.5, relation="at most")
    report.claim("chosen-falls", measured=smallest.chosen - smallest.rejected, expected=0.5, relation="at least")
    kls = [task.kl(outcome.policy) for outcome in sweep]
    report.metric("kl", kls[SWEEP.index(1.0)])
    report.metric("kl_growth", kls[1] / kls[0])
    report.claim(
        "smaller-beta-more-kl", measured=min(b / a for a, b in pairwise(kls)), expected=1.3, relation="at least"
    )
    for arm, outcome in zip(arms[:2], sweep[:2], strict=True):
        part = task.kl(outcome.policy, arm.optimum) / task.kl(task.reference, arm.optimum)
        report.claim("closed-form", measured=part, expected=0.25, relation="at most")
    further = task.kl(by_name["DPO on means"].policy) / kls[1]
    report.metric("means_kl_ratio", further)
    report.claim("sums-not-means", measured=further, expected=2.0, relation="at least")
    lost, arm = by_name["DPO, no reference"], arms[-1]
    away = task.kl(lost.policy, arm.optimum), task.kl(lost.policy, arms[1].optimum)
    report.claim("reference-anchors", measured=away[0] / away[1], expected=0.7, relation="at most")
    free = [by_name[name] for name in ("SimPO", "ORPO")]
    report.claim("reference-free", measured=sum(outcome.sensitivity for outcome in free), expected=0.0)
    least = min(task.reward(outcome.policy) for outcome in free)
    report.claim("reference-free", measured=least, expected=0.15, relation="at least")


def tune_own_model(language: LanguageModel, params: Params, report: Report) -> None:
    """DPO of the user's model on pairs in words. It stays in evaluation mode: with dropout, the first loss would not be
    ln 2."""
    model = language.model
    trained = add_lora(model, LoRAConfig(), seed=params.seed)
    groups = {"learned": PAIRS, "unseen": UNSEEN_PAIRS}
    batches = {
        name: pair_batches(group, language.tokenizer, OWN_BATCH, params.device) for name, group in groups.items()
    }
    config = model.config if isinstance(model, Decoder) else None
    tokens = max(batch.tokens.numel() for batch in batches["learned"])
    needed = estimate(trained, trainable=trained, config=config, tokens=tokens)
    check_fits(needed, params.device, what=f"DPO with LoRA beside {language.name}")
    with base_only(model):
        references = {name: look(model, group) for name, group in batches.items()}
    before = {name: look(model, group) for name, group in batches.items()}
    optimizer = fused_adamw(adapter_parameters(model), lr=OWN_RATE, device=params.device)
    rounds = list(zip(batches["learned"], references["learned"], strict=True))
    for step in report.progress(range(params.steps or OWN_STEPS), unit="step", label=language.name):
        batch, reference = rounds[step % len(rounds)]
        policy = pair_logprobs(model, batch)
        chosen, rejected = (policy.detach() - reference).mean(dim=1)
        report.point("chosen_shift", x=step, y=chosen, series="your model")
        report.point("rejected_shift", x=step, y=rejected, series="your model")
        optimizer.zero_grad()
        dpo_loss(*policy, *reference, beta=params.beta).mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    rows = []
    for name, group in batches.items():
        states = (torch.cat(state, dim=1) for state in (references[name], before[name], look(model, group)))
        reference, start, end = states  # [2, B] each
        first, last = compare(start, reference, params.beta), compare(end, reference, params.beta)
        report.claim("first-loss", measured=first[0], expected=math.log(2), tolerance=1e-5)
        count = len(groups[name])
        rows += [(f"{count} {name}, before", *first), (f"{count} {name}, after", *last)]
    columns = ("pairs", "loss", "accuracy", "likelier", "margin", "chosen", "rejected")
    report.table("your model, DPO with LoRA", columns, rows)


@torch.no_grad()
def look(model: nn.Module, batches: list[PairBatch]) -> list[Tensor]:
    """log p of chosen and rejected completions [2, B] of each batch. Batches stay as training will see them: another
    padding would round otherwise."""
    return [pair_logprobs(model, batch) for batch in batches]


def compare(policy: Tensor, reference: Tensor, beta: float) -> tuple[float, ...]:  # [2, B] twice
    """DPO's loss; the share of pairs that its reward log(pi/ref) ranks right, a tie being half; the share whose chosen
    completion is the likelier one, which need not be the same, and the margin of its log p; how far both moved."""
    moved = policy - reference
    accuracy = (1 + (moved[0] - moved[1]).sign()).mean() / 2
    margin = policy[0] - policy[1]
    numbers = (dpo_loss(*policy, *reference, beta=beta).mean(), accuracy, (margin > 0).float().mean(), margin.mean())
    return tuple(map(float, (*numbers, *moved.mean(dim=1))))
