"""The constraint as a processor of logits: forbidden tokens go to minus infinity, before any other choice is made.

The state of a row follows from its tokens alone, so rows may be reordered (beam search) or taken back (speculation)
between two calls. What people expect and do not get: masking is not the model's distribution given that the text is
valid. Each step renormalises what is left, however improbable all of it was (Park et al. 2024, section 3).

Shapes: B rows, T tokens so far, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmquiz.llm.base.tokenizer import Tokenizer
from llmquiz.llm.decode.constrained.automaton import DEAD
from llmquiz.llm.decode.constrained.schema import Schema
from llmquiz.llm.decode.constrained.tokens import TokenAutomaton
from llmquiz.llm.errors import ModelError

_ENDED = -2  # the state after an end token


class Constraint:
    """A `Processor` that lets only texts of `automaton` pass.

    Args:
        eos: the token that may follow a complete text, and must where nothing else can.
        start: P, the length of the prompt: the text begins after it.
        max_new_tokens: where decoding stops; the text is then complete. Without it a long text may be cut.

    Raises:
        ModelError: if no text fits into `max_new_tokens`.
    """

    def __init__(self, automaton: TokenAutomaton, *, eos: int, start: int, max_new_tokens: int | None = None) -> None:
        shortest = automaton.distance[0]
        if max_new_tokens is not None and max_new_tokens < shortest:
            raise ModelError(
                f"constraint: its shortest text has {shortest} tokens, max_new_tokens is {max_new_tokens}; raise it"
            )
        self.automaton, self.eos, self.start, self.max_new_tokens = automaton, eos, start, max_new_tokens
        self._states: dict[tuple[int, ...], int] = {(): 0}  # of the rows of the last call

    def __call__(self, tokens: Tensor, logits: Tensor) -> Tensor:  # [B, T], [B, V] -> [B, V]
        """The logits, those of tokens that cannot follow at minus infinity.

        Raises:
            ModelError: if a row holds a text that the constraint forbids.
        """
        rows = [tuple(row) for row in tokens[:, self.start :].tolist()]
        self._states = {row: self._state(row) for row in rows}
        masked = torch.full_like(logits, -torch.inf)
        for row, text in enumerate(rows):
            ids = self.allowed(self._states[text], len(text)).to(logits.device)
            masked[row, ids] = logits[row, ids]
        return masked

    def allowed(self, state: int, length: int) -> Tensor:  # [K]
        """The tokens that may follow in `state` after `length` tokens, from which the end is still within reach."""
        if state == _ENDED:
            return torch.tensor([self.eos])
        ids, needed = self.automaton.moves[state]
        if self.max_new_tokens is not None:
            ids = ids[needed < self.max_new_tokens - length]
        if self.automaton.automaton.accepting[state]:
            ids = torch.cat((ids, torch.tensor([self.eos])))
        return ids

    def _state(self, text: tuple[int, ...]) -> int:
        """From the last call if the text was one token shorter then, else from its beginning."""
        known = self._states.get(text[:-1]) if text else None
        state, rest = (0, text) if known is None else (known, text[-1:])
        for token in rest:
            if state == _ENDED or (token == self.eos and self.automaton.automaton.accepting[state]):
                return _ENDED
            state = self.automaton.step(state, token)
            if state == DEAD:
                raise ModelError(
                    f"constraint: token {token} cannot follow in a row of {len(text)} new tokens; "
                    "nothing may choose a token after the constraint has removed it"
                )
        return state


class RegexConstraint(Constraint):
    """Texts that match `pattern` as a whole."""

    def __init__(self, pattern: str, tokenizer: Tokenizer, *, start: int, max_new_tokens: int | None = None) -> None:
        automaton = TokenAutomaton.from_regex(pattern, tokenizer)
        super().__init__(automaton, eos=tokenizer.token_id("<|eos|>"), start=start, max_new_tokens=max_new_tokens)


class JsonConstraint(Constraint):
    """JSON documents that are valid under `schema`."""

    def __init__(self, schema: Schema, tokenizer: Tokenizer, *, start: int, max_new_tokens: int | None = None) -> None:
        automaton = TokenAutomaton.from_schema(schema, tokenizer)
        super().__init__(automaton, eos=tokenizer.token_id("<|eos|>"), start=start, max_new_tokens=max_new_tokens)
