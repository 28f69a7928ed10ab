"""The user's own model, layer by layer: how large the residual stream is, what is added to it, and what flows back."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from llmquiz.lab.sdk import Params, Report
from llmquiz.llm.base.guest import Guest, evenly, invite, layers_of
from llmquiz.llm.train.loss import language_model_loss

ROWS, LENGTH = 4, 64


def invite_guest(params: Params) -> Guest | None:
    """The user's model, if one is named; to be called first, for it may be refused."""
    if not params.model:
        return None
    return invite(params.model, rows=ROWS, length=LENGTH, seed=params.seed, device=params.device, trained=True)


def report_guest(guest: Guest, report: Report) -> None:
    """Root mean squares before a layer and of what it adds, and the norm of the gradient of its weights."""
    layers, sizes = layers_of(guest.model), []

    def look(_layer: nn.Module, inputs: Any, output: Any) -> None:
        before, after = inputs[0].detach(), (output if isinstance(output, Tensor) else output[0]).detach()
        sizes.append((rms(before), rms(after - before)))

    hooks = [layer.register_forward_hook(look) for layer in layers]
    nll, tokens = language_model_loss(guest.model, (guest.texts[:, :-1], guest.texts[:, 1:]))
    loss = nll / tokens
    loss.backward()  # type: ignore[no-untyped-call]
    for hook in hooks:
        hook.remove()
    rows = []
    for index in evenly(len(layers)):
        gradients = [weight.grad for weight in layers[index].parameters() if weight.grad is not None]
        before, added = sizes[index]
        rows.append((index + 1, before, added, added / before, float(nn.utils.get_total_norm(gradients))))
    guest.model.zero_grad()
    columns = ("layer", "stream (rms)", "added (rms)", "added / stream", "gradient norm")
    report.table(f"{guest.name}: loss {float(loss.detach()):.3f} nats a token", columns, rows)


def rms(x: Tensor) -> float:
    return float(x.float().square().mean().sqrt())
