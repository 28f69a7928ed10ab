"""A decode step of fixed shapes, which a CUDA graph can record once and replay.

A step launches some hundred kernels of a few microseconds. On a GPU the host takes longer to launch them than the GPU
to run them, so a small model at batch 1 waits for Python. A graph keeps the launches and repeats them all in one call.

What people get wrong is what a replay repeats: the very same launches on the very same addresses, and no Python. A
length in Python, as in `keys[:, :, :length]`, stays what it was while recording, and the model then forgets every later
token without an error. So all that changes from step to step is data in tensors that stay where they are: the token,
its position, which columns of the cache may be seen. The cache is written by `index_copy_` and attended whole; a mask
hides what is not filled yet. The price is that each step reads all of the capacity: choose it no larger than needed.

Elsewhere the same step runs without a recording: it is slower than a plain one, and its tokens are the same, which is
how it is tested. The recording itself follows torch's notes on CUDA graphs and has not been run on a GPU yet.

Shapes: B batch, C capacity, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmquiz.llm.cache.base import Cache
from llmquiz.llm.cache.static import StaticCache
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.causal import CausalLM
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import check_positions

_WARM_UPS = 3  # torch chooses kernels and allocates workspaces in the first runs


class FixedCache(StaticCache):
    """A static cache that never moves. While `fixed`, a token goes where the tensor `position` says, and the whole
    capacity is given back."""

    fixed = False

    def __init__(
        self, config: ModelConfig, capacity: int, *, batch: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__(config, capacity, batch=batch, dtype=dtype, device=device)
        self.position = torch.zeros(1, dtype=torch.long, device=device)

    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        if not self.fixed:
            return super().update(layer, k, v)
        keys, values = self._keys[layer], self._values[layer]
        keys.index_copy_(2, self.position, k)
        values.index_copy_(2, self.position, v)
        return keys, values

    def advance(self) -> None:
        """Count a token that every layer has written."""
        self._lengths = [self.length + 1] * len(self._lengths)

    def reorder(self, rows: Tensor) -> None:
        if rows.numel() != self._keys.size(1):
            raise ModelError(f"fixed cache: {rows.numel()} rows do not fit its batch of {self._keys.size(1)}")
        self._keys.copy_(self._keys.index_select(1, rows))
        self._values.copy_(self._values.index_select(1, rows))


class StaticStep:
    """A model whose step of one token is recorded: the same call, so `generate` takes it in the model's place, together
    with `cache`. Prompts, and calls with another cache, go to the model as they are.

    Args:
        model: on `device`.
        capacity: C, tokens of prompt and continuation together.
        batch: B.
        dtype: of keys and values, as the model computes them.

    Raises:
        ModelError: if the step depends on the length otherwise than through the mask: a sliding window shorter than the
            capacity, or RoPE scaled by the length.
    """

    def __init__(
        self,
        model: CausalLM,
        capacity: int,
        *,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.model, self.config, self.device = model, model.config, torch.device(device)
        window, scaling = self.config.sliding_window, self.config.rope_scaling
        if window is not None and window < capacity:
            raise ModelError(
                f"static step: a window of {window} tokens is cut out by length; use a capacity up to that"
            )
        if scaling is not None and scaling.kind == "dynamic":
            raise ModelError("static step: dynamic RoPE scaling changes with the length; decode without a graph")
        self.cache = FixedCache(self.config, capacity, batch=batch, dtype=dtype, device=self.device)
        self._tokens = torch.zeros(batch, 1, dtype=torch.long, device=self.device)
        self._positions = torch.zeros(batch, 1, dtype=torch.long, device=self.device)
        self._unpadded = torch.ones(batch, capacity, dtype=torch.bool, device=self.device)
        self._columns = torch.arange(capacity, device=self.device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._logits = torch.empty(0)

    def __call__(
        self,
        tokens: Tensor,
        cache: Cache | None = None,
        *,
        last_only: bool = False,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Logits as the model gives them: [B, 1, V] for one token.

        Raises:
            ModelError: if the token does not fit the model's positions or the capacity.
        """
        if cache is not self.cache or tokens.shape != self._tokens.shape:
            return self.model(tokens, cache, last_only=last_only, mask=mask, positions=positions)
        length = self.cache.length  # counted by the host: no wait for the device
        check_positions(self.config, length, 1)
        if length == self.cache.capacity:
            raise ModelError(f"static step: the capacity of {length} tokens is full; allocate a larger one")
        self._tokens.copy_(tokens)
        self.cache.position.fill_(length)
        self._positions.copy_(self.cache.position if positions is None else positions)
        self._unpadded.fill_(True)
        if mask is not None:
            self._unpadded[:, : length + 1] = mask.view(tokens.size(0), -1)
        self.cache.fixed = True
        try:
            logits = self._replay() if self.device.type == "cuda" else self._step()
        finally:
            self.cache.fixed = False
        self.cache.advance()
        return logits

    def _step(self) -> Tensor:  # -> [B, 1, V]
        """What is recorded: it reads and writes tensors alone. Twice at one position, it writes the same twice."""
        visible = self._unpadded & (self._columns <= self.cache.position)  # [B, C]
        return self.model(self._tokens, self.cache, last_only=True, mask=visible, positions=self._positions)

    def _replay(self) -> Tensor:  # -> [B, 1, V]
        """One launch for all; the logits are copied out, since the next replay writes over them."""
        if self._graph is None:
            self._graph = self._record()
        self._graph.replay()
        return self._logits.clone()

    def _record(self) -> torch.cuda.CUDAGraph:
        aside = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UPS):
                self._step()
        torch.cuda.current_stream(self.device).wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._logits = self._step()
        return graph
