"""Mixture of experts: parameters for free, if only the router would share.

A layer of E experts is trained on tokens whose hidden states have a large part in common, as those of a Transformer do:
one direction of the router then raises the same experts for every token, they are trained, and are chosen again. Three
arms differ in what holds against that: nothing, a balancing loss, or a bias that only the choice sees. Before that the
work of a token is counted, and after it what a limit on each expert's tokens would drop.

Shapes: N tokens, H hidden, E experts, K chosen.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transformers import MixtralConfig
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

from llmquiz.lab.sdk import Params, Report, interleaved_medians, quiet_clock
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.feed_forward import FeedForward
from llmquiz.llm.model.moe import Load, MixtureOfExperts, MoEConfig, balancing_loss, load

from .guest import invite_guest, report_guest

SIZES = {"tiny": (16, 16, 128), "small": (32, 32, 512), "base": (512, 1024, 16384)}  # H, an expert's width, N of a step
TOP_K = 2
NOTHING, LOSS, BIAS = "nothing", "balancing loss", "selection bias"
LEARNING_RATE, BIAS_RATE = 3e-3, 0.01
CAPACITY = 1.25


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    guest = invite_guest(params)
    hidden, width, _ = SIZES[params.size]
    config = ModelConfig(1, hidden, 1, 1, 1, hidden, width)
    layer = MixtureOfExperts(config, MoEConfig(params.experts, TOP_K, width, affinity=params.affinity)).to(
        params.device
    )
    show_leak(layer, report)
    count_work(config, params, report)
    layers, held_out = train_all(layer, params, report)
    limit_capacity(layers, held_out, report)
    compare_with_transformers(layer, params, report)
    if guest:
        report_guest(guest, report)


class SummedMixture(MixtureOfExperts):
    """The classic fault: an expert's outputs are summed over its tokens, and each of them gets the sum."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.reshape(-1, x.size(-1))
        routing = self.router(tokens)
        out = torch.zeros_like(tokens)
        for expert, network in enumerate(self.experts):
            rows, slots = torch.where(routing.experts == expert)
            out[rows] += (network(tokens[rows]) * routing.weights[rows, slots, None]).sum(dim=0)
        return out.view_as(x)


@torch.no_grad()
def show_leak(layer: MixtureOfExperts, report: Report) -> None:
    """How much the first tokens' outputs change when only the last token does."""
    wrong = copy.deepcopy(layer)
    wrong.__class__ = SummedMixture
    x = torch.randn(64, layer.router.weight.size(1), device=layer.router.weight.device)
    changed = torch.cat((x[:-1], -x[-1:]))
    moved = {name: float((net(changed) - net(x))[:-1].abs().max()) for name, net in (("ours", layer), ("sum", wrong))}
    report.metric("leak", moved["ours"])
    report.metric("leak_summed", moved["sum"])
    report.claim("no-leak", measured=moved["ours"], expected=1e-5, relation="at most")  # other sizes round otherwise
    report.claim("sum-leaks", measured=moved["sum"], expected=0.01, relation="at least")


def count_work(config: ModelConfig, params: Params, report: Report) -> None:
    """FLOPs of a token with ever more experts, and with all of them at once (soft routing)."""
    x = torch.randn(256, config.hidden_size, device=params.device)
    dense = flops(FeedForward(config).to(params.device), x)
    router = 2 * config.hidden_size  # FLOPs of one score
    rows, per_token = [("one feed-forward layer", numbers(FeedForward(config)), dense, 1.0)], {}
    for experts in (params.experts, 2 * params.experts, 4 * params.experts):
        layer = MixtureOfExperts(config, MoEConfig(experts, TOP_K, config.intermediate_size)).to(params.device)
        per_token[experts] = flops(layer, x)
        rows.append((f"{TOP_K} of {experts} experts", numbers(layer), per_token[experts], per_token[experts] / dense))
        report.claim("work", measured=per_token[experts] - router * experts, expected=TOP_K * dense)
    soft = MixtureOfExperts(config, MoEConfig(params.experts, params.experts, config.intermediate_size))
    all_ = flops(soft.to(params.device), x)
    rows.append((f"all of {params.experts} experts (soft)", numbers(soft), all_, all_ / dense))
    report.table("work of a token", ("layer", "parameters", "FLOPs", "x one layer"), rows)
    report.metric("work_ratio", per_token[4 * params.experts] / per_token[params.experts])
    report.metric("soft_over_hard", all_ / per_token[params.experts])


