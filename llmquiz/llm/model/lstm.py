"""Long short-term memory: a cell state that is added to, not multiplied, so a gradient can travel (Hochreiter and
Schmidhuber 1997; with forget gate, Gers et al. 2000).

    i, f, o = sigmoid(...),  g = tanh(...)      of W_ih x + b_ih + W_hh h + b_hh
    c' = f * c + i * g                          the state: forget a part, write a part
    h' = o * tanh(c')                           what the cell shows, to the next layer and to its own next step

It softens the vanishing gradient, it does not end it: dc_T/dc_0 is a product of T forget gates, each below one. And
step t needs the h of step t - 1, so the T steps of a text run one after another, in training too.

Shapes: B batch, T tokens, D input width, H hidden_size, V vocabulary. The gates are stacked as in torch: i, f, g, o.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State: TypeAlias = tuple[Tensor, Tensor]  # h and c, [B, H] each


class LSTMCell(nn.Module):
    """One step. Weights carry torch's names, so a state dict of torch.nn.LSTMCell loads."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias_ih = nn.Parameter(torch.empty(4 * hidden_size))
        self.bias_hh = nn.Parameter(torch.empty(4 * hidden_size))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5)

    def forward(self, x: Tensor, state: State | None = None) -> State:  # [B, D] -> h', c', [B, H] each
        return self.step(self.project(x), state or self.start(x))

    def project(self, x: Tensor) -> Tensor:  # [..., D] -> [..., 4H]
        """The part of the gates that needs no past: for a whole text it is one product."""
        return F.linear(x, self.weight_ih, self.bias_ih)

    def step(self, projected: Tensor, state: State) -> State:  # [B, 4H] -> h', c', [B, H] each
        h, c = state
        i, f, g, o = (projected + F.linear(h, self.weight_hh, self.bias_hh)).chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c

    def start(self, x: Tensor) -> State:
        """An empty memory for the rows of `x`."""
        zeros = x.new_zeros(x.size(0), self.hidden_size)
        return zeros, zeros


class LSTM(nn.Module):
    """Cells stacked in layers and walked over time, as torch.nn.LSTM with batch_first."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__()
        widths = [input_size] + [hidden_size] * (num_layers - 1)
        cells = nn.ModuleList(LSTMCell(width, hidden_size) for width in widths)
        self.cells = cast(Sequence[LSTMCell], cells)

    def forward(
        self, x: Tensor, states: list[State] | None = None
    ) -> tuple[Tensor, list[State]]:  # [B, T, D] -> [B, T, H] of the last layer, the last state of each
        """Continue from `states`, or from an empty memory. The states are all the past there is: their size does not
        grow with T."""
        ends = []
        for layer, cell in enumerate(self.cells):
            state = cell.start(x[:, 0]) if states is None else states[layer]
            shown = []
            for projected in cell.project(x).unbind(dim=1):
                state = cell.step(projected, state)
                shown.append(state[0])
            x = torch.stack(shown, dim=1)
            ends.append(state)
        return x, ends


class LSTMLanguageModel(nn.Module):
    """Token ids in, logits out."""

    def __init__(self, vocab_size: int, hidden_size: int, num_layers: int = 1) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocab_size, hidden_size)
        self.lstm = LSTM(hidden_size, hidden_size, num_layers)
        self.lm_head = nn.Linear(hidden_size, vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:  # [B, T] -> [B, T, V]
        logits: Tensor = self.lm_head(self.lstm(self.embed_tokens(tokens))[0])
        return logits
