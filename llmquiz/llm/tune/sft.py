"""Supervised fine-tuning: teach a model to answer, from pairs of prompt and answer (Ouyang et al. 2022, section 3.1).

What people get wrong is which tokens are learned. Every token is read; only the answer's have labels. With labels on
the prompt the model also spends itself on guessing questions, and its loss cannot fall below their entropy. Without a
label on the end token it never learns to stop: that is what a collator does which pads with the end token and then
ignores all of them. And the tokens that open and close a turn belong to the template alone: a user who types them must
not open a turn, so prompts and answers are encoded as plain text.

Shapes: B rows, T tokens of a row, N examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from llmquiz.llm.base.tokenizer import Tokenizer
from llmquiz.llm.cache.static import StaticCache
from llmquiz.llm.errors import TrainingError
from llmquiz.llm.model.decoder import Decoder
from llmquiz.llm.train.loss import IGNORED, Loss, next_token_loss


@dataclass(frozen=True, slots=True)
class Template:
    """What stands around a prompt and an answer. Training and generation both come here, so they cannot differ."""

    user: str = "<|user|>"
    assistant: str = "<|assistant|>"
    end: str = "<|eos|>"

    def opening(self, tokenizer: Tokenizer) -> list[int]:
        """Ids before a prompt."""
        return tokenizer.encode(self.user, special=True)

    def reply(self, tokenizer: Tokenizer) -> list[int]:
        """Ids after a prompt: the model's turn begins."""
        return tokenizer.encode(self.assistant, special=True)

    def ending(self, tokenizer: Tokenizer) -> list[int]:
        """Ids after an answer: the model's turn ends."""
        return tokenizer.encode(self.end, special=True)


