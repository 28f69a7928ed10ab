"""A task with a checker, and a policy that learns from groups of its own completions by any of the four methods.

Shapes: Q prompts, G completions of each, K digits, N tokens of a completion, B = Q G.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llmquiz.lab.sdk import Params, Report
from llmquiz.llm.align.group import (
    clip_fraction,
    dapo_loss,
    dr_grpo_advantages,
    dr_grpo_loss,
    grpo_advantages,
    grpo_loss,
    informative_groups,
    rloo_advantages,
    rloo_loss,
)
from llmquiz.llm.align.logprobs import entropy, kl_divergence, sequence_logprobs, token_logprobs
from llmquiz.llm.align.rollout import Rollout, sample
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder
from llmquiz.llm.train.device import fused_adamw

DIGITS, SEPARATOR, END = 10, 10, 11
HABITS = 3  # of the demonstrations: upwards, downwards, a copy
METHODS = ("grpo", "dr-grpo", "dapo", "rloo")
UPDATES = 2  # of the policy by each rollout: at the first every ratio is 1, so that only later ones can be clipped
EVALUATED = 128  # prompts
COLUMNS = ("reward", "pass@{G}", "equal groups", "entropy", "KL", "tokens", "clipped", "rollouts")


@dataclass(frozen=True, slots=True)
class Size:
    """How long the digits are, and the model and its training; prompts are those of one step."""

    digits: int
    config: ModelConfig
    demonstrations: int
    steps: int
    prompts: int


def _size(digits: int, hidden: int, layers: int, demonstrations: int, steps: int, prompts: int) -> Size:
    config = ModelConfig(DIGITS + 2, hidden, layers, 4, 4, hidden // 4, 3 * hidden, max_position=64)
    return Size(digits, config, demonstrations, steps, prompts)


SIZES = {
    "tiny": _size(2, 32, 1, 60, 20, 8),
    "small": _size(4, 64, 1, 170, 36, 16),
    "base": _size(8, 256, 4, 600, 200, 64),
}


@dataclass(frozen=True, slots=True)
class Lab:
    """What all methods share: the model that they start from, which is their reference, the settings, and where chance
    comes from: `generator` makes prompts on the CPU, `sampler` draws tokens on the device."""

    reference: Decoder
    size: Size
    params: Params
    generator: torch.Generator
    sampler: torch.Generator

    @property
    def group(self) -> int:
        """G."""
        return int(self.params.group)

    @property
    def longest(self) -> int:
        """Tokens that a completion may have: one too many digits is a mistake that can be made."""
        return self.size.digits + 2

    @property
    def columns(self) -> tuple[str, ...]:
        """Of an evaluation, and of what the training took."""
        return tuple(column.format(G=self.group) for column in COLUMNS)

    @property
    def end(self) -> int | None:
        """The token that ends a completion."""
        return END

    @property
    def evaluated(self) -> int:
        """Prompts of an evaluation."""
        return EVALUATED

    def label(self, method: str) -> str:
        """Of a curve."""
        return method

    def prompts(self, count: int) -> Tensor:  # [Q, K + 1]
        """Different digits in random order, and the separator."""
        digits = torch.rand(count, DIGITS, generator=self.generator).argsort(dim=1)[:, : self.size.digits]
        return torch.cat((digits, torch.full((count, 1), SEPARATOR)), dim=1).to(self.params.device)

    def demonstrations(self, count: int) -> Tensor:  # [Q, K + 1 + K + 1]
        """Prompts with what one of the teachers does."""
        prompts = self.prompts(count)
        upwards = prompts[:, :-1].sort(dim=1).values
        answers = torch.stack((upwards, upwards.flip(1), prompts[:, :-1]))  # [HABITS, Q, K]
        habit = torch.randint(HABITS, (count,), generator=self.generator).to(prompts.device)
        answer = answers[habit, torch.arange(count, device=prompts.device)]
        return torch.cat((prompts, answer, torch.full_like(answer[:, :1], END)), dim=1)

    def groups(self, policy: Decoder, count: int) -> Rollout:
        """G completions of each of `count` prompts."""
        prompts = self.prompts(count).repeat_interleave(self.group, dim=0)
        return sample(policy, prompts, self.longest, eos=self.end, generator=self.sampler)

    def rewards(self, rollout: Rollout) -> Tensor:  # [Q, G]
        """1 for the digits sorted upwards and nothing else, or 0."""
        K = self.size.digits
        right = rollout.mask.sum(dim=1) == K + 1  # the end came where it belongs
        if right.any():
            wanted = rollout.tokens[:, :K].sort(dim=1).values
            right = right & (rollout.completions[:, :K] == wanted).all(dim=1)
        return right.float().view(-1, self.group)

    def logprobs(self, policy: Decoder, rollout: Rollout) -> Tensor:  # [B, N]
        """Of the completions under `policy`, in one pass."""
        return token_logprobs(policy(rollout.tokens), rollout.tokens)[:, rollout.prompt_length - 1 :]


def advantages_of(name: str, rewards: Tensor) -> Tensor:  # [Q, G] -> [Q, G]
    """Each method's own."""
    ways = {"grpo": grpo_advantages, "dapo": grpo_advantages, "dr-grpo": dr_grpo_advantages, "rloo": rloo_advantages}
    return ways[name](rewards)


