"""Feed-forward layers: the formulas, and the widths at which they are as large as each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.feed_forward import Activation, equal_width, feed_forward  # noqa: E402

pytestmark = pytest.mark.labs

CONFIG = ModelConfig(20, 24, 1, 2, 2, 12, 40)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("hidden", [24, 48, 384])
@pytest.mark.parametrize("activation", ["relu", "gelu", "swiglu"])
def test_equal_widths_have_equal_parameters(hidden: int, activation: Activation) -> None:
    config = replace(CONFIG, hidden_size=hidden, intermediate_size=equal_width(hidden, activation))

    assert sum(p.numel() for p in feed_forward(config, activation).parameters()) == 8 * hidden**2


def test_the_width_of_swiglu_is_rounded_where_it_must_be() -> None:
    assert equal_width(48, "swiglu") == 128
    assert equal_width(64, "swiglu") == 171  # 170.67


@pytest.mark.parametrize("bias", [True, False])
def test_the_formulas(bias: bool) -> None:
    config, x = replace(CONFIG, mlp_bias=bias), torch.randn(2, 3, 24)
    for activation, bend in (("relu", F.relu), ("gelu", F.gelu)):
        plain = feed_forward(config, activation)  # type: ignore[arg-type]
        torch.testing.assert_close(plain(x), plain.down_proj(bend(plain.up_proj(x))))
        assert (plain.up_proj.bias is not None) == bias
    gated = feed_forward(config, "swiglu")
    gate = gated.gate_proj(x)
    torch.testing.assert_close(gated(x), gated.down_proj(gate * torch.sigmoid(gate) * gated.up_proj(x)))


def test_each_token_is_on_its_own() -> None:
    layer, x = feed_forward(CONFIG, "relu"), torch.randn(1, 5, 24)
    other = x.clone()
    other[:, 2] += 1

    changed = (layer(x) - layer(other)).abs().amax(-1)[0] > 0
    assert changed.tolist() == [False, False, True, False, False]