CHAT = Template()


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the answer to learn."""

    prompt: str
    answer: str


class Encoded(NamedTuple):
    """One example: `labels[t]` is the token to learn after `inputs[t]`, or IGNORED. Both of one length."""

    inputs: list[int]
    labels: list[int]


class Batch(NamedTuple):
    """Rows for the model: inputs and labels [B, T]; packed rows have a mask [B, T, T] and positions [B, T] too."""

    inputs: Tensor
    labels: Tensor
    mask: Tensor | None = None
    positions: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """The same on `device`."""
        moved: Batch = tree_map_only(Tensor, lambda part: part.to(device), self)
        return moved


def encode_example(
    example: Example, tokenizer: Tokenizer, *, max_tokens: int | None = None, template: Template = CHAT
) -> Encoded:
    """Tokens and labels: those of the answer and of its end are learned, those of the prompt are read.

    A prompt that is too long loses its beginning, since the question usually stands at its end. The answer is never
    cut: half an answer teaches to stop in the middle.

    Args:
        max_tokens: most inputs of an example; None for no limit.

    Raises:
        TrainingError: if there is no room for the answer and a token of the prompt; the message names the example.
    """
    opening, reply = template.opening(tokenizer), template.reply(tokenizer)
    prompt = tokenizer.encode(example.prompt)
    answer = tokenizer.encode(example.answer) + template.ending(tokenizer)
    if max_tokens is not None:
        room = max_tokens + 1 - len(opening) - len(reply) - len(answer)  # the last token is a label only
        if room < 1:
            raise TrainingError(
                f"example '{example.prompt[:40]}': its answer has {len(answer)} tokens and an example at most "
                f"{max_tokens}; raise the limit or leave it out"
            )
        prompt = prompt[max(0, len(prompt) - room) :]
    read = opening + prompt + reply
    tokens = read + answer
    return Encoded(tokens[:-1], [IGNORED] * (len(read) - 1) + answer)


def collate(rows: Sequence[Encoded]) -> Batch:
    """Rows of one length, padded on the right: nothing real attends to what comes after it, so no mask is needed, and
    what the padding predicts has no label. Any token will do for it."""
    T = max(len(row.inputs) for row in rows)
    inputs = torch.zeros(len(rows), T, dtype=torch.long)
    labels = torch.full((len(rows), T), IGNORED)
    for number, row in enumerate(rows):
        inputs[number, : len(row.inputs)] = torch.tensor(row.inputs)
        labels[number, : len(row.labels)] = torch.tensor(row.labels)
    return Batch(inputs, labels)


def pack(rows: Sequence[Encoded], length: int) -> Batch:
    """Several examples to a row of `length` tokens, so that little of it is padding; each is learned as if it stood
    alone.

    Alone means: it attends to itself only (mask), and begins at position 0 (positions). Without the mask an example
    reads its neighbours; without the positions RoPE would still give the same scores, but learned positions would not.

    Raises:
        TrainingError: if an example is longer than a row.
    """
    bins = _first_fit(rows, length)
    packed = collate([Encoded([0] * length, [IGNORED] * length)] * len(bins))
    documents = torch.full((len(bins), length), -1)  # [B, T]: which example a token belongs to; -1 for padding
    positions = torch.zeros(len(bins), length, dtype=torch.long)
    for number, members in enumerate(bins):
        start = 0
        for document, row in enumerate(members):
            place = slice(start, start + len(row.inputs))
            packed.inputs[number, place] = torch.tensor(row.inputs)
            packed.labels[number, place] = torch.tensor(row.labels)
            documents[number, place] = document
            positions[number, place] = torch.arange(len(row.inputs))
            start = place.stop
    mask = documents[:, :, None] == documents[:, None, :]  # [B, T, T]
    return Batch(packed.inputs, packed.labels, mask, positions)


def _first_fit(rows: Sequence[Encoded], length: int) -> list[list[Encoded]]:
    """Longest first, each into the first row that has room: at most about 11/9 of the fewest rows (Johnson 1973)."""
    bins: list[list[Encoded]] = []
    left: list[int] = []
    for row in sorted(rows, key=lambda row: -len(row.inputs)):
        needed = len(row.inputs)
        if needed > length:
            raise TrainingError(f"pack: an example of {needed} tokens exceeds rows of {length}; make them longer")
        fitting = next((number for number, room in enumerate(left) if room >= needed), len(bins))
        if fitting == len(bins):
            bins.append([])
            left.append(length)
        bins[fitting].append(row)
        left[fitting] -= needed
    return bins


def sft_loss(model: nn.Module, batch: Batch) -> Loss:
    """Sum over the labels, and their number: what `Trainer` asks for. One long answer counts as much as several short
    ones of the same length together."""
    if batch.mask is None:
        return next_token_loss(model(batch.inputs), batch.labels)
    return next_token_loss(model(batch.inputs, mask=batch.mask, positions=batch.positions), batch.labels)


class Reply(NamedTuple):
    """What a model answered: the text without the end, its tokens with it, and whether it ended by itself."""

    text: str
    tokens: list[int]
    stopped: bool


@torch.no_grad()
def generate_replies(
    model: Decoder, tokenizer: Tokenizer, prompts: Sequence[str], max_new_tokens: int, *, template: Template = CHAT
) -> list[Reply]:
    """The likeliest reply to each prompt, of at most `max_new_tokens` tokens besides the prompt's.

    Prompts are padded on the left, where generation needs the last column to be the last token of every prompt. The
    reply is cut by tokens, not by the characters of the prompt: decoding need not give these back. Dropout is off
    meanwhile, and the model is then in the mode that it was in.
    """
    ids = [template.opening(tokenizer) + tokenizer.encode(prompt) + template.reply(tokenizer) for prompt in prompts]
    B, P, end = len(ids), max(map(len, ids)), template.ending(tokenizer)[0]
    device = model.embed_tokens.weight.device
    tokens = torch.zeros(B, P + max_new_tokens, dtype=torch.long)
    visible = torch.ones_like(tokens, dtype=torch.bool)  # [B, S]
    for number, row in enumerate(ids):
        tokens[number, P - len(row) : P] = torch.tensor(row)
        visible[number, : P - len(row)] = False
    tokens, visible = tokens.to(device), visible.to(device)
    positions = (visible.cumsum(1) - 1).clamp(min=0)
    cache = StaticCache(model.config, P + max_new_tokens, batch=B, dtype=model.embed_tokens.weight.dtype, device=device)
    with evaluating(model):
        for S in range(P, P + max_new_tokens):
            new = slice(cache.length, S)
            logits = model(tokens[:, new], cache, last_only=True, mask=visible[:, :S], positions=positions[:, new])
            tokens[:, S] = logits[:, -1].argmax(-1)
            if bool((tokens[:, P : S + 1] == end).any(1).all()):
                break
    return [_reply(row, end, tokenizer) for row in tokens[:, P : S + 1].tolist()]


def _reply(tokens: list[int], end: int, tokenizer: Tokenizer) -> Reply:
    stopped = end in tokens
    said = tokens[: tokens.index(end)] if stopped else tokens
    return Reply(tokenizer.decode(said), tokens[: len(said) + 1], stopped)


def generate_reply(
    model: Decoder, tokenizer: Tokenizer, prompt: str, max_new_tokens: int, *, template: Template = CHAT
) -> Reply:
    """`generate_replies` to one prompt."""
    return generate_replies(model, tokenizer, [prompt], max_new_tokens, template=template)[0]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, for a while."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
