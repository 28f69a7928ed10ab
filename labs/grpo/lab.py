"""GRPO and its relatives: a model that sorts digits one time in four is rewarded by a checker until it sorts.

The model is first taught by demonstrations that disagree: of the same digits, some sort upwards, some downwards, some
only copy. Imitation makes it as good as its teachers, a mixture. The checker pays 1 for digits sorted upwards with an
end token after them, else 0. Each method starts from that same model and draws groups of completions.

A bandit of a few arms shows exactly what a sorting model can only hint at: where the KL to the reference is taken off
decides which policy is optimal.

With --model, the reader's own model learns sums, with adapters and the same code.

Shapes: Q prompts, G completions of each, K digits, N tokens of a completion.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from llmquiz.lab.sdk import LabError, Params, Report
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
from llmquiz.llm.align.sums import Sums
from llmquiz.llm.base.load import base_model
from llmquiz.llm.base.memory import check_fits, estimate
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder, random_decoder
from llmquiz.llm.train.device import fused_adamw
from llmquiz.llm.tune.lora import LoRAConfig, add_lora

DIGITS, SEPARATOR, END = 10, 10, 11
HABITS = 3  # of the demonstrations: upwards, downwards, a copy
METHODS = ("grpo", "dr-grpo", "dapo", "rloo")
UPDATES = 2  # of the policy by each rollout: at the first every ratio is 1, so that only later ones can be clipped
EVALUATED, PROBED = 128, 24  # prompts
COLUMNS = ("reward", "pass@{G}", "equal groups", "entropy", "KL", "tokens", "clipped", "rollouts")
LARGEST = {"tiny": 30, "small": 35, "base": 999}  # number in a sum for the reader's own model, by size


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


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    own = load_own(params) if params.model else None  # first of all: what cannot work is refused at once
    report_bandit(params, report)
    lab = prepare(params, report)
    report_first_step(lab, report)
    before = evaluate(lab, lab.reference)
    rows: list[tuple[object, ...]] = [("imitation", *before.cells(), None, None)]
    chosen = METHODS if params.method == "all" else (params.method,)
    after = []
    for name in chosen:
        policy, spent = train(lab, name, report)
        after.append(evaluate(lab, policy))
        rows.append((name, *after[-1].cells(), spent.clipped, spent.rollouts))
    report_learning(before, after, report)
    report.table(f"sorting {lab.size.digits} digits", ("method", *lab.columns), rows)
    if own:
        report_own(own, report)


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


@dataclass(frozen=True, slots=True)
class OwnLab(Lab):
    """The same with a model of the reader's own, whose adapters learn sums."""

    sums: Sums

    @property
    def longest(self) -> int:
        return self.sums.longest

    @property
    def end(self) -> int | None:
        return self.sums.end

    @property
    def evaluated(self) -> int:
        """As many as are trained on: what fits there fits here."""
        return self.size.prompts

    def label(self, method: str) -> str:
        return f"your model, {method}"

    def prompts(self, count: int) -> Tensor:  # [Q, P]
        return self.sums.draw(count, self.generator)

    def rewards(self, rollout: Rollout) -> Tensor:  # [Q, G]
        return self.sums.judge(rollout).view(-1, self.group)


def prepare(params: Params, report: Report) -> Lab:
    """A model taught by demonstrations that disagree."""
    size = SIZES[params.size]
    model = random_decoder(size.config, params.seed).to(params.device)
    generators = (torch.Generator(device).manual_seed(params.seed) for device in ("cpu", params.device))
    lab = Lab(model, size, params, *generators)
    optimizer = fused_adamw(model.parameters(), lr=1e-2, device=params.device)
    for step in report.progress(range(size.demonstrations), unit="step", label="demonstrations"):
        optimizer.param_groups[0]["lr"] = 1e-2 * min(1.0, (step + 1) / 10) * (1 - step / size.demonstrations)
        tokens = lab.demonstrations(128)
        loss = -token_logprobs(model(tokens), tokens)[:, size.digits :].mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return lab


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


