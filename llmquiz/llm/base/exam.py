"""An exam for a language model: held-out documents, and whether it would have written each answer exactly.

Nothing is generated. Greedy decoding writes an answer exactly if, and only if, each of its tokens is the likeliest one
after the true tokens before it; as long as all were right, the text decoded so far *is* the true text. So one forward
pass over a document marks all its answers at once, fifty times faster than decoding and with the same result. (For a
sampled answer, or for a score that forgives other wordings, that does not hold.)

Shapes: B documents, T tokens of the longest, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from llmquiz.llm.base.tokenizer import Tokenizer
from llmquiz.llm.data.corpus import Document

_BATCH = 32


@dataclass(slots=True)
class Marks:
    """How many answers were asked, and how many the model would have written exactly."""

    right: int = 0
    asked: int = 0

    @property
    def share(self) -> float:
        return self.right / self.asked if self.asked else 0.0


def exam(
    model: nn.Module, tokenizer: Tokenizer, documents: Iterable[Document], device: torch.device | str = "cpu"
) -> dict[tuple[str, str], Marks]:
    """Marks by kind and language."""
    marks: dict[tuple[str, str], Marks] = {}
    rest = iter(documents)
    while batch := list(islice(rest, _BATCH)):
        encoded = [encode(document, tokenizer) for document in batch]
        right = likeliest_is_true(model, [tokens for tokens, _ in encoded], device)
        for row, document, (_, answers) in zip(right, batch, encoded, strict=True):
            tally = marks.setdefault((document.kind, document.lang), Marks())
            tally.asked += len(answers)
            tally.right += sum(bool(row[start - 1 : end - 1].all()) for start, end in answers)
    return marks


def encode(document: Document, tokenizer: Tokenizer) -> tuple[list[int], list[tuple[int, int]]]:
    """The tokens of a document after `<|bos|>`, and from where to where each answer goes."""
    tokens, answers = [tokenizer.token_id("<|bos|>")], []
    for piece, is_answer in document.pieces():
        ids = tokenizer.encode(piece, special=True)
        if is_answer:
            answers.append((len(tokens), len(tokens) + len(ids)))
        tokens += ids
    return tokens, answers


@torch.no_grad()
def likeliest_is_true(model: nn.Module, rows: list[list[int]], device: torch.device | str) -> Tensor:
    """[B, T - 1]: whether the model's first choice after token t is token t + 1.

    Padding stands on the right, where causal attention keeps it out of sight of every real token.
    """
    longest = max(map(len, rows))
    tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
    predicted: Tensor = model(tokens)[:, :-1].argmax(-1)
    return (predicted == tokens[:, 1:]).cpu()
