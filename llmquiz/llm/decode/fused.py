"""The decoder again, rearranged for speed: the same call, the same numbers, fewer and larger steps.

At batch 1 a step reads every weight once, and the rest should vanish beside it. It does not by itself: each operation
costs microseconds to call, however little it computes, and a layer written for reading makes about 60 of them. Here Q,
K and V come of one product, gate and up of another, and tokens stay [R, hidden] between them, which leaves about 35.
Plain classes take the place of modules for the same reason: the bookkeeping of `nn.Module` is a tenth of a step in
int8.

On a CPU only the products are in the packed form. Between them numbers stay fp32: torch's attention in fp16 takes seven
times as long there. So caches keep fp32, their default. On an accelerator everything is in the dtype of the form.

What remains to the bandwidth limit, at 50M parameters on one thread: a sum draws 28 GB/s from memory; the kernels of a
matrix-vector product draw 17 in fp32 and 16 in fp16, since each weight is also multiplied and added to a running
result, 12 to 17 in int8, where integers are multiplied with integers, and about 10 in int4, where the likely cost is
the widening of the codes. The calls are the rest: in int4 1.6 ms a token, a third of the time, and in fp16 2.4, a
quarter. In a loop of their own they take half of that; that the streaming weights wash them out of the core's caches is
a guess.

Shapes: B batch, T new tokens, R = B * T rows, H query heads, H_kv K/V heads, D head_dim, V vocabulary.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.llm.cache.base import Cache
from llmquiz.llm.model.attention import Attention, attend
from llmquiz.llm.model.decoder import Decoder, DecoderLayer, check_positions
from llmquiz.llm.model.norms import RMSNorm
from llmquiz.llm.model.positions import rotate
from llmquiz.llm.quant.packed import PackedLinear, into_huge_pages, pack_linear


def pack_for_decoding(model: Decoder, form: str) -> FusedDecoder:
    """A twin of `model` for inference, with its weights rounded to `form`: fp32, fp16, bf16, int8 or int4.

    The model is left as it is. Besides the embedding nothing is shared, so both are in memory until it is dropped.

    Raises:
        ModelError: if the form is unknown, or does not fit the model's sizes or device.
    """
    return FusedDecoder(model, form)


class FusedNorm:
    """RMSNorm as LayerNorm of (x, -x), whose mean is zero and whose variance is the mean of x^2: on a CPU torch has one
    kernel for LayerNorm and calls six for RMSNorm."""

    def __init__(self, norm: RMSNorm, dtype: torch.dtype) -> None:
        self.eps = norm.eps
        self.weight = norm.weight.detach().to(dtype).repeat(2, 1)  # [2, hidden]
        self.signs = self.weight.new_tensor([[1.0], [-1.0]])

    def __call__(self, x: Tensor) -> Tensor:  # [R, hidden] -> same
        both = x.unsqueeze(1) * self.signs  # [R, 2, hidden]
        return torch.layer_norm(both, self.weight.shape, self.weight, None, self.eps).select(1, 0)


class FusedLayer:
    """A decoder layer whose seven products are four."""

    def __init__(self, layer: DecoderLayer, form: str, dtype: torch.dtype) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.layer, self.head_dim, self.window = attention.layer, attention.head_dim, attention.window
        self.norm_eps = layer.input_layernorm.eps
        self.num_heads, self.num_kv_heads = (
            p.out_features // self.head_dim for p in (attention.q_proj, attention.k_proj)
        )
        self.input_norm = FusedNorm(layer.input_layernorm, dtype)
        self.qkv = _pack(form, attention.q_proj, attention.k_proj, attention.v_proj)
        self.out = _pack(form, attention.o_proj)
        self.post_norm = FusedNorm(layer.post_attention_layernorm, dtype)
        self.gate_up = _pack(form, mlp.gate_proj, mlp.up_proj)
        self.down = _pack(form, mlp.down_proj)
        self.head_norm = self._head_norm(attention, dtype)

    def __call__(
        self, x: Tensor, batch: int, rotation: tuple[Tensor, Tensor], cache: Cache | None, mask: Tensor | None
    ) -> Tensor:  # [R, hidden] -> the same tensor, added to
        x += self.out(self._attend(self.qkv(self.input_norm(x)).to(x.dtype), batch, rotation, cache, mask))
        gate, up = self.gate_up(self.post_norm(x)).chunk(2, dim=-1)
        x += self.down(F.silu(gate).mul_(up))
        return x

    def _attend(
        self, qkv: Tensor, batch: int, rotation: tuple[Tensor, Tensor], cache: Cache | None, mask: Tensor | None
    ) -> Tensor:  # [R, (H + 2 H_kv) D] -> [R, H D]
        heads = qkv.view(batch, -1, self.num_heads + 2 * self.num_kv_heads, self.head_dim).transpose(1, 2)
        qk, v = heads.split_with_sizes((self.num_heads + self.num_kv_heads, self.num_kv_heads), dim=1)
        if self.head_norm is not None:
            qk = F.rms_norm(qk, (self.head_dim,), None, self.norm_eps) * self.head_norm
        q, k = rotate(qk, *rotation).split_with_sizes((self.num_heads, self.num_kv_heads), dim=1)
        if cache is not None:
            k, v = cache.update(self.layer, k, v)
        return attend(q, k, v, mask, self.window).transpose(1, 2).reshape(qkv.size(0), -1)

    def _head_norm(self, attention: Attention, dtype: torch.dtype) -> Tensor | None:  # [H + H_kv, 1, D]
        """The weights of Qwen3's norms of each head of Q and K, if the model has them."""
        q, k = attention.q_norm, attention.k_norm
        if not isinstance(q, RMSNorm) or not isinstance(k, RMSNorm):
            return None
        weights = (q.weight.expand(self.num_heads, -1), k.weight.expand(self.num_kv_heads, -1))
        return torch.cat(weights).detach().to(dtype)[:, None]


