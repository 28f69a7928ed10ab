"""The encoder-decoder: torch's Transformer with our weights, no look into the future, the same with a cache, and it
learns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from llmquiz.llm.cache.growing import GrowingCache  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.block import Design  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.encoder_decoder import EncoderDecoder  # noqa: E402

pytestmark = pytest.mark.labs

CONFIG = ModelConfig(20, 16, 2, 4, 4, 4, 32, max_position=12, norm_eps=1e-5, qkv_bias=True, mlp_bias=True)
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
SOURCE, TARGET = (torch.randint(1, 20, (2, n), generator=torch.Generator().manual_seed(n)) for n in (7, 5))
PADDING = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def copy_attention(ours: Any, theirs: Any) -> None:
    projections = (ours.q_proj, ours.k_proj, ours.v_proj)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
    theirs.out_proj.load_state_dict(ours.o_proj.state_dict())


def copy_rest(ours: Any, theirs: Any) -> None:
    theirs.linear1.load_state_dict(ours.mlp.up_proj.state_dict())
    theirs.linear2.load_state_dict(ours.mlp.down_proj.state_dict())
    copy_attention(ours.self_attn, theirs.self_attn)


def randomised(design: Design | None = None) -> EncoderDecoder:
    """With biases and norms that are not the initial ones."""
    model = EncoderDecoder(CONFIG, design, seed=2).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


@pytest.mark.parametrize("placement", ["pre", "post"])
def test_the_stacks_are_torchs_transformer(placement: Any) -> None:
    ours = randomised(Design(placement, "layer", "relu", "sinusoidal"))
    pre = placement == "pre"
    layer = nn.TransformerEncoderLayer(16, 4, 32, 0.0, batch_first=True, norm_first=pre, layer_norm_eps=1e-5)
    encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(16) if pre else None, enable_nested_tensor=False)
    theirs = nn.Transformer(
        16, 4, 2, 2, 32, 0.0, batch_first=True, norm_first=pre, layer_norm_eps=1e-5, custom_encoder=encoder
    ).eval()
    for own, other in zip(ours.encoder, theirs.encoder.layers, strict=True):
        copy_rest(own, other)
        other.norm1.load_state_dict(own.around_attention.norm.state_dict())
        other.norm2.load_state_dict(own.around_mlp.norm.state_dict())
    for own, other in zip(ours.decoder, theirs.decoder.layers, strict=True):
        copy_rest(own, other)
        copy_attention(own.cross_attn, other.multihead_attn)
        for norm, residual in zip(
            (other.norm1, other.norm2, other.norm3), (own.around_self, own.around_cross, own.around_mlp), strict=True
        ):
            norm.load_state_dict(residual.norm.state_dict())
    if pre:
        theirs.encoder.norm.load_state_dict(ours.encoder_norm.state_dict())
        theirs.decoder.norm.load_state_dict(ours.decoder_norm.state_dict())
    else:
        theirs.decoder.norm = None
    causal = ~torch.ones(5, 5, dtype=torch.bool).tril()
    hidden = theirs(
        ours._embed(SOURCE),
        ours._embed(TARGET),
        tgt_mask=causal,
        src_key_padding_mask=~PADDING,
        memory_key_padding_mask=~PADDING,
    )

    torch.testing.assert_close(ours(SOURCE, TARGET, source_mask=PADDING), ours.lm_head(hidden), **TOLERANCE)


def test_a_later_target_token_changes_no_earlier_logit() -> None:
    model, leaky = EncoderDecoder(CONFIG), EncoderDecoder(CONFIG, causal=False)
    other = TARGET.clone()
    other[:, 3] = other[:, 3] % 19 + 1

    assert torch.equal(model(SOURCE, TARGET)[:, :3], model(SOURCE, other)[:, :3])
    assert not torch.allclose(model(SOURCE, TARGET)[:, 3:], model(SOURCE, other)[:, 3:])
    assert not torch.allclose(leaky(SOURCE, TARGET)[:, :3], leaky(SOURCE, other)[:, :3])


def test_every_target_token_reads_the_whole_source_but_its_padding() -> None:
    model = randomised()
    last, padded = SOURCE.clone(), SOURCE.clone()
    last[0, 6] = last[0, 6] % 19 + 1
    padded[1, 5] = padded[1, 5] % 19 + 1

    before = model(SOURCE, TARGET, source_mask=PADDING)
    assert ((before - model(last, TARGET, source_mask=PADDING))[0].abs().amax(-1) > 0).all()
    assert torch.equal(before, model(padded, TARGET, source_mask=PADDING))
    torch.testing.assert_close(before[1:], model(SOURCE[1:, :4], TARGET[1:]), **TOLERANCE)


def test_writing_with_a_cache_is_writing_without() -> None:
    """On forced tokens the logits, by itself the tokens: random weights soon repeat one, which would hide a wrong
    position."""
    model = randomised()
    memory, cache = model.memory(model.encode(SOURCE, PADDING)), GrowingCache(CONFIG)
    steps = [model.decode(token, memory, PADDING, cache) for token in TARGET.split(1, dim=1)]
    torch.testing.assert_close(torch.cat(steps, dim=1), model(SOURCE, TARGET, source_mask=PADDING), **TOLERANCE)

    target = torch.zeros(2, 1, dtype=torch.long)
    for _ in range(6):
        logits = model(SOURCE, target, source_mask=PADDING)
        target = torch.cat((target, logits[:, -1:].argmax(-1)), dim=1)

    written = model.generate(SOURCE, start=0, tokens=6, source_mask=PADDING)
    assert torch.equal(written, target[:, 1:])
    with pytest.raises(ModelError, match="13 tokens exceed"):
        model.generate(SOURCE, start=0, tokens=13)


def test_cross_attention_is_target_by_source() -> None:
    weights = randomised().cross_attention(SOURCE, TARGET, PADDING)

    assert [w.shape for w in weights] == [(2, 4, 5, 7)] * 2
    assert all((w[1, :, :, 4:] == 0).all() for w in weights)
    torch.testing.assert_close(weights[0].sum(-1), torch.ones(2, 4, 5))


@pytest.mark.parametrize("positions", ["rope", "alibi"])
def test_relative_positions_are_refused(positions: Any) -> None:
    with pytest.raises(ModelError, match=f"positions '{positions}' are relative"):
        EncoderDecoder(CONFIG, Design(positions=positions))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["copy", "reverse"])
def test_it_learns_to_copy_and_to_reverse(task: str) -> None:
    config = replace(
        CONFIG, hidden_size=32, num_layers=1, num_heads=1, num_kv_heads=1, head_dim=32, intermediate_size=128
    )
    model, generator = EncoderDecoder(config), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.0, fused=True)
    steps = 300
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-3 * min(1.0, (step + 1) / 20) * (1 - step / steps)
        source = torch.randint(1, 17, (32, 8), generator=generator)
        wanted = source if task == "copy" else source.flip(1)
        given = torch.cat((torch.zeros(32, 1, dtype=torch.long), wanted[:, :-1]), dim=1)
        optimizer.zero_grad()
        F.cross_entropy(model(source, given).flatten(0, 1), wanted.flatten()).backward()
        optimizer.step()
    source = torch.randint(1, 17, (128, 8), generator=generator)
    written = model.generate(source, start=0, tokens=8)

    assert float((written == (source if task == "copy" else source.flip(1))).float().mean()) > 0.95