def report_first_step(lab: Lab, report: Report) -> None:
    """Losses and gradients before any update; and those of a task that is too hard, or too easy."""
    rollout = lab.groups(lab.reference, PROBED)
    rewards = lab.rewards(rollout)
    rows: list[tuple[str, float | None, float]] = []
    for name in METHODS:
        loss, gradient = first_step(lab, name, rollout, rewards)
        rows.append((name, loss, gradient))
        if name == "grpo":
            report.metric("first_loss", loss)
            report.metric("first_gradient", gradient)
            report.claim("first-loss", measured=abs(loss), expected=0.0, tolerance=1e-5)
            report.claim("first-loss", measured=gradient, expected=0.01, relation="at least")
    for reward in (0.0, 1.0):
        gradient = max(first_step(lab, name, rollout, torch.full_like(rewards, reward))[1] for name in METHODS)
        rows.append((f"any, all rewards {reward:.0f}", None, gradient))
        report.claim("equal-groups", measured=gradient, expected=0.0, tolerance=1e-6)
    report.table("first step", ("method", "loss", "gradient norm"), rows)


def first_step(lab: Lab, name: str, rollout: Rollout, rewards: Tensor) -> tuple[float, float]:
    """The loss of a method at the reference, and the norm of its gradient."""
    lab.reference.zero_grad()
    new = lab.logprobs(lab.reference, rollout)
    loss = loss_of(name, lab, new, rollout, advantages_of(name, rewards).flatten(), new.detach())
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.get_total_norm([weight.grad for weight in lab.reference.parameters() if weight.grad is not None])
    lab.reference.zero_grad()
    return float(loss.detach()), float(norm)


def report_learning(before: Evaluation, after: list[Evaluation], report: Report) -> None:
    """Every method must learn; the first one's numbers are the metrics."""
    first = after[0]
    report.metric("reward_before", before.reward)
    report.metric("reward_after", first.reward)
    report.metric("best_of_group_before", before.best_of_group)
    report.metric("equal_groups_before", before.equal_groups)
    report.metric("equal_groups_after", first.equal_groups)
    report.metric("entropy_after", first.entropy)
    report.metric("kl", first.kl)
    for evaluation in after:
        report.claim("reward-rises", measured=evaluation.reward - before.reward, expected=0.3, relation="at least")
        gain = evaluation.reward - before.reward, evaluation.best_of_group - before.best_of_group
        report.claim("sharpens", measured=gain[1], expected=0.75 * gain[0], relation="at most")
        wasted = evaluation.equal_groups - before.equal_groups
        report.claim("success-starves", measured=wasted, expected=0.2, relation="at least")


