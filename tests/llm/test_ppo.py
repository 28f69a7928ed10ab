"""PPO piece by piece, by finite differences and by mutation; then whole, on a task whose optimum is known."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.align.logprobs import entropy, token_logprobs  # noqa: E402
from llmquiz.llm.align.ppo import PPO, PPOConfig, last_tokens, policy_loss, token_rewards, value_loss  # noqa: E402
from llmquiz.llm.align.reward import RewardModel  # noqa: E402
from llmquiz.llm.align.rollout import Rollout, sample  # noqa: E402
from llmquiz.llm.errors import TrainingError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import Decoder, random_decoder  # noqa: E402

pytestmark = pytest.mark.labs

CONFIG = ModelConfig(8, 16, 1, 2, 1, 8, 24, max_position=16)
EPS = 0.2
ONE = torch.ones(1, 1, dtype=torch.bool)


def gradient_of_objective(ratio: float, advantage: float) -> float:
    """d objective / d logprob of one token; unclipped it is ratio * advantage."""
    logprobs = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    loss, _ = policy_loss(logprobs, torch.zeros_like(logprobs), torch.tensor([[advantage]]).double(), ONE, EPS)
    (gradient,) = torch.autograd.grad(-loss, logprobs)
    return gradient.item()


@pytest.mark.parametrize(
    ("ratio", "advantage", "learns"),
    [
        (1.0, 1.0, True),
        (1.0, -1.0, True),
        (1.19, 1.0, True),
        (1.21, 1.0, False),  # a good token has been raised enough
        (1.21, -1.0, True),  # a bad token was raised: that is never forgiven; with max for min it would be
        (0.79, -1.0, False),  # a bad token has been lowered enough
        (0.79, 1.0, True),  # a good token was lowered
        (5.0, -1.0, True),
        (0.2, 1.0, True),
    ],
)
def test_the_gradient_is_cut_exactly_where_nothing_more_is_to_be_won(
    ratio: float, advantage: float, learns: bool
) -> None:
    expected = ratio * advantage if learns else 0.0

    assert gradient_of_objective(ratio, advantage) == pytest.approx(expected)


def test_the_objective_is_a_lower_bound_of_the_unclipped_one() -> None:
    log_ratio, advantages = torch.randn(2, 6, 9, dtype=torch.float64)
    mask = torch.rand(6, 9) < 0.7
    loss, clip_fraction = policy_loss(log_ratio, torch.zeros(6, 9).double(), advantages, mask, EPS)
    ratio = log_ratio.exp()
    outside = ((ratio > 1 + EPS) & (advantages > 0)) | ((ratio < 1 - EPS) & (advantages < 0))

    assert -loss < (ratio * advantages)[mask].mean()
    assert clip_fraction == pytest.approx(outside[mask].double().mean().item())


def test_padding_teaches_nothing() -> None:
    logprobs = torch.tensor([[-1.0, -2.0, 900.0]], requires_grad=True)
    mask = torch.tensor([[True, True, False]])
    loss, _ = policy_loss(logprobs, torch.tensor([[-1.0, -2.0, 0.0]]), torch.tensor([[1.0, 1.0, 5.0]]), mask, EPS)
    loss.backward()

    assert loss.item() == pytest.approx(-1.0)
    assert logprobs.grad[0].tolist() == pytest.approx([-0.5, -0.5, 0.0])


def test_the_rewards_sum_to_the_score_less_the_price_of_leaving_the_reference() -> None:
    scores, beta = torch.tensor([1.0, -2.0]), 0.3
    mask = torch.tensor([[True, True, False, False], [True, True, True, True]])
    logprobs, reference = torch.randn(2, 2, 4)
    rewards = token_rewards(scores, logprobs, reference, mask, beta)

    assert last_tokens(mask).nonzero().tolist() == [[0, 1], [1, 3]]
    assert rewards[0, 2:].tolist() == [0.0, 0.0]
    ratio = ((logprobs - reference) * mask).sum(1)
    torch.testing.assert_close(rewards.sum(1), scores - beta * ratio)
    torch.testing.assert_close(rewards[1, :3], -beta * (logprobs - reference)[1, :3])


def test_a_critic_with_an_axis_too_many_is_refused() -> None:
    """[N, 1] against [N] broadcasts to [N, N] in torch's own mean squared error."""
    values, flat = torch.zeros(8, 1), torch.zeros(8)
    assert (values - flat).shape == (8, 8)

    with pytest.raises(TrainingError, match="squeeze the critic's last axis"):
        value_loss(values, flat, flat, torch.ones(8, dtype=torch.bool))


def test_the_clipped_value_loss_is_the_worse_of_both() -> None:
    old, returns, mask = torch.zeros(1, 3), torch.tensor([[1.0, -1.0, 1.0]]), torch.ones(1, 3, dtype=torch.bool)
    values = torch.tensor([[0.5, 0.5, 0.1]], requires_grad=True)
    loss = value_loss(values, old, returns, mask, clip=EPS)
    loss.backward()

    assert value_loss(values, old, returns, mask).item() == pytest.approx((0.25 + 2.25 + 0.81) / 6)
    assert loss.item() == pytest.approx((0.64 + 2.25 + 0.81) / 6)
    assert values.grad[0].tolist() == pytest.approx([0.0, 0.5, -0.3])  # the first has come far enough in one batch


def test_entropy_survives_forbidden_tokens() -> None:
    logits = torch.tensor([[0.0, 0.0, float("-inf")]], requires_grad=True)
    value = entropy(logits)
    value.sum().backward()

    assert value.item() == pytest.approx(math.log(2))
    assert logits.grad.isfinite().all()


