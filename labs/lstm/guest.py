"""The user's own model: does it recall what it read T tokens ago, whatever it was?

Random tokens are said twice. Nothing but looking back makes the second time likelier than the first.
"""

from __future__ import annotations

import torch

from llmquiz.lab.sdk import Params, Report
from llmquiz.llm.base.guest import Guest, invite

ROWS = 8
DISTANCES = (4, 8, 16, 32, 64, 128)


def invite_guest(params: Params) -> Guest | None:
    """The user's model, if one is named; to be called first, for it may be refused."""
    if not params.model:
        return None
    return invite(params.model, rows=ROWS, length=2 * max(DISTANCES), seed=params.seed, device=params.device)


@torch.no_grad()
def report_guest(guest: Guest, report: Report) -> None:
    """Loss of both times, and the share of tokens of the second that are the likeliest."""
    longest = guest.texts.size(1) // 2
    words = torch.unique(guest.texts)  # tokens that occur in texts: some vocabularies hold many that were never trained
    rows = []
    for distance in [distance for distance in DISTANCES if distance <= longest]:
        draw = torch.randint(len(words), (ROWS, distance), device=words.device)
        text = words[draw].repeat(1, 2)  # [B, 2 T]
        logits = guest.model(text[:, :-1]).float()
        losses = torch.nn.functional.cross_entropy(logits.mT, text[:, 1:], reduction="none")  # [B, 2 T - 1]
        right = (logits.argmax(-1) == text[:, 1:])[:, distance:].float().mean()
        first, second = losses[:, : distance - 1].mean(), losses[:, distance:].mean()
        rows.append((distance, float(first), float(second), float(right)))
    columns = ("distance", "nats, first time", "nats, second time", "recalled")
    report.table(f"{guest.name}: random tokens said twice", columns, rows)
