"""Mixture of experts: E feed-forward networks in the place of one, of which each token uses K (Shazeer et al. 2017;
Fedus et al. 2021, "Switch"; Jiang et al. 2024, "Mixtral"; DeepSeek-AI 2024, "DeepSeek-V3", section 2.1.2).

Parameters grow with E, the work of a token does not: it grows with K. Three things go wrong in a first version.
The outputs of an expert are one row per token and must be added back to *their* rows: a sum over them mixes the tokens
of a batch, and lets the future into the past. With K = 1 the chosen weight must stay a probability: renormalised to 1
it is a constant, and the router never learns. And routing is winner-takes-all: the expert that is chosen is trained,
and so is chosen again, until the others are dead weight, if nothing balances.

Shapes: N tokens (batch * length), E experts, K chosen by each, H hidden. Slots are the K choices, best first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.feed_forward import FeedForward


@dataclass(frozen=True, slots=True)
class MoEConfig:
    """How a mixture routes.

    Attributes:
        intermediate_size: of one expert.
        num_shared: experts that every token uses besides; what all tokens need need not be learnt E times.
        affinity: what scores are made of: a "softmax" over the experts (Mixtral), or a "sigmoid" of each (DeepSeek-V3).
        capacity_factor: an expert takes at most this times its fair share, K N / E, of a batch; None for no limit.

    Raises:
        ModelError: if a token would choose more experts than there are, or the affinity is another.
    """

    num_experts: int
    top_k: int
    intermediate_size: int
    num_shared: int = 0
    affinity: str = "softmax"
    capacity_factor: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= self.num_experts:
            raise ModelError(f"moe: a token cannot choose {self.top_k} of {self.num_experts} experts")
        if self.affinity not in ("softmax", "sigmoid"):
            raise ModelError(f"moe: affinity '{self.affinity}' is not one of softmax, sigmoid")


@dataclass(frozen=True, slots=True)
class Routing:
    """Where the tokens of a batch went.

    Attributes:
        logits: [N, E], for the losses on them.
        experts: [N, K], the experts chosen.
        weights: [N, K], by which their outputs are multiplied.
        kept: [N, K], False where an expert was full: that choice adds nothing.
    """

    logits: Tensor
    experts: Tensor
    weights: Tensor
    kept: Tensor

    def counts(self) -> Tensor:  # [E]
        """Choices that fell on each expert, those it had no room for included."""
        return torch.bincount(self.experts.flatten(), minlength=self.logits.size(-1))


class Router(nn.Module):
    """Scores experts with one matrix and chooses the best K.

    Attributes:
        bias: [E], added to the scores for choosing and left out of the weights, so that it moves load between experts
            without bending what they compute. Zero unless `update_bias` is called.
    """

    def __init__(self, hidden_size: int, config: MoEConfig) -> None:
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.empty(config.num_experts, hidden_size))
        nn.init.normal_(self.weight, std=hidden_size**-0.5)
        self.bias: Tensor
        self.register_buffer("bias", torch.zeros(config.num_experts))

    def forward(self, x: Tensor) -> Routing:  # [N, H]
        logits = F.linear(x.float(), self.weight.float())  # near ties in bf16 would choose by rounding
        scores = logits.softmax(-1) if self.config.affinity == "softmax" else logits.sigmoid()
        experts = (scores + self.bias).topk(self.config.top_k, dim=-1).indices  # [N, E] -> [N, K]
        weights = scores.gather(1, experts)
        if self.config.top_k > 1:
            weights = weights / weights.sum(-1, keepdim=True)
        return Routing(logits, experts, weights.to(x.dtype), self._kept(experts))

    def _kept(self, experts: Tensor) -> Tensor:  # [N, K] -> same
        if self.config.capacity_factor is None:
            return torch.ones_like(experts, dtype=torch.bool)
        fair = experts.numel() / self.config.num_experts
        capacity = math.ceil(self.config.capacity_factor * fair)
        queue = experts.T.flatten()  # [K * N]: all first choices stand before all second ones (GShard, algorithm 1)
        place = F.one_hot(queue, self.config.num_experts).cumsum(0).gather(1, queue[:, None])  # from 1
        return (place <= capacity).view(experts.size(1), -1).T

    @torch.no_grad()
    def update_bias(self, counts: Tensor, rate: float) -> None:
        """After a step: lower the bias of each expert that was chosen more often than the mean, raise that of the rest.

        It balances without a loss, hence without a gradient that competes with the task's (Wang et al. 2024).
        """
        load = counts.to(self.bias)
        self.bias += rate * (load.mean() - load).sign()


class MixtureOfExperts(nn.Module):
    """A drop-in for `FeedForward`: each token goes through the K experts of its choice and the shared ones.

    Without a capacity a token's output depends on that token alone. With one it does not: whether its expert is full
    depends on the tokens that stand before it in the batch.

    Attributes:
        routing: of the last call; the balancing loss and the statistics read it.
    """

    def __init__(self, config: ModelConfig, moe: MoEConfig) -> None:
        super().__init__()
        expert = replace(config, intermediate_size=moe.intermediate_size)
        self.router = Router(config.hidden_size, moe)
        self.experts = nn.ModuleList(FeedForward(expert) for _ in range(moe.num_experts))
        self.shared = nn.ModuleList(FeedForward(expert) for _ in range(moe.num_shared))
        self.routing: Routing | None = None

    def forward(self, x: Tensor) -> Tensor:  # [..., H] -> same
        tokens = x.reshape(-1, x.size(-1))  # [N, H]
        self.routing = routing = self.router(tokens)
        out = sum((network(tokens) for network in self.shared), torch.zeros_like(tokens))
        for expert, network in enumerate(self.experts):
            rows, slots = torch.where((routing.experts == expert) & routing.kept)  # its tokens
            weighted = network(tokens[rows]) * routing.weights[rows, slots, None]
            out = out.index_add(0, rows, weighted)  # each row back to its own token
        return out.view_as(x)


def balancing_loss(routing: Routing) -> Tensor:
    """E * sum_e f_e P_e: f_e is the share of tokens that chose expert e, P_e its mean probability (Switch, equation 4).

    K where the load is even. Counting has no gradient; the mean probability carries it, and falls most where f is
    large. For K > 1 the f add up to K, as in transformers.
    """
    share = routing.counts() / routing.experts.size(0)
    return routing.logits.size(-1) * (share * routing.logits.softmax(-1).mean(0)).sum()


@dataclass(frozen=True, slots=True)
class Load:
    """How evenly choices fell.

    Attributes:
        shares: [E], of all choices; 1 / E each if even.
        max_over_mean: the busiest expert against an even share; with experts on devices of their own, the factor by
            which all wait for it. At most E / K.
        variation: standard deviation of the shares over their mean; 0 if even.
        dropped: share of choices that found their expert full.
    """

    shares: tuple[float, ...]
    max_over_mean: float
    variation: float
    dropped: float


def load(routing: Routing) -> Load:
    """The load of one batch."""
    shares = routing.counts() / routing.experts.numel()
    return Load(
        tuple(shares.tolist()),
        float(shares.max() / shares.mean()),
        float(shares.std(correction=0) / shares.mean()),
        1.0 - float(routing.kept.float().mean()),
    )
