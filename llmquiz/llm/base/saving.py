"""Writing a decoder as a checkpoint that others read: transformers, and our own loader.

The names of our parameters are those of Llama less a prefix, so there is no table of names. A tied head is not written:
a file with both would hold the same numbers twice, and a reader that does not tie would train them apart.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch

from llmquiz.llm.base.tokenizer import ROLES, read_tokenizer
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.decoder import Decoder


def save_model(model: Decoder, tokenizer: Path, folder: Path, *, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write config.json, model.safetensors and a copy of the tokenizer.json into `folder`, which is made if need be.

    Raises:
        ModelError: if the model is no plain Llama, or the folder cannot be written.
    """
    from safetensors.torch import save_file

    config = model.config
    if config.qk_norm or config.qkv_bias != config.output_bias or config.rope_scaling is not None:
        raise ModelError(
            "save: only a plain Llama can be written; this one has norms on Q and K, biases or scaled RoPE"
        )
    ids = read_tokenizer(tokenizer, {})
    fields = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.max_position,
        "rope_theta": config.rope_theta,
        "rms_norm_eps": config.norm_eps,
        "hidden_act": "silu",
        "tie_word_embeddings": config.tie_embeddings,
        "attention_bias": config.qkv_bias,
        "mlp_bias": config.mlp_bias,
        "torch_dtype": str(dtype).removeprefix("torch."),
        **{role: ids.token_id(token) for token, role in ROLES.items()},
    }
    tensors = {
        name if name == "lm_head.weight" else f"model.{name}": parameter.detach().to("cpu", dtype).contiguous()
        for name, parameter in model.named_parameters()  # a tied head comes once, as the embedding
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if tokenizer.resolve() != (folder / "tokenizer.json").resolve():
            shutil.copyfile(tokenizer, folder / "tokenizer.json")
        (folder / "config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "model.safetensors").chmod(0o644)  # the library makes a file that only its owner reads
    except OSError as error:
        raise ModelError(f"{folder}: not saved ({error.strerror or error}); choose another folder") from error
