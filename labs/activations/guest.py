"""The user's own model: which of its feed-forward units are above zero, and which never are, layer by layer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llmquiz.lab.sdk import LabError, Params, Report
from llmquiz.llm.base.guest import Guest, evenly, invite, layers_of

ROWS, LENGTH = 8, 64
BENT = ("gate_proj", "up_proj", "c_fc", "fc1", "dense_h_to_4h", "wi")  # what goes through the activation; a gate first


def invite_guest(params: Params) -> Guest | None:
    """The user's model, if one is named; to be called first, for it may be refused."""
    if not params.model:
        return None
    return invite(params.model, rows=ROWS, length=LENGTH, seed=params.seed, device=params.device)


@torch.no_grad()
def report_guest(guest: Guest, report: Report) -> None:
    """Over all tokens of the texts."""
    layers = layers_of(guest.model)
    chosen = [bent_of(layers[index]) for index in evenly(len(layers))]
    often: list[Tensor] = []  # [units] a layer: share of tokens

    def count(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        often.append((output > 0).float().mean(dim=(0, 1)))

    hooks = [module.register_forward_hook(count) for module in chosen]
    guest.model(guest.texts[:, :-1])
    for hook in hooks:
        hook.remove()
    rows = [
        (index + 1, len(share), float(share.mean()), float((share == 0).float().mean()))
        for index, share in zip(evenly(len(layers)), often, strict=True)
    ]
    columns = ("layer", "units", "share above zero", "share never above zero")
    report.table(f"{guest.name}: inputs of the activation", columns, rows)


def bent_of(layer: nn.Module) -> nn.Module:
    """The projection of a layer whose output goes through the activation."""
    modules: dict[str, nn.Module] = {name.rpartition(".")[2]: module for name, module in layer.named_modules()}
    for name in BENT:
        if name in modules:
            return modules[name]
    raise LabError(f"a layer has none of {', '.join(BENT)}; use a model of the families that have")