def loss_of(name: str, lab: Lab, new: Tensor, rollout: Rollout, advantages: Tensor, reference: Tensor) -> Tensor:
    """Each method's own; `advantages` [B], log-probs [B, N]. RLOO's KL is in its rewards already."""
    terms = (new, rollout.logprobs, advantages, rollout.mask)
    if name == "grpo":
        return grpo_loss(*terms, reference_logprobs=reference, beta=lab.params.beta)
    if name == "dr-grpo":
        return dr_grpo_loss(*terms, longest=lab.longest)
    return dapo_loss(*terms) if name == "dapo" else rloo_loss(*terms)


@dataclass(slots=True)
class Spent:
    """What training took: completions drawn, the part of the tokens that were clipped, and groups without signal."""

    rollouts: int = 0
    clipped: float = 0.0
    wasted_groups: int = 0


def train(lab: Lab, name: str, report: Report) -> tuple[Decoder, Spent]:
    """The policy after the steps of one method, from the reference."""
    frozen = {id(weight): weight for weight in lab.reference.parameters() if not weight.requires_grad}
    policy, spent = copy.deepcopy(lab.reference, frozen), Spent()  # what nobody trains is not copied
    optimizer = fused_adamw(policy.parameters(), lr=lab.params.learning_rate, device=lab.params.device)
    steps = lab.params.steps or lab.size.steps
    for step in report.progress(range(steps), unit="step", label=lab.label(name)):
        rollout, rewards, reward = collect(lab, policy, name)
        spent.rollouts += lab.size.prompts * lab.group * (2 if name == "dapo" else 1)
        spent.wasted_groups += int((~informative_groups(rewards)).sum())
        report.point("reward", x=step, y=reward, series=lab.label(name))
        if len(rewards) == 0:
            continue
        with torch.no_grad():
            reference = lab.logprobs(lab.reference, rollout)
        if name == "rloo":
            kl = sequence_logprobs(rollout.logprobs - reference, rollout.mask)
            rewards = rewards - lab.params.beta * kl.view_as(rewards)
        advantages = advantages_of(name, rewards).flatten()
        for _ in range(UPDATES):
            new = lab.logprobs(policy, rollout)
            loss = loss_of(name, lab, new, rollout, advantages, reference)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
        spent.clipped += float(clip_fraction(new.detach(), rollout.logprobs, advantages, rollout.mask)) / steps
    return policy, spent


def collect(lab: Lab, policy: Decoder, name: str) -> tuple[Rollout, Tensor, float]:
    """Groups for one step, their rewards [Q, G], and the mean reward of all that were drawn.

    DAPO draws twice as many prompts and keeps as many as the others have, of those whose rewards differ.
    """
    wanted = lab.size.prompts
    rollout = lab.groups(policy, 2 * wanted if name == "dapo" else wanted)
    rewards = lab.rewards(rollout)
    if name != "dapo":
        return rollout, rewards, float(rewards.mean())
    kept = informative_groups(rewards) & (informative_groups(rewards).cumsum(0) <= wanted)
    return rollout.rows(kept.repeat_interleave(lab.group)), rewards[kept], float(rewards.mean())


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A policy on fresh prompts; entropy in nats a token, KL to the reference in nats a completion, both exact at each
    position that was visited."""

    reward: float
    best_of_group: float
    equal_groups: float
    entropy: float
    kl: float
    tokens: float

    def cells(self) -> tuple[float, ...]:
        return (self.reward, self.best_of_group, self.equal_groups, self.entropy, self.kl, self.tokens)


@torch.no_grad()
def evaluate(lab: Lab, policy: Decoder) -> Evaluation:
    rollout = lab.groups(policy, lab.evaluated)
    rewards, mask, start = lab.rewards(rollout), rollout.mask, rollout.prompt_length - 1
    logits, reference = (model(rollout.tokens)[:, start:-1] for model in (policy, lab.reference))  # [B, N, V]
    return Evaluation(
        reward=float(rewards.mean()),
        best_of_group=float(rewards.amax(dim=1).mean()),
        equal_groups=1 - float(informative_groups(rewards).float().mean()),
        entropy=float((entropy(logits) * mask).sum() / mask.sum()),
        kl=float((kl_divergence(logits, reference) * mask).sum(dim=1).mean()),
        tokens=float(mask.sum(dim=1).float().mean()),
    )


def first_step(lab: Lab, name: str, rollout: Rollout, rewards: Tensor) -> tuple[float, float]:
    """The loss of a method at the reference, and the norm of its gradient."""
    lab.reference.zero_grad()
    new = lab.logprobs(lab.reference, rollout)
    loss = loss_of(name, lab, new, rollout, advantages_of(name, rewards).flatten(), new.detach())
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.get_total_norm([weight.grad for weight in lab.reference.parameters() if weight.grad is not None])
    lab.reference.zero_grad()
    return float(loss.detach()), float(norm)
