"""One loop for every cache and for none, greedy and sampled, padded and forked.

The loop feeds what the cache does not hold: with a cache T, 1, 1, 1, ... tokens; without one T, T + 1, T + 2, ... The
first pass (prefill) works on the whole prompt at once and is bound by arithmetic; each later pass (decode) works on one
token and is bound by reading the weights and the cache. So they are timed apart.

Prompts of different lengths are padded on the left, so that all of them end in the column that is continued. The mask
hides the padding, and positions count real tokens only: RoPE forgives a shift, learned positions do not.

An accelerator works through a queue that the host fills, and waits whenever the host looks at a value. So the loop
looks only at every 16th token whether all sequences have ended, and cuts off what was made in vain.

Shapes: B sequences of one (padded) prompt length P, N new tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.llm.cache.base import Cache
from llmquiz.llm.decode.processors import Processor
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.causal import CausalLM

_STOP_CHECK_INTERVAL = 16  # tokens between looks at whether all sequences ended, where looking stalls the device


@dataclass(frozen=True, slots=True)
class Generation:
    """What one call made, and what it took.

    Attributes:
        tokens: [B, N] without the prompt; a sequence that ended is filled with its last token.
        lengths: [B], tokens of each sequence up to and with its end.
        prefill_seconds: wall-clock time to the first new token.
        decode_seconds: of the other N - 1.
        logprobs: [B, N] if asked for, nats: of each token under the model itself, before processors; zero past the end.
    """

    tokens: Tensor
    lengths: Tensor
    prefill_seconds: float
    decode_seconds: float
    logprobs: Tensor | None = None


@torch.inference_mode()
def generate(
    model: CausalLM,
    prompt: Tensor,
    max_new_tokens: int,
    *,
    cache: Cache | None = None,
    eos: Sequence[int] = (),
    mask: Tensor | None = None,
    processors: Sequence[Processor] = (),
    sample: Callable[[Tensor], Tensor] | None = None,
    fork: int = 1,
    stop: Callable[[Tensor], Tensor] | None = None,
    on_tokens: Callable[[Tensor], None] | None = None,
    logprobs: bool = False,
) -> Generation:
    """Continue `prompt` [B, P] by up to `max_new_tokens`, until every sequence gave one of `eos` or was stopped.

    Args:
        cache: an empty one; None to compute everything again for every token.
        mask: [B, P], False for padding, which stands on the left.
        processors: change the logits [B, V], in this order.
        sample: chooses tokens [B] from logits [B, V], as a `Sampler` does; None takes the likeliest.
        fork: continuations of each prompt, next to each other: the prompt is computed once, then its cache is copied.
        stop: sees the new tokens so far [B, n] and says which sequences end with the last of them, [B].
        on_tokens: gets the tokens [B] of each step, for streaming. Like `stop` it runs in the loop; if it looks at
            them, the device is waited for.
        logprobs: whether to keep them.

    Raises:
        ModelError: if the cache is not empty, padding is not on the left, or prompt and new tokens exceed the model's
            positions or the cache.
    """
    if cache is not None and cache.length:
        raise ModelError(f"generate: the cache already holds {cache.length} tokens; reset it first")
    if mask is not None and not bool(mask[:, -1].all()):
        raise ModelError("generate: a row of the mask ends in padding; pad on the left, where nothing is continued")
    P, device = prompt.size(1), prompt.device
    text = _Text(F.pad(prompt, (0, max_new_tokens)), mask)
    started = decoding = perf_counter()
    logits = text.next_logits(model, cache, P)  # prefill
    if fork > 1:
        text, logits = text.fork(fork, cache), logits.repeat_interleave(fork, dim=0)
    tokens, ends = text.tokens, torch.tensor(list(eos), device=device)
    running = torch.ones(tokens.size(0), dtype=torch.bool, device=device)
    lengths = torch.zeros(tokens.size(0), dtype=torch.long, device=device)
    scores = torch.zeros(tokens.shape, device=device) if logprobs else None
    interval = 1 if device.type == "cpu" else _STOP_CHECK_INTERVAL

    for end in range(P, P + max_new_tokens):
        if end > P:
            logits = text.next_logits(model, cache, end)
        changed = logits
        for process in processors:
            changed = process(tokens[:, :end], changed)
        following = changed.argmax(-1) if sample is None else sample(changed)  # [B]
        tokens[:, end] = torch.where(running, following, tokens[:, end - 1])
        lengths += running
        if scores is not None:
            scores[:, end] = logits.log_softmax(-1).gather(-1, following[:, None])[:, 0] * running
        if on_tokens is not None:
            on_tokens(tokens[:, end])
        if eos:
            running &= ~torch.isin(following, ends)
        if stop is not None:
            running &= ~stop(tokens[:, P : end + 1])
        if end == P:
            _synchronize(device)
            decoding = perf_counter()
        if (eos or stop) and (end - P + 1) % interval == 0 and not bool(running.any()):
            break

    _synchronize(device)
    finished = perf_counter()
    made = slice(P, P + int(lengths.max()))
    return Generation(
        tokens[:, made], lengths, decoding - started, finished - decoding, None if scores is None else scores[:, made]
    )


@dataclass(frozen=True, slots=True)
class _Text:
    """Prompts with room for their answers, [B, P + N], allocated once; and which tokens of the prompts are real."""

    tokens: Tensor
    mask: Tensor | None  # [B, P]

    def next_logits(self, model: CausalLM, cache: Cache | None, end: int) -> Tensor:  # [B, V] in fp32
        """Of the token that follows the first `end`; feeds what the cache does not hold of them."""
        seen = 0 if cache is None else cache.length
        if self.mask is None:
            return model(self.tokens[:, seen:end], cache, last_only=True)[:, -1].float()
        visible = F.pad(self.mask, (0, end - self.mask.size(1)), value=True)  # [B, end]
        positions = (visible.cumsum(dim=1) - 1).clamp(min=0)[:, seen:]
        logits = model(self.tokens[:, seen:end], cache, last_only=True, mask=visible, positions=positions)
        return logits[:, -1].float()

    def fork(self, copies: int, cache: Cache | None) -> _Text:
        """Each row `copies` times, in the cache as well."""
        rows = torch.arange(self.tokens.size(0), device=self.tokens.device).repeat_interleave(copies)
        if cache is not None:
            cache.reorder(rows)
        return _Text(self.tokens[rows], None if self.mask is None else self.mask[rows])


def store_transposed(model: nn.Module) -> None:
    """Lay every linear weight out column by column; shapes, values and names stay.

    One token times a weight is a matrix-vector product. On a CPU, torch's kernel for it reads a transposed weight as
    one stream, where it would sum along each row by itself: about 1.5 times faster decoding. Other devices gain
    nothing.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight.data = module.weight.data.t().contiguous().t()


def _synchronize(device: torch.device) -> None:
    """Wait for the work queued on an accelerator; a clock read before that times the queueing."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
