"""Greedy decoding, one loop for every cache and for none.

The loop feeds what the cache does not hold: with a cache T, 1, 1, 1, ... tokens; without one T, T + 1, T + 2, ... The
first pass (prefill) works on the whole prompt at once and is bound by arithmetic; each later pass (decode) works on one
token and is bound by reading the weights and the cache. So they are timed apart.

Shapes: B sequences of one prompt length P, N new tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor, nn

from llmquiz.llm.cache.base import Cache
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.decoder import Decoder

_STOP_CHECK_INTERVAL = 16  # tokens between looks at whether all sequences ended, where looking stalls the device


@dataclass(frozen=True, slots=True)
class Generation:
    """What one call made, and what it took.

    `tokens` is [B, N] without the prompt; a sequence that ended is filled with its end token. Times are wall-clock
    seconds; the first new token belongs to the prefill, the other N - 1 to the decoding.
    """

    tokens: Tensor
    prefill_seconds: float
    decode_seconds: float


@torch.inference_mode()
def generate(
    model: Decoder, prompt: Tensor, max_new_tokens: int, *, cache: Cache | None = None, eos: Sequence[int] = ()
) -> Generation:
    """Continue `prompt` [B, P] by the likeliest token, up to `max_new_tokens` or until every sequence gave one of
    `eos`.

    Raises:
        ModelError: if the cache is not empty, or if prompt and new tokens exceed the model's positions or the cache.
    """
    if cache is not None and cache.length:
        raise ModelError(f"generate: the cache already holds {cache.length} tokens; reset it first")
    B, P = prompt.shape
    tokens = torch.empty(B, P + max_new_tokens, dtype=prompt.dtype, device=prompt.device)
    tokens[:, :P] = prompt
    ends = torch.tensor(list(eos), dtype=prompt.dtype, device=prompt.device)
    ended = torch.zeros(B, dtype=torch.bool, device=prompt.device)
    interval = 1 if prompt.device.type == "cpu" else _STOP_CHECK_INTERVAL
    started = decoding = perf_counter()
    end = P
    while end < P + max_new_tokens:
        seen = 0 if cache is None else cache.length
        following = model(tokens[:, seen:end], cache, last_only=True)[:, -1].argmax(-1)  # [B]
        if eos:
            following = torch.where(ended, tokens[:, end - 1], following)
            ended |= torch.isin(following, ends)
        tokens[:, end] = following
        end += 1
        if end == P + 1:
            _synchronize(prompt.device)
            decoding = perf_counter()
        if eos and (end - P) % interval == 0 and bool(ended.all()):
            break
    _synchronize(prompt.device)
    finished = perf_counter()
    return Generation(_cut(tokens[:, P:end], ends), decoding - started, finished - decoding)


def store_transposed(model: nn.Module) -> None:
    """Lay every linear weight out column by column; shapes, values and names stay.

    One token times a weight is a matrix-vector product. On a CPU, torch's kernel for it reads a transposed weight as
    one stream, where it would sum along each row by itself: about 1.5 times faster decoding. Other devices gain
    nothing.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight.data = module.weight.data.t().contiguous().t()


def _cut(tokens: Tensor, ends: Tensor) -> Tensor:  # [B, N] -> [B, N']
    """Without the columns in which every sequence had ended before."""
    if not ends.numel():
        return tokens
    done = torch.isin(tokens, ends).cummax(dim=1).values.all(dim=0)  # [N]
    return tokens[:, : int((~done).sum()) + 1]


def _synchronize(device: torch.device) -> None:
    """Wait for the work queued on an accelerator; a clock read before that times the queueing."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
