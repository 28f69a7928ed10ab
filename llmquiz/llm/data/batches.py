"""From documents to batches: windows of tokens, and the tokens that follow them.

Where a window begins is a choice with consequences. Cut a long row of tokens anywhere, and most windows open in the
middle of a document, where a question about Mia's ball stands without the story: a label that cannot be learned, only
guessed. Packed windows begin where a document begins, so that all that an answer needs is in sight; what is lost is the
end of the last document of each window.

Inputs and targets are the same tokens, one step apart: targets[b, t] is what follows inputs[b, t].

Shapes: N tokens of a row, B windows, T tokens of a window.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.llm.data.corpus.document import Document
from llmquiz.llm.errors import ModelError
from llmquiz.llm.train.loss import Loss


class Encoder(Protocol):
    """The part of a tokenizer that is needed here."""

    def encode(self, text: str, *, special: bool = False) -> list[int]: ...

    def token_id(self, special: str) -> int: ...


class Batch(NamedTuple):
    """B windows; `weights` says how much each target counts."""

    inputs: Tensor  # [B, T]
    targets: Tensor  # [B, T]
    weights: Tensor  # [B, T]


def packed_batch(
    documents: Iterator[Document], tokenizer: Encoder, size: int, length: int, *, answer_weight: int = 1
) -> Batch:
    """`size` windows of `length` tokens, each filled from its start with whole documents, of which the last is cut.

    Args:
        documents: taken from as many as are needed.
        answer_weight: how much more a token of an answer counts than another.

    Raises:
        ModelError: if the documents end too early.
    """
    windows = [_fill_window(documents, tokenizer, length + 1, answer_weight) for _ in range(size)]
    tokens, weights = torch.tensor(windows).unbind(-1)  # [B, T + 1] each
    return Batch(tokens[:, :-1], tokens[:, 1:], weights[:, 1:])


def packed_rows(documents: Iterator[Document], tokenizer: Encoder, size: int, length: int) -> Tensor:  # [B, T + 1]
    """The same windows, each with the token that follows it, for whoever weighs all tokens alike.

    Raises:
        ModelError: if the documents end too early, or the tokenizer has no token that begins or ends a text.
    """
    batch = packed_batch(documents, tokenizer, size, length)
    return torch.cat((batch.inputs, batch.targets[:, -1:]), dim=1)


def _fill_window(
    documents: Iterator[Document], tokenizer: Encoder, length: int, answer_weight: int
) -> list[tuple[int, int]]:
    """Tokens with their weights."""
    window: list[tuple[int, int]] = []
    for document in documents:
        window += _weighted_tokens(document, tokenizer, answer_weight)
        if len(window) >= length:
            return window[:length]
    raise ModelError(f"the documents end before {length} tokens; give more of them, or ask for shorter windows")


def _weighted_tokens(document: Document, tokenizer: Encoder, answer_weight: int) -> Iterator[tuple[int, int]]:
    yield tokenizer.token_id("<|bos|>"), 1
    for piece, is_answer in document.pieces():
        weight = answer_weight if is_answer else 1
        yield from ((token, weight) for token in tokenizer.encode(piece, special=True))
    yield tokenizer.token_id("<|eos|>"), 1


def token_stream(documents: Iterable[Document], tokenizer: Encoder, num_tokens: int) -> Tensor:  # -> [N]
    """The first `num_tokens` tokens of the documents in one row, each document between `<|bos|>` and `<|eos|>`; fewer
    if the documents end before."""
    tokens: list[int] = []
    for document in documents:
        tokens += (token for token, _ in _weighted_tokens(document, tokenizer, 1))
        if len(tokens) >= num_tokens:
            break
    return torch.tensor(tokens[:num_tokens])


def random_batches(
    tokens: Tensor, batch: int, length: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:  # [N] -> ([B, T], [B, T]) without end
    """Windows of a row of tokens, cut anywhere: for text that has no documents in it.

    Raises:
        ModelError: if the row is shorter than a window and its last target.
    """
    if len(tokens) <= length:
        raise ModelError(f"{len(tokens)} tokens have no window of {length} and a target; give more text")
    while True:
        first = torch.randint(len(tokens) - length, (batch, 1), generator=generator)
        windows = tokens[first + torch.arange(length + 1)]
        yield windows[:, :-1], windows[:, 1:]


def weighted_loss(model: nn.Module, batch: Batch) -> Loss:
    """The sum of weight times negative log-likelihood in nats, and the sum of the weights."""
    logits = model(batch.inputs)
    nll = F.cross_entropy(logits.flatten(0, 1).float(), batch.targets.flatten(), reduction="none")
    return (nll * batch.weights.flatten()).sum(), batch.weights.sum()
