"""Blocks: each placement is its formula and torch's layer, the model keeps causality, and DeepNorm its numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.block import Block, Design, Residual, TransformerLM, deepnorm_alpha, deepnorm_beta  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402

pytestmark = pytest.mark.labs

CONFIG = ModelConfig(20, 16, 2, 4, 4, 4, 32, max_position=12, norm_eps=1e-5)
BIASED = replace(CONFIG, qkv_bias=True, mlp_bias=True)
DESIGNS = [
    Design(placement, norm, activation, positions)  # type: ignore[arg-type]
    for (placement, norm), (activation, positions) in product(
        [("pre", "rms"), ("post", "layer"), ("deep", "layer")],
        [("swiglu", "rope"), ("gelu", "alibi"), ("relu", "sinusoidal"), ("relu", "learned"), ("relu", "none")],
    )
]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def copy_layer(ours: Any, theirs: Any) -> None:
    """Our weights into a layer of torch: attention, feed-forward, and norms in order."""
    with torch.no_grad():
        projections = (ours.self_attn.q_proj, ours.self_attn.k_proj, ours.self_attn.v_proj)
        theirs.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
    theirs.self_attn.out_proj.load_state_dict(ours.self_attn.o_proj.state_dict())
    theirs.linear1.load_state_dict(ours.mlp.up_proj.state_dict())
    theirs.linear2.load_state_dict(ours.mlp.down_proj.state_dict())


@pytest.mark.parametrize("placement", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_a_block_is_torchs_layer(placement: Any, activation: Any) -> None:
    ours = Block(BIASED, Design(placement, "layer", activation, "none"))
    theirs = nn.TransformerEncoderLayer(
        16, 4, 32, 0.0, activation, batch_first=True, norm_first=placement == "pre", layer_norm_eps=1e-5
    )
    copy_layer(ours, theirs)
    x, mask = torch.randn(2, 6, 16), nn.Transformer.generate_square_subsequent_mask(6)

    torch.testing.assert_close(ours(x), theirs(x, src_mask=mask, is_causal=True), rtol=1e-5, atol=1e-5)


def test_where_the_norm_stands() -> None:
    x = torch.randn(2, 3, 16)
    pre, post, deep = (Residual(CONFIG, Design(placement)) for placement in ("pre", "post", "deep"))  # type: ignore[arg-type]

    torch.testing.assert_close(pre(x, torch.sin), x + torch.sin(pre.norm(x)))
    torch.testing.assert_close(post(x, torch.sin), post.norm(x + torch.sin(x)))
    torch.testing.assert_close(deep(x, torch.sin), deep.norm(4**0.25 * x + torch.sin(x)))


def test_deepnorm_has_the_papers_numbers() -> None:
    """Table in figure 2: decoder-only, (2N)^(1/4) and (8N)^(-1/4)."""
    assert deepnorm_alpha(8) == pytest.approx(2.0)
    assert deepnorm_beta(2) == pytest.approx(0.5)
    config = replace(CONFIG, num_layers=2, hidden_size=64, num_heads=4, num_kv_heads=4, head_dim=16)
    deep, post = (
        TransformerLM(config, Design(placement, "layer", "relu", "none"), seed=3).state_dict()
        for placement in ("deep", "post")
    )
    for part, gain in {"q": 1.0, "k": 1.0, "v": 0.5, "o": 0.5}.items():
        name = f"layers.0.self_attn.{part}_proj.weight"
        torch.testing.assert_close(deep[name], gain * post[name])
    torch.testing.assert_close(deep["layers.1.mlp.up_proj.weight"], 0.5 * post["layers.1.mlp.up_proj.weight"])
    torch.testing.assert_close(deep["lm_head.weight"], post["lm_head.weight"])


@pytest.mark.parametrize("design", DESIGNS, ids=lambda d: f"{d.placement}-{d.activation}-{d.positions}")
def test_every_design_is_causal_and_trains(design: Design) -> None:
    model = TransformerLM(CONFIG, design, seed=1)
    tokens = torch.randint(20, (2, 8))
    other = tokens.clone()
    other[:, 5] = (other[:, 5] + 1) % 20
    changed = (model(tokens) - model(other)).abs().amax(dim=(0, 2)) > 0
    model(tokens).logsumexp(-1).sum().backward()

    assert not changed[:5].any()
    assert changed[5]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_seed_is_a_model() -> None:
    tokens = torch.arange(10)[None]
    first, again, other = (TransformerLM(CONFIG, seed=seed)(tokens) for seed in (1, 1, 2))

    assert (first == again).all()
    assert not torch.allclose(first, other)


@pytest.mark.parametrize("tied", [True, False])
def test_the_default_has_the_parameters_of_a_decoder(tied: bool) -> None:
    config = replace(CONFIG, tie_embeddings=tied, num_kv_heads=2)
    model = TransformerLM(config)

    assert sum(p.numel() for p in model.parameters()) == config.num_parameters()
    assert (model.lm_head.weight is model.embed_tokens.weight) == tied


def test_hidden_padding_changes_nothing() -> None:
    model, tokens = TransformerLM(CONFIG), torch.randint(20, (1, 8))
    mask = torch.tensor([[True] * 5 + [False] * 3])
    other = tokens.clone()
    other[:, 5:] = 0

    assert torch.equal(model(tokens, mask=mask)[:, :5], model(other, mask=mask)[:, :5])
    torch.testing.assert_close(model(tokens, mask=mask)[:, :5], model(tokens[:, :5]))


def test_only_tables_end() -> None:
    """Relative positions go on past max_position; whether a model can use them is another matter."""
    tokens = torch.zeros(1, 13, dtype=torch.long)
    for positions in ("rope", "alibi", "none"):
        assert TransformerLM(CONFIG, Design(positions=positions))(tokens).isfinite().all()  # type: ignore[arg-type]
    for positions in ("sinusoidal", "learned"):
        with pytest.raises(ModelError, match="13 tokens exceed"):
            TransformerLM(CONFIG, Design(positions=positions))(tokens)  # type: ignore[arg-type]
