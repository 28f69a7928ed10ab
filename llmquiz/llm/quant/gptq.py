"""GPTQ: round one column after another, and let the columns that are still free make up for the error
(Frantar et al. 2022, algorithm 1).

A layer's output is what matters, not its weights. With H = X^T X of its inputs, the error of the output is
tr(E H E^T), E the error of the weights. Rounding to nearest makes E small in every entry; GPTQ moves the weights
that are not yet rounded away from their values, so that E H E^T becomes smaller while E itself becomes *larger*. Where
inputs are uncorrelated, H is diagonal, nothing can make up for anything, and GPTQ is rounding to nearest.

How much column j hands to each later one is in the inverse of H, restricted to the columns from j on. These inverses
need not be computed one by one: with H^-1 = U^T U, U upper triangular, row j of U is what is needed of the j-th of
them. Columns are taken in blocks; what a block hands to all columns after it is one matrix product at its end. That
gives the same numbers, and reads the rest of the weight once a block instead of once a column.

Shapes: D_out, D_in features of a layer; N rows of its input.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llmquiz.llm.errors import ModelError
from llmquiz.llm.quant.layerwise import visit_layers
from llmquiz.llm.quant.rtn import Grid, Quantized
from llmquiz.llm.tune.targets import ALL_LINEAR, Targets

BLOCK = 128  # columns of a block, where the grid has no groups; else a block is a group
ROWS = 4096  # of the input that are multiplied at once in fp32, before they are added in fp64


@dataclass(frozen=True, slots=True)
class GPTQ:
    """How to round with a Hessian.

    Attributes:
        grid: bits, groups and symmetry.
        damping: part of the mean of H's diagonal that is added to the diagonal. Too few inputs leave H singular.
        act_order: take the columns with the largest inputs first, while many others are free to make up for them. The
            columns of a group are then met at different times, so its scale comes from the weight as it was; otherwise
            from what the weight has become when its group is reached.
    """

    grid: Grid
    damping: float = 0.01
    act_order: bool = False

    def quantize(self, weight: Tensor, hessian: Tensor) -> Quantized:
        """Codes of a weight [D_out, D_in] whose inputs have this Hessian [D_in, D_in].

        Raises:
            ModelError: if the groups do not divide the row, or the Hessian is singular in spite of the damping.
        """
        grid, w = self.grid, weight.detach().float()
        scale, zero = (constant[..., 0] for constant in grid.fit(grid.groups(w)))  # [D_out, K]
        order = torch.arange(w.size(1), device=w.device)
        if self.act_order:
            order = hessian.diagonal().argsort(descending=True)
        groups = order // (grid.group or w.size(1))  # of each column, in the order of rounding
        factor = inverse_factor(hessian[order][:, order], self.damping).float()
        w, codes = w[:, order], torch.empty_like(w)
        width = grid.group or BLOCK
        for start in range(0, w.size(1), width):
            block = slice(start, start + width)
            if grid.group and not self.act_order:
                scale[:, groups[block]], zero[:, groups[block]] = grid.fit(w[:, block])
            constants = scale[:, groups[block]], zero[:, groups[block]]
            codes[:, block], errors = self._round_block(w[:, block], *constants, factor[block, block])
            w[:, start + width :] -= errors @ factor[block, start + width :]
        return Quantized.from_codes(codes[:, order.argsort()], scale, zero, grid)

    def _round_block(self, w: Tensor, scale: Tensor, zero: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """Codes of some columns [D_out, block], and the error of each in units of what it hands on. Scale and zero are
        given for every weight."""
        left, scale, zero = (x.T.contiguous() for x in (w, scale, zero))  # a column's weights lie together
        codes, errors, diagonal = [], [], factor.diagonal().tolist()
        for j, (column, step, origin) in enumerate(zip(left, scale, zero, strict=True)):
            codes.append(self.grid.encode(column, step, origin))
            errors.append((column - (codes[j] - origin) * step) / diagonal[j])
            left[j + 1 :].addr_(factor[j, j + 1 :], errors[j], alpha=-1)  # seen by the columns to come
        return torch.stack(codes, dim=1), torch.stack(errors, dim=1)


def hessian_of(x: Tensor) -> Tensor:  # [N, D_in] -> [D_in, D_in]
    """X^T X in fp64. A constant factor, such as the paper's 2, would change nothing."""
    total = torch.zeros(x.size(1), x.size(1), dtype=torch.float64, device=x.device)
    for chunk in torch.split(x.float(), ROWS):
        total += chunk.T @ chunk
    return total


def inverse_factor(hessian: Tensor, damping: float) -> Tensor:
    """U, upper triangular, of H^-1 = U^T U, in fp64, with `damping` times the mean of H's diagonal added to it.

    Raises:
        ModelError: if H is not positive definite even so.
    """
    damped = hessian.double() + damping * hessian.diagonal().mean() * torch.eye(len(hessian), device=hessian.device)
    lower, failed = torch.linalg.cholesky_ex(damped)
    if failed:
        raise ModelError("gptq: the Hessian of the inputs is singular; give more calibration text, or more damping")
    factor: Tensor = torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)
    return factor


def output_error(weight: Tensor, approximation: Tensor, hessian: Tensor) -> float:
    """|X (W - A)^T|^2 / |X W^T|^2 from the Hessian of X alone; with the identity, the error of the weights."""
    error, w = (approximation - weight).double(), weight.double()
    return float(((error @ hessian) * error).sum() / ((w @ hessian) * w).sum())


def quantize_model_(
    model: nn.Module, tokens: Tensor, gptq: GPTQ, targets: Targets = ALL_LINEAR
) -> dict[str, Quantized]:
    """Quantize the targets in place, each for the inputs that the quantized layers before it give, with the
    calibration `tokens` [B, T]. Layers compute with what their codes stand for. Returns the codes, by path.

    Raises:
        AdapterError: if a target names no linear layer.
        ModelError: as `GPTQ.quantize`; or if a target did not run.
    """
    quantized = {}

    def visit(path: str, layer: nn.Linear, x: Tensor) -> None:
        quantized[path] = gptq.quantize(layer.weight, hessian_of(x))
        layer.weight.copy_(quantized[path].dequantize(layer.weight.dtype))

    visit_layers(model, tokens, visit, targets)
    return quantized
