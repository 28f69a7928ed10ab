"""Low-rank adaptation: train two thin matrices beside a frozen weight (Hu et al. 2021, section 4.1).

y = x W^T + (alpha / R) (x A^T) B^T. B starts at zero, so an adapted model starts as the base model, and the first step
moves B alone: the gradient of A passes through B. What people get wrong is the rest of the model: whatever is not
frozen trains along, is not in the adapter's file, and is missing when the adapter is loaded again. So `add_lora`
freezes the whole model first.

What is saved is gradients and optimizer state, never the weights or the forward pass: A and B come on top.

Shapes: D_in, D_out features of a linear layer, R rank, A [R, D_in], B [D_out, R], N = all leading axes of x together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.llm.errors import AdapterError
from llmquiz.llm.tune.nf4 import NF4Linear
from llmquiz.llm.tune.targets import ALL_LINEAR, Targets, find_targets

Linear: TypeAlias = nn.Linear | NF4Linear


@dataclass(frozen=True, slots=True)
class LoRAConfig:
    """What to train where.

    Args:
        rank: R, at most the smaller side of any layer that is adapted.
        alpha: the update is scaled by alpha / R, so that a larger rank does not mean larger steps.
        targets: ends of module names (`q_proj` stands for that layer of every block), or `all-linear`: all but the
            head.
        dropout: of the adapter's input, in training.
        rslora: scale by alpha / sqrt(R) instead: a sum of R independent terms grows as sqrt(R), so that alpha / R is
            too small at high ranks (Kalajdzievski 2023, section 3).
        dora: train the length of each row of the weight apart from its direction (Liu et al. 2024, section 4).

    Raises:
        AdapterError: if a number is out of range or there are no targets.
    """

    rank: int = 8
    alpha: float = 16.0
    targets: Targets = ALL_LINEAR
    dropout: float = 0.0
    rslora: bool = False
    dora: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise AdapterError(
                f"lora: rank {self.rank}, alpha {self.alpha} or dropout {self.dropout} is out of range; use a rank "
                "from 1, an alpha above 0 and a dropout below 1"
            )
        if not self.targets or (isinstance(self.targets, str) and self.targets != ALL_LINEAR):
            raise AdapterError(f"lora: targets {self.targets!r} is neither '{ALL_LINEAR}' nor a tuple of module names")

    @property
    def scale(self) -> float:
        """What the product B A is multiplied by."""
        return self.alpha / (self.rank**0.5 if self.rslora else self.rank)


class LoRAUpdate(nn.Module):
    """One adapter of one layer: A, B and their scale. They are fp32 beside a half-precision base: an optimizer's step
    is often smaller than the rounding of bf16."""

    def __init__(self, base: Linear, config: LoRAConfig, generator: torch.Generator) -> None:
        super().__init__()
        D_in, D_out, R = base.in_features, base.out_features, config.rank
        if min(D_in, D_out) < R:
            raise AdapterError(f"lora: rank {R} exceeds a layer of {D_in} by {D_out}; lower it or leave the layer out")
        A = nn.init.kaiming_uniform_(torch.empty(R, D_in), a=5**0.5, generator=generator)
        self.A = nn.Parameter(A.to(base.weight.device, torch.promote_types(base.weight.dtype, torch.float32)))
        self.B = nn.Parameter(self.A.new_zeros(D_out, R))
        self.dropout = nn.Dropout(config.dropout) if config.dropout else nn.Identity()
        self.config, self.scale = config, config.scale

    def forward(self, x: Tensor, base: Linear) -> Tensor:  # [..., D_in] -> [..., D_out]
        out: Tensor = base(x)
        low = F.linear(self.dropout(x.to(self.A.dtype)), self.A)  # [..., D_in] -> [..., R]
        # addmm scales and adds inside the product: two passes over a tensor of out's size less, forward and backward
        total = torch.addmm(_rows(out).to(low.dtype), _rows(low), self.B.T, alpha=self.scale)
        return total.view(out.shape).to(out.dtype)

    def applied(self, weight: Tensor) -> Tensor:  # [D_out, D_in] -> same
        """W + scale B A: the weight that the layer acts with, summed in the adapter's precision."""
        return torch.addmm(weight.to(self.B.dtype), self.B, self.A, alpha=self.scale)


