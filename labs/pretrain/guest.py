"""Continued pretraining: a few steps of the user's own model on the corpus, from its own weights."""

from __future__ import annotations

from functools import partial
from statistics import fmean

import torch

from llmquiz.lab.sdk import Params, Report
from llmquiz.llm.base.guest import Guest, invite
from llmquiz.llm.train.device import fused_adamw
from llmquiz.llm.train.loss import language_model_loss
from llmquiz.llm.train.schedule import warmup_cosine
from llmquiz.llm.train.trainer import Trainer

BATCH, HELD_OUT, LENGTH = 4, 16, 128
STEPS, RATE = 30, 5e-5


def invite_guest(params: Params) -> Guest | None:
    """The user's model, if one is named; to be called first, for it may be refused."""
    if not params.model:
        return None
    rows = HELD_OUT + BATCH * STEPS
    return invite(params.model, rows=rows, length=LENGTH, seed=params.seed, device=params.device, trained=True)


def report_guest(guest: Guest, report: Report) -> None:
    """The loss on text that was not trained on, before and after."""
    model, held_out = guest.model, guest.texts[:HELD_OUT]
    before = loss_on(guest, held_out)
    optimizer = fused_adamw(model.parameters(), lr=RATE, device=str(guest.texts.device))
    schedule = partial(warmup_cosine, warmup=STEPS // 5, total=STEPS, peak=RATE)
    trainer, losses = Trainer(model, optimizer, schedule=schedule), []
    for rows in report.progress(torch.split(guest.texts[HELD_OUT:], BATCH), unit="step", label=guest.name):
        losses.append(trainer.step([(rows[:, :-1], rows[:, 1:])]).loss)
    last = fmean(losses[-max(1, len(losses) // 5) :])
    after = loss_on(guest, held_out)
    found = [("before", before, losses[0]), (f"after {len(losses)} steps", after, last)]
    columns = ("weights", "nats a token, unseen", "nats a token, batch")
    report.table(f"{guest.name}, pretraining continued", columns, found)


@torch.no_grad()
def loss_on(guest: Guest, texts: torch.Tensor) -> float:  # [B, T + 1]
    parts = [language_model_loss(guest.model, (rows[:, :-1], rows[:, 1:])) for rows in torch.split(texts, BATCH)]
    return sum(float(nll) for nll, _ in parts) / sum(float(tokens) for _, tokens in parts)
