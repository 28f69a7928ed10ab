"""A tokenizer and a model that do not quite match, made to fit without losing anything.

The usual `resize_token_embeddings(len(tokenizer))` breaks models that were right: vocabularies are padded to a round
number for the hardware, so a model often has more rows than its tokenizer has tokens, and cutting them makes its
checkpoint unloadable. Rows are only ever added. A new row is the mean of the old ones: by Jensen's inequality its logit
then takes at most 1/(V + 1) of the probability, where a random row may take nearly all of it (Hewitt 2021).

Shapes: V rows of the vocabulary, D hidden_size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from llmquiz.llm.base.tokenizer import Tokenizer
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.decoder import Decoder


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What fits now.

    Attributes:
        bos, eos, pad: ids; None where the tokenizer has no such token, which for `bos` is no fault (Qwen has none).
        rows_added: to the embedding and the head.
        notes: what was found and done, a sentence each.
    """

    bos: int | None
    eos: int | None
    pad: int | None
    rows_added: int
    notes: tuple[str, ...]


def reconcile(model: Decoder, tokenizer: Tokenizer, *, training: bool = False) -> Reconciled:
    """Give every token of `tokenizer` a row of `model`, in place, and find the tokens that begin, end and pad a text.

    In training the padding is a token of its own: labels that equal it are ignored, and if that is the end token too,
    the model never learns to stop. It takes a row that no token uses, or a new one.

    Raises:
        ModelError: if training has no end token.
    """
    before, notes = model.config.vocab_size, []
    bos, eos, pad = (_token(tokenizer, name) for name in ("<|bos|>", "<|eos|>", "<|pad|>"))
    if bos is None:
        notes.append("no token begins a text: prompts start without one")
    needed = tokenizer.vocab_size
    if training and eos is None:
        raise ModelError("reconcile: the tokenizer has no end token; a model trained without one never stops")
    if training and pad in (None, eos):
        pad, needed = needed, needed + 1
        notes.append(f"id {pad}, which no text has, pads: the end token must keep its label")
    elif pad is None:
        pad = eos
        notes.append("the end token pads: fine while a mask hides it")
    if needed < before:
        notes.append(f"{before - needed} rows belong to no token (a padded vocabulary): kept")
    elif needed > before:
        grow_vocabulary(model, needed)
        notes.append(f"{needed - before} rows added, each the mean of the others")
    return Reconciled(bos, eos, pad, model.config.vocab_size - before, tuple(notes))


def grow_vocabulary(model: Decoder, rows: int) -> None:
    """Give the embedding and the head `rows` rows, in place; a tied head stays tied.

    Raises:
        ModelError: if that were fewer than there are.
    """
    present = model.config.vocab_size
    if rows < present:
        raise ModelError(
            f"reconcile: {rows} rows are fewer than the model's {present}; ids from {rows} on would have none and the "
            "checkpoint would no longer load: keep them"
        )
    model.config = replace(model.config, vocab_size=rows)
    model.embed_tokens.weight = _grown(model.embed_tokens.weight, rows)
    model.embed_tokens.num_embeddings = model.lm_head.out_features = rows
    if model.config.tie_embeddings:
        model.tie_weights()
    else:
        model.lm_head.weight = _grown(model.lm_head.weight, rows)


def _grown(weight: Tensor, rows: int) -> nn.Parameter:  # [V, D] -> [V', D]
    mean = weight.detach().float().mean(dim=0, keepdim=True).to(weight.dtype)
    grown = torch.cat((weight.detach(), mean.expand(rows - weight.size(0), -1)))
    return nn.Parameter(grown, requires_grad=weight.requires_grad)


def _token(tokenizer: Tokenizer, name: str) -> int | None:
    try:
        return tokenizer.token_id(name)
    except ModelError:
        return None
