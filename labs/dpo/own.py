"""DPO of the user's own model on a few pairs in words, with LoRA: without its adapters it is the reference.

Shapes: B pairs. Log-probs in nats.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from llmquiz.lab.sdk import Params, Report
from llmquiz.llm.align.pairs import PAIRS, UNSEEN_PAIRS, PairBatch, pair_batches, pair_logprobs
from llmquiz.llm.align.preference import dpo_loss
from llmquiz.llm.base.load import LanguageModel
from llmquiz.llm.base.memory import check_fits, estimate
from llmquiz.llm.model.decoder import Decoder
from llmquiz.llm.train.device import fused_adamw
from llmquiz.llm.tune.lora import LoRAConfig, adapter_parameters, add_lora, base_only

RATE, STEPS, BATCH = 5e-4, 24, 4  # pairs a step


def tune_own_model(language: LanguageModel, params: Params, report: Report) -> None:
    """DPO of the user's model on pairs in words. It stays in evaluation mode: with dropout, the first loss would not be
    ln 2."""
    model = language.model
    trained = add_lora(model, LoRAConfig(), seed=params.seed)
    groups = {"learned": PAIRS, "unseen": UNSEEN_PAIRS}
    batches = {name: pair_batches(group, language.tokenizer, BATCH, params.device) for name, group in groups.items()}
    config = model.config if isinstance(model, Decoder) else None
    tokens = max(batch.tokens.numel() for batch in batches["learned"])
    needed = estimate(trained, trainable=trained, config=config, tokens=tokens)
    check_fits(needed, params.device, what=f"DPO with LoRA beside {language.name}")
    with base_only(model):
        references = {name: look(model, group) for name, group in batches.items()}
    before = {name: look(model, group) for name, group in batches.items()}
    optimizer = fused_adamw(adapter_parameters(model), lr=RATE, device=params.device)
    rounds = list(zip(batches["learned"], references["learned"], strict=True))
    for step in report.progress(range(params.steps or STEPS), unit="step", label=language.name):
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
