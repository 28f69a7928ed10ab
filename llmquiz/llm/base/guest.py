"""A model of the user's own in a lab whose law needs models made for it.

Where an experiment begins with random weights, or with a language whose entropy is known, a finished model cannot take
the place of the lab's own. It can be looked at besides, on text in its own tokens; nothing is claimed of a model that
nobody here has seen.

Shapes: B rows, T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from llmquiz.llm.base.load import base_model
from llmquiz.llm.base.memory import check_fits, estimate
from llmquiz.llm.base.tokenizer import Tokenizer
from llmquiz.llm.data.corpus import documents
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.decoder import Decoder


@dataclass(frozen=True, slots=True)
class Guest:
    """The model, in evaluation mode, and rows of the corpus in its tokens [B, T + 1]."""

    name: str
    model: nn.Module
    texts: Tensor

    def num_parameters(self) -> int:
        return sum(weight.numel() for weight in self.model.parameters())


def invite(name: str, *, rows: int, length: int, seed: int, device: str, trained: bool = False) -> Guest:
    """Load a checkpoint's folder or Hugging Face id, if it fits.

    Args:
        rows: B.
        length: T, cut to the model's positions where they are known.
        seed: of the texts.
        trained: whether all weights shall get gradients and AdamW's moments.

    Raises:
        ModelError: if there is no such model, or memory for it.
    """
    language = base_model(name, device=device)
    model = language.model
    config = model.config if isinstance(model, Decoder) else None
    total = sum(weight.numel() for weight in model.parameters())
    length = min(length, config.max_position) if config else length
    needed = estimate(0, trainable=total if trained else 0, config=config, tokens=rows * length)
    check_fits(needed, device, what=f"working with {name}")
    texts = corpus_rows(language.tokenizer, rows, length, seed).to(device)
    return Guest(Path(name).name or name, model, texts)


def corpus_rows(tokenizer: Tokenizer, rows: int, length: int, seed: int) -> Tensor:  # [B, T + 1]
    """The corpus in the tokens of any tokenizer, cut into rows; a row may begin anywhere."""
    stream = (token for document in documents(seed) for token in tokenizer.encode(document.text, special=True))
    return torch.tensor(list(islice(stream, rows * (length + 1)))).view(rows, length + 1)


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The stack of blocks of a decoder of any architecture: its longest list of modules.

    Raises:
        ModelError: if it has none.
    """
    lists: Iterator[nn.ModuleList] = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    longest = max(lists, key=len, default=None)
    if longest is None or len(longest) == 0:
        raise ModelError("the model has no list of layers; use a decoder-only Transformer")
    return longest


def evenly(count: int, most: int = 12) -> list[int]:
    """At most `most` of `count` indices, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})
