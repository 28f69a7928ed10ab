"""The shape that a config.json describes. The file may come from anybody: its size and every number are bounded.

Families differ in what they leave unsaid: Qwen2 has biases on Q, K and V without a field for it, Qwen3 has heads of 128
whatever the hidden size, and a Mistral without `sliding_window: null` sees 4096 tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from llmquiz.calc.errors import CalcError
from llmquiz.calc.shape import Experts, Latent, Shape

MAX_BYTES = 1 << 20
MAX_NUMBER = 1 << 26
LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3_moe", "deepseek_v3")
FAMILIES = (*LLAMA_LIKE, "gpt2")


def read_shape(path: Path) -> Shape:
    """The shape in a config.json, or in that of a checkpoint's folder.

    Raises:
        CalcError: if it cannot be read, is of another family, or lacks a number.
    """
    file = path / "config.json" if path.is_dir() else path
    try:
        if not file.is_file():
            raise CalcError(f"{file}: no such file; give the config.json of a model, or the folder that holds it")
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise CalcError(f"{file}: larger than {MAX_BYTES >> 20} MiB; a config.json is a few KiB")
        fields = json.loads(content)
    except (OSError, RecursionError, ValueError) as error:
        if isinstance(error, CalcError):
            raise
        raise CalcError(f"{file}: not readable as JSON; is it the config.json of a model?") from error
    if not isinstance(fields, dict):
        raise CalcError(f"{file}: not an object; is it the config.json of a model?")
    return _Fields(file, fields).shape()


class _Fields:
    """Typed access to the fields of one file."""

    def __init__(self, file: Path, fields: Mapping[str, object]) -> None:
        self.file, self.fields = file, fields

    def number(self, name: str, default: int | None = None) -> int:
        value = self.fields.get(name)
        if value is None and default is not None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_NUMBER:
            shown = "missing" if value is None else f"{str(value)[:40]!r}, not a whole number from 1 to {MAX_NUMBER}"
            raise CalcError(f"{self.file}: '{name}' is {shown}; is it the config.json of a model?")
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(self.fields.get(name, default))

    def shape(self) -> Shape:
        family = self.fields.get("model_type")
        if family not in FAMILIES:
            raise CalcError(f"{self.file}: model type {str(family)[:40]!r} is not one of {', '.join(FAMILIES)}")
        name = f"{family} ({self.file.resolve().parent.name})"
        return self._gpt2(name) if family == "gpt2" else self._llama_like(name, str(family))

    def _gpt2(self, name: str) -> Shape:
        hidden, heads = self.number("n_embd"), self.number("n_head")
        return Shape(
            name,
            self.number("vocab_size"),
            hidden,
            self.number("n_layer"),
            heads,
            heads,
            hidden // heads,
            self.number("n_inner", 4 * hidden),
            tied=self.flag("tie_word_embeddings", True),
            gated=False,
            biases=True,
            learned_positions=self.number("n_positions"),
        )

    def _llama_like(self, name: str, family: str) -> Shape:
        hidden, heads = self.number("hidden_size"), self.number("num_attention_heads")
        shape = Shape(
            name,
            self.number("vocab_size"),
            hidden,
            self.number("num_hidden_layers"),
            heads,
            self.number("num_key_value_heads", heads),
            self.number("head_dim", 128 if family.startswith("qwen3") else max(1, hidden // heads)),
            self.number("intermediate_size"),
            tied=self.flag("tie_word_embeddings"),
            qkv_bias=family == "qwen2",
            qk_norm=family.startswith("qwen3"),
            window=self._window(family),
        )
        if family == "mixtral":
            experts = Experts(self.number("num_local_experts"), self.number("num_experts_per_tok"), shape.width)
        elif family == "qwen3_moe":
            experts = Experts(
                self.number("num_experts"), self.number("num_experts_per_tok"), self.number("moe_intermediate_size")
            )
        elif family == "deepseek_v3":
            return self._deepseek(shape)
        else:
            return shape
        return replace(shape, experts=self._checked(experts, shape.layers))

    def _deepseek(self, shape: Shape) -> Shape:
        latent = Latent(
            self.number("kv_lora_rank"),
            self.number("qk_rope_head_dim"),
            self.number("qk_nope_head_dim"),
            self.number("v_head_dim"),
            self.number("q_lora_rank", 0),
        )
        experts = Experts(
            self.number("n_routed_experts"),
            self.number("num_experts_per_tok"),
            self.number("moe_intermediate_size"),
            shared=self.number("n_shared_experts", 0),
            dense_layers=self.number("first_k_dense_replace", 0),
            router_bias=True,
        )
        wide = latent.nope_dim + latent.rope_dim
        return replace(shape, head_dim=wide, latent=latent, experts=self._checked(experts, shape.layers))

    def _checked(self, experts: Experts, layers: int) -> Experts:
        if experts.active > experts.count or experts.dense_layers > layers:
            raise CalcError(
                f"{self.file}: {experts.active} of {experts.count} experts, dense layers "
                f"{experts.dense_layers} of {layers}: these do not fit each other"
            )
        return experts

    def _window(self, family: str) -> int:
        if not self.flag("use_sliding_window", family in ("mistral", "mixtral")):
            return 0
        return self.number("sliding_window", 0)
