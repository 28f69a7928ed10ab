"""Muon: momentum whose every matrix is made orthogonal before it is applied (Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon).

The momentum of a weight matrix is nearly of low rank: a few directions get almost all of the update, and the rare ones,
that matter as well, next to nothing. Muon keeps the directions and sets all their lengths to one: of the singular value
decomposition U S V^T it applies U V^T. People take it for a second-order method or for AdamW with another constant; it
is steepest descent under the spectral norm, as sign descent (Adam without memory) is under the largest entry.

It is only for matrices that multiply a vector. Embeddings are tables whose rows are used one at a time, and norms are
vectors: those stay with AdamW, here in the same optimizer, so that one schedule moves both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

QUINTIC = (3.4445, -4.7750, 2.0315)  # a, b, c of s -> a s + b s^3 + c s^5: drives every s in (0, 1] to about 1
ITERATIONS = 5


def orthogonalize(matrices: Tensor, iterations: int = ITERATIONS) -> Tensor:  # [..., M, N] -> same
    """Nearly U V^T of each matrix, without a decomposition: singular values end up between about 0.7 and 1.2.

    An odd polynomial of a matrix, X -> a X + b (X X^T) X + c (X X^T)^2 X, leaves the singular vectors as they are and
    applies the polynomial to the singular values. So a few matrix products do what an SVD would. The coefficients do
    not converge to 1 but near it, and fast: small singular values grow 3.4-fold in each iteration.
    """
    a, b, c = QUINTIC
    tall = matrices.size(-2) > matrices.size(-1)
    x = matrices.mT if tall else matrices  # the smaller Gram matrix of the two
    frobenius = torch.linalg.matrix_norm(x, keepdim=True)  # not less than the spectral norm: no singular value is > 1
    x = x / (frobenius + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    nearly: Tensor = x.mT if tall else x
    return nearly


class Muon(torch.optim.Optimizer):
    """Muon for matrices, AdamW for everything else.

    An update of U V^T changes a [D_out, D_in] weight by sqrt(min(D_out, D_in)) in Frobenius norm. It is scaled by
    sqrt(max(1, D_out / D_in)), so that one learning rate, in units of change of the output, serves all shapes.

    Args:
        groups: as `parameter_groups` makes them: `orthogonal` says which rule a group follows.
        momentum: of the matrices, applied the way of Nesterov.
        dtype: of the matrix products that orthogonalise. bf16 is enough, for five iterations do not converge anyway,
            and twice as fast where the hardware has it.
        betas, eps: of AdamW for the others.
        weight_decay: a part of lr, of both kinds, but not of vectors: a norm's weight has no reason to be small.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(groups, defaults)
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Apply the gradients once. Parameters without a gradient are left alone."""
        assert closure is None, "Muon evaluates nothing again"
        for group in self.param_groups:
            updated = [p for p in group["params"] if p.grad is not None]
            (self._muon if group["orthogonal"] else self._adamw)(updated, group)

    def _muon(self, weights: list[nn.Parameter], group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[nn.Parameter]] = {}
        for weight in weights:
            by_shape.setdefault(weight.shape, []).append(weight)
        for same in by_shape.values():  # one batched product for all layers
            momenta = torch.stack([self._momentum(weight, group["momentum"]) for weight in same])
            update = orthogonalize(momenta.to(self._dtype)).to(momenta.dtype)
            scale = max(1.0, update.size(-2) / update.size(-1)) ** 0.5
            for weight, direction in zip(same, update.unbind(), strict=True):
                weight.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=group["lr"] * scale)

    def _momentum(self, weight: nn.Parameter, decay: float) -> Tensor:
        """The gradient, averaged over steps, and looked at one step ahead."""
        state, gradient = self.state[weight], weight.grad
        assert gradient is not None
        average: Tensor = state.setdefault("momentum", torch.zeros_like(weight))
        average.lerp_(gradient, 1 - decay)
        return gradient.lerp(average, decay)

    def _adamw(self, weights: list[nn.Parameter], group: dict[str, Any]) -> None:
        first_decay, second_decay = group["betas"]
        for weight in weights:
            state, gradient = self.state[weight], weight.grad
            assert gradient is not None
            if not state:
                state.update(step=0, first=torch.zeros_like(weight), second=torch.zeros_like(weight))
            state["step"] += 1
            first = state["first"].lerp_(gradient, 1 - first_decay) / (1 - first_decay ** state["step"])
            second = state["second"].lerp_(gradient.square(), 1 - second_decay) / (1 - second_decay ** state["step"])
            if weight.dim() > 1:
                weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.addcdiv_(first, second.sqrt() + group["eps"], value=-group["lr"])


def parameter_groups(model: nn.Module, *, lr: float, adamw_lr: float) -> list[dict[str, Any]]:
    """The model's trainable parameters for `Muon`: the matrices of linear layers, and the rest.

    A head that is tied to the embedding, or that is named `lm_head`, counts with the embedding: its rows are tokens.
    """
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            row_wise = parameter.dim() != 2 or id(parameter) in embeddings or "lm_head" in name
            (others if row_wise else matrices).append(parameter)
    return [
        {"params": matrices, "lr": lr, "orthogonal": True},
        {"params": others, "lr": adamw_lr, "orthogonal": False},
    ]
