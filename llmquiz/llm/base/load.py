"""A language model by name: the shipped one, a checkpoint's folder, or a Hugging Face id.

Labs take a model and a tokenizer that belong together, and ask for nothing else: `model(tokens)` gives logits. One of
the Llama family or a GPT-2 runs in our own decoders, whose code a reader can follow; any other decoder-only
architecture runs in transformers behind the same call. What is worth knowing is what happens before loading: the size
is read from the file's header, so that a model that does not fit is refused in milliseconds and not by the operating
system.

Shapes: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmquiz.llm.base.memory import check_fits, estimate
from llmquiz.llm.base.reconcile import reconcile
from llmquiz.llm.base.tokenizer import Tokenizer, read_tokenizer
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.config import FAMILIES
from llmquiz.llm.model.gpt2 import load_gpt2
from llmquiz.llm.model.load import find_checkpoint, load_checkpoint

FOLDER = Path(__file__).parent
NAME = "llmquiz-base"


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A model and the tokenizer that it was trained with.

    Attributes:
        model: `model(tokens [B, T]) -> logits [B, T, V]`, in evaluation mode; a `Decoder` of the Llama family or a
            `GPT2` where it is one.
        tokenizer: text to ids and back; `token_id("<|eos|>")` ends a text.
        name: what to call it in a table.
        notes: what did not fit between the two and how it was made to, a sentence each.
    """

    model: nn.Module
    tokenizer: Tokenizer
    name: str
    notes: tuple[str, ...] = ()


class TransformersModel(nn.Module):
    """A causal language model of transformers, called as ours are."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, tokens: Tensor) -> Tensor:  # [B, T] -> [B, T, V]
        logits: Tensor = self.inner(tokens, use_cache=False).logits
        return logits


def base_model(
    name: str = "", *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> LanguageModel:
    """The shipped model, or the one that `name` says: a folder or a Hugging Face id.

    A tokenizer with more tokens than a Llama-like model has rows gets the rows that it lacks (`reconcile`).

    Raises:
        ModelError: if there is no such model, it does not fit into memory, or its files are damaged.
    """
    folder = find_checkpoint(name) if name else FOLDER
    config = _read_json(folder / "config.json")
    size = num_parameters(folder)
    check_fits(estimate(size, itemsize=dtype.itemsize), device, what=f"{name or NAME} ({size / 1e6:.0f}M parameters)")
    tokenizer = read_tokenizer(_tokenizer_file(name, folder), config)
    if config.get("model_type") in FAMILIES:
        decoder = load_checkpoint(folder, dtype=dtype, device=device)
        return LanguageModel(decoder, tokenizer, name or NAME, reconcile(decoder, tokenizer).notes)
    if config.get("model_type") == "gpt2":
        model: nn.Module = load_gpt2(folder, dtype=dtype, device=device)
    else:
        model = _load_with_transformers(folder, dtype, device)
    return LanguageModel(model, tokenizer, name or NAME)


def num_parameters(folder: Path) -> int:
    """Numbers in a checkpoint, from the headers of its safetensors files; the weights are not read.

    Raises:
        ModelError: if there is no such file, or a damaged one.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: no *.safetensors here; save the model with save_pretrained")
    return sum(_header_numbers(file) for file in files)


def _header_numbers(file: Path) -> int:
    """A safetensors file begins with 8 bytes, the length of the JSON that follows: name -> dtype, shape, place."""
    try:
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        return sum(int(torch.Size(entry["shape"]).numel()) for entry in tensors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as error:
        raise ModelError(f"{file}: not readable as safetensors; download or save it again") from error


def _tokenizer_file(name: str, folder: Path) -> Path:
    """Beside the weights; fetched if the checkpoint came from the hub without it."""
    path = folder / "tokenizer.json"
    if path.is_file() or not name or Path(name).expanduser().is_dir():
        return path
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    try:
        return Path(hf_hub_download(name, "tokenizer.json"))
    except (EntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(f"{name}: no tokenizer.json there; choose a model with a fast tokenizer") from error


def _load_with_transformers(folder: Path, dtype: torch.dtype, device: torch.device | str) -> nn.Module:
    try:
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise ModelError("transformers is not installed; install the labs extra, or use a Llama-like model") from error
    try:
        inner: Any = AutoModelForCausalLM.from_pretrained(folder)
    except (OSError, ValueError, RuntimeError) as error:
        problem = " ".join(str(error).split())
        raise ModelError(f"{folder}: transformers cannot load it as a decoder: {problem[:300]}") from error
    return TransformersModel(inner.to(device, dtype)).eval()


def _read_json(path: Path) -> Mapping[str, object]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path}: not readable as JSON; a model is a folder with config.json and safetensors"
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: not an object; is this the config.json of a model?")
    return content
