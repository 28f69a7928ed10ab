"""Preference pairs in words, for a model that reads words: what they say, and how they become tokens.

What people get wrong is the seam. Encoded as one text, the end of the prompt may merge with the beginning of a
completion into one token, for the chosen one and not for the rejected one: the two are then no answers to the same
prompt, and a mask by the prompt's length starts one token off. So the prompt is encoded once, each completion by
itself, and their ids are joined.

An end belongs to each completion. Without it "Seven." is also how "Seven. No, eight." begins, and nothing prefers to
stop.

Shapes: B pairs, T tokens of prompt and completion with padding on the right. The B chosen rows come before the B
rejected ones. Log-probs in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from llmquiz.llm.align.logprobs import sequence_logprobs, token_logprobs
from llmquiz.llm.align.reward import right_pad
from llmquiz.llm.base.tokenizer import Tokenizer

USER, ASSISTANT, END = (
    "Q: ",
    "\nA: ",
    "\n",
)  # plain text: every tokenizer has it, and no base model knows another's roles


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to a prompt, and which one is preferred."""

    prompt: str
    chosen: str
    rejected: str


# Rejected ones are wrong or wordy, by turns: if all were long, the shorter answer would be all there is to learn.
PAIRS = (
    Pair("How many days are in a week?", "Seven.", "Ten."),
    Pair("What is 6 times 7?", "42.", "That is a good question, and I am glad that you ask. It is 42."),
    Pair("What color is snow?", "White.", "Green."),
    Pair("一年有几个月？", "十二个。", "十个。"),
    Pair("猫会飞吗？", "不会。", "这个问题很有意思，让我们慢慢说：不会。"),
    Pair("水在多少度结冰？", "零度。", "五十度。"),
    Pair("What is the opposite of hot?", "Cold.", "There are many ways to see this, but one may say cold."),
    Pair("Where does the sun rise?", "In the east.", "In the west."),
    Pair("How many legs does a spider have?", "Eight.", "Six."),
    Pair("三加四等于几？", "七。", "八。"),
    Pair("中国的首都是哪里？", "北京。", "首先，感谢你的提问。总的来说，答案是北京。"),
    Pair("冰是热的还是冷的？", "冷的。", "热的。"),
)
UNSEEN_PAIRS = (
    Pair("How many hours are in a day?", "24.", "20."),
    Pair("What color is grass?", "Green.", "Before I answer, let me say that colors differ. It is green."),
    Pair("二加二等于几？", "四。", "五。"),
    Pair("鱼住在哪里？", "水里。", "这要从很多方面来看，一般来说是水里。"),
)


class EncodedPair(NamedTuple):
    """Ids of the prompt, and of each completion with its end."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


class PairBatch(NamedTuple):
    """Chosen rows and then rejected ones, all [2B, T]: tokens, which of them are no padding (bool), and which are the
    completion's (bool)."""

    tokens: Tensor
    real: Tensor
    completion: Tensor


def encode_pair(pair: Pair, tokenizer: Tokenizer) -> EncodedPair:
    """The ids of a pair, split where the completion begins."""
    prompt = tokenizer.encode(f"{USER}{pair.prompt}{ASSISTANT}")
    return EncodedPair(prompt, tokenizer.encode(pair.chosen + END), tokenizer.encode(pair.rejected + END))


def collate_pairs(pairs: Sequence[EncodedPair], *, device: torch.device | str = "cpu") -> PairBatch:
    """Pairs of any lengths as one batch."""
    chosen, rejected = [pair.prompt + pair.chosen for pair in pairs], [pair.prompt + pair.rejected for pair in pairs]
    tokens, real = right_pad([torch.tensor(row) for row in chosen + rejected], device=device)
    starts = torch.tensor([len(pair.prompt) for pair in pairs] * 2, device=device)
    return PairBatch(tokens, real, real & (torch.arange(tokens.size(1), device=device) >= starts[:, None]))


def pair_batches(pairs: Sequence[Pair], tokenizer: Tokenizer, size: int, device: torch.device | str) -> list[PairBatch]:
    """Batches of at most `size` pairs, in their order."""
    rows = [encode_pair(pair, tokenizer) for pair in pairs]
    return [collate_pairs(rows[start : start + size], device=device) for start in range(0, len(rows), size)]


def pair_logprobs(model: nn.Module, batch: PairBatch) -> Tensor:  # -> [2, B]
    """log p(completion | prompt) of the chosen ones and of the rejected ones, as sums over their tokens."""
    logprobs = token_logprobs(model(batch.tokens), batch.tokens)  # [2B, T - 1]
    return sequence_logprobs(logprobs, batch.completion[:, 1:]).view(2, -1)
