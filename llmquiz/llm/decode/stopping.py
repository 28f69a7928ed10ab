"""From tokens to text while they come: stop strings, and streams that never take back what they gave.

Two boundaries do not agree with tokens. A character of UTF-8 may be spread over several, so the text of the first of
them ends in U+FFFD, which is no part of the answer. And a stop string may begin in the middle of one token and end in
the middle of another: comparing token ids with those of the encoded string misses it, and text that might be its
beginning must be held back, or the reader has seen half of it before it is known.

Shapes: B sequences, n new tokens so far.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llmquiz.llm.base.tokenizer import Tokenizer
from llmquiz.llm.errors import ModelError

_HALF = "\ufffd"  # what decoding gives for bytes that are no whole character


def find_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the stop string begins that is complete first; None if there is none.

    First complete, not first begun: that is what reading the text letter by letter finds, so it does not depend on
    where tokens end.
    """
    found = [(start + len(stop), start) for stop in stops if (start := text.find(stop)) >= 0]
    return min(found)[1] if found else None


class StopStrings:
    """A `stop` for `generate`: ends the sequences whose new text holds one of `stops`. The prompt is not searched.

    Only the end of the text can be new, so no more tokens are decoded than the longest stop string has bytes: a token
    has at least one. Reads the tokens on the host, so an accelerator is waited for.

    Raises:
        ModelError: if a stop string is empty.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str]) -> None:
        _check(stops)
        self.tokenizer, self.stops = tokenizer, tuple(stops)
        self.window = 1 + max((len(stop.encode()) for stop in self.stops), default=0)

    def __call__(self, tokens: Tensor) -> Tensor:  # [B, n] -> [B]
        tails = [self.tokenizer.decode(row) for row in tokens[:, -self.window :].tolist()]
        return torch.tensor([find_stop(tail, self.stops) is not None for tail in tails], device=tokens.device)


class TextStream:
    """The text of one sequence, piece by piece: what `push` and `finish` return, joined, is the text up to the first
    stop string.

    Attributes:
        stopped: whether a stop string came; nothing is returned from then on.

    Raises:
        ModelError: if a stop string is empty.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> None:
        _check(stops)
        self.tokenizer, self.stops, self.stopped = tokenizer, tuple(stops), False
        self._given: list[int] = []  # the tokens that were decoded last: some tokenizers drop the first token's space
        self._waiting: list[int] = []  # tokens that may end inside a character
        self._held = ""  # text that may be the beginning of a stop string

    def push(self, token: int) -> str:
        """The text that is certain now; often empty, never half a character."""
        self._waiting.append(token)
        new = self._decode_waiting()
        if new.endswith(_HALF) or self.stopped:
            return ""
        self._given, self._waiting = self._waiting, []
        return self._release(new, hold=True)

    def finish(self) -> str:
        """The rest: what was held back in case a stop string came, and an unfinished character as U+FFFD."""
        return "" if self.stopped else self._release(self._decode_waiting(), hold=False)

    def _decode_waiting(self) -> str:
        before = self.tokenizer.decode(self._given)
        return self.tokenizer.decode(self._given + self._waiting)[len(before) :]

    def _release(self, new: str, *, hold: bool) -> str:
        text = self._held + new
        start = find_stop(text, self.stops)
        if start is not None:
            self.stopped = True
            return text[:start]
        kept = max((_overlap(text, stop) for stop in self.stops), default=0) if hold else 0
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `stop`."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)


def _check(stops: Sequence[str]) -> None:
    if "" in stops:
        raise ModelError("stop strings: an empty one is in every text; leave it out")
