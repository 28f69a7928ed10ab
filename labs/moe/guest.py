"""The user's own mixture of experts: how its routers share the tokens of a text, layer by layer."""

from __future__ import annotations

from typing import Any

import torch

from llmquiz.lab.sdk import LabError, Params, Report
from llmquiz.llm.base.guest import Guest, evenly, invite
from llmquiz.llm.base.load import TransformersModel

ROWS, LENGTH = 8, 64


def invite_guest(params: Params) -> Guest | None:
    """The user's model, if one is named; to be called first, for it may be refused."""
    if not params.model:
        return None
    guest = invite(params.model, rows=ROWS, length=LENGTH, seed=params.seed, device=params.device)
    if not isinstance(guest.model, TransformersModel) or not hasattr(inner(guest).config, "num_experts_per_tok"):
        raise LabError(f"{guest.name} has no experts; name a mixture, as Mixtral or Qwen3-MoE")
    return guest


def inner(guest: Guest) -> Any:
    return guest.model.inner


@torch.no_grad()
def report_guest(guest: Guest, report: Report) -> None:
    """Load of each layer's experts over all tokens of the texts."""
    model = inner(guest)
    top_k = model.config.num_experts_per_tok
    layers = model(guest.texts[:, :-1], output_router_logits=True, use_cache=False).router_logits
    rows = []
    for index in evenly(len(layers)):
        logits = layers[index].flatten(0, -2).float()  # [N, E]
        chosen = logits.topk(top_k, dim=-1).indices.flatten()
        counts = chosen.bincount(minlength=logits.size(-1)).float()
        spread = float(counts.std(correction=0) / counts.mean())
        rows.append((index + 1, len(counts), float(counts.max() / counts.mean()), spread, int((counts == 0).sum())))
    columns = ("layer", "experts", "fullest / mean", "deviation / mean", "experts without a token")
    report.table(f"{guest.name}: {top_k} experts a token, {guest.texts[:, 1:].numel()} tokens", columns, rows)
