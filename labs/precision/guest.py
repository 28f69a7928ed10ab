"""The user's own model in each format: what rounding its weights does to its loss, and how many a step could move."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch

from llmquiz.lab.sdk import Params, Report
from llmquiz.llm.base.guest import Guest, invite
from llmquiz.llm.quant.formats import FloatFormat
from llmquiz.llm.train.loss import language_model_loss

ROWS, LENGTH = 8, 64


def invite_guest(params: Params) -> Guest | None:
    """The user's model, if one is named; to be called first, for it may be refused."""
    if not params.model:
        return None
    return invite(params.model, rows=ROWS, length=LENGTH, seed=params.seed, device=params.device)


@torch.no_grad()
def report_guest(guest: Guest, formats: Iterable[FloatFormat], params: Params, report: Report) -> None:
    """Weights and arithmetic narrowed together; losses are summed up in fp32."""
    batch = (guest.texts[:, :-1], guest.texts[:, 1:])
    exact = guest.model(batch[0]).float()
    rows = []
    for form in formats:
        model = copy.deepcopy(guest.model).to(form.dtype)
        nll, tokens = language_model_loss(model, batch)
        error = float((model(batch[0]).float() - exact).abs().max() / exact.abs().max())
        stuck = sum(int((form.spacing(weight) / 2 >= params.lr).sum()) for weight in guest.model.parameters())
        weights = sum(weight.nbytes for weight in model.parameters())
        rows.append((form.name, float(nll / tokens), error, stuck / guest.num_parameters(), weights / 2**20))
    columns = ("format", "nats a token", "largest error / largest logit", f"unmoved at {params.lr:g}", "MiB")
    report.table(f"{guest.name} on text of the corpus", columns, rows)