class DoRAUpdate(LoRAUpdate):
    """LoRA turns each row of the weight, a trained magnitude m [D_out] sets its length: m (W + scale B A) / ||.||."""

    def __init__(self, base: Linear, config: LoRAConfig, generator: torch.Generator) -> None:
        super().__init__(base, config, generator)
        self.magnitude = nn.Parameter(torch.linalg.vector_norm(base.weight.detach().to(self.B.dtype), dim=1))

    def forward(self, x: Tensor, base: Linear) -> Tensor:  # [..., D_in] -> [..., D_out]
        out = super().forward(x, base)
        bias = 0 if base.bias is None else base.bias
        return ((out - bias) * self._gain(base.weight) + bias).to(out.dtype)

    def applied(self, weight: Tensor) -> Tensor:  # [D_out, D_in] -> same
        directed: Tensor = self._gain(weight)[:, None] * super().applied(weight)
        return directed

    def _gain(self, weight: Tensor) -> Tensor:  # [D_out, D_in] -> [D_out]
        with torch.no_grad():  # the length counts as a constant: as good, and it saves memory (section 4.3)
            length: Tensor = torch.linalg.vector_norm(super().applied(weight), dim=1)
        return self.magnitude / length


class LoRALinear(nn.Module):
    """A frozen linear layer with any number of adapters, of which at most one acts.

    Args:
        base: the layer to adapt; kept as it is, with its dtype, device, bias and whoever shares its weight.
    """

    base: Linear
    unmerged: Tensor | None

    def __init__(self, base: Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.adapters = nn.ModuleDict()
        self.active: str | None = None
        self.register_buffer("unmerged", None, persistent=False)  # the base's own weight while an adapter is merged

    def updates(self) -> dict[str, LoRAUpdate]:
        """The adapters of this layer, by name."""
        return {name: cast(LoRAUpdate, update) for name, update in self.adapters.items()}

    def forward(self, x: Tensor) -> Tensor:  # [..., D_in] -> [..., D_out]
        acting = self.acting
        out: Tensor = self.base(x) if acting is None else acting(x, self.base)
        return out

    @property
    def acting(self) -> LoRAUpdate | None:
        """The adapter that `forward` adds; none while one is merged."""
        return (
            None if self.active is None or self.unmerged is not None else cast(LoRAUpdate, self.adapters[self.active])
        )

    @property
    def weight(self) -> Tensor:
        """What the layer multiplies by, adapter included: torch's own Transformer layers read it past `forward`."""
        acting = self.acting
        weight: Tensor = self.base.weight if acting is None else acting.applied(self.base.weight).to(self.dtype)
        return weight

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias

    @property
    def dtype(self) -> torch.dtype:
        return self.base.weight.dtype

    @property
    def in_features(self) -> int:
        return self.base.in_features

    @property
    def out_features(self) -> int:
        return self.base.out_features


def add_lora(model: nn.Module, config: LoRAConfig, name: str = "default", *, seed: int = 0) -> int:
    """Freeze `model`, put adapters called `name` beside its targets and let them act. The same call again changes
    nothing.

    Returns:
        The number of trainable parameters: R (D_in + D_out) a layer, and D_out more with DoRA.

    Raises:
        AdapterError: if no layer matches, one that matches is not linear, the rank is too high for one, an adapter is
            merged, or there is one of this name that is configured otherwise. The model is then as it was.
    """
    known = adapters(model)
    if name in known and known[name] != config:
        raise AdapterError(f"lora: there is an adapter '{name}' of another configuration; choose another name")
    if name not in known:
        _inject(model, config, name, torch.Generator().manual_seed(seed))  # on the CPU: the same on every device
    use_adapter(model, name)
    return sum(parameter.numel() for parameter in adapter_parameters(model, name))


def adapters(model: nn.Module) -> dict[str, LoRAConfig]:
    """The adapters that `model` carries, by name."""
    return {name: update.config for layer in lora_layers(model) for name, update in layer.updates().items()}


def adapter_parameters(model: nn.Module, name: str = "default") -> list[nn.Parameter]:
    """What an adapter trains: hand these to the optimizer."""
    updates = [layer.updates()[name] for layer in lora_layers(model) if name in layer.updates()]
    return [parameter for update in updates for parameter in update.parameters()]


def use_adapter(model: nn.Module, name: str | None) -> None:
    """Let the adapter `name` act and train, and no other; None gives the base model back, to the bit.

    Raises:
        AdapterError: if there is no such adapter, or one is merged: the base then holds it.
    """
    known = adapters(model)
    if name is not None and name not in known:
        raise AdapterError(f"lora: there is no adapter '{name}'; there are {', '.join(known) or 'none'}")
    check_unmerged(model)
    for layer in lora_layers(model):
        layer.active = name if name in layer.updates() else None
        for key, update in layer.updates().items():
            update.requires_grad_(key == name)


@contextmanager
def base_only(model: nn.Module) -> Iterator[None]:
    """The base model for a while: the reference of DPO or of a KL penalty, without a second copy of the weights. What
    trains stays as it is, so a graph that was built before may still run backward.

    Raises:
        AdapterError: if an adapter is merged.
    """
    check_unmerged(model)
    before = [(layer, layer.active) for layer in lora_layers(model)]
    try:
        for layer, _ in before:
            layer.active = None
        yield
    finally:
        for layer, active in before:
            layer.active = active


def lora_layers(model: nn.Module) -> list[LoRALinear]:
    """The adapted layers, in the model's order."""
    return [module for module in model.modules() if isinstance(module, LoRALinear)]


def adaptable(model: nn.Module, targets: Targets) -> dict[str, Linear]:
    """The layers that `targets` name, by path, adapted or not; of an adapted one its base.

    Raises:
        AdapterError: if a target names no linear layer.
    """
    found = find_targets(model, targets, (nn.Linear, NF4Linear, LoRALinear))
    return {path: layer.base if isinstance(layer, LoRALinear) else cast(Linear, layer) for path, layer in found.items()}


def check_unmerged(model: nn.Module) -> None:
    """Refuse what would take a base with an adapter in it for the base.

    Raises:
        AdapterError: if an adapter is merged.
    """
    if any(layer.unmerged is not None for layer in lora_layers(model)):
        raise AdapterError("lora: an adapter is merged into the weights; unmerge it first")


def _inject(model: nn.Module, config: LoRAConfig, name: str, generator: torch.Generator) -> None:
    """Build every update before the first layer is replaced, so that a refusal leaves the model as it was."""
    if not name or "." in name or hasattr(nn.ModuleDict, name):
        raise AdapterError(f"lora: '{name}' cannot name an adapter; use a word without dots, such as 'default'")
    check_unmerged(model)
    kind = DoRAUpdate if config.dora else LoRAUpdate
    bases = adaptable(model, config.targets)
    updates = {base: kind(base, config, generator) for base in dict.fromkeys(bases.values())}
    wrappers = {layer.base: layer for layer in lora_layers(model)}
    model.requires_grad_(False)
    for path, base in bases.items():
        wrapper = wrappers.setdefault(base, LoRALinear(base))  # a layer that stands at two paths gets one
        wrapper.adapters[name] = updates[base]
        model.set_submodule(path, wrapper.train(base.training))


def _rows(x: Tensor) -> Tensor:  # [..., D] -> [N, D]
    return x.reshape(-1, x.size(-1))
