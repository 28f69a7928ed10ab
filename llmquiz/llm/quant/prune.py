"""Pruning: set weights to zero, by a score that says which are missed least.

Scores and choices are separate things. The score is a weight's magnitude, or its magnitude times the norm of the input
that it meets (Wanda, Sun et al. 2023): a small weight on a large input moves the output more than a larger one on an
input that is never there. The choice says among which weights the lowest scores are sought: a layer, a row, every four
neighbours (2:4, Mishra et al. 2021), or all layers.

What people get wrong is what zeros are worth. A dense product takes as long with them as without; a file with them is
as large. Bytes fall only in a format that leaves them out and says where they were, at a cost (`storage_bytes`), and
time only with a kernel for that format. Nor do zeros stay: a weight that was only overwritten gets its gradient and its
momentum at the next step. A mask that stands between the parameter and its use is out of every optimizer's reach.

Shapes: D_out, D_in features of a layer; N rows of its input. Masks are True where a weight stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.llm.errors import ModelError
from llmquiz.llm.quant.layerwise import plain_linear, visit_layers
from llmquiz.llm.quant.rtn import pack
from llmquiz.llm.tune.targets import ALL_LINEAR, Targets, find_targets

Choose: TypeAlias = Callable[[Tensor], Tensor]  # scores [D_out, D_in] -> mask of the same shape
Masks: TypeAlias = Mapping[str, Tensor]  # by path of the layer

INDEX_BYTES = 4  # of a column or row offset in compressed sparse rows


def lowest(scores: Tensor, sparsity: float) -> Tensor:
    """Masks the `sparsity` part with the lowest scores along the last dimension, to the nearest whole number."""
    count = round(sparsity * scores.size(-1))
    dropped = scores.topk(count, dim=-1, largest=False).indices
    return torch.ones_like(scores, dtype=torch.bool).scatter(-1, dropped, False)


def per_layer(scores: Tensor, sparsity: float) -> Tensor:
    """The lowest scores of the whole matrix."""
    return lowest(scores.flatten(), sparsity).view_as(scores)


def per_row(scores: Tensor, sparsity: float) -> Tensor:
    """The lowest scores of each output feature; what Wanda compares."""
    return lowest(scores, sparsity)


def n_of_m(scores: Tensor, n: int = 2, m: int = 4) -> Tensor:
    """Keeps the `n` highest of every `m` neighbours of a row: 2:4 is the pattern that sparse tensor cores multiply.

    Raises:
        ModelError: if `m` does not divide the row.
    """
    if scores.size(-1) % m:
        raise ModelError(f"prune: {n}:{m} needs rows that {m} divides, this one has {scores.size(-1)} weights")
    return lowest(scores.reshape(-1, m), 1 - n / m).view_as(scores)


def per_channel(weight: Tensor, sparsity: float, dim: int = 0) -> Tensor:
    """Masks whole output features (`dim` 0) or input features (1), those of the least L2 norm: what is left is a
    smaller dense matrix, the only zeros that every kernel can use."""
    kept = lowest(weight.norm(dim=1 - dim), sparsity)
    return kept.unsqueeze(1 - dim).expand_as(weight)


def magnitude_masks(model: nn.Module, choose: Choose, targets: Targets = ALL_LINEAR) -> dict[str, Tensor]:
    """Masks by |w|, each layer for itself.

    Raises:
        AdapterError: if a target names no linear layer.
    """
    return {path: choose(weight.abs()) for path, weight in _weights(model, targets).items()}


def global_masks(model: nn.Module, sparsity: float, targets: Targets = ALL_LINEAR) -> dict[str, Tensor]:
    """Masks by |w| among all targets together: layers of small weights lose more than others.

    Raises:
        AdapterError: if a target names no linear layer.
    """
    weights = _weights(model, targets)
    together = lowest(torch.cat([weight.flatten() for weight in weights.values()]).abs(), sparsity)
    parts = torch.split(together, [weight.numel() for weight in weights.values()])
    return {path: part.view_as(weights[path]) for path, part in zip(weights, parts, strict=True)}


def wanda_scores(weight: Tensor, x: Tensor) -> Tensor:
    """|w_ij| times the L2 norm of input j, for a weight [D_out, D_in] and inputs [N, D_in]."""
    scores: Tensor = weight.detach().abs() * x.float().norm(dim=0)
    return scores


def wanda_masks_(model: nn.Module, tokens: Tensor, choose: Choose, targets: Targets = ALL_LINEAR) -> dict[str, Tensor]:
    """Masks by Wanda's scores, on what the calibration `tokens` [B, T] give after the pruned layers before; weights are
    set to zero on the way.

    Raises:
        AdapterError: if a target names no linear layer.
        ModelError: if a target did not run.
    """
    masks = {}

    def visit(path: str, layer: nn.Linear, x: Tensor) -> None:
        masks[path] = choose(wanda_scores(layer.weight, x))
        layer.weight.mul_(masks[path])

    visit_layers(model, tokens, visit, targets)
    return masks


class MaskedLinear(nn.Module):
    """A linear layer whose weight is multiplied by a mask at every use; so is, therefore, its gradient.

    Args:
        linear: the layer; its weight and bias go on being the same parameters, of the same names.
    """

    weight: Tensor
    bias: nn.Parameter | None
    mask: Tensor

    def __init__(self, linear: nn.Linear | MaskedLinear, mask: Tensor) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.register_buffer("mask", mask)

    @property
    def pruned(self) -> Tensor:  # [D_out, D_in]
        """The weight that the layer acts with."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:  # [..., D_in] -> [..., D_out]
        return F.linear(x, self.pruned, self.bias)


