"""Exact attention that never holds more than one tile of scores (Dao et al. 2022, algorithms 1 and 4; Dao 2023; the
online softmax: Milakov & Gimelshein 2018, section 3).

It is no approximation, and it does not make attention linear: the same T x S scores are computed, tile by tile, and
each is thrown away once used. What falls is memory. A row needs three running numbers: the highest score so far, the
sum of the exponentials, and the weighted sum of the values. When a tile brings a higher score, the latter two shrink by
exp(old - new), and go on as if they had been measured against it from the start.

The backward pass needs the weights again. It computes them again from one number a row, the log-sum-exp, instead of
reading T x S of them: five matrix products of a tile in place of four. More operations, less time, where memory is what
is waited for. Python and CPU tensors show what is computed and held; on a GPU this loop runs inside one kernel, with
the tiles in on-chip memory.

Shapes: B batch, T queries, S keys, H query heads, H_kv K/V heads, G = H / H_kv, D head_dim, t and s sides of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from llmquiz.llm.errors import ModelError


@dataclass(slots=True)
class Work:
    """What the loops of a call did, counted while they ran; a backward pass adds to it.

    Attributes:
        pairs: query-key pairs whose scores the forward pass computed, in all heads and sequences.
        forward_flops: of its matrix products; a multiply-add is two.
        backward_flops: likewise.
        score_bytes: most bytes of scores that were alive at once.
        moved_bytes: of the tiles of Q, K and V that the forward pass fetched and of what it wrote: its traffic with
            memory, if a tile and its scores fit into a faster one.
    """

    pairs: int = 0
    forward_flops: int = 0
    backward_flops: int = 0
    score_bytes: int = 0
    moved_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Tiling:
    """Cuts the T x S scores into tiles, and leaves out those in which no query sees a key.

    Query t stands at position S - T + t: the last query sees the last key, and with a cache T is less than S.
    """

    queries: int
    keys: int
    side: int
    causal: bool
    window: int | None

    def rows(self) -> Iterator[slice]:
        for start in range(0, self.queries, self.side):
            yield slice(start, min(start + self.side, self.queries))

    def columns(self, rows: slice) -> Iterator[slice]:
        """The tiles that hold a key which one of these queries sees; none if they see nothing."""
        first, last = self._positions(rows)
        low = 0 if self.window is None else max(0, first - self.window + 1)
        high = min(self.keys, last + 1) if self.causal else self.keys
        for start in range(low, high, self.side):
            yield slice(start, min(start + self.side, high))

    def hide(self, scores: Tensor, rows: slice, columns: slice) -> Tensor:  # [B, H_kv, G * t, s], in place
        """Put -inf where a query must not look; most tiles lie inside the visible band and are left as they are."""
        first, last = self._positions(rows)
        crosses_diagonal = self.causal and columns.stop - 1 > first
        crosses_window = self.window is not None and columns.start <= last - self.window
        if not crosses_diagonal and not crosses_window:
            return scores
        positions = torch.arange(first, last + 1, device=scores.device)
        back = positions[:, None] - torch.arange(columns.start, columns.stop, device=scores.device)  # [t, s]
        hidden = back < 0 if self.window is None else (back < 0) | (back >= self.window)
        scores.view(*scores.shape[:2], -1, *hidden.shape).masked_fill_(hidden, float("-inf"))
        return scores

    def _positions(self, rows: slice) -> tuple[int, int]:
        """Of the first and the last of these queries."""
        offset = self.keys - self.queries
        return offset + rows.start, offset + rows.stop - 1


def tiled_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    window: int | None = None,
    tile: int = 128,
    work: Work | None = None,
) -> Tensor:  # [B, H, T, D], [B, H_kv, S, D] twice -> [B, H, T, D]
    """softmax(q k^T / sqrt(D)) v, with a gradient. What `attention.scaled_dot_product` gives, up to rounding.

    Half precision is added up in fp32. A query that sees no key (causal, T > S) gives zeros and passes no gradient on.

    Args:
        causal: a query sees the keys up to its own position; the last query stands at the last key.
        window: with `causal`, how many keys up to its own a query sees.
        tile: side of a tile; T and S need not be multiples of it.
        work: counts what is done, in the backward pass too.

    Raises:
        ModelError: if the heads cannot be grouped, or a window or a tile makes no sense.
    """
    if q.size(1) % k.size(1):
        raise ModelError(f"tiled attention: {q.size(1)} query heads cannot share {k.size(1)} K/V heads evenly")
    if tile < 1 or (window is not None and (window < 1 or not causal)):
        raise ModelError(f"tiled attention: tile {tile}, window {window}; both start at 1, and a window is causal")
    tiling = Tiling(q.size(2), k.size(2), tile, causal, window)
    attended: Tensor = _TiledAttention.apply(q, k, v, tiling, Work() if work is None else work)  # type: ignore[no-untyped-call]
    return attended


class _TiledAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, tiling: Tiling, work: Work) -> Tensor:
        scale, wide = q.size(-1) ** -0.5, torch.promote_types(q.dtype, torch.float32)
        out = q.new_empty(*q.shape[:3], v.size(-1))
        log_sum = q.new_empty(*q.shape[:3], 1, dtype=wide)
        for rows in tiling.rows():
            query = scale * _grouped(q, k, rows)  # [B, H_kv, G * t, D]
            highest = query.new_full((*query.shape[:3], 1), torch.finfo(wide).min)  # finite: -inf - -inf is nan
            total = torch.zeros_like(highest)
            weighted = query.new_zeros(*query.shape[:3], v.size(-1))
            for columns in tiling.columns(rows):
                keys, values = k[:, :, columns].to(wide), v[:, :, columns].to(wide)
                scores = tiling.hide(query @ keys.mT, rows, columns)  # [B, H_kv, G * t, s]
                higher = torch.maximum(highest, scores.amax(-1, keepdim=True))
                weights = scores.sub_(higher).exp_()
                shrink = (highest - higher).exp()
                total = shrink * total + weights.sum(-1, keepdim=True)
                weighted = shrink * weighted + weights @ values
                highest = higher
                work.pairs += scores.numel()
                work.forward_flops += 2 * scores.numel() * (q.size(-1) + v.size(-1))
                work.score_bytes = max(work.score_bytes, scores.nbytes)
                work.moved_bytes += k[:, :, columns].nbytes + v[:, :, columns].nbytes
            total.masked_fill_(total == 0, 1.0)  # a query that sees nothing: its weighted sum is zero, and stays so
            out[:, :, rows] = _ungrouped(weighted / total, q)
            log_sum[:, :, rows] = _ungrouped(highest + total.log(), q)
            work.moved_bytes += q[:, :, rows].nbytes + out[:, :, rows].nbytes + log_sum[:, :, rows].nbytes
        ctx.save_for_backward(q, k, v, out, log_sum)
        ctx.tiling, ctx.work = tiling, work
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        """With weights P and output O = P V: dV = P^T dO, dP = dO V^T, and through the softmax dS = P * (dP - m), where
        m is a row's mean of dP under P. That mean is a row's dO . O, so it needs no pass over all keys."""
        q, k, v, out, log_sum = ctx.saved_tensors
        tiling, work, scale, wide = ctx.tiling, ctx.work, q.size(-1) ** -0.5, log_sum.dtype
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k, dtype=wide), torch.zeros_like(v, dtype=wide)
        for rows in tiling.rows():
            query, d_attended = scale * _grouped(q, k, rows), _grouped(d_out, k, rows)
            mean = (d_attended * _grouped(out, k, rows)).sum(-1, keepdim=True)  # [B, H_kv, G * t, 1]
            log_total, d_query = _grouped(log_sum, k, rows), torch.zeros_like(query)
            for columns in tiling.columns(rows):
                keys, values = k[:, :, columns].to(wide), v[:, :, columns].to(wide)
                weights = tiling.hide(query @ keys.mT, rows, columns).sub_(log_total).exp_()
                dv[:, :, columns] += weights.mT @ d_attended  # the rows of a group add up here: one K/V head, G queries
                d_scores = (d_attended @ values.mT).sub_(mean).mul_(weights)
                dk[:, :, columns] += d_scores.mT @ query
                d_query += d_scores @ keys
                work.backward_flops += 2 * weights.numel() * (3 * q.size(-1) + 2 * v.size(-1))
                work.score_bytes = max(work.score_bytes, weights.nbytes + d_scores.nbytes)
            dq[:, :, rows] = _ungrouped(scale * d_query, q)
        return dq, dk.to(k.dtype), dv.to(v.dtype), None, None


def _grouped(x: Tensor, k: Tensor, rows: slice) -> Tensor:  # [B, H, T, D] -> [B, H_kv, G * t, D] in fp32 or fp64
    """The G query heads of a group as G times as many rows of one: K and V need not be repeated."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return x[:, :, rows].reshape(x.size(0), k.size(1), -1, x.size(-1)).to(wide)


def _ungrouped(x: Tensor, q: Tensor) -> Tensor:  # [B, H_kv, G * t, D] -> [B, H, t, D]
    return x.reshape(x.size(0), q.size(1), -1, x.size(-1))
