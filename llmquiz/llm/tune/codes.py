"""A task that no text holds: codes to learn by heart, "The code of the ant is 417."

A base model cannot know them, so its loss starts high; a few numbers are all there is to learn, so it falls to nothing
within a minute on any machine; and what was learned can be told from what was known before. Only the code has labels:
which animal comes next is chance, and a loss on chance has a floor.

Shapes: B rows, one an animal; T tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmquiz.llm.base.tokenizer import Tokenizer
from llmquiz.llm.train.loss import IGNORED

ANIMALS = (
    "ant",
    "bat",
    "bee",
    "cat",
    "cow",
    "dog",
    "elk",
    "fox",
    "gnu",
    "hen",
    "jay",
    "owl",
    "pig",
    "ram",
    "rat",
    "yak",
)


def codes(tokenizer: Tokenizer, seed: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Inputs and labels [B, T], shifted, right-padded with zeros that have no label."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(100, 1000, (len(ANIMALS),), generator=generator).tolist()
    rows = []
    for animal, number in zip(ANIMALS, numbers, strict=True):
        prompt, answer = (tokenizer.encode(text) for text in (f"The code of the {animal} is", f" {number}."))
        rows.append((prompt + answer[:-1], [IGNORED] * (len(prompt) - 1) + answer))
    length = max(len(labels) for _, labels in rows)
    inputs = torch.tensor([ids + [0] * (length - len(ids)) for ids, _ in rows])
    labels = torch.tensor([wanted + [IGNORED] * (length - len(wanted)) for _, wanted in rows])
    return inputs.to(device), labels.to(device)
