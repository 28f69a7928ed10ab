"""GPT-2 (Radford et al. 2019, section 2.3): learned positions, LayerNorm, biases, GELU, a head tied to the embedding.

Two things make its checkpoints a trap. Its linear layers are `Conv1D`, whose weight is [in, out] where nn.Linear has
[out, in]; a square one (the attention output) loads without complaint if nobody transposes it. And Q, K and V are one
matrix, split by thirds of its output. Here they are nn.Linear with the names that `Decoder` gives them, so whatever
finds a layer by name (LoRA, quantization) finds them.

A learned position is looked up, so a row that is padded on the left needs the positions of its own tokens: unlike RoPE,
the table does not forgive a shift.

Shapes: B batch, T tokens fed, H heads, D head_dim, V vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.llm.cache.base import Cache
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.attention import attend
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.load import read_fields, read_tensors

_GELUS = ("gelu_new", "gelu_pytorch_tanh")  # two names of the tanh approximation
_LAYER = re.compile(r"^h\.(\d+)\.")
_NAMES = {
    "wte": "embed_tokens",
    "wpe": "embed_positions",
    "ln_1": "input_layernorm",
    "attn.c_attn": "self_attn",  # and then q_proj, k_proj, v_proj
    "attn.c_proj": "self_attn.o_proj",
    "ln_2": "post_attention_layernorm",
    "mlp.c_fc": "mlp.up_proj",
    "mlp.c_proj": "mlp.down_proj",
    "ln_f": "norm",
}


@dataclass(frozen=True, slots=True)
class GPT2Config(ModelConfig):
    """The shape of a GPT-2. RoPE's fields mean nothing here; biases are everywhere but in the head."""

    def num_parameters(self) -> int:
        """Trainable numbers, a tied embedding counted once."""
        d, ff = self.hidden_size, self.intermediate_size
        layer = 4 * (d * d + d) + (2 * d * ff + ff + d) + 4 * d
        heads = 1 if self.tie_embeddings else 2
        return self.num_layers * layer + 2 * d + (heads * self.vocab_size + self.max_position) * d

    @classmethod
    def from_transformers(cls, config: object) -> GPT2Config:
        """From a transformers config, or from the mapping that a config.json holds.

        Raises:
            ModelError: if it is no GPT-2, or one with parts that are not built here.
        """
        fields: dict[str, Any] = dict(config) if isinstance(config, Mapping) else config.to_dict()  # type: ignore[attr-defined]
        if fields.get("model_type") != "gpt2":
            raise ModelError(f"config: model type {fields.get('model_type')!r} is not 'gpt2'")
        if missing := [name for name in ("vocab_size", "n_embd", "n_layer", "n_head") if name not in fields]:
            raise ModelError(f"config: {', '.join(missing)} is missing; is this the config.json of a GPT-2?")
        if fields.get("activation_function", "gelu_new") not in _GELUS:
            raise ModelError(
                f"config: activation {fields['activation_function']!r} is not 'gelu_new'; choose another model"
            )
        if fields.get("scale_attn_by_inverse_layer_idx") or not fields.get("scale_attn_weights", True):
            raise ModelError("config: attention scores are not scaled by sqrt(D) alone; choose another model")
        hidden, heads, eos = fields["n_embd"], fields["n_head"], fields.get("eos_token_id")
        return cls(
            vocab_size=fields["vocab_size"],
            hidden_size=hidden,
            num_layers=fields["n_layer"],
            num_heads=heads,
            num_kv_heads=heads,
            head_dim=hidden // heads,
            intermediate_size=fields.get("n_inner") or 4 * hidden,
            max_position=fields.get("n_positions", 1024),
            norm_eps=fields.get("layer_norm_epsilon", 1e-5),
            tie_embeddings=bool(fields.get("tie_word_embeddings", True)),
            qkv_bias=True,
            output_bias=True,
            mlp_bias=True,
            eos_token_ids=() if eos is None else tuple(eos) if isinstance(eos, list) else (eos,),
        )


