"""An adapter in peft's file format: what it must hold so that someone else can use it.

`adapter_model.safetensors` has A and B of each layer under the layer's path, `adapter_config.json` the rank, alpha and
targets. The factors alone are useless: without alpha nobody knows how large the update is, and on a base of another
shape, or with a target missing, the result would be a model that nobody has evaluated. So a file is checked as a whole
before the model is touched.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmquiz.llm.errors import AdapterError
from llmquiz.llm.model.decoder import Decoder
from llmquiz.llm.tune.lora import LoRAConfig, LoRALinear, adaptable, adapters, add_lora
from llmquiz.llm.tune.targets import Targets

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."
SUFFIXES = {"A": "lora_A.weight", "B": "lora_B.weight", "magnitude": "lora_magnitude_vector"}  # ours -> peft's
UNSUPPORTED = (
    "alpha_pattern",
    "exclude_modules",
    "fan_in_fan_out",
    "layer_replication",
    "layers_to_transform",
    "lora_bias",
    "modules_to_save",
    "rank_pattern",
    "target_parameters",
    "trainable_token_indices",
)


def save_adapter(model: nn.Module, folder: Path | str, name: str = "default", *, base: str = "") -> None:
    """Write the adapter `name` into `folder`, which is made if need be.

    Args:
        base: the name of the base model, for the config.

    Raises:
        AdapterError: if there is no such adapter.
    """
    from safetensors.torch import save_file

    folder, known = Path(folder), adapters(model)
    if name not in known:
        raise AdapterError(f"save: there is no adapter '{name}'; there are {', '.join(known) or 'none'}")
    tensors = {
        f"{PREFIX}{_published(model, path)}.{SUFFIXES[part]}": tensor.detach().cpu().clone()
        for path, layer in model.named_modules(remove_duplicate=False)
        if isinstance(layer, LoRALinear) and name in layer.updates()
        for part, tensor in layer.updates()[name].named_parameters()
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    fields = _to_peft(known[name], base)
    (folder / CONFIG).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def load_adapter(model: nn.Module, folder: Path | str, name: str = "default", *, base: str = "") -> LoRAConfig:
    """Put the adapter in `folder` beside the layers of `model` as `name`, and let it act. Returns its configuration.

    Args:
        base: the name of this base model; one that differs from the file's is refused.

    Raises:
        AdapterError: if a file is missing, broken or beyond LoRA and DoRA, or does not fit the model. The model is then
            as it was.
    """
    folder = Path(folder)
    config, trained_on = _read_config(model, folder / CONFIG)
    if base and trained_on and base != trained_on:
        raise AdapterError(f"{folder / CONFIG}: trained on '{trained_on}', not on '{base}'; load it on that model")
    tensors = _read_tensors(folder / WEIGHTS)
    expected = _expected(model, config, folder / CONFIG)
    _check(tensors, expected, folder / WEIGHTS)
    add_lora(model, config, name)
    layers = {path: layer for path, layer in model.named_modules() if isinstance(layer, LoRALinear)}
    with torch.no_grad():
        for path, layer in layers.items():
            for part, parameter in layer.updates()[name].named_parameters() if name in layer.updates() else ():
                parameter.copy_(tensors[f"{PREFIX}{_published(model, path)}.{SUFFIXES[part]}"])
    return config


def _to_peft(config: LoRAConfig, base: str) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base or None,
        "inference_mode": True,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": config.targets if isinstance(config.targets, str) else list(config.targets),
        "use_rslora": config.rslora,
        "use_dora": config.dora,
        "bias": "none",
    }


def _read_config(model: nn.Module, path: Path) -> tuple[LoRAConfig, str]:
    """The configuration with the targets' names in `model`, and the name of the base model if the file has one."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        config = LoRAConfig(
            rank=int(fields["r"]),
            alpha=float(fields["lora_alpha"]),
            targets=_targets(model, fields["target_modules"]),
            dropout=float(fields.get("lora_dropout", 0.0)),
            rslora=bool(fields.get("use_rslora", False)),
            dora=bool(fields.get("use_dora", False)),
        )
    except AdapterError as error:
        raise AdapterError(f"{path}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AdapterError(f"{path}: not the configuration of a LoRA adapter ({error}); save it again") from error
    used = [field for field in UNSUPPORTED if fields.get(field)]
    if fields.get("peft_type") != "LORA" or fields.get("bias", "none") != "none" or used:
        raise AdapterError(f"{path}: uses {used[0] if used else 'another method or a bias'}, which this loader lacks")
    return config, str(fields.get("base_model_name_or_path") or "")


def _targets(model: nn.Module, value: object) -> Targets:
    """peft writes ends of paths, or whole paths."""
    if not isinstance(value, list):
        return str(value)
    return tuple(sorted(str(path).removeprefix("model." if isinstance(model, Decoder) else "") for path in value))


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{path}: not a whole safetensors file ({error}); copy it again") from error


def _expected(model: nn.Module, config: LoRAConfig, path: Path) -> dict[str, tuple[int, ...]]:
    """Name in the file -> shape, of every tensor that this adapter has on this model."""
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        layers = adaptable(model, config.targets)
    except AdapterError as error:
        raise AdapterError(f"{path}: does not fit this model: {error}") from error
    for name, layer in layers.items():
        prefix = f"{PREFIX}{_published(model, name)}."
        shapes[prefix + SUFFIXES["A"]] = (config.rank, layer.in_features)
        shapes[prefix + SUFFIXES["B"]] = (layer.out_features, config.rank)
        if config.dora:
            shapes[prefix + SUFFIXES["magnitude"]] = (layer.out_features,)
    return shapes


def _check(tensors: dict[str, Tensor], expected: dict[str, tuple[int, ...]], path: Path) -> None:
    missing, extra = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    if missing or extra:
        problem = f"lacks {min(missing)}" if missing else f"has {min(extra)}, which the model or the config does not"
        raise AdapterError(f"{path}: {problem}; load it on its own base, saved with save_embedding_layers=False")
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != expected[name]:
            raise AdapterError(
                f"{path}: {name} is {list(tensor.shape)} and not {list(expected[name])}; another base model, or the "
                "config is of another adapter"
            )
        if not bool(tensor.isfinite().all()):
            raise AdapterError(f"{path}: {name} has numbers that are not finite; the training that made it broke")


def _published(model: nn.Module, path: str) -> str:
    """The path that the layer has in a released checkpoint: `Decoder` leaves a leading `model.` out."""
    return f"model.{path}" if isinstance(model, Decoder) and path != "lm_head" else path
