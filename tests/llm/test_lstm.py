"""The LSTM is torch's: one step, a text, several layers, gradients; and the past fits in its state."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from llmquiz.llm.model.lstm import LSTM, LSTMCell, LSTMLanguageModel  # noqa: E402

pytestmark = pytest.mark.labs

B, T, D, H = 3, 6, 5, 8
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def twins(layers: int) -> tuple[LSTM, Any]:
    ours, theirs = LSTM(D, H, layers), nn.LSTM(D, H, layers, batch_first=True)
    state = {}
    for name, weight in theirs.state_dict().items():  # weight_ih_l0 -> cells.0.weight_ih
        kind, _, layer = name.rpartition("_l")
        state[f"cells.{layer}.{kind}"] = weight
    ours.load_state_dict(state)
    return ours, theirs


def test_one_step_is_torchs() -> None:
    ours, theirs = LSTMCell(D, H), nn.LSTMCell(D, H)
    ours.load_state_dict(theirs.state_dict())
    x, state = torch.randn(B, D), (torch.randn(B, H), torch.randn(B, H))

    for mine, expected in zip(ours(x, state), theirs(x, state), strict=True):
        torch.testing.assert_close(mine, expected, **TOLERANCE)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], **TOLERANCE)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_text_is_torchs_forward_and_backward(layers: int) -> None:
    ours, theirs = twins(layers)
    x = torch.randn(B, T, D, requires_grad=True)
    shown, ends = ours(x)
    expected, (h, c) = theirs(x)

    torch.testing.assert_close(shown, expected, **TOLERANCE)
    for layer, (own_h, own_c) in enumerate(ends):
        torch.testing.assert_close(own_h, h[layer], **TOLERANCE)
        torch.testing.assert_close(own_c, c[layer], **TOLERANCE)
    mine, other = (torch.autograd.grad(out.square().sum(), x)[0] for out in (shown, expected))
    torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


def test_the_state_is_all_the_past_there_is() -> None:
    ours, _ = twins(2)
    x = torch.randn(B, T, D)
    whole, ends = ours(x)
    first, states = ours(x[:, :4])
    rest, continued = ours(x[:, 4:], states)

    torch.testing.assert_close(torch.cat((first, rest), dim=1), whole, **TOLERANCE)
    for got, expected in zip(continued, ends, strict=True):
        torch.testing.assert_close(got, expected, **TOLERANCE)
    assert [h.shape for h, _ in states] == [(B, H)] * 2


def test_the_language_model_is_causal() -> None:
    model = LSTMLanguageModel(11, H, num_layers=2)
    tokens = torch.randint(11, (2, T))
    other = tokens.clone()
    other[:, 4] = (other[:, 4] + 1) % 11
    changed = (model(tokens) - model(other)).abs().amax(dim=(0, 2)) > 0

    assert model(tokens).shape == (2, T, 11)
    assert changed.tolist() == [False] * 4 + [True] * 2