class GPT2Attention(nn.Module):
    """Multi-head attention without rotation: order came in with the embedding."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim, hidden = layer, config.head_dim, config.hidden_size
        self.q_proj, self.k_proj = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)
        self.v_proj, self.o_proj = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)

    def forward(self, x: Tensor, cache: Cache | None, mask: Tensor | None) -> Tensor:  # [B, T, hidden] -> same
        q, k, v = (
            projection(x).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # [B, H, T, D]
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        if cache is not None:
            k, v = cache.update(self.layer, k, v)
        attended: Tensor = self.o_proj(attend(q, k, v, mask).transpose(1, 2).flatten(2))
        return attended


class GPT2FeedForward(nn.Module):
    """down(gelu(up(x))), with the tanh approximation of GELU that GPT-2 was trained with."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:  # [B, T, hidden] -> same
        narrowed: Tensor = self.down_proj(F.gelu(self.up_proj(x), approximate="tanh"))
        return narrowed


class GPT2Layer(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.self_attn = GPT2Attention(config, layer)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.mlp = GPT2FeedForward(config)

    def forward(self, x: Tensor, cache: Cache | None, mask: Tensor | None) -> Tensor:  # [B, T, hidden] -> same
        x = x + self.self_attn(self.input_layernorm(x), cache, mask)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class GPT2(nn.Module):
    """Token ids in, logits out: a `CausalLM`. Weights are unset until `build_gpt2` fills them."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = nn.Embedding(config.max_position, config.hidden_size)
        self.layers = nn.ModuleList(GPT2Layer(config, layer) for layer in range(config.num_layers))
        self.norm = nn.LayerNorm(config.hidden_size, config.norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.tie_weights()

    def tie_weights(self) -> None:
        """Let the head read the embedding, if the config ties them."""
        if self.config.tie_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    def forward(
        self,
        tokens: Tensor,
        cache: Cache | None = None,
        *,
        last_only: bool = False,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Logits [B, T, V], as `CausalLM` says.

        Raises:
            ModelError: if the tokens, with those in the cache, exceed the table of positions or the cache.
        """
        past, T = 0 if cache is None else cache.length, tokens.size(1)
        if past + T > self.config.max_position:
            raise ModelError(
                f"gpt2: {past} + {T} tokens exceed the model's {self.config.max_position} positions; shorten the text"
            )
        if positions is None:
            positions = torch.arange(past, past + T, device=tokens.device)
        x = self.embed_tokens(tokens) + self.embed_positions(positions)
        for layer in self.layers:
            x = layer(x, cache, mask)
        logits: Tensor = self.lm_head(self.norm(x[:, -1:] if last_only else x))
        return logits


def build_gpt2(config: GPT2Config, tensors: Mapping[str, Tensor]) -> GPT2:
    """A model that holds `tensors`, which go by their names in a checkpoint of transformers.

    Raises:
        ModelError: if a name or a shape differs.
    """
    with torch.device("meta"):
        model = GPT2(config)
    weights = dict(_renamed(tensors))
    if config.tie_embeddings and "embed_tokens.weight" in weights:
        weights["lm_head.weight"] = weights["embed_tokens.weight"]
    try:
        model.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ModelError(f"weights do not fit the config: {' '.join(str(error).split())[:300]}") from error
    model.tie_weights()
    return model.eval()


def load_gpt2(folder: Path, *, dtype: torch.dtype, device: torch.device | str) -> GPT2:
    """The GPT-2 that a checkpoint's folder holds.

    Raises:
        ModelError: if files are missing or do not fit the config.
    """
    config = GPT2Config.from_transformers(read_fields(folder))
    return build_gpt2(config, read_tensors(folder, dtype=dtype, device=device))


def _renamed(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Our names and layouts; without the causal masks that old checkpoints carry as `h.0.attn.bias`."""
    for full_name, tensor in tensors.items():
        path, _, kind = full_name.removeprefix("transformer.").rpartition(".")
        part = _LAYER.sub("", path)  # `attn.c_proj` of `h.0.attn.c_proj`
        ours = _LAYER.sub(r"layers.\1.", path).removesuffix(part) + _NAMES.get(part, part)
        if ".c_" in path and kind == "weight":
            tensor = tensor.t()  # Conv1D's [in, out]
        if part == "attn.c_attn":
            for name, third in zip("qkv", tensor.chunk(3), strict=True):
                yield f"{ours}.{name}_proj.{kind}", third.contiguous()
        elif part != "attn":
            yield f"{ours}.{kind}", tensor.contiguous()
