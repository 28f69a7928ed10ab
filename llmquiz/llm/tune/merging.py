"""Merging: an adapter added to the weights that it was trained beside, so that it costs nothing at inference (Hu et al.
2021, section 4.1).

Both paths are linear in the same input, so their matrices add up. What people get wrong is what the sum is rounded to
and who else reads it. In bf16 a part of a small update is lost; in four bits a good part of it, and the base's rounding
errors, to which the adapter was fitted, are drawn anew. A tied head is the embedding too. So quantized and tied weights
are refused, and the base's own weights are kept until `unload`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmquiz.llm.errors import AdapterError
from llmquiz.llm.tune.lora import LoRALinear, check_unmerged, lora_layers


def merge(model: nn.Module) -> None:
    """Add the acting adapter to the weights: the same outputs by a model of the base's own shape and speed. The sum is
    taken in the adapter's precision and rounded to the base's.

    Raises:
        AdapterError: if an adapter is merged, none acts, or a weight is quantized or tied. Nothing is merged then.
    """
    check_unmerged(model)
    layers = [layer for layer in lora_layers(model) if layer.acting is not None]
    if not layers:
        raise AdapterError("merge: no adapter acts; choose one with use_adapter")
    shared = _shared_weights(model)
    for layer in layers:
        weight = layer.base.weight
        if not isinstance(layer.base, nn.Linear) or not weight.is_floating_point():
            raise AdapterError(
                "merge: the base is quantized, and rounding the sum to 4 bits loses a good part of the update; "
                "dequantize it first"
            )
        if weight in shared:
            raise AdapterError(f"merge: {shared[weight]} share a weight, so that merging would change both; untie them")
    with torch.no_grad():
        for layer in layers:
            weight = layer.base.weight
            merged = layer.weight
            layer.unmerged, weight.data = weight.data, merged


def unmerge(model: nn.Module) -> None:
    """Take the merged adapter out again: the base's weights are back to the bit.

    Raises:
        AdapterError: if none is merged.
    """
    merged = [layer for layer in lora_layers(model) if layer.unmerged is not None]
    if not merged:
        raise AdapterError("unmerge: no adapter is merged")
    for layer in merged:
        assert layer.unmerged is not None
        layer.base.weight.data, layer.unmerged = layer.unmerged, None


def unload(model: nn.Module) -> None:
    """Put the plain layers back, with what was merged into them: the adapters are gone."""
    for path, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, LoRALinear):
            model.set_submodule(path, module.base)


def _shared_weights(model: nn.Module) -> dict[Tensor, str]:
    """Weights that several modules hold, with the paths of these."""
    holders: dict[Tensor, list[str]] = {}
    for path, module in model.named_modules():
        for weight in module.parameters(recurse=False):
            holders.setdefault(weight, []).append(path)
    return {weight: " and ".join(paths) for weight, paths in holders.items() if len(paths) > 1}
