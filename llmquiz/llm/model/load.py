"""Weights from a checkpoint: a config.json beside safetensors files, read here without transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder

_PREFIX = "model."


def find_checkpoint(name: str) -> Path:
    """The folder of a checkpoint: `name` itself if it is a folder, else the Hugging Face id `name`, downloaded if need
    be.

    Raises:
        ModelError: if there is no such folder, and no such id or no way to it.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise ModelError(f"{name}: no such folder, and huggingface_hub is not installed to look for an id") from error
    try:
        return Path(
            snapshot_download(name, allow_patterns=["config.json", "*.safetensors", "*.safetensors.index.json"])
        )
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"{name}: neither a folder nor a Hugging Face id that can be reached; check the name"
        ) from error


def read_config(folder: Path) -> ModelConfig:
    """The shape of a checkpoint, from its config.json.

    Raises:
        ModelError: if the file is missing, broken, or of a model outside the Llama family.
    """
    return ModelConfig.from_transformers(read_fields(folder))


def read_fields(folder: Path) -> dict[str, Any]:
    """What a checkpoint's config.json holds.

    Raises:
        ModelError: if the file is missing or broken.
    """
    path = folder / "config.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(
            f"{path}: not readable as JSON; --model takes a folder with config.json and safetensors"
        ) from error


def load_checkpoint(folder: Path, *, dtype: torch.dtype, device: torch.device | str) -> Decoder:
    """The decoder that a checkpoint's folder holds.

    Raises:
        ModelError: if files are missing or do not fit the config, or safetensors is not installed.
    """
    return build(read_config(folder), read_tensors(folder, dtype=dtype, device=device))


def read_tensors(folder: Path, *, dtype: torch.dtype, device: torch.device | str) -> dict[str, Tensor]:
    """The weights of a checkpoint's safetensors files, by their names there.

    Raises:
        ModelError: if there is no such file, or safetensors is not installed.
    """
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ModelError("safetensors is not installed; install the labs extra") from error
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: no *.safetensors here; save the model with save_pretrained")
    return {name: t.to(dtype) for file in files for name, t in load_file(file, device=str(device)).items()}


def build(config: ModelConfig, tensors: dict[str, Tensor]) -> Decoder:
    """A decoder that holds `tensors` themselves, under their names in a checkpoint: no second copy is made.

    Raises:
        ModelError: if a name or a shape differs.
    """
    with torch.device("meta"):
        model = Decoder(config)
    weights = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
    weights = {name: tensor for name, tensor in weights.items() if not name.endswith("inv_freq")}
    if config.tie_embeddings:
        weights["lm_head.weight"] = weights["embed_tokens.weight"]
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        problem = " ".join(str(error).split())
        raise ModelError(f"weights do not fit the config: {problem[:300]}") from error
    model.tie_weights()
    return model.eval()
