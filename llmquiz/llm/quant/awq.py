"""AWQ: make the weights that meet large inputs larger before rounding, and undo it on the input (Lin et al. 2023, 3.2).

(W diag(s)) (x / s) = W x exactly, for any s > 0 per input channel; but rounding W diag(s) spares the channels with a
large s: the grid's step stays about the same, the error of channel j is divided by s_j. Which channels matter is not
seen in the weights: it is those that meet large inputs. So s = mean|x|^alpha, and alpha is the only number searched, by
the error of the output. alpha = 0 is rounding to nearest, so on the calibration inputs the result is never worse.

People take s for something that slows the model down. 1 / s belongs to the input, and moves into what produces it:
the gain of the norm before, or the rows of the layer before (`fold_`). Layers that read the same input must then share
one s. Where nothing can take it, s is kept beside the weight, at 16 bits an input channel.

Shapes: D_out, D_in features of a layer; N rows of its input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llmquiz.llm.quant.gptq import hessian_of
from llmquiz.llm.quant.layerwise import visit_layers
from llmquiz.llm.quant.rtn import Grid, Quantized, quantize
from llmquiz.llm.tune.targets import ALL_LINEAR, Targets

SMALL = 1e-4  # of the mean activation: a channel that is never used gets no smaller scale


@dataclass(frozen=True, slots=True)
class Scaled:
    """A quantized weight with the scales of its input kept beside it.

    Attributes:
        quantized: of W diag(s).
        scales: s, fp16 [D_in].
        alpha: the exponent that was found.
    """

    quantized: Quantized
    scales: Tensor
    alpha: float

    @property
    def nbytes(self) -> int:
        """Bytes of the codes with their constants, and of s."""
        return self.quantized.nbytes + self.scales.nbytes

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:  # [D_out, D_in]
        """The weight for the input as it is: s has been taken out again."""
        return (self.quantized.dequantize() / self.scales.float()).to(dtype)


@dataclass(frozen=True, slots=True)
class AWQ:
    """How to round with scaled inputs: the grid, and how many exponents are tried between 0 and 1."""

    grid: Grid
    steps: int = 10

    def search(self, weights: Sequence[Tensor], x: Tensor) -> tuple[Tensor, float]:
        """One s [D_in] for all `weights` [D_out, D_in] that read the input x [N, D_in], and its alpha: the least sum of
        squared errors of their outputs. s is what fp16 keeps of it.

        Raises:
            ModelError: if the groups do not divide the row.
        """
        size, hessian = mean_activation(x), hessian_of(x).float()
        found: list[tuple[float, float, Tensor]] = []
        for step in range(self.steps + 1):
            alpha = step / self.steps
            scales = exponentiate(size, alpha)
            errors = [self.grid.nearest(weight * scales) / scales - weight for weight in weights]
            found.append((sum(float(((error @ hessian) * error).sum()) for error in errors), alpha, scales))
        _, alpha, scales = min(found, key=lambda candidate: candidate[0])
        return scales, alpha

    def quantize(self, weight: Tensor, x: Tensor) -> Scaled:
        """The weight [D_out, D_in] of one layer, with an s of its own.

        Raises:
            ModelError: if the groups do not divide the row.
        """
        weight = weight.detach().float()
        scales, alpha = self.search([weight], x)
        return Scaled(quantize(weight * scales, self.grid), scales.half(), alpha)


def mean_activation(x: Tensor) -> Tensor:  # [N, D_in] -> [D_in]
    """Mean magnitude of each input channel, over the mean of all."""
    size = x.float().abs().mean(0)
    return (size / size.mean()).clamp(min=SMALL)


def exponentiate(size: Tensor, alpha: float) -> Tensor:
    """size^alpha, centred so that the largest and smallest are as far from 1, and rounded to fp16. The centring changes
    nothing but the range: a common factor goes into the scale of every group."""
    scales = size**alpha
    return (scales / (scales.max() * scales.min()).sqrt()).half().float()


@torch.no_grad()
def fold_(previous: Tensor, weights: Sequence[Tensor], scales: Tensor) -> None:
    """Multiply the columns of `weights` by s and divide what makes their input by it, in place: the model computes the
    same function, and `rtn.quantize` of the weights is then AWQ without anything to do at inference.

    Args:
        previous: the gain of the norm before [D_in], or the weight of a layer before [D_in, ...] if nothing but
            products with numbers stands between; a bias there must be divided as well.
        weights: of all layers that read this input.
    """
    previous.div_(scales.view(-1, *(1,) * (previous.dim() - 1)))
    for weight in weights:
        weight.mul_(scales)


def quantize_model_(model: nn.Module, tokens: Tensor, awq: AWQ, targets: Targets = ALL_LINEAR) -> dict[str, Scaled]:
    """Quantize the targets in place, each with an s of its own beside it, found on what the calibration `tokens` [B, T]
    give after the quantized layers before. Layers compute with what their codes stand for. Returns the codes, by path.

    Raises:
        AdapterError: if a target names no linear layer.
        ModelError: if the groups do not divide a row, or a target did not run.
    """
    scaled = {}

    def visit(path: str, layer: nn.Linear, x: Tensor) -> None:
        scaled[path] = awq.quantize(layer.weight, x)
        layer.weight.copy_(scaled[path].dequantize(layer.weight.dtype))

    visit_layers(model, tokens, visit, targets)
    return scaled
