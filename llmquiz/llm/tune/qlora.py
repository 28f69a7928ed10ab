"""QLoRA: adapters in full precision over a base in four bits (Dettmers et al. 2023, section 3).

The adapter is fitted to the quantized weights, whose rounding errors it partly makes up for. So there are three ways to
merge it, and only one gives the model that was trained: into the dequantized weights. The original weights lack those
errors, and rounding the sum to four bits again makes new ones, of the order of the update itself.
"""

from __future__ import annotations

import torch
from torch import nn

from llmquiz.llm.tune.lora import LoRAConfig, LoRALinear, add_lora, lora_layers
from llmquiz.llm.tune.merging import merge, unload
from llmquiz.llm.tune.nf4 import NF4Linear, quantize_model_


def add_qlora(model: nn.Module, config: LoRAConfig, name: str = "default", *, seed: int = 0) -> int:
    """Quantize the targets to NF4 with double quantization and adapt them. Returns the trainable parameters.

    Raises:
        AdapterError: as `add_lora`.
    """
    quantize_model_(model, config.targets)
    return add_lora(model, config, name, seed=seed)


def merge_dequantized(model: nn.Module) -> None:
    """Turn the quantized bases back into plain layers, in the dtype that they had, merge the acting adapter into them
    and drop the wrappers: the outputs stay, the memory that four bits saved is gone.

    Raises:
        AdapterError: as `merge`.
    """
    for layer in lora_layers(model):
        if isinstance(layer.base, NF4Linear):
            layer.base = _plain(layer.base)
    merge(model)
    unload(model)


def merge_requantized(model: nn.Module) -> None:
    """The merge that looks free: the sum is rounded to four bits again. It is here to measure what that loses.

    Raises:
        AdapterError: as `merge`.
    """
    paths = {
        path: layer.base.block
        for path, layer in model.named_modules()
        if isinstance(layer, LoRALinear) and isinstance(layer.base, NF4Linear)
    }
    merge_dequantized(model)
    for path, block in paths.items():
        layer = model.get_submodule(path)
        assert isinstance(layer, nn.Linear)
        model.set_submodule(path, NF4Linear(layer, block))


def _plain(quantized: NF4Linear) -> nn.Linear:
    """The layer that the codes stand for."""
    with torch.device("meta"):
        linear = nn.Linear(quantized.in_features, quantized.out_features, bias=quantized.bias is not None)
    linear.weight = nn.Parameter(quantized.weight, requires_grad=False)
    if quantized.bias is not None:
        linear.bias = quantized.bias
    return linear
