"""What training asks of a device: a narrower format for the matrix products, one kernel for the optimizer, and how much
memory a step took.

What people get wrong is what to count. Parameters are the small part: a training step also holds gradients, the
optimizer's moments, and every tensor that some operation saved for the backward pass. The last are the activations;
they grow with batch and length, and they are what checkpointing trades for work. `saved_activation_bytes` counts them
and nothing else; `peak_memory` counts whatever lived at the worst moment.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from llmquiz.llm.errors import TrainingError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device | str, precision: str) -> AbstractContextManager[object]:
    """Run matrix products in `precision` (fp32, bf16 or fp16); the weights stay as they are stored.

    Softmax, norms and losses stay in fp32. Only the forward pass and the loss belong inside: the backward pass repeats
    each operation's format by itself. fp16 also needs `precision.LossScaler`.

    Raises:
        TrainingError: for another precision.
    """
    if precision not in PRECISIONS:
        raise TrainingError(f"precision: '{precision}' is not one of {', '.join(PRECISIONS)}")
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, PRECISIONS[precision])


def fused_adamw(
    params: Iterable[Any],
    *,
    lr: float,
    device: torch.device | str = "cpu",
    weight_decay: float = 0.0,
    betas: tuple[float, float] = (0.9, 0.95),
) -> torch.optim.AdamW:
    """torch's AdamW in one kernel where the device has one: CPU, CUDA and MPS do.

    Args:
        params: parameters, or groups of them as torch takes them.
        betas: torch's own second value is 0.999; language models are trained with 0.95 (GPT-3, appendix B), since a
            memory of 1000 steps keeps a spike in the denominator for as long.
    """
    fused = torch.device(device).type in ("cpu", "cuda", "mps")
    return torch.optim.AdamW(params, lr=lr, betas=betas, weight_decay=weight_decay, fused=fused)


def maybe_compile(model: nn.Module, on: bool) -> nn.Module:
    """`model` itself, compiled in place if `on`: `torch.compile(model)` would put `_orig_mod.` before every name that
    is saved. A copy of a compiled model is not compiled. The first steps take a minute or more: it pays on long runs.

    Raises:
        TrainingError: if no kernel can be built here.
    """
    if on:
        _check_compiler(next(model.parameters()).device.type)
        model.compile()
    return model


@cache
def _check_compiler(device: str) -> None:
    """Compile one kernel: what is missing is better found here than in the middle of the first step."""
    try:
        torch.compile(torch.sin)(torch.ones(8, device=device))
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise TrainingError(
            f"compile: no kernel can be built for {device} ({reason}); install a C++ compiler, on CUDA also Triton, or "
            "leave compile off"
        ) from error


@dataclass
class Peak:
    """Bytes that lived at the worst moment inside `peak_memory`, beyond those that were there before."""

    bytes: int = 0


@contextmanager
def peak_memory(device: torch.device | str) -> Iterator[Peak]:
    """Measure what runs inside: `with peak_memory(device) as peak: ...`, then `peak.bytes`.

    On CUDA it is what torch's allocator says. Elsewhere every tensor's storage that an operation makes is counted while
    it lives, backward pass included; scratch space inside an operation is not seen.
    """
    peak = Peak()
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated() - before
    else:
        with _LiveStorages(peak):
            yield peak


def note_peak(device: torch.device | str, note: Callable[[str], object]) -> None:
    """Tell `note` what CUDA's allocator held at most since this process began; other devices do not count it."""
    if torch.device(device).type == "cuda":
        note(f"peak memory on the GPU: {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")


class _LiveStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds a storage when an operation returns it and subtracts it when its last tensor is gone."""

    def __init__(self, peak: Peak) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak, self.live = peak, 0
        self.known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = {id(_storage(leaf)) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor) and id(storage := _storage(leaf)) not in given and storage not in self.known:
                self._add(storage)
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        self.known.add(storage)
        self.live += storage.nbytes()
        self.peak.bytes = max(self.peak.bytes, self.live)
        weakref.finalize(storage, self._subtract, storage.nbytes())

    def _subtract(self, size: int) -> None:
        self.live -= size


def saved_activation_bytes(forward: Callable[[], Tensor], weights: Iterable[Tensor] = ()) -> int:
    """Bytes that the graph of `forward()` keeps for the backward pass, each storage counted once.

    Args:
        forward: builds the graph, e.g. up to the loss; it is run once, without a backward pass.
        weights: what is in memory anyway and shall not count, e.g. `model.parameters()`: a matrix product saves its
            weight as well as its input.
    """
    there = {_storage(weight).data_ptr() for weight in weights}
    held: dict[int, int] = {}  # address of a storage -> bytes; the graph keeps it alive, so no address comes twice

    def count(tensor: Tensor) -> Tensor:
        storage = _storage(tensor)
        if storage.data_ptr() not in there:
            held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        graph = forward()
    del graph
    return sum(held.values())


def _storage(tensor: Tensor) -> torch.UntypedStorage:
    return tensor.untyped_storage()
