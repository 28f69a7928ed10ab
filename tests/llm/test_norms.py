"""Both norms equal torch's, in either precision, and differ where the mean is not zero."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from llmquiz.llm.model.norms import LayerNorm, RMSNorm  # noqa: E402

pytestmark = pytest.mark.labs

EPS = 1e-5
PAIRS = [(LayerNorm, nn.LayerNorm), (RMSNorm, nn.RMSNorm)]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def pair(ours: Any, theirs: Any, size: int = 24) -> tuple[Any, Any]:
    """Two modules with the same weights, which are not ones."""
    own, other = ours(size, EPS), theirs(size, eps=EPS)
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.normal_()
    other.load_state_dict(own.state_dict())
    return own, other


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_outputs_and_gradients_are_torchs(ours: Any, theirs: Any, scale: float) -> None:
    own, other = pair(ours, theirs)
    x = (torch.randn(3, 5, 24) * scale + scale).requires_grad_()
    direction = torch.randn(3, 5, 24)
    grads = [torch.autograd.grad((m(x) * direction).sum(), [x, *m.parameters()]) for m in (own, other)]

    torch.testing.assert_close(own(x), other(x), rtol=1e-5, atol=1e-5)
    for mine, expected in zip(*grads, strict=True):
        torch.testing.assert_close(mine * scale, expected * scale, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm", [LayerNorm, RMSNorm])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_squares_do_not_overflow_in_half_precision(norm: Any, dtype: Any) -> None:
    x = torch.tensor([[300.0, -300.0, 600.0, 0.0]], dtype=dtype)  # 600^2 is above fp16's 65504
    y = norm(4, EPS).to(dtype)(x)

    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), norm(4, EPS)(x.float()), rtol=1e-2, atol=1e-2)


def test_rms_norm_divides_and_does_not_centre() -> None:
    x = torch.randn(1000, 64, generator=torch.Generator().manual_seed(0)) + 5
    y = RMSNorm(64, EPS)(x).detach()

    torch.testing.assert_close(y, x / x.square().mean(-1, keepdim=True).sqrt(), rtol=1e-5, atol=1e-5)
    assert float(y.mean()) > 0.9
    assert float((y - x / x.std(-1, keepdim=True)).abs().max()) > 3
    assert float(LayerNorm(64, EPS)(x).detach().mean()) == pytest.approx(0, abs=1e-5)


def test_they_agree_on_centred_inputs_and_rms_ignores_scale() -> None:
    x = torch.randn(4, 64)
    centred = x - x.mean(-1, keepdim=True)

    torch.testing.assert_close(RMSNorm(64, 0.0)(centred), LayerNorm(64, 0.0)(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(RMSNorm(64, 0.0)(7 * x), RMSNorm(64, 0.0)(x), rtol=1e-5, atol=1e-5)
    assert sum(p.numel() for p in RMSNorm(64, EPS).parameters()) == 64
    assert sum(p.numel() for p in LayerNorm(64, EPS).parameters()) == 128
