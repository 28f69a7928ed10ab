"""Distillation: a student learns the teacher's whole distribution, softened by a temperature (Hinton et al. 2015).

With teacher p = softmax(v / T) and student q = softmax(z / T), the gradient of KL(p || q) by a logit z_i is
(q_i - p_i) / T. As T grows, q_i - p_i itself shrinks as (z_i - v_i) / (V T) (for centred logits), so the gradient falls
as 1 / T^2 (section 2.1). What people get wrong is the T^2 in front: it holds the gradient's scale, so that T can be
tuned without the hard-label loss beside it taking over. Alone under Adam, which divides by that scale, it changes
nothing.

A trap of torch: `F.kl_div(..., reduction="mean")` divides by the vocabulary too, and "batchmean" by the sequences, not
by the tokens. Here the loss is a sum and a count, as in `train.loss`.

Shapes: V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from llmquiz.llm.train.loss import Loss


def distillation_loss(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, mask: Tensor | None = None
) -> Loss:
    """T^2 KL(teacher || student) at `temperature` T, in nats, summed over tokens, and how many tokens there are.

    Args:
        student: logits [..., V]; the gradient goes here.
        teacher: logits [..., V] over the same vocabulary; no gradient.
        mask: [...] bool, True for the tokens that count; None counts all.
    """
    T = temperature
    p, q = (F.log_softmax(logits.float() / T, dim=-1) for logits in (teacher.detach(), student))
    divergence = F.kl_div(q, p, log_target=True, reduction="none").sum(-1)  # KL(p || q): [..., V] -> [...]
    if mask is None:
        mask = torch.ones_like(divergence, dtype=torch.bool)
    return T**2 * (divergence * mask).sum(), mask.sum()