def flops(layer: nn.Module, x: Tensor) -> float:
    """Of the matrix products for one of the tokens `x`."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(x)
    return float(counter.get_total_flops() / len(x))


def numbers(layer: nn.Module) -> int:
    return sum(weight.numel() for weight in layer.parameters())


class Task:
    """Tokens with a common part, and a smooth function of the rest to learn."""

    def __init__(self, hidden: int, device: str) -> None:
        self.common = torch.randn(hidden, device=device)
        self.inner = torch.randn(hidden, 4 * hidden, device=device) * hidden**-0.5
        self.outer = torch.randn(4 * hidden, hidden, device=device) * (4 * hidden) ** -0.5

    def batch(self, tokens: int) -> tuple[Tensor, Tensor]:  # [N, H] twice
        own = torch.randn(tokens, len(self.common), device=self.common.device)
        return own + self.common, (1.5 * own @ self.inner).sin() @ self.outer


def train_all(
    layer: MixtureOfExperts, params: Params, report: Report
) -> tuple[dict[str, MixtureOfExperts], Tensor]:  # and [N, H]
    """Each arm from the same start on the same batches; the trained layers, and the tokens that they were tested on."""
    hidden, _, tokens = SIZES[params.size]
    task = Task(hidden, params.device)
    batches = [task.batch(tokens) for _ in range(params.steps)]
    held_out = task.batch(8 * tokens)
    layers, loads, losses, rows = {}, {}, {}, []
    for arm in report.progress((NOTHING, LOSS, BIAS), unit="arm", label="training"):
        layers[arm] = copy.deepcopy(layer)
        train(layers[arm], arm, batches, params.coefficient, report)
        losses[arm], loads[arm] = evaluate(layers[arm], *held_out)
        rows.append((arm, loads[arm].max_over_mean, loads[arm].variation, min(loads[arm].shares), losses[arm]))
    columns = ("against collapse", "max/mean load", "variation", "least used expert", "task loss")
    report.table(f"{params.steps} steps, {params.experts} experts, top {TOP_K}", columns, rows)
    report_arms(loads, losses, params, report)
    return layers, held_out[0]


def train(
    layer: MixtureOfExperts, arm: str, batches: list[tuple[Tensor, Tensor]], coefficient: float, report: Report
) -> None:
    optimizer = torch.optim.AdamW(layer.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    for step, (x, target) in enumerate(batches):
        loss = F.mse_loss(layer(x), target)
        routing = layer.routing
        assert routing is not None
        if arm == LOSS:
            loss = loss + coefficient * balancing_loss(routing)
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        if arm == BIAS:
            layer.router.update_bias(routing.counts(), BIAS_RATE)
        if step % max(1, len(batches) // 40) == 0:
            report.point("imbalance", step, load(routing).max_over_mean, arm)


@torch.no_grad()
def evaluate(layer: MixtureOfExperts, x: Tensor, target: Tensor) -> tuple[float, Load]:
    """The task's loss, and the load."""
    loss = float(F.mse_loss(layer(x), target))
    assert layer.routing is not None
    return loss, load(layer.routing)


def report_arms(loads: dict[str, Load], losses: dict[str, float], params: Params, report: Report) -> None:
    worst = params.experts / TOP_K
    report.metric("imbalance", loads[NOTHING].max_over_mean)
    report.metric("imbalance_loss", loads[LOSS].max_over_mean)
    report.metric("imbalance_bias", loads[BIAS].max_over_mean)
    report.claim("collapses", measured=loads[NOTHING].max_over_mean, expected=0.6 * worst, relation="at least")
    report.claim("collapses", measured=loads[NOTHING].max_over_mean, expected=worst, relation="at most", tolerance=1e-4)
    for arm in (LOSS, BIAS):
        report.claim("balances", measured=loads[arm].max_over_mean, expected=1.6, relation="at most")
    dearest = max(losses[LOSS], losses[BIAS]) / losses[NOTHING]
    report.metric("loss_of_balance", dearest)
    report.claim("cost", measured=dearest, expected=1.1, relation="at most")


@torch.no_grad()
def limit_capacity(layers: dict[str, MixtureOfExperts], x: Tensor, report: Report) -> None:
    """What two of the routers drop when an expert is full at CAPACITY times its share."""
    rows = []
    for arm, name in ((NOTHING, "dropped"), (LOSS, "dropped_balanced")):
        router = layers[arm].router
        router.config = replace(router.config, capacity_factor=CAPACITY)
        found = load(router(x))
        most = CAPACITY / router.config.num_experts
        expected = sum(max(0.0, share - most) for share in found.shares)
        report.metric(name, found.dropped)
        report.claim("drops", measured=found.dropped, expected=expected, tolerance=0.002)
        rows.append((arm, found.max_over_mean, found.dropped, expected))
    columns = ("against collapse", "max/mean load", "dropped", "by the formula")
    report.table(f"capacity factor {CAPACITY}", columns, rows)


def compare_with_transformers(layer: MixtureOfExperts, params: Params, report: Report) -> None:
    """Mixtral's block with our weights: the same outputs, and the time of each."""
    theirs = to_mixtral(layer).to(params.device)
    hidden, _, tokens = SIZES[params.size]
    x = torch.randn(1, tokens, hidden, device=params.device)
    with torch.inference_mode():
        right = theirs(x)
        error = float((layer(x) - right).abs().max() / right.abs().max())
        seconds = interleaved_medians(
            {"ours": lambda: layer(x), "theirs": lambda: theirs(x)},
            device=params.device,
            repeats=9,
            clock=quiet_clock(params.device, 1),
        )
    report.metric("mixtral_error", error)
    report.metric("speedup_over_mixtral", seconds["theirs"] / seconds["ours"])
    report.claim("same-as-mixtral", measured=error, expected=1e-5, relation="at most")


def to_mixtral(layer: MixtureOfExperts) -> Any:
    """transformers' block with a copy of our weights; it keeps those of all experts in one tensor."""
    moe = layer.router.config
    config = MixtralConfig(
        hidden_size=layer.router.weight.size(1),
        intermediate_size=moe.intermediate_size,
        num_local_experts=moe.num_experts,
        num_experts_per_tok=moe.top_k,
    )
    config._experts_implementation = "eager"
    block = MixtralSparseMoeBlock(config)
    with torch.no_grad():
        block.gate.weight.copy_(layer.router.weight)
        for number, expert in enumerate(layer.experts):
            gate, up, down = expert.parameters()
            block.experts.gate_up_proj[number], block.experts.down_proj[number] = torch.cat((gate, up)), down
    return block.eval()
