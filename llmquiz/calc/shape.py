"""A model as numbers: what its config.json says, and the parameters that follow.

Three counts of one model must not be mixed up. All parameters fill memory; of a mixture of experts only the chosen ones
work on a token (`active`); and of those the input embedding does no arithmetic, a row of it is only looked up
(`multiplying`).
"""

from __future__ import annotations

from dataclasses import dataclass

from llmquiz.calc.errors import CalcError


@dataclass(frozen=True, slots=True)
class Latent:
    """Multi-head latent attention: what is cached is `rank` numbers and one rotated key of `rope_dim`."""

    rank: int
    rope_dim: int
    nope_dim: int
    value_dim: int
    query_rank: int = 0  # 0: queries are projected directly


@dataclass(frozen=True, slots=True)
class Experts:
    """A mixture of experts in place of the feed-forward layer, from layer `dense_layers` on."""

    count: int
    active: int
    width: int
    shared: int = 0
    dense_layers: int = 0
    router_bias: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """Attributes as in config.json; `width` is intermediate_size, `learned_positions` of models like GPT-2 (else 0).

    Raises:
        CalcError: if the heads cannot be grouped.
    """

    name: str
    vocabulary: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    width: int
    tied: bool = False
    gated: bool = True  # SwiGLU has three matrices, GELU two
    qkv_bias: bool = False
    biases: bool = False  # in every linear layer and norm, as in GPT-2
    qk_norm: bool = False
    window: int = 0  # tokens that attention sees; 0 for all
    learned_positions: int = 0
    experts: Experts | None = None
    latent: Latent | None = None

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise CalcError(f"{self.name}: {self.heads} query heads cannot share {self.kv_heads} K/V heads evenly")

    @property
    def parameters(self) -> int:
        """All of them, a tied embedding once."""
        return (
            self._outside + self.layers * self._block + self.dense_layers * self._dense + self._moe_layers * self._moe
        )

    @property
    def active(self) -> int:
        """Those that one token meets."""
        return self.parameters - self.expert_parameters + self.active_expert_parameters

    @property
    def multiplying(self) -> int:
        """Active ones less the rows that are only looked up: the input embedding if it is not the head too."""
        looked_up = (0 if self.tied else self.vocabulary) + self.learned_positions
        return self.active - looked_up * self.hidden

    @property
    def expert_parameters(self) -> int:
        """Of all routed experts."""
        return 0 if self.experts is None else self._moe_layers * self.experts.count * self._expert

    @property
    def active_expert_parameters(self) -> int:
        """Of the routed experts that one token meets."""
        return 0 if self.experts is None else self._moe_layers * self.experts.active * self._expert

    def expert_share(self, batch: int) -> float:
        """The expected share of the routed experts that at least one of `batch` tokens is sent to, if all are equally
        likely: 1 - (1 - k/E)^B."""
        if self.experts is None:
            return 1.0
        return 1 - (1 - self.experts.active / self.experts.count) ** batch

    @property
    def cached_numbers(self) -> int:
        """Numbers that one token leaves in the cache."""
        if self.latent is not None:
            return self.layers * (self.latent.rank + self.latent.rope_dim)
        return 2 * self.layers * self.kv_heads * self.head_dim

    @property
    def dense_layers(self) -> int:
        return self.layers if self.experts is None else self.experts.dense_layers

    @property
    def linears(self) -> list[tuple[int, int]]:
        """(in, out) of the linear layers of one block that LoRA may sit beside; experts are left out."""
        d, q, kv = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        if self.latent is not None:
            raise CalcError(f"{self.name}: LoRA on latent attention is not counted; choose another model")
        attention = [(d, q), (d, kv), (d, kv), (q, d)]
        if self.experts is not None:
            return attention
        return [*attention, *[(d, self.width)] * (2 if self.gated else 1), (self.width, d)]

    @property
    def _moe_layers(self) -> int:
        return self.layers - self.dense_layers

    @property
    def _norm(self) -> int:
        return self.hidden * (2 if self.biases else 1)

    @property
    def _outside(self) -> int:
        tables = (1 if self.tied else 2) * self.vocabulary + self.learned_positions
        return tables * self.hidden + self._norm

    @property
    def _block(self) -> int:
        """A layer without its feed-forward part."""
        return 2 * self._norm + (self._grouped if self.latent is None else self._latent(self.latent))

    @property
    def _grouped(self) -> int:
        d, q, kv = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        biases = (q + 2 * kv) * (self.qkv_bias or self.biases) + d * self.biases
        return d * (q + 2 * kv) + q * d + biases + 2 * self.head_dim * self.qk_norm

    def _latent(self, mla: Latent) -> int:
        d, query = self.hidden, self.heads * (mla.nope_dim + mla.rope_dim)
        queries = d * mla.query_rank + mla.query_rank + mla.query_rank * query if mla.query_rank else d * query
        down = d * (mla.rank + mla.rope_dim) + mla.rank  # with its norm
        up = mla.rank * self.heads * (mla.nope_dim + mla.value_dim)
        return queries + down + up + self.heads * mla.value_dim * d

    @property
    def _dense(self) -> int:
        return (3 if self.gated else 2) * self.hidden * self.width + (self.width + self.hidden) * self.biases

    @property
    def _expert(self) -> int:
        assert self.experts is not None
        return 3 * self.hidden * self.experts.width

    @property
    def _moe(self) -> int:
        if self.experts is None:
            return 0
        router = self.hidden * self.experts.count + self.experts.count * self.experts.router_bias
        return router + (self.experts.count + self.experts.shared) * self._expert