def prune_(model: nn.Module, masks: Masks) -> None:
    """Put a MaskedLinear in the place of each layer that has a mask; it holds through any training."""
    for path, mask in masks.items():
        layer = model.get_submodule(path)
        assert isinstance(layer, nn.Linear | MaskedLinear)
        model.set_submodule(path, MaskedLinear(layer, mask).train(layer.training))


def make_permanent_(model: nn.Module) -> None:
    """Write the zeros into the weights and put plain layers back: the model computes the same, and is dense again."""
    for path, layer in list(model.named_modules()):
        if isinstance(layer, MaskedLinear):
            weight = nn.Parameter(layer.pruned.detach())
            model.set_submodule(path, plain_linear(weight, layer.bias).train(layer.training))


def sparsity(model: nn.Module, targets: Targets = ALL_LINEAR) -> dict[str, float]:
    """The part of zeros in the weight of each target, by path.

    Raises:
        AdapterError: if a target names no linear layer.
    """
    return {path: float((weight == 0).double().mean()) for path, weight in _weights(model, targets).items()}


def storage_bytes(weight: Tensor) -> dict[str, int]:
    """Bytes of a pruned weight [D_out, D_in] in its dtype, in formats that keep every value that is not zero.

    `dense` stores the zeros. `bitmap` stores the others and a bit for each weight. `CSR`, compressed sparse rows,
    stores the others with 4 bytes each for the column, and where each row begins: in fp16 it is smaller than dense only
    beyond 2/3 of zeros.
    """
    stays = weight != 0
    values = weight[stays].nbytes
    columns = INDEX_BYTES * int(stays.sum())
    return {
        "dense": weight.nbytes,
        "bitmap": values + pack(stays, 1).nbytes,
        "CSR": values + columns + INDEX_BYTES * (weight.size(0) + 1),
    }


def _weights(model: nn.Module, targets: Targets) -> dict[str, Tensor]:
    """What each target multiplies with."""
    weights = {}
    for path, layer in find_targets(model, targets, (nn.Linear, MaskedLinear)).items():
        assert isinstance(layer, nn.Linear | MaskedLinear)
        weights[path] = (layer.pruned if isinstance(layer, MaskedLinear) else layer.weight).detach()
    return weights
