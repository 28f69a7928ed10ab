"""Torch's attention kernels: which one runs, and why another cannot.

`F.scaled_dot_product_attention` is a choice, not a kernel. Calling it does not mean that FlashAttention ran: torch
takes the first kernel whose conditions the tensors meet, and falls back without a word to `math`, which holds all T x S
scores. Values of another width, dropout on a CPU or a mask that wants a gradient is enough.

    math        three operations of torch, with the whole score matrix; runs everywhere, takes everything
    flash       tiles (Dao et al. 2023); a CPU has one too, in other code under the same name
    efficient   tiles (Rabe & Staats 2021), from xFormers; CUDA, also where flash cannot: fp32, or any mask
    cudnn       tiles, from NVIDIA's library; CUDA

Its `is_causal` aligns the triangle to the top left. With a cache, one query and S keys, that hides all keys but the
first; pass a mask from `attention.visibility` or, for one query, nothing.

Shapes: B batch, T queries, S keys, H query heads, H_kv K/V heads, D head_dim.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from llmquiz.llm.errors import ModelError

BACKENDS = {
    "math": SDPBackend.MATH,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
CUDA_ONLY = ("efficient", "cudnn")


def default_backend(q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> str:
    """The kernel that torch takes for these tensors if it is left the choice."""
    grouped = q.size(-3) != k.size(-3)
    chosen = torch._fused_sdp_choice(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=grouped)
    return next(
        (name for name, backend in BACKENDS.items() if backend.value == chosen), SDPBackend(chosen).name.lower()
    )


def run_backend(
    name: str, q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False
) -> Tensor:  # [B, H, T, D], [B, H_kv, S, D] twice -> [B, H, T, D]
    """Attention by this kernel and no other.

    Args:
        name: one of `BACKENDS`.
        mask: True where a key is seen, or what is added to the scores; broadcastable to [B, H, T, S].
        causal: the triangle at the top left.

    Raises:
        ModelError: if it cannot run on these tensors; the message says why.
    """
    if name in CUDA_ONLY and q.device.type != "cuda":
        raise ModelError(f"{name} attention: needs CUDA, the tensors are on {q.device.type}; use math or flash")
    with warnings.catch_warnings(record=True) as complaints, sdpa_kernel([BACKENDS[name]]):
        warnings.simplefilter("always")
        try:
            return F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=q.size(-3) != k.size(-3)
            )
        except RuntimeError as error:
            reason = _reason([str(warning.message) for warning in complaints], error, mask)
            raise ModelError(f"{name} attention: {reason}") from error


def reasons_against(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Tensor | None = None, causal: bool = False
) -> dict[str, str]:
    """Why each of `BACKENDS` cannot run on these tensors; empty where it can, since it just did."""
    reasons = {}
    for name in BACKENDS:
        try:
            run_backend(name, q, k, v, mask=mask, causal=causal)
            reasons[name] = ""
        except ModelError as error:
            reasons[name] = str(error).removeprefix(f"{name} attention: ")
    return reasons


def _reason(complaints: list[str], error: RuntimeError, mask: Tensor | None) -> str:
    """Torch warns why a kernel was not used, then raises that none is left. Of a mask's gradient it does not warn."""
    sentences = [complaint.partition(" (Triggered internally")[0].strip() for complaint in complaints]
    found = [sentence for sentence in sentences if sentence and not sentence.endswith("not used because:")]
    if found:
        return " ".join(found)
    if mask is not None and mask.requires_grad:
        return "the mask wants a gradient, which only math computes"
    return str(error).strip().partition("\n")[0]
