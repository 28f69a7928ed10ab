"""Both forms of latent attention against each other, with and without a cache, and against DeepSeek in transformers."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.cache.growing import GrowingCache  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.latent import LatentAttention, LatentConfig, latent_cache_bytes  # noqa: E402

pytestmark = pytest.mark.labs

CONFIG = ModelConfig(8, 64, 1, 4, 4, 16, 8)
LATENT = LatentConfig(rank=32, rope_dim=8)
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def layer() -> Any:
    torch.manual_seed(0)
    made = LatentAttention(CONFIG, LATENT)
    for parameter in made.parameters():  # a norm of ones would hide that it is never applied
        torch.nn.init.normal_(parameter, 1.0 if parameter.dim() == 1 else 0.0, 0.2)
    return made


@pytest.fixture
def x() -> Any:
    return torch.randn(2, 12, 64, generator=torch.Generator().manual_seed(1))


def test_the_two_forms_agree(layer: Any, x: Any) -> None:
    expanded = layer(x)

    assert expanded.std() > 0.1
    torch.testing.assert_close(layer(x, absorbed=True), expanded, **CLOSE)


@pytest.mark.parametrize("absorbed", [False, True])
def test_cached_steps_agree_with_one_pass(layer: Any, x: Any, absorbed: bool) -> None:
    cache = GrowingCache(CONFIG)
    steps = [layer(part, cache, absorbed=absorbed) for part in x.split([5, 1, 1, 3, 1, 1], dim=1)]

    torch.testing.assert_close(torch.cat(steps, dim=1), layer(x), **CLOSE)


def test_the_cache_holds_what_the_formula_says(layer: Any, x: Any) -> None:
    cache = GrowingCache(CONFIG)
    layer(x, cache)

    assert cache.bytes() == latent_cache_bytes(CONFIG, LATENT, 12, batch=2, itemsize=4) == 2 * 12 * (32 + 8) * 4
    deepseek_v2 = replace(CONFIG, num_layers=60, num_heads=128, num_kv_heads=128, head_dim=128)
    assert latent_cache_bytes(deepseek_v2, LatentConfig(), 1) == 69_120
    assert deepseek_v2.cache_bytes(1, itemsize=2) == 128 * 2 * 128 / (512 + 64) * 69_120


def test_the_future_is_not_seen(layer: Any, x: Any) -> None:
    changed = torch.cat((x[:, :-1], -x[:, -1:]), dim=1)
    for absorbed in (False, True):
        torch.testing.assert_close(layer(changed, absorbed=absorbed)[:, :-1], layer(x, absorbed=absorbed)[:, :-1])


def test_order_comes_from_the_rotary_part_alone(layer: Any, x: Any) -> None:
    shuffled = torch.cat((x[:, :11].flip(1), x[:, 11:]), dim=1)
    last = layer(x)[:, -1]

    assert (layer(shuffled)[:, -1] - last).abs().max() > 1e-3
    with torch.no_grad():
        layer.kv_a_proj_with_mqa.weight[LATENT.rank :] = 0.0
    torch.testing.assert_close(layer(shuffled)[:, -1], layer(x)[:, -1], **CLOSE)


def test_gradients_agree(layer: Any, x: Any) -> None:
    parameters = list(layer.parameters())
    expanded = torch.autograd.grad(layer(x).square().sum(), parameters)
    absorbed = torch.autograd.grad(layer(x, absorbed=True).square().sum(), parameters)

    for found, right in zip(absorbed, expanded, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-4)


def import_deepseek(version: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(f"transformers.models.deepseek_{version}.modeling_deepseek_{version}")


def pairs_together(rows: Any) -> Any:
    """DeepSeek turns neighbours, (0, 1), (2, 3), ...; ours are half the width apart. [..., D_r, hidden], undone."""
    half = rows.size(-2) // 2
    return torch.stack((rows[..., :half, :], rows[..., half:, :]), dim=-2).flatten(-3, -2)


def theirs_from(layer: Any, query_rank: int | None) -> dict[str, Any]:
    """Our weights under DeepSeek's names, rotary rows in its order."""
    state = dict(layer.state_dict())
    names = {"q_proj.0.weight": "q_a_proj.weight", "q_proj.1.weight": "q_a_layernorm.weight"}
    names["q_proj.2.weight"] = "q_b_proj.weight"
    state = {names.get(name, name): tensor.clone() for name, tensor in state.items()}
    query = state["q_proj.weight" if query_rank is None else "q_b_proj.weight"].view(CONFIG.num_heads, 24, -1)
    query[:, 16:] = pairs_together(query[:, 16:])
    down = state["kv_a_proj_with_mqa.weight"]
    down[LATENT.rank :] = pairs_together(down[LATENT.rank :])
    return state


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v2", "v3"])
@pytest.mark.parametrize("query_rank", [None, 24])
def test_it_is_deepseeks_attention(x: Any, version: str, query_rank: int | None) -> None:
    module = import_deepseek(version)
    torch.manual_seed(0)
    ours = LatentAttention(CONFIG, replace(LATENT, query_rank=query_rank))
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, 1.0 if parameter.dim() == 1 else 0.0, 0.2)
    prefix = f"Deepseek{version.upper()}"
    config = getattr(module, f"{prefix}Config")(
        hidden_size=64,
        num_attention_heads=4,
        num_key_value_heads=4,
        q_lora_rank=query_rank,
        kv_lora_rank=32,
        qk_rope_head_dim=8,
        qk_nope_head_dim=16,
        v_head_dim=16,
        attn_implementation="eager",
    )
    theirs = getattr(module, f"{prefix}Attention")(config, layer_idx=0).eval()
    theirs.load_state_dict(theirs_from(ours, query_rank))
    positions = getattr(module, f"{prefix}RotaryEmbedding")(config)(x, torch.arange(12)[None])
    mask = torch.full((12, 12), -torch.inf).triu(1)[None, None]
    with torch.no_grad():
        expected = theirs(x, attention_mask=mask, position_embeddings=positions)[0]

        assert expected.std() > 0.1
        torch.testing.assert_close(ours(x), expected, **CLOSE)
        torch.testing.assert_close(ours(x, absorbed=True), expected, **CLOSE)
