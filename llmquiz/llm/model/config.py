"""The numbers that define a decoder, and what follows from them: parameters, bytes of weights, bytes of cache.

One shape covers the Llama family: Llama has no biases and no norm on queries and keys, Qwen2 adds biases to Q, K and V,
Qwen3 drops them again and normalises each head of Q and K. How many K/V heads there are is a property of the trained
weights: multi-head (num_kv_heads = num_heads), grouped (fewer) and multi-query (one) are different models, not settings
of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.rope_scaling import RopeScaling, read_scaling

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a decoder.

    Attributes:
        sliding_window: W, so that a token sees itself and the W - 1 before it; None to see all.

    Raises:
        ModelError: if the heads cannot be grouped, or `head_dim` is odd (RoPE turns pairs).
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    max_position: int = 8192
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-6
    tie_embeddings: bool = False
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    sliding_window: int | None = None
    eos_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.num_kv_heads < 1 or self.num_heads % self.num_kv_heads:
            raise ModelError(f"config: {self.num_heads} query heads cannot share {self.num_kv_heads} K/V heads evenly")
        if self.head_dim % 2:
            raise ModelError(f"config: head_dim {self.head_dim} is odd; RoPE needs pairs")

    @property
    def group_size(self) -> int:
        """Query heads that read the same K/V head: 1 in MHA, num_heads in MQA."""
        return self.num_heads // self.num_kv_heads

    def num_parameters(self) -> int:
        """Trainable numbers, a tied embedding counted once."""
        d, q, kv, ff = (
            self.hidden_size,
            self.num_heads * self.head_dim,
            self.num_kv_heads * self.head_dim,
            self.intermediate_size,
        )
        attention = d * (q + 2 * kv) + q * d
        attention += (q + 2 * kv) * self.qkv_bias + d * self.output_bias + 2 * self.head_dim * self.qk_norm
        feed_forward = 3 * d * ff + (2 * ff + d) * self.mlp_bias
        embeddings = self.vocab_size * d * (1 if self.tie_embeddings else 2)
        return self.num_layers * (attention + feed_forward + 2 * d) + d + embeddings

    def cache_bytes(self, tokens: int, *, batch: int = 1, itemsize: int = 4) -> int:
        """Bytes of keys and values for `tokens` positions: 2 * L * H_kv * D * T * B * itemsize."""
        return 2 * self.num_layers * self.num_kv_heads * self.head_dim * tokens * batch * itemsize

    @classmethod
    def from_transformers(cls, config: object) -> ModelConfig:
        """From a transformers config, or from the mapping that a config.json holds.

        Raises:
            ModelError: if the model is not of the Llama family, or uses a part that `Decoder` lacks.
        """
        fields = dict(config) if isinstance(config, Mapping) else _fields(config)
        family = fields.get("model_type")
        _check_supported(fields)
        hidden_size, num_heads = fields["hidden_size"], fields["num_attention_heads"]
        rope = fields.get("rope_parameters") or fields.get("rope_scaling") or {}
        scaling, max_position = read_scaling(rope, fields.get("max_position_embeddings", 2048))
        attention_bias = bool(fields.get("attention_bias", False))
        eos = fields.get("eos_token_id")
        return cls(
            vocab_size=fields["vocab_size"],
            hidden_size=hidden_size,
            num_layers=fields["num_hidden_layers"],
            num_heads=num_heads,
            num_kv_heads=fields.get("num_key_value_heads") or num_heads,
            head_dim=fields.get("head_dim") or (128 if family == "qwen3" else hidden_size // num_heads),
            intermediate_size=fields["intermediate_size"],
            max_position=max_position,
            rope_theta=rope.get("rope_theta", fields.get("rope_theta", 10_000.0)),
            rope_scaling=scaling,
            norm_eps=fields.get("rms_norm_eps", 1e-6),
            tie_embeddings=bool(fields.get("tie_word_embeddings", False)),
            qkv_bias=family == "qwen2" or attention_bias,
            output_bias=family != "qwen2" and attention_bias,
            mlp_bias=bool(fields.get("mlp_bias", False)),
            qk_norm=family == "qwen3",
            sliding_window=_sliding_window(fields),
            eos_token_ids=tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,),
        )


def _fields(config: Any) -> dict[str, Any]:
    fields: dict[str, Any] = config.to_dict()
    return fields


def _check_supported(fields: Mapping[str, Any]) -> None:
    family = fields.get("model_type")
    if family not in FAMILIES:
        raise ModelError(f"config: model type {family!r} is not one of {', '.join(FAMILIES)}; choose a model of these")
    missing = [
        name
        for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        if name not in fields
    ]
    if missing:
        raise ModelError(f"config: {', '.join(missing)} is missing; is this the config.json of a {family} model?")
    if fields.get("hidden_act", "silu") != "silu":
        raise ModelError(
            f"config: activation {fields['hidden_act']!r} is not 'silu', the gate of SwiGLU; choose another model"
        )


def _sliding_window(fields: Mapping[str, Any]) -> int | None:
    """Mistral has one in every layer; Qwen names one that `use_sliding_window` turns on from some layer up.

    Raises:
        ModelError: if some layers have one and others have none.
    """
    first = fields.get("max_window_layers", 0) if fields["model_type"] != "mistral" else 0
    kinds = fields.get("layer_types") or [
        "sliding_attention" if layer >= first else "full_attention" for layer in range(fields["num_hidden_layers"])
    ]
    if not fields.get("use_sliding_window", fields["model_type"] == "mistral") or "sliding_attention" not in kinds:
        return None
    if "full_attention" in kinds:
        raise ModelError("config: layers of full and of sliding-window attention are mixed; choose a model of one kind")
    window: int | None = fields.get("sliding_window")
    return window
