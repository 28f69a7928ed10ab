"""PPO against the known optimum.

Answers have at most N words of a small vocabulary, so all of them can be listed, and with them everything that RLHF
can only estimate: the KL to the reference, the judge's score, and the policy that is best at a price beta of KL,

    pi*(answer) = pi_ref(answer) exp(score(answer) / beta) / Z        (Rafailov et al. 2023, equation 4).

The judge is right about every answer but one, which it overrates. Nothing tells PPO which.

The price is lowered in stages, each going on from the policy of the one before: the path climbs along the frontier.
Straight from the reference without a price, PPO may also settle on the first good answer that it finds: nothing keeps
it looking.

All numbers reported are exact sums over the answers; PPO itself sees samples only. A model of the reader's own has too
many answers to list: it is trained on sums in text, and measured by samples. Shapes: K answers, N words.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from itertools import pairwise, product, takewhile

import torch
from torch import Tensor

from llmquiz.lab.sdk import LabError, Params, Report
from llmquiz.llm.align.logprobs import token_logprobs
from llmquiz.llm.align.ppo import PPO, PPOConfig
from llmquiz.llm.align.reward import RewardModel
from llmquiz.llm.align.rollout import Rollout
from llmquiz.llm.align.sums import Sums
from llmquiz.llm.base.load import base_model
from llmquiz.llm.base.memory import check_fits, estimate
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder, random_decoder
from llmquiz.llm.tune.lora import LoRAConfig, add_lora

WORDS = ("yes", "no", "thanks", "sorry", "maybe", "please", "well", "now", "here", "there", "good", "fine")
OVERRATED = 2.0  # what the judge gives the one answer that is worth 0; the others are worth 0 to 1
RARITY = 0.03  # how likely the reference gives that answer, about
EPOCHS, MINIBATCHES = 3, 2
EXAM = 64  # sums that the reader's own model does before and after
LARGEST = {"tiny": 30, "small": 35, "base": 999}  # number in a sum, by size; hard ones, but not all of them
ADAPTER_RATE = 1e-3
OWN_PRICE = 0.1  # of beta: a pretrained model is sure of itself, and what it says once in a thousand costs 7 nats


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is to do."""

    words: int
    length: int
    hidden: int
    layers: int
    batch: int
    steps: int
    learning_rate: float


SIZES = {
    "tiny": Size(3, 2, 16, 1, 64, 12, 5e-3),
    "small": Size(5, 3, 32, 1, 128, 36, 3e-3),
    "base": Size(12, 4, 256, 4, 2048, 150, 3e-4),
}


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    size = SIZES[params.size]
    own = load_own(size, params) if params.model else None  # first of all: what cannot work is refused at once
    task = Task(size, params)
    overrated = int(task.judged.argmax())
    report.note(
        f"{len(task.answers)} possible answers; the judge gives '{task.text(overrated)}' {OVERRATED} points, and it is "
        f"worth 0; the reference gives it with probability {task.log_ref[overrated].exp():.3f}"
    )
    for exponent in range(-12, 13):  # the frontier: no policy lies above it
        best = task.measure(task.optimum(params.beta * 2 ** (exponent / 4)))
        report.point("score", x=best.kl, y=best.score, series="optimum")
    prices = (3 * params.beta, params.beta, params.beta / 3, 0.0)
    arms, policy = [], task.reference
    for beta in prices:
        arms.append(train(task, size, policy, beta, params, report))
        policy = arms[-1].policy
    single = train(task, size, task.reference, params.beta, params, report, epochs=1, minibatches=1)
    standings = report_arms(task, arms, report)
    report_optimum(task, arms, arms[1], report)
    report_hacking(task, standings, params.beta, report)
    report_clipping(arms[1], single, report)
    if own:
        report_own(*own, size, params, report)


@dataclass(frozen=True, slots=True)
class Standing:
    """Exact sums over all answers: the judge's mean score, KL to the reference in nats, what the answers are worth, and
    the share of the overrated one."""

    score: float
    kl: float
    worth: float
    overrated: float


