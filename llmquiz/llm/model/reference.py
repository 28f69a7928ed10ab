"""The same model as transformers runs it: a witness for our logits and a peer for our speed.

Importing this module imports transformers, which takes seconds. Where it is not installed, `AVAILABLE` is False and the
rest cannot be called.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder
from llmquiz.llm.model.load import build

AVAILABLE = find_spec("transformers") is not None
if AVAILABLE:
    from transformers import AutoModelForCausalLM, DynamicCache, GenerationConfig, LlamaConfig, LlamaForCausalLM


def from_transformers(source: Any) -> Decoder:
    """A decoder with a copy of the weights of a ForCausalLM of transformers' Llama, Mistral, Qwen2 or Qwen3.

    Raises:
        ModelError: if the model is of another shape.
    """
    config = ModelConfig.from_transformers(source.config)
    return build(config, {name: tensor.clone() for name, tensor in source.state_dict().items()})


def to_transformers(model: Decoder) -> Any:
    """A LlamaForCausalLM with a copy of the weights of `model`, in its dtype and on its device.

    Raises:
        ModelError: if Llama lacks a part of the model: a norm on Q and K, biases on Q, K and V alone, stretched RoPE.
    """
    config, weight = model.config, model.embed_tokens.weight
    if config.qk_norm or config.qkv_bias != config.output_bias or config.rope_scaling is not None:
        raise ModelError("to transformers: the model is no plain Llama; load its checkpoint with transformers instead")
    target = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            num_key_value_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=config.max_position,
            rope_theta=config.rope_theta,
            rms_norm_eps=config.norm_eps,
            tie_word_embeddings=config.tie_embeddings,
            attention_bias=config.qkv_bias,
            mlp_bias=config.mlp_bias,
        )
    )
    head = "lm_head.weight"
    target.load_state_dict({name if name == head else f"model.{name}": t for name, t in model.state_dict().items()})
    return target.to(weight.device, weight.dtype).eval()


def load_with_transformers(folder: Path, *, dtype: torch.dtype, device: torch.device | str) -> Any:
    """The checkpoint in `folder` as transformers loads it; an independent check of `load.load_checkpoint`."""
    return AutoModelForCausalLM.from_pretrained(folder).to(device, dtype).eval()


def cached_decoding(source: Any) -> tuple[Callable[[Tensor], Tensor], Callable[[], int]]:
    """A model of transformers with a new cache of its own: what takes tokens [1, T] and gives the last logits [V], and
    what tells the bytes of the cache."""
    cache = DynamicCache()

    def feed(tokens: Tensor) -> Tensor:
        logits: Tensor = source(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[0, -1]
        return logits

    return feed, lambda: sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


def generate_greedily(source: Any, prompt: Tensor, length: int) -> Tensor:  # [B, P] -> [B, length]
    """transformers' own `generate`; end tokens do not stop it.

    An end token in the model's own settings would count again where the call's settings name none, so it is taken out.
    """
    source.generation_config.eos_token_id = None
    settings = GenerationConfig(max_new_tokens=length, do_sample=False, pad_token_id=0)
    made: Tensor = source.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=settings)
    return made[:, prompt.size(1) :]