class FusedDecoder:
    """`Decoder` for inference alone; make one with `pack_for_decoding`.

    Attributes:
        config: the model's shape.
        form: of the weights.
    """

    def __init__(self, model: Decoder, form: str) -> None:
        self.config, self.form, self.rotary = model.config, form, model.rotary
        self.head = _pack(form, model.lm_head)
        embedding = model.embed_tokens.weight.detach()
        dtype = torch.float32 if embedding.device.type == "cpu" else self.head.weight.dtype
        self.embedding = embedding.to(dtype)
        self.layers = [FusedLayer(cast(DecoderLayer, layer), form, dtype) for layer in model.layers]
        self.norm = FusedNorm(model.norm, dtype)
        into_huge_pages(self._products())

    def weight_bytes_read(self) -> int:
        """Bytes of weights that decoding one token reads: all products and the head as packed; of the embedding
        a row. Over the memory's bandwidth they bound the speed of decoding one sequence."""
        return sum(product.packed_bytes() for product in self._products())

    def _products(self) -> list[PackedLinear]:
        """In the order of a step."""
        inner = (part for layer in self.layers for part in (layer.qkv, layer.out, layer.gate_up, layer.down))
        return [*inner, self.head]

    def __call__(
        self,
        tokens: Tensor,
        cache: Cache | None = None,
        *,
        last_only: bool = False,
        mask: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Logits [B, T, V] of the token that follows each of `tokens` [B, T], as `Decoder` gives them; [B, 1, V] with
        `last_only`. On a CPU in fp32.

        Raises:
            ModelError: as `Decoder`.
        """
        B, T = tokens.shape
        past = 0 if cache is None else cache.length
        check_positions(self.config, past, T)
        embedded = F.embedding(tokens, self.embedding)  # [B, T, hidden]
        rotation = self.rotary(past, embedded, positions)
        x = embedded.view(B * T, -1)
        for layer in self.layers:
            x = layer(x, B, rotation, cache, mask)
        if last_only and T > 1:
            x, T = x.view(B, T, -1)[:, -1], 1
        logits: Tensor = self.head(self.norm(x)).to(x.dtype)
        return logits.view(B, T, -1)


def _pack(form: str, *parts: nn.Linear) -> PackedLinear:
    """One layer for several with the same input: their outputs stand one after the other."""
    biases = [part.bias for part in parts if part.bias is not None]
    return pack_linear(torch.cat([*(part.weight for part in parts)]), torch.cat([*biases]) if biases else None, form)