class Task:
    """All answers, what the reference thinks of each, what the judge says, and what it is worth.

    Attributes:
        answers: [K, N], filled up with the end token, which is also the prompt.
        log_ref, judged, worth: [K], in fp64.
    """

    def __init__(self, size: Size, params: Params) -> None:
        self.end, self.length, self.device = size.words, size.length, params.device
        shape = ModelConfig(size.words + 1, size.hidden, size.layers, 2, 2, size.hidden // 2, 2 * size.hidden)
        self.reference = random_decoder(shape, params.seed).to(params.device)
        ended = [[*words, *[self.end] * (self.length - n)] for n in range(self.length) for words in self._texts(n)]
        self.answers = torch.tensor([*ended, *map(list, self._texts(self.length))], device=params.device)
        self.log_ref = self.log_probs(self.reference)
        generator = torch.Generator().manual_seed(params.seed)
        self.worth = torch.rand(len(self.answers), generator=generator, dtype=torch.float64).to(params.device)
        overrated = (self.log_ref - math.log(RARITY)).abs().argmin()
        self.worth[overrated] = 0.0
        self.judged = self.worth.clone()
        self.judged[overrated] = OVERRATED
        self._place = torch.zeros((size.words + 1) ** self.length, dtype=torch.long, device=params.device)
        self._place[self._code(self.answers)] = torch.arange(len(self.answers), device=params.device)

    def judge(self, rollout: Rollout) -> Tensor:  # -> [B]
        """The score of each completion."""
        answers = torch.full((len(rollout.tokens), self.length), self.end, device=self.device)
        answers[:, : rollout.mask.size(1)] = rollout.completions
        return self.judged[self._place[self._code(answers)]].float()

    @torch.no_grad()
    def log_probs(self, policy: Decoder) -> Tensor:  # -> [K]
        """log p(answer), exact: of its words, and of its end unless it was cut."""
        tokens = torch.nn.functional.pad(self.answers, (1, 0), value=self.end)
        said = (self.answers == self.end).cumsum(dim=1) - (self.answers == self.end).long() == 0  # up to the first end
        return torch.where(said, token_logprobs(policy(tokens), tokens), 0.0).double().sum(dim=1)

    def optimum(self, beta: float) -> Tensor:  # -> [K]
        """log pi*(answer) at this price; without one, all on the highest score."""
        if beta == 0:
            return torch.where(self.judged == self.judged.max(), 0.0, -math.inf).double()
        return (self.log_ref + self.judged / beta).log_softmax(dim=0)

    def measure(self, log_p: Tensor) -> Standing:  # [K]
        p, kl = log_p.exp(), divergence(log_p, self.log_ref)
        return Standing(float(p @ self.judged), kl, float(p @ self.worth), float(p[self.judged.argmax()]))

    def text(self, answer: int) -> str:
        """The words of an answer."""
        return " ".join(WORDS[word] for word in takewhile(lambda word: word != self.end, self.answers[answer].tolist()))

    def _texts(self, length: int) -> product[tuple[int, ...]]:
        return product(range(self.end), repeat=length)

    def _code(self, answers: Tensor) -> Tensor:  # [B, N] -> [B]
        """A number of its own for every answer."""
        return answers @ (self.end + 1) ** torch.arange(self.length, device=answers.device)


@dataclass(frozen=True, slots=True)
class Arm:
    """A trained policy: its price of KL, log-probabilities [K], and the share of tokens clipped early in training."""

    policy: Decoder
    beta: float
    log_p: Tensor
    clip_fraction: float


def train(
    task: Task,
    size: Size,
    start: Decoder,
    beta: float,
    params: Params,
    report: Report,
    *,
    epochs: int = EPOCHS,
    minibatches: int = MINIBATCHES,
) -> Arm:
    """PPO at one price, from the policy `start`. With a single update a batch only the first third is run: it shows the
    clip fraction, not the optimum."""
    policy, critic = copy.deepcopy(start), RewardModel(copy.deepcopy(task.reference))
    optimizer = torch.optim.AdamW([*policy.parameters(), *critic.parameters()], weight_decay=0.0)
    config = PPOConfig(size.length, task.end, beta, whiten=False, epochs=epochs, minibatches=minibatches)
    generator = torch.Generator(params.device).manual_seed(params.seed)
    ppo = PPO(policy, task.reference, critic, optimizer, config, generator=generator)
    prompts = torch.full((size.batch, 1), task.end, device=params.device)
    early, updates = size.steps // 3, epochs * minibatches
    name = f"beta {beta:.3g}" if updates > 1 else f"beta {beta:.3g}, one update"
    clipped = []
    for step in report.progress(range(size.steps if updates > 1 else early), unit="step", label=name):
        for group in optimizer.param_groups:
            group["lr"] = size.learning_rate * (1 - step / size.steps)
        stats = ppo.step(prompts, task.judge)
        here = task.measure(task.log_probs(policy))
        report.point("score", x=here.kl, y=here.score, series=name)
        clipped.append(stats.clip_fraction)
    return Arm(policy, beta, task.log_probs(policy), sum(clipped[:early]) / early)


def report_arms(task: Task, arms: list[Arm], report: Report) -> dict[float, Standing]:
    """A row for each price: where PPO stands, and where the optimum does."""
    rows, standings = [], {}
    for arm in arms:
        best, here = task.optimum(arm.beta), task.measure(arm.log_p)
        theory, distance = task.measure(best), divergence(arm.log_p, best) if arm.beta else None
        numbers = (here.score, theory.score, here.kl, theory.kl, distance, here.worth, here.overrated)
        rows.append((arm.beta, *numbers, arm.clip_fraction))
        standings[arm.beta] = here
    columns = ("beta", "score", "optimum", "KL", "optimum KL", "KL to optimum", "worth", "overrated", "clipped")
    report.table("prices of KL", columns, rows)
    return standings


def report_optimum(task: Task, arms: list[Arm], chosen: Arm, report: Report) -> None:
    """How near PPO came to the policy that is best at its price."""
    here, best = task.measure(chosen.log_p), task.measure(task.optimum(chosen.beta))
    report.metric("score", here.score)
    report.metric("score_theory", best.score)
    report.metric("kl", here.kl)
    report.metric("kl_theory", best.kl)
    distance = max(divergence(arm.log_p, task.optimum(arm.beta)) for arm in arms if arm.beta)
    report.metric("distance", distance)
    report.claim("known-optimum", measured=distance, expected=0.15, relation="at most")
    slope = log_ratio_per_point(task, chosen.log_p)
    report.metric("slope", slope)
    report.claim("slope", measured=slope, expected=1 / chosen.beta, tolerance=0.2 / chosen.beta)


def report_hacking(task: Task, standings: dict[float, Standing], beta: float, report: Report) -> None:
    """What the judge's mistake costs where KL is free."""
    free, untrained = standings[0.0], task.measure(task.log_ref)
    report.note(f"the untrained policy's answers are worth {untrained.worth:.3f}")
    report.metric("true_score", standings[beta].worth)
    report.metric("true_score_free", free.worth)
    report.metric("hacked_share", free.overrated)
    narrowest = min(cheap.kl - dear.kl for dear, cheap in pairwise(standings.values()))
    report.claim("cheaper-goes-further", measured=narrowest, expected=0.0, relation="at least")
    report.claim("reward-hacking", measured=free.overrated, expected=0.9, relation="at least")
    report.claim("true-value-falls", measured=free.worth, expected=untrained.worth / 2, relation="at most")


def report_clipping(several: Arm, single: Arm, report: Report) -> None:
    """Clipping acts from the second update on."""
    report.metric("clip_fraction", several.clip_fraction)
    report.metric("clip_fraction_single", single.clip_fraction)
    report.claim("one-update-never-clips", measured=single.clip_fraction, expected=0.0)
    report.claim("several-epochs-clip", measured=several.clip_fraction, expected=0.01, relation="at least")


def divergence(log_p: Tensor, log_q: Tensor) -> float:  # [K] twice -> nats
    """KL(p || q); an answer that p never gives adds nothing."""
    return float(torch.where(log_p.isfinite(), log_p.exp() * (log_p - log_q), 0.0).sum())


def log_ratio_per_point(task: Task, log_p: Tensor) -> float:
    """The slope of log pi / pi_ref against the score, by least squares over answers as often as the policy gives them;
    of pi* it is 1 / beta."""
    p, above = log_p.exp(), task.judged - log_p.exp() @ task.judged
    return float((p * above) @ (log_p - task.log_ref) / ((p * above) @ above))


def load_own(size: Size, params: Params) -> tuple[Decoder, Sums]:
    """The reader's model with adapters, and its sums, if it can be trained here."""
    language = base_model(params.model, device=params.device)
    model = language.model
    if not isinstance(model, Decoder):
        raise LabError("the critic reads our decoder's hidden states; use a model of the Llama family")
    trainable = 2 * add_lora(model, LoRAConfig())  # the policy's and the critic's
    sums = Sums(language.tokenizer, LARGEST[params.size], seed=params.seed, device=params.device)
    tokens = max(size.batch // 2, EXAM) * (sums.prompts.size(1) + sums.longest)
    needed = estimate(trainable, trainable=trainable, config=model.config, tokens=2 * tokens)
    check_fits(needed, params.device, what="training the adapters of a policy and a critic")
    return model, sums


def report_own(reference: Decoder, sums: Sums, size: Size, params: Params, report: Report) -> None:
    """PPO on the reader's model, with a judge that makes no mistakes. Policy, critic and reference share all weights
    but their adapters; the reference's stay as they began, without effect."""
    frozen = {id(weight): weight for weight in reference.parameters() if not weight.requires_grad}
    policy, backbone = (copy.deepcopy(reference, dict(frozen)) for _ in range(2))  # `frozen` is not copied
    critic = RewardModel(backbone)
    trained = [weight for weight in (*policy.parameters(), *critic.parameters()) if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=ADAPTER_RATE, weight_decay=0.0)
    beta = OWN_PRICE * params.beta
    config = PPOConfig(sums.longest, sums.end, beta, whiten=False, epochs=EPOCHS, minibatches=MINIBATCHES)
    draw, act = (torch.Generator(device).manual_seed(params.seed) for device in ("cpu", params.device))
    ppo = PPO(policy, reference, critic, optimizer, config, generator=act)
    exam = sums.draw(EXAM, draw)
    rows = [("before", *ppo.collect(exam, sums.judge)[1:])]
    for _ in report.progress(range(size.steps // 3), unit="step", label="your model"):
        stats = ppo.step(sums.draw(size.batch // 2, draw), sums.judge)
        report.point("score", x=stats.kl, y=stats.score, series="your model")
    rows.append(("after", *ppo.collect(exam, sums.judge)[1:]))
    report.table("your model on sums", ("policy", "right", "KL"), rows)
    kept, length = sums.prompts.shape
    report.note(
        f"your model: {kept} sums of numbers up to {LARGEST[params.size]}, of {length} tokens each; beta "
        f"{beta:g}; KL in nats a completion, as sampled"
    )
