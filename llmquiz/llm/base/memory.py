"""What a model needs in memory, estimated before anything is allocated.

"Seven billion parameters in bf16 are 14 GB" is true of the weights and of nothing else. Training with AdamW in fp32
adds a gradient and two moments for each trainable parameter, 16 bytes in place of 2, and then the activations and the
logits, which grow with the batch and do not care how many parameters are frozen. An estimate that is ten percent wrong
still tells in advance what an out-of-memory error tells after a minute of loading.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.config import ModelConfig

_FIT = 0.9  # of what is free: the allocator and the libraries take a part
_MOMENTS = 2  # numbers that AdamW keeps for a parameter


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes by purpose."""

    weights: int
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    logits: int = 0

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations + self.logits

    def __str__(self) -> str:
        parts = {"weights": self.weights, "gradients": self.gradients, "optimizer": self.optimizer}
        parts |= {"activations": self.activations, "logits": self.logits}
        return ", ".join(f"{name} {size / 2**30:.2f}" for name, size in parts.items() if size)


def estimate(
    num_parameters: int, *, itemsize: int = 4, trainable: int = 0, config: ModelConfig | None = None, tokens: int = 0
) -> Memory:
    """What a model takes, and what training takes besides.

    Args:
        num_parameters: all of them, a tied embedding counted once.
        itemsize: bytes of one weight.
        trainable: how many of them get a gradient (in their own format) and AdamW's two moments (in fp32).
        config: the shape, if activations and logits shall be counted.
        tokens: in a batch, B * T; with a config, what one forward and backward pass over them keeps.
    """
    activations = logits = 0
    if config is not None:
        kept = (
            activations_per_token(config) if trainable else 4 * config.hidden_size
        )  # without a graph: a few at a time
        activations = tokens * kept * itemsize
        logits = tokens * config.vocab_size * (8 + itemsize if trainable else itemsize)  # fp32, and its softmax
    return Memory(num_parameters * itemsize, trainable * itemsize, trainable * 4 * _MOMENTS, activations, logits)


def activations_per_token(config: ModelConfig) -> int:
    """Numbers that the backward pass needs of one token: in each layer the inputs of its products and its norms."""
    queries, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    attention = 4 * config.hidden_size + 4 * queries + 4 * keys
    feed_forward = 4 * config.hidden_size + 4 * config.intermediate_size
    return config.num_layers * (attention + feed_forward) + 4 * config.hidden_size


def free_bytes(device: torch.device | str) -> int:
    """Bytes that can be allocated on a device now."""
    if torch.device(device).type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_fits(needed: Memory, device: torch.device | str, *, what: str = "the model") -> None:
    """Refuse what cannot work before a byte of it is loaded.

    Raises:
        ModelError: with the GiB that are needed, by purpose, and those that are free.
    """
    free = free_bytes(device)
    if needed.total > _FIT * free:
        raise ModelError(
            f"{what} needs about {needed.total / 2**30:.2f} GiB ({needed}) and {free / 2**30:.2f} GiB are free on "
            f"{device}; choose a smaller model, a smaller batch or bfloat16"
        )