def trainer(seed: int = 0, *, lr: float = 5e-3, **settings: Any) -> PPO:
    policy = random_decoder(CONFIG, seed)
    critic = RewardModel(copy.deepcopy(policy))
    optimizer = torch.optim.AdamW([*policy.parameters(), *critic.parameters()], lr=lr, weight_decay=0.0)
    config = PPOConfig(**{"max_new_tokens": 3, "eos": 0, **settings})
    generator = torch.Generator().manual_seed(seed)
    return PPO(policy, copy.deepcopy(policy), critic, optimizer, config, generator=generator)


def likes_sevens(rollout: Rollout) -> Any:
    return ((rollout.completions == 7) & rollout.mask).float().sum(1)


def test_the_values_are_those_of_the_state_before_each_token() -> None:
    ppo = trainer()
    torch.nn.init.normal_(ppo.critic.score.weight)
    experience, _, _ = ppo.collect(torch.randint(1, 8, (5, 4)), likes_sevens)
    changed = experience.rollout.tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 8
    last = experience.rollout.mask.size(1) - 1
    values = ppo.critic.token_scores(changed)[:, 3 : 3 + last + 1]

    torch.testing.assert_close(values.detach(), experience.values)  # the last action changes no value
    assert experience.rollout.prompt_length == 4


def test_experience_carries_no_gradient_and_matches_the_rollout() -> None:
    ppo = trainer(beta=0.5)
    experience, score, kl = ppo.collect(torch.ones(64, 1, dtype=torch.long), likes_sevens)
    rollout, mask = experience.rollout, experience.rollout.mask

    assert not experience.values.requires_grad
    for tensor in (experience.advantages, experience.returns, rollout.logprobs):
        assert not tensor.requires_grad
        assert (tensor[~mask] == 0).all()
    logprobs = token_logprobs(ppo.policy(rollout.tokens), rollout.tokens)[:, rollout.prompt_length - 1 :].detach()
    torch.testing.assert_close(logprobs[mask], rollout.logprobs[mask], rtol=1e-4, atol=1e-5)
    assert score == pytest.approx(likes_sevens(rollout).mean().item())
    assert kl == pytest.approx(0.0, abs=1e-5)


def test_one_update_a_batch_never_clips_and_several_epochs_do() -> None:
    prompts = torch.ones(64, 1, dtype=torch.long)
    once, often = (trainer(lr=0.02, epochs=epochs, minibatches=1) for epochs in (1, 6))

    for _ in range(3):
        single, several = once.step(prompts, likes_sevens), often.step(prompts, likes_sevens)
        assert single.clip_fraction == 0.0
        assert abs(single.policy_kl) < 1e-5
        assert several.clip_fraction > 0.05
        assert several.policy_kl > 1e-3


def test_only_the_policy_and_the_critic_learn() -> None:
    ppo = trainer()
    before = copy.deepcopy(ppo.reference.state_dict())
    ppo.step(torch.ones(16, 1, dtype=torch.long), likes_sevens)

    for name, tensor in ppo.reference.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not torch.equal(ppo.policy.lm_head.weight, ppo.reference.lm_head.weight)


def test_the_entropy_bonus_keeps_the_policy_open() -> None:
    prompts = torch.ones(64, 1, dtype=torch.long)
    spread = []
    for bonus in (0.0, 1.0):
        ppo = trainer(beta=0.0, entropy_coef=bonus)
        spread.append([ppo.step(prompts, likes_sevens) for _ in range(8)][-1].entropy)

    assert spread[1] > spread[0] + 0.2


def optimum(reference: Decoder, prompt: int, beta: float) -> tuple[float, float, float]:
    """Of pi_ref exp(r / beta) over single-token answers: mean reward, KL, and the reference's own reward."""
    with torch.no_grad():
        log_ref = reference(torch.tensor([[prompt]]))[0, -1].log_softmax(-1)
    scores = torch.zeros(8)
    scores[7] = 1.0
    best = (log_ref + scores / beta).log_softmax(-1)
    kl = (best.exp() * (best - log_ref)).sum()
    return best.exp()[7].item(), kl.item(), log_ref.exp()[7].item()


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_it_finds_the_known_optimum_of_a_bandit(beta: float) -> None:
    ppo = trainer(max_new_tokens=1, eos=None, beta=beta, lr=1e-2, minibatches=1)
    prompts = torch.ones(256, 1, dtype=torch.long)
    for step in range(40):
        ppo.optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 40)
        ppo.step(prompts, likes_sevens)
    with torch.no_grad():
        log_p = ppo.policy(prompts[:1])[0, -1].log_softmax(-1)
        log_ref = ppo.reference(prompts[:1])[0, -1].log_softmax(-1)
    reward, kl, before = optimum(ppo.reference, 1, beta)

    assert log_p.exp()[7].item() == pytest.approx(reward, abs=0.06)
    assert (log_p.exp() * (log_p - log_ref)).sum().item() == pytest.approx(kl, abs=0.06)
    assert reward > before + 0.02


def test_it_learns_from_a_reward_model() -> None:
    """The judge may be a network: it reads prompt and completion, and its own mask."""
    ppo = trainer(beta=0.05)
    judge = RewardModel(random_decoder(CONFIG, seed=5))
    torch.nn.init.normal_(judge.score.weight)

    def score(rollout: Rollout) -> Any:
        prompt = torch.ones(len(rollout.tokens), rollout.prompt_length, dtype=torch.bool)
        return judge(rollout.tokens, torch.cat((prompt, rollout.mask), dim=1))

    prompts = torch.ones(64, 1, dtype=torch.long)
    scores = [ppo.step(prompts, score).score for _ in range(12)]
    assert sum(scores[-3:]) / 3 > scores[0] + 0.3
    assert sample(ppo.policy, prompts, 3, eos=0).mask.shape[0] == 64
