"""What a quantized model saves and what it costs: bytes of its file, time, error, perplexity.

What people get wrong is the bytes. Quantized weights are buffers, or packed objects that torch does not count as
parameters; a report that adds up `parameters()` says that such layers take 0 bytes and calls it a saving of 100%. So
write the file and look. And the time: one call measures the first call, with its lazy initialisation. Here models take
turns, after a warm-up, and the median counts, so that a busy moment hits all of them.

Shapes: B texts, T tokens.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from llmquiz.llm.eval.perplexity import Score, score


@dataclass(frozen=True, slots=True)
class Report:
    """One model beside the original.

    Attributes:
        size_bytes: of its weights in a file.
        latency: median seconds of a forward pass.
        snr: of its logits against the original's, in dB; infinite for the original.
        perplexity: on the texts.
    """

    size_bytes: int
    latency: float
    snr: float
    perplexity: float


def compare(
    models: Mapping[str, nn.Module],
    tokens: Tensor,
    texts: Sequence[Tensor],
    *,
    repeats: int = 9,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Report]:
    """A report on each model; the first is the original that the others are held against.

    Args:
        tokens: [B, T], what the forward pass is timed with and the logits are compared on.
        texts: each [T], for the perplexity.
    """
    latencies = interleaved_latencies(models, tokens, repeats, clock)
    original = next(iter(models.values()))
    with torch.no_grad():
        expected = original(tokens)
        snrs = {
            name: math.inf if model is original else snr_db(expected, model(tokens)) for name, model in models.items()
        }
    return {
        name: Report(serialized_bytes(model), latencies[name], snrs[name], perplexity(model, texts))
        for name, model in models.items()
    }


def serialized_bytes(model: nn.Module) -> int:
    """Bytes of a file with the model's weights: safetensors, tied weights once. torch's own quantized layers keep
    packed objects that safetensors cannot hold; their file is written by `torch.save`."""
    from safetensors.torch import save_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        if all(isinstance(value, Tensor) for value in model.state_dict().values()):
            save_model(model, str(path))
        else:
            torch.save(model.state_dict(), path)
        return path.stat().st_size


def parameter_bytes(model: nn.Module) -> int:
    """The wrong way: what `parameters()` knows of."""
    return sum(parameter.nbytes for parameter in model.parameters())


@torch.no_grad()
def interleaved_latencies(
    models: Mapping[str, Callable[[Tensor], Tensor]],
    tokens: Tensor,
    repeats: int = 9,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each model's call; they take turns, and the first two turns only warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(repeats + 2):
        for name, model in models.items():
            _wait(tokens)
            start = clock()
            model(tokens)
            _wait(tokens)
            if turn >= 2:
                seconds[name].append(clock() - start)
    return {name: median(times) for name, times in seconds.items()}


def _wait(tokens: Tensor) -> None:
    """Work on a GPU is queued; a clock that is read before it is done lies."""
    if tokens.is_cuda:
        torch.cuda.synchronize()


def snr_db(expected: Tensor, measured: Tensor) -> float:
    """The signal's power over the error's, 10 log10(sum x^2 / sum (x - y)^2): 20 dB is an error of 10% in amplitude."""
    signal = expected.detach().float()
    noise = measured.detach().float() - signal
    return float(20 * torch.log10(signal.norm() / noise.norm()))


def perplexity(model: nn.Module, texts: Sequence[Tensor], window: int = 256) -> float:
    """Over all tokens of the texts, each [T].

    Raises:
        ModelError: if no text has two tokens.
    """
    return sum((score(model, text, 0, window=window) for text in texts), Score()).perplexity
