"""The step of fixed shapes: the same tokens as any other, and nothing in it that a recording would freeze."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from llmquiz.llm.base.load import base_model  # noqa: E402
from llmquiz.llm.cache.growing import GrowingCache  # noqa: E402
from llmquiz.llm.decode.fused import pack_for_decoding  # noqa: E402
from llmquiz.llm.decode.generate import generate  # noqa: E402
from llmquiz.llm.decode.graphs import StaticStep  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402

pytestmark = pytest.mark.labs

CONFIG = ModelConfig(64, 32, 2, 4, 2, 8, 64, max_position=64)
CAPACITY = 20


class Recording(TorchDispatchMode):
    """What a graph would keep of each operation: its name, and of each tensor where in its storage and how it lies."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls.append((str(func), [self._kept(each) for each in (*args, *(kwargs or {}).values(), out)]))
        return out

    def _kept(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [self._kept(each) for each in value]
        if isinstance(value, torch.Tensor):
            return tuple(value.shape), value.stride(), value.storage_offset()
        return value


def tokens(batch: int, length: int) -> Any:
    return torch.randint(64, (batch, length), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("fused", [False, True], ids=["decoder", "fused"])
def test_it_decodes_the_same_tokens(fused: bool) -> None:
    language = base_model()
    model = pack_for_decoding(language.model, "fp32") if fused else language.model
    prompt = torch.randint(language.model.config.vocab_size, (4, 12), generator=torch.Generator().manual_seed(0))
    expected = generate(language.model, prompt, 16, cache=GrowingCache(model.config)).tokens
    step = StaticStep(model, 12 + 16, batch=4)

    assert len(expected.unique()) > 8
    for _ in range(2):
        assert torch.equal(generate(step, prompt, 16, cache=step.cache).tokens, expected)
        step.cache.reset()


@torch.inference_mode()
def test_each_step_gives_the_same_logits_for_padded_rows_too() -> None:
    model, text = random_decoder(CONFIG, seed=0), tokens(2, CAPACITY)
    mask = torch.ones(2, CAPACITY, dtype=torch.bool)
    mask[1, :3] = False
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    step, cache = StaticStep(model, CAPACITY, batch=2), GrowingCache(CONFIG)
    for start, end in ((0, 7), *((n, n + 1) for n in range(7, CAPACITY))):
        padding = {"mask": mask[:, :end], "positions": positions[:, start:end]}
        expected = model(text[:, start:end], cache, last_only=True, **padding)
        logits = step(text[:, start:end], step.cache, last_only=True, **padding)
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fused", [False, True], ids=["decoder", "fused"])
@torch.inference_mode()
def test_every_step_is_the_same_launches(fused: bool) -> None:
    """So a recording of one is right for all: same operations, shapes, offsets and scalars, and no wait for a value."""
    model = random_decoder(CONFIG, seed=0)
    step = StaticStep(pack_for_decoding(model, "fp32") if fused else model, CAPACITY)
    recordings = []
    for token in map(torch.clone, tokens(1, CAPACITY).split(1, dim=1)):
        with Recording() as recording:
            step(token, step.cache, last_only=True)
        recordings.append([call for call in recording.calls if "fill_" not in call[0]])  # the position is an input

    assert len(recordings[1]) > 50
    assert all(recording == recordings[1] for recording in recordings[2:])  # the first makes the rotary tables
    assert not any("_local_scalar_dense" in name or "nonzero" in name for name, _ in recordings[1])

    growing, lengths = GrowingCache(CONFIG), []
    for token in tokens(1, 3).split(1, dim=1):
        with Recording() as recording:
            model(token, growing, last_only=True)
        lengths.append(recording.calls)
    assert lengths[1] != lengths[2]


@torch.inference_mode()
def test_reordering_moves_no_tensor() -> None:
    model, text = random_decoder(CONFIG, seed=0), tokens(3, 8)
    step = StaticStep(model, CAPACITY, batch=3)
    step(text, step.cache)
    addresses = [tensor.data_ptr() for tensor in step.cache.update(0, *torch.zeros(2, 3, 2, 0, 8))]
    rows = torch.tensor([2, 0, 2])
    step.cache.reorder(rows)

    assert [tensor.data_ptr() for tensor in step.cache.update(0, *torch.zeros(2, 3, 2, 0, 8))] == addresses
    following = tokens(3, 1)
    expected = model(torch.cat((text[rows], following), dim=1), last_only=True)
    torch.testing.assert_close(step(following, step.cache), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ModelError, match="2 rows do not fit its batch of 3"):
        step.cache.reorder(torch.tensor([0, 1]))


@torch.inference_mode()
def test_what_a_recording_cannot_do_is_refused() -> None:
    model = random_decoder(CONFIG, seed=0)
    step = StaticStep(model, 3)
    for token in tokens(1, 3).split(1, dim=1):
        step(token, step.cache)
    with pytest.raises(ModelError, match="capacity of 3 tokens is full"):
        step(tokens(1, 1), step.cache)
    with pytest.raises(ModelError, match="a window of 8 tokens"):
        StaticStep(random_decoder(replace(CONFIG, sliding_window=8), seed=0), CAPACITY)
    StaticStep(random_decoder(replace(CONFIG, sliding_window=8), seed=0), 8)
