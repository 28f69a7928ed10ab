"""Proximal policy optimisation of a language model (Schulman et al. 2017; Ouyang et al. 2022, section 3.5).

One step, from top to bottom of this file:

    1. collect   sample completions; keep how likely each token was when it was drawn
                 pay beta (log pi_ref - log pi) at every token, and the judge's score of the whole at the last
                 estimate each token's advantage with a critic (gae.py)
    2. update    some epochs over minibatches of that experience, each token's objective
                 min(ratio A, clip(ratio, 1 - eps, 1 + eps) A),    ratio = pi(token) / pi_old(token)

The min makes the objective a pessimist: moving a token further than eps in the direction that its advantage asks for
wins nothing more (the gradient is zero), moving it the wrong way is never forgiven. A max would do the reverse. At the
first update after a rollout every ratio is 1: with one update per batch, clipping never acts.

Without beta the policy leaves the reference for whatever the judge overrates. With it the optimum is known: pi*
is proportional to pi_ref exp(score / beta) over whole completions, if gamma is 1.

Shapes: B completions, P tokens of a prompt, N of a completion, V vocabulary. State n is the prompt and n tokens; the
action taken there is completion token n. So its logits and its value stand at position P - 1 + n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llmquiz.llm.align.gae import gae, masked_mean, whiten
from llmquiz.llm.align.logprobs import entropy, kl_k1, kl_k3, token_logprobs
from llmquiz.llm.align.reward import RewardModel, last_real_token
from llmquiz.llm.align.rollout import Rollout, sample
from llmquiz.llm.errors import TrainingError
from llmquiz.llm.model.decoder import Decoder


@dataclass(frozen=True, slots=True)
class PPOConfig:
    """Settings of PPO, by their names in the papers. Each step makes `epochs` * `minibatches` updates.

    Attributes:
        beta: price of a nat of log pi / pi_ref, in units of the score.
        clip: eps, the largest change of a token's probability, as a share of it, that one batch is rewarded for.
        value_clip: the same idea for the critic, in units of the score; None leaves it out.
        entropy_coef: bonus for a nat of entropy at each token.
        gamma: discount; less than 1 makes early tokens shortsighted, and the optimum another one.
        lam: of GAE.
        whiten: bring each batch's advantages to mean 0 and variance 1. It fits any scale of the scores; but a policy
            that has settled has nothing left to whiten but the critic's noise, and is blown about by it.
    """

    max_new_tokens: int
    eos: int | None = None
    beta: float = 0.1
    clip: float = 0.2
    value_clip: float | None = None
    entropy_coef: float = 0.0
    gamma: float = 1.0
    lam: float = 0.95
    whiten: bool = True
    epochs: int = 4
    minibatches: int = 2
    max_grad_norm: float = 1.0


@dataclass(frozen=True, slots=True)
class Experience:
    """What is known of a batch before the first update, and must not change during the updates.

    Attributes:
        rollout: tokens, mask and the old log-probabilities.
        values, advantages, returns: [B, N], without gradients; the last two are zero at padding.
    """

    rollout: Rollout
    values: Tensor
    advantages: Tensor
    returns: Tensor

    def rows(self, chosen: Tensor) -> Experience:
        """The completions that `chosen` [B'] names by index."""
        return Experience(self.rollout.rows(chosen), self.values[chosen], self.advantages[chosen], self.returns[chosen])


@dataclass(frozen=True, slots=True)
class PPOStats:
    """What to watch. `score` without `kl` is how reward hacking goes unnoticed.

    Attributes:
        score: mean score of the completions, before the penalty.
        kl: mean over completions of the sum of log pi - log pi_ref: estimates KL(pi || pi_ref) in nats.
        clip_fraction: share of tokens, over all updates, whose gradient clipping cut off.
        policy_kl: k3 estimate of KL(pi_old || pi) a token at the last update: how far one batch has led.
        entropy: nats a token.
        value_loss: of the critic, mean over the updates.
    """

    score: float
    kl: float
    clip_fraction: float
    policy_kl: float
    entropy: float
    value_loss: float


class PPO:
    """The trainer.

    Args:
        policy: what is trained.
        reference: what it may not drift far from; never trained.
        critic: gives V(state) at every token. A network of its own, so its loss needs no weight beside the policy's.
        optimizer: over the parameters of policy and critic.
        generator: draws completions and minibatches; on the policy's device.
    """

    def __init__(
        self,
        policy: Decoder,
        reference: Decoder,
        critic: RewardModel,
        optimizer: torch.optim.Optimizer,
        config: PPOConfig,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        self.policy, self.reference, self.critic = policy, reference, critic
        self.optimizer, self.config, self.generator = optimizer, config, generator

    def step(self, prompts: Tensor, judge: Callable[[Rollout], Tensor]) -> PPOStats:
        """Collect one batch and learn from it.

        Args:
            prompts: [B, P], all of one length.
            judge: scores whole completions, [B]; a reward model, or a program that checks the answer.
        """
        experience, score, kl = self.collect(prompts, judge)
        updates = torch.stack([self.update(batch) for batch in self._minibatches(experience)])
        clip_fraction, _, uncertainty, value_loss = updates.mean(dim=0).tolist()
        return PPOStats(
            score=score,
            kl=kl,
            clip_fraction=clip_fraction,
            policy_kl=updates[-1, 1].item(),
            entropy=uncertainty,
            value_loss=value_loss,
        )

    @torch.no_grad()
    def collect(
        self, prompts: Tensor, judge: Callable[[Rollout], Tensor]
    ) -> tuple[Experience, float, float]:  # [B, P] -> experience, mean score, mean KL of a completion
        """Sample, score, estimate."""
        config = self.config
        rollout = sample(
            self.policy, prompts, config.max_new_tokens, eos=config.eos, generator=self.generator
        )  # at temperature 1: the policy that is trained is the one that acts
        scores, mask = judge(rollout), rollout.mask
        reference_logprobs = self._logprobs(self.reference(rollout.tokens), rollout)
        rewards = token_rewards(scores, rollout.logprobs, reference_logprobs, mask, config.beta)
        # The score is of what was written, finished or cut at max_new_tokens: nothing follows the last token.
        values = self._values(rollout)
        advantages, returns = gae(rewards, values, last_tokens(mask), gamma=config.gamma, lam=config.lam, mask=mask)
        if config.whiten:
            advantages = whiten(advantages, mask)
        experience = Experience(rollout, values, advantages, returns)
        kl = torch.where(mask, kl_k1(rollout.logprobs, reference_logprobs), 0.0).sum(dim=1)  # [B]
        return experience, float(scores.mean()), float(kl.mean())

    def update(self, batch: Experience) -> Tensor:  # -> [4]
        """One step of the optimizer. Clip fraction, KL from the old policy, entropy and value loss, all before it."""
        config, rollout, mask = self.config, batch.rollout, batch.rollout.mask
        logits = self.policy(rollout.tokens)  # [B, P + N, V]
        logprobs = self._logprobs(logits, rollout)
        moved = masked_mean(kl_k3(rollout.logprobs, logprobs.detach()), mask)
        surrogate, clip_fraction = policy_loss(logprobs, rollout.logprobs, batch.advantages, mask, config.clip)
        uncertainty = masked_mean(entropy(logits[:, rollout.prompt_length - 1 : -1]), mask)
        regression = value_loss(self._values(rollout), batch.values, batch.returns, mask, config.value_clip)
        self.optimizer.zero_grad(set_to_none=True)
        (surrogate - config.entropy_coef * uncertainty + regression).backward()  # type: ignore[no-untyped-call]
        for network in (self.policy, self.critic):
            nn.utils.clip_grad_norm_(network.parameters(), config.max_grad_norm)
        self.optimizer.step()
        return torch.stack((clip_fraction, moved, uncertainty, regression)).detach()

    def _minibatches(self, experience: Experience) -> Iterator[Experience]:
        rows = experience.values.size(0)
        for _ in range(self.config.epochs):
            order = torch.randperm(rows, generator=self.generator, device=experience.values.device)
            for chosen in order.chunk(self.config.minibatches):
                yield experience.rows(chosen)

    def _logprobs(self, logits: Tensor, rollout: Rollout) -> Tensor:  # [B, P + N, V] -> [B, N]
        return token_logprobs(logits, rollout.tokens)[:, rollout.prompt_length - 1 :]

    def _values(self, rollout: Rollout) -> Tensor:  # -> [B, N]
        """V of the state *before* each completion token: the critic's number one position earlier."""
        return self.critic.token_scores(rollout.tokens)[:, rollout.prompt_length - 1 : -1]


def token_rewards(
    scores: Tensor, logprobs: Tensor, reference_logprobs: Tensor, mask: Tensor, beta: float
) -> Tensor:  # [B], [B, N] three times -> [B, N]
    """-beta (log pi - log pi_ref) at each real token, and the score at the last one.

    Their sum over a completion is score - beta log(pi / pi_ref): its mean is the score less beta times the KL.
    """
    penalty = torch.where(mask, beta * kl_k1(logprobs, reference_logprobs), 0.0)
    return torch.where(last_tokens(mask), scores[:, None], 0.0) - penalty


def last_tokens(mask: Tensor) -> Tensor:  # [B, N] -> [B, N]
    """True at the last real token of each row alone: where the score is paid and the episode ends."""
    places = torch.arange(mask.size(1), device=mask.device)
    return places == last_real_token(mask)[:, None]


def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, clip: float
) -> tuple[Tensor, Tensor]:  # [B, N] four times -> scalar twice
    """The negative clipped objective (Schulman et al. 2017, equation 7), and the share of tokens that it clips."""
    ratio = torch.where(mask, logprobs - old_logprobs, 0.0).exp()
    free, clipped = ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages
    loss = -masked_mean(torch.minimum(free, clipped), mask)
    return loss, masked_mean((clipped < free).float(), mask)


def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float | None = None
) -> Tensor:  # [B, N] four times -> scalar
    """Half the mean squared error of the critic; with `clip`, the worse of it and of the value held near its old self.

    Raises:
        TrainingError: if the shapes differ: [N, 1] against [N] would broadcast to [N, N] and train without a word.
    """
    if not values.shape == returns.shape == old_values.shape:
        raise TrainingError(
            f"value loss: values {tuple(values.shape)}, old values {tuple(old_values.shape)} and returns "
            f"{tuple(returns.shape)} must be of one shape; squeeze the critic's last axis"
        )
    error = (values - returns).square()
    if clip is not None:
        held = old_values + (values - old_values).clamp(-clip, clip)
        error = torch.maximum(error, (held - returns).square())
    return 0.5 * masked_mean(error, mask)
