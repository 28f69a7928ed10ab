"""Calibration: run a model over texts, watch what its layers are given, and choose the ranges of static int8.

What people get wrong is that a range is not a fact about the data but a choice between two errors. A wide one cuts
nothing off and rounds everything coarsely; a narrow one rounds finely and cuts off the rest. The least and the largest
number are the widest choice, and a single outlier sets it. A percentile leaves out the rare; the least squared error
weighs both. None of them helps where a few *features* are large for every token: those numbers are neither rare nor
dispensable. SmoothQuant divides such features, and multiplies the weights that read them by as much.

Shapes: M tokens, K input features, C cells of a histogram.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from llmquiz.llm.model.decoder import Decoder, DecoderLayer
from llmquiz.llm.model.norms import RMSNorm
from llmquiz.llm.quant.int8 import scale_of, to_integers
from llmquiz.llm.tune.targets import ALL_LINEAR, Targets, find_targets

CELLS = 2**14
PARTS = torch.linspace(0.02, 1.0, 50)  # of the widest range: what `least_error` tries
TINY = 1e-5  # no feature is divided by less


class Observer:
    """What one layer was given, in a memory that does not grow.

    Attributes:
        low, high: the least and the largest number.
        peaks: the largest magnitude of each input feature, [K].
        counts: a histogram [C] over -reach..reach. When a number lies beyond, the reach doubles and cells merge in
            pairs, so nothing is counted twice and nothing is forgotten.
    """

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self.peaks = torch.zeros(())
        self.reach = 2.0**-10
        self.counts = torch.zeros(CELLS)

    def see(self, x: Tensor) -> None:  # [..., K]
        x = x.detach().flatten(0, -2).float()
        self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))
        self.peaks = torch.maximum(self.peaks.to(x.device), x.abs().amax(dim=0))
        while max(-self.low, self.high) >= self.reach:
            self.reach *= 2
            self.counts = nn.functional.pad(self.counts.view(-1, 2).sum(dim=1), (CELLS // 4, CELLS // 4))
        cells = ((x + self.reach) * (CELLS / 2 / self.reach)).long().clamp(0, CELLS - 1)
        self.counts += torch.bincount(cells.flatten(), minlength=CELLS).cpu()

    @property
    def centers(self) -> Tensor:
        """The number that each cell stands for, [C]."""
        return (torch.arange(CELLS) + 0.5) * (2 * self.reach / CELLS) - self.reach


def min_max(seen: Observer) -> tuple[float, float]:
    """The least and the largest number."""
    return seen.low, seen.high


def percentile(seen: Observer, share: float = 0.999) -> tuple[float, float]:
    """The range that holds the middle `share` of all numbers."""
    below = seen.counts.cumsum(0) / seen.counts.sum()
    outside = (1 - share) / 2
    cells = torch.searchsorted(below, torch.tensor([outside, 1 - outside])).clamp(max=CELLS - 1)
    low, high = seen.centers[cells].tolist()
    return max(low, seen.low), min(high, seen.high)


def least_error(seen: Observer, bits: int = 8) -> tuple[float, float]:
    """The part of the widest range at which rounding and cutting off cost the least squared error together."""
    met = seen.counts > 0
    x, weight = seen.centers[met], seen.counts[met]
    errors = []
    for part in PARTS.tolist():
        scale, zero = scale_of(torch.tensor(part * seen.low), torch.tensor(part * seen.high), bits, symmetric=False)
        assert zero is not None
        rounded = (to_integers(x, scale, zero, bits) - zero) * scale
        errors.append(float((weight * (rounded - x).square()).sum()))
    part = float(PARTS[min(range(len(errors)), key=errors.__getitem__)])
    return part * seen.low, part * seen.high


@torch.no_grad()
def calibrate(model: nn.Module, batches: Iterable[Tensor], targets: Targets = ALL_LINEAR) -> dict[str, Observer]:
    """Run the model over batches of tokens [B, T] and watch the input of each target, by path. The model is unchanged.

    Raises:
        AdapterError: if a target names no linear layer.
    """
    seen = {path: Observer() for path in find_targets(model, targets, (nn.Linear,))}
    handles = [model.get_submodule(path).register_forward_pre_hook(_watch(one)) for path, one in seen.items()]
    try:
        for batch in batches:
            model(batch)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _watch(observer: Observer) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    return lambda module, inputs: observer.see(inputs[0])


@torch.no_grad()
def smooth_(model: Decoder, seen: dict[str, Observer], strength: float = 0.5) -> None:
    """SmoothQuant (Xiao et al. 2022, section 4): the same function, with outliers moved from activations to weights.

    Feature k of an input is divided by s_k = peak(x_k)^strength / peak(w_k)^(1 - strength), and column k of the weights
    is multiplied by it. The division costs nothing: it is folded into what makes the feature. What `seen` says no
    longer holds afterwards: calibrate again.

    Args:
        seen: of `calibrate` over all linear layers of the model.
        strength: 0 leaves the peaks to the activations, 1 moves all of them into the weights.
    """
    for maker, readers, path in _folds(model):
        peaks = seen[path].peaks.clamp(min=TINY)
        columns = torch.stack([reader.weight.abs().amax(dim=0) for reader in readers]).amax(dim=0).clamp(min=TINY)
        _fold_(maker, readers, peaks**strength / columns ** (1 - strength))


@torch.no_grad()
def plant_outliers_(model: Decoder, factor: float, features: int) -> None:
    """The opposite, for experiments: the same function, with the first `features` behind each norm `factor` times as
    large, as they grow by themselves in models of billions of parameters (Dettmers et al. 2022, section 4)."""
    for maker, readers, _ in _folds(model):
        if isinstance(maker, RMSNorm):
            scale = torch.ones_like(maker.weight)
            scale[:features] = 1 / factor
            _fold_(maker, readers, scale)


def _folds(model: Decoder) -> Iterator[tuple[nn.Module, list[nn.Linear], str]]:
    """What makes the features of a layer's input, all layers that read them, and the path of one of these.

    A norm's weight can take a factor for each feature, and so can the rows of `up_proj` for `down_proj`. For `o_proj`
    the rows of `v_proj` could, where no two heads share one; it is left alone.
    """
    for i, layer in enumerate(model.layers):
        assert isinstance(layer, DecoderLayer)
        attention, mlp = layer.self_attn, layer.mlp
        projections = [attention.q_proj, attention.k_proj, attention.v_proj]
        yield layer.input_layernorm, projections, f"layers.{i}.self_attn.q_proj"
        yield layer.post_attention_layernorm, [mlp.gate_proj, mlp.up_proj], f"layers.{i}.mlp.up_proj"
        yield mlp.up_proj, [mlp.down_proj], f"layers.{i}.mlp.down_proj"


def _fold_(maker: nn.Module, readers: Sequence[nn.Linear], s: Tensor) -> None:
    """Divide the features by s [K], and multiply the columns that read them."""
    for made in maker.parameters(recurse=False):  # a norm's weight [K]; a layer's weight [K, hidden] and bias [K]
        made.div_(s.view(-1, *[1] * (made.dim() - 1)))
    for reader in readers:
        reader.weight.mul_(s)
