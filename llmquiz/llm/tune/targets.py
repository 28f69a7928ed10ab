"""Which layers a method touches. Names are given as peft's `target_modules`: the end of a path stands for that layer of
every block, and nothing that is not named is touched.

A loop over every `nn.Linear` takes the output head along and misses the layers of a model that calls them otherwise
(transformers' GPT-2 has `Conv1D`). So a name that fits no linear layer is an error here, not a layer less.
"""

from __future__ import annotations

from typing import TypeAlias

from torch import nn

from llmquiz.llm.errors import AdapterError

Targets: TypeAlias = tuple[str, ...] | str
ALL_LINEAR = "all-linear"
HEADS = ("lm_head", "embed_out", "score")  # what `all-linear` leaves out, as peft does


def find_targets(model: nn.Module, targets: Targets, kinds: tuple[type[nn.Module], ...]) -> dict[str, nn.Module]:
    """The layers of these `kinds` that `targets` name, by path; a layer that stands at two paths comes twice.

    Args:
        targets: ends of module names, or `all-linear` for every layer but a head.
        kinds: types that count as linear; nothing inside of one is looked at.

    Raises:
        AdapterError: if a target names no layer, or one of another kind, or `model` is itself the layer.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    inside = tuple(f"{path}." for path, module in modules.items() if isinstance(module, kinds))
    modules = {path: module for path, module in modules.items() if not path.startswith(inside)}
    linear = {path: module for path, module in modules.items() if isinstance(module, kinds)}
    if "" in linear:
        raise AdapterError("targets: the model is itself a linear layer, which cannot be replaced; put it in a module")
    if isinstance(targets, str):
        named = {targets: [path for path in linear if _last(path) not in HEADS]}
    else:
        named = {target: [path for path in modules if f".{path}".endswith(f".{target}")] for target in targets}
    for target, paths in named.items():
        if not paths or not linear.keys() >= set(paths):
            names = ", ".join(sorted({_last(path) for path in linear})) or "none"
            raise AdapterError(f"targets: '{target}' names no linear layer; this model's are {names}")
    return {path: layer for path, layer in linear.items() if any(path in paths for paths in named.values())}


def _last(path: str) -> str:
    return path.rpartition(".")[2]
