"""Formats against torch's own numbers, and each repair against what it repairs."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.quant.formats import BF16, E4M3, E5M2, FP16, FP32  # noqa: E402
from llmquiz.llm.train.precision import (  # noqa: E402
    LossScaler,
    MasterWeights,
    compensated_sum,
    round_stochastically,
    running_sum,
)

pytestmark = pytest.mark.labs

FORMATS = {form.name: form for form in (FP32, FP16, BF16, E5M2, E4M3)}


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_bits_define_what_torch_says(form: Any) -> None:
    info = torch.finfo(form.dtype)

    assert form.maximum == info.max
    assert form.smallest_normal == info.smallest_normal
    assert form.smallest == info.smallest_normal * info.eps
    assert float(form.spacing(torch.tensor(1.0))) == info.eps


@pytest.mark.parametrize("name", ["fp32", "fp16", "bf16"])
def test_spacing_is_the_next_number(name: str) -> None:
    form = FORMATS[name]
    x = torch.tensor([1.0, 1.5, 1000.0, 3e-5, 0.0], dtype=form.dtype)
    following = torch.nextafter(x, torch.tensor(torch.inf, dtype=form.dtype))

    assert torch.equal(form.spacing(x), (following.float() - x.float()))
    assert torch.equal(form.spacing(-x), form.spacing(x))


@pytest.mark.parametrize("name", ["fp16", "bf16"])
def test_counting_ends_where_the_mantissa_does(name: str) -> None:
    end = torch.tensor(float(FORMATS[name].counts_to), dtype=FORMATS[name].dtype)

    assert end + 1 == end
    assert (end - 1) + 1 == end
    assert end - 1 != end


@pytest.mark.parametrize("name", ["fp16", "bf16"])
@pytest.mark.parametrize("addend", [0.01, 2.0**-6, 0.3])
def test_a_running_sum_stops_where_the_formula_says(name: str, addend: float) -> None:
    values = torch.full((10_000,), addend).to(FORMATS[name].dtype)

    assert float(running_sum(values)) == FORMATS[name].stall(addend)
    assert abs(float(compensated_sum(values)) / (10_000 * float(values[0])) - 1) < 0.02
    assert abs(float(values.sum()) / (10_000 * float(values[0])) - 1) < 0.005  # torch adds in fp32


def test_stochastic_rounding_is_right_on_average() -> None:
    torch.manual_seed(0)
    x = torch.tensor([1.0 + 2.0**-10, -3.0, 1e-20, 1.0 - 2.0**-11]).repeat(20_000, 1)
    rounded = round_stochastically(x)

    assert rounded.dtype == torch.bfloat16
    assert torch.equal(rounded[:, 1], x[:, 1].bfloat16())  # what bf16 holds stays
    assert len(rounded[:, 0].unique()) == 2
    mean = rounded.double().mean(0)
    torch.testing.assert_close(mean, x[0].double(), rtol=1e-4, atol=1e-24)
    torch.testing.assert_close(x[0].bfloat16()[0], torch.tensor(1.0).bfloat16())


def steps(weight: Any, optimizer: Any, count: int) -> float:
    for _ in range(count):
        weight.sum().backward()
        optimizer.step()
        weight.grad = None
    return float(weight.detach().float().mean())


def test_small_updates_are_lost_without_a_master_copy() -> None:
    def sgd(weights: list[Any]) -> Any:
        return torch.optim.SGD(weights, lr=1e-3)  # an update of a quarter of the spacing below 1

    plain, kept, stochastic = (torch.nn.Parameter(torch.ones(400, dtype=torch.bfloat16)) for _ in range(3))

    assert steps(plain, sgd([plain]), 100) == 1.0
    assert steps(kept, MasterWeights([kept], sgd), 100) == pytest.approx(0.9, abs=0.002)
    torch.manual_seed(0)
    assert steps(stochastic, MasterWeights([stochastic], sgd, stochastic=True), 100) == pytest.approx(0.9, abs=0.005)


@pytest.mark.parametrize("first", [2.0**24, 2.0**10])
def test_the_scaler_does_as_torchs(first: float) -> None:
    gradient = torch.logspace(-9, -1, 50)
    ours, theirs = LossScaler(first, interval=3), torch.amp.GradScaler("cpu", init_scale=first, growth_interval=3)
    weights = [torch.nn.Parameter(torch.ones(50)) for _ in range(2)]
    optimizers = [torch.optim.SGD([weight], lr=1.0) for weight in weights]

    def loss(weight: Any) -> Any:
        return (weight.half().float() * gradient).sum()

    for _ in range(20):
        for optimizer in optimizers:
            optimizer.zero_grad()
        ours.scaled(loss(weights[0])).backward()
        if ours.unscale([weights[0]]):
            optimizers[0].step()
        theirs.scale(loss(weights[1])).backward()
        theirs.step(optimizers[1])
        theirs.update()
        assert ours.scale == theirs.get_scale()
        assert torch.equal(weights[0], weights[1])
