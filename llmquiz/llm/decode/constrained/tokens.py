"""The automaton of bytes, lifted to tokens (Willard & Louf 2023, section 3).

A token is allowed if the automaton survives all of its bytes, wherever in the text it stands: `", "age": ` may be one
token and closes a string, names a member and begins a value. Finding the allowed tokens means walking the vocabulary,
which is too slow to do at every step; but it depends on the state alone, so it is done once for each.

How many tokens the shortest way to acceptance has is known for each state too. A mask alone promises only that a text
can still become valid; a text that is cut at `max_new_tokens` is valid only if someone has counted.

Shapes: S states, V tokens, N bytes of the longest token.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from llmquiz.llm.base.tokenizer import Tokenizer
from llmquiz.llm.decode.constrained import regex, schema
from llmquiz.llm.decode.constrained.automaton import DEAD, MAX_STATES, Automaton, compile_tree
from llmquiz.llm.decode.constrained.vocabulary import token_bytes
from llmquiz.llm.errors import ModelError


class Moves(NamedTuple):
    """The tokens [K] that a state allows, and how many tokens [K] are needed after each until a text may end."""

    ids: Tensor
    needed: Tensor


class TokenAutomaton:
    """Which tokens may follow, for each state of `automaton`.

    Attributes:
        distance: for each state that tokens reach, the fewest tokens until a text may end there.

    Raises:
        ModelError: if the tokens can spell nothing that matches.
    """

    def __init__(self, automaton: Automaton, tokens: Sequence[bytes]) -> None:
        self.automaton, self.tokens = automaton, list(tokens)
        self._table = torch.tensor(automaton.table)  # [S, 256]
        written = sorted((text, token) for token, text in enumerate(tokens) if text)
        self._ids = torch.tensor([token for _, token in written])
        self._lengths = torch.tensor([len(text) for text, _ in written])
        rows = [torch.frombuffer(bytearray(text), dtype=torch.uint8) for text, _ in written]
        self._bytes = pad_sequence(rows, batch_first=True).t().contiguous()  # [N, V]
        ends = self._explore()
        self.distance = self._distances(ends)
        if 0 not in self.distance:
            raise ModelError("constraint: the tokenizer's tokens cannot spell any text that matches it")
        far = torch.full((len(automaton),), len(automaton))
        far[list(self.distance)] = torch.tensor(list(self.distance.values()))
        self.moves: dict[int, Moves] = {}
        for state in self.distance:
            ids, following = ends[state]
            alive = far[following] < len(automaton)
            self.moves[state] = Moves(ids[alive], far[following[alive]])

    @classmethod
    def from_regex(cls, pattern: str, tokenizer: Tokenizer, *, max_states: int = MAX_STATES) -> TokenAutomaton:
        return cls(compile_tree(regex.parse(pattern), max_states=max_states), token_bytes(tokenizer))

    @classmethod
    def from_schema(
        cls,
        document: schema.Schema,
        tokenizer: Tokenizer,
        *,
        max_states: int = MAX_STATES,
        max_depth: int = schema.MAX_DEPTH,
    ) -> TokenAutomaton:
        tree = schema.tree_of(document, max_depth=max_depth)
        return cls(compile_tree(tree, max_states=max_states), token_bytes(tokenizer))

    def step(self, state: int, token: int) -> int:
        """The state after `token`, or DEAD."""
        text = self.tokens[token] if token < len(self.tokens) else b""
        following = self.automaton.walk(state, text) if text else DEAD
        return following if following in self.distance else DEAD

    def ends(self, state: int) -> tuple[Tensor, Tensor]:  # [K] ids, [K] states
        """Every token that survives from `state`, and the state that it leads to: all tokens at once, byte by byte."""
        rows, states = torch.arange(len(self._ids)), torch.full((len(self._ids),), state)
        ids, finals = [], []
        for place, column in enumerate(self._bytes, start=1):
            states = self._table[states, column[rows].long()]
            alive = states != DEAD
            rows, states = rows[alive], states[alive]
            last = self._lengths[rows] == place
            ids.append(self._ids[rows[last]])
            finals.append(states[last])
            rows, states = rows[~last], states[~last]
            if not len(rows):
                break
        return torch.cat(ids), torch.cat(finals)

    def _explore(self) -> dict[int, tuple[Tensor, Tensor]]:
        """`ends` of each state that tokens reach from the first."""
        ends: dict[int, tuple[Tensor, Tensor]] = {}
        waiting = [0]
        while waiting:
            state = waiting.pop()
            if state not in ends:
                ends[state] = self.ends(state)
                waiting += set(ends[state][1].tolist()) - ends.keys()
        return ends

    def _distances(self, ends: dict[int, tuple[Tensor, Tensor]]) -> dict[int, int]:
        """Breadth first, backwards from the accepting states."""
        before: defaultdict[int, set[int]] = defaultdict(set)
        for state, (_, following) in ends.items():
            for to in set(following.tolist()):
                before[to].add(state)
        distance = {state: 0 for state in ends if self.automaton.accepting[state]}
        layer = set(distance)
        while layer:
            layer = {state for to in layer for state in before[to]} - distance.keys()
            distance |= dict.fromkeys(layer, 1 + max(distance.values()))
        return distance