def load_own(params: Params) -> OwnLab:
    """The reader's model, with adapters, if it can be trained here."""
    language = base_model(params.model, device=params.device)
    model, size = language.model, replace(SIZES[params.size], steps=SIZES[params.size].steps // 2)
    if not isinstance(model, Decoder):
        raise LabError("completions are sampled with our decoder's cache; use a model of the Llama family")
    trainable = add_lora(model, LoRAConfig())
    sums = Sums(language.tokenizer, LARGEST[params.size], seed=params.seed, device=params.device)
    tokens = size.prompts * params.group * (sums.prompts.size(1) + sums.longest)
    needed = estimate(trainable, trainable=trainable, config=model.config, tokens=2 * tokens)
    check_fits(needed, params.device, what="training adapters, and the logits of policy and reference,")
    generator, sampler = (torch.Generator(device).manual_seed(params.seed) for device in ("cpu", params.device))
    return OwnLab(model, size, params, generator, sampler, sums)


def report_own(lab: OwnLab, report: Report) -> None:
    """One method on the reader's model: nothing is claimed of a model that nobody here has seen."""
    method = METHODS[0] if lab.params.method == "all" else lab.params.method
    rollout = lab.groups(lab.reference, lab.size.prompts)
    loss, gradient = first_step(lab, method, rollout, lab.rewards(rollout))
    before = evaluate(lab, lab.reference)
    policy, spent = train(lab, method, report)
    rows = [
        ("before", *before.cells(), None, None),
        (method, *evaluate(lab, policy).cells(), spent.clipped, spent.rollouts),
    ]
    report.table("your model on sums", ("policy", *lab.columns), rows)
    kept, length = lab.sums.prompts.shape
    report.note(
        f"your model: {kept} sums of numbers up to {LARGEST[lab.params.size]}, of {length} tokens each; before the "
        f"first update the loss is {loss:.1e} and its gradient {gradient:.3g}; {spent.wasted_groups} groups were "
        "trained on whose rewards were all equal"
    )


ARMS, GROUPS, BANDIT_STEPS, BANDIT_BETA = 16, 64, 250, 0.2


def report_bandit(params: Params, report: Report) -> None:
    """One prompt whose completions are a few arms with known rewards: where the KL is paid decides the optimum."""
    generator = torch.Generator().manual_seed(params.seed)
    reference = torch.randn(ARMS, generator=generator).log_softmax(0)
    rewards = torch.rand(ARMS, generator=generator)
    beta = BANDIT_BETA
    optima = {
        "in the reward": (reference + rewards / beta).log_softmax(0),
        "in the loss": loss_optimum(reference, rewards, beta * params.group / (params.group - 1)),
    }
    rows: list[tuple[object, ...]] = []
    for where, other in (("in the reward", "in the loss"), ("in the loss", "in the reward")):
        learned = solve_bandit(reference, rewards, beta, params.group, where == "in the reward", generator)
        near, far = (float(kl_divergence(learned, optima[name])) for name in (where, other))
        rows.append((f"KL {where}, learned", *reward_and_kl(learned, reference, rewards), near, far))
        rows.append((f"KL {where}, optimum", *reward_and_kl(optima[where], reference, rewards), 0.0, None))
        claim = "kl-in-reward" if where == "in the reward" else "kl-in-loss"
        report.claim(claim, measured=near, expected=far / 5, relation="at most")
    columns = ("policy", "reward", "KL", "distance to its optimum", "to the other's")
    report.table(f"bandit of {ARMS} arms, beta {beta}", columns, rows)


def reward_and_kl(log_p: Tensor, reference: Tensor, rewards: Tensor) -> tuple[float, float]:
    return float((log_p.exp() * rewards).sum()), float(kl_divergence(log_p, reference))


def loss_optimum(reference: Tensor, rewards: Tensor, beta: float) -> Tensor:
    """log of beta ref / (level - r), the policy that is best for E[r] - beta KL(ref || policy); `level` makes it sum to
    one. It lies above every reward, by at most beta."""
    low, high = float(rewards.max()), float(rewards.max()) + beta
    for _ in range(60):
        level = (low + high) / 2
        too_much = float((beta * reference.exp() / (level - rewards)).sum()) > 1
        low, high = (level, high) if too_much else (low, level)
    return (beta * reference.exp() / (high - rewards)).log()


def solve_bandit(
    reference: Tensor, rewards: Tensor, beta: float, group: int, in_reward: bool, generator: torch.Generator
) -> Tensor:  # [arms] log-probs
    """Policy gradients on sampled arms: RLOO that pays for KL in the reward, or Dr. GRPO's advantage with k3 in the
    loss."""
    logits = reference.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.05)
    mask = torch.ones(GROUPS * group, 1, dtype=torch.bool)
    for step in range(BANDIT_STEPS):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / BANDIT_STEPS)
        log_p = logits.log_softmax(0)
        arms = torch.multinomial(log_p.detach().exp(), GROUPS * group, replacement=True, generator=generator)
        new, old = log_p[arms, None], log_p.detach()[arms, None]  # [B, 1]
        if in_reward:
            paid = (rewards[arms] - beta * (old.squeeze(1) - reference[arms])).view(-1, group)
            loss = rloo_loss(new, old, rloo_advantages(paid).flatten(), mask)
        else:
            advantages = dr_grpo_advantages(rewards[arms].view(-1, group)).flatten()
            loss = grpo_loss(new, old, advantages, mask, reference_logprobs=reference[arms, None], beta=beta)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return logits.detach().log_softmax(0)
