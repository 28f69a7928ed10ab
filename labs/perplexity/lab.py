"""Perplexity: three ways to get it wrong, on one model and one text.

The weight: the mean of the texts' means is not the mean over tokens. The window: cut into disjoint windows, a long text
loses the context of each window's first tokens. The unit: per token means per whatever the tokenizer makes, so a model
of bytes beside a model of words is compared in bits per byte, with a plain compressor for scale.

Every number comes from `llmquiz.llm.eval.perplexity`, which takes anything that gives logits: the shipped model, a
table of bigram counts, or a guess that knows nothing. Shapes: B batch, T tokens, V vocabulary.
"""

from __future__ import annotations

import lzma
import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from llmquiz.lab.sdk import LabError, Params, Report
from llmquiz.llm.base.load import LanguageModel, base_model
from llmquiz.llm.base.tokenizer import Tokenizer
from llmquiz.llm.data.bpe import ByteBPE
from llmquiz.llm.data.corpus import documents
from llmquiz.llm.errors import ModelError
from llmquiz.llm.eval.perplexity import LogitsOf, Score, score, token_losses
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder, random_decoder

HELD_OUT_SEED = 70_000  # the shipped model was trained on other seeds
NUM_DOCUMENTS, LEARNED_DOCUMENTS = 80, 1500
STRIDES = (1, 2, 4, 8)  # parts of a window
SCALES = (0.0, 0.25, 1.0)  # of a random head: standard deviations of its logits
BIGRAM_VOCABULARY = 1024

Encode: TypeAlias = Callable[[str], Tensor]


def run(params: Params, report: Report) -> None:
    """Beginning, weight, window, unit."""
    torch.set_num_threads(1)
    try:
        language_model = base_model(params.model, device=params.device)
    except ModelError as error:
        raise LabError(str(error)) from error
    for note in language_model.notes:
        report.note(note)
    encode = encoder(language_model.tokenizer, params.device)
    texts = [document.text for document in islice(documents(HELD_OUT_SEED + params.seed), NUM_DOCUMENTS)]
    report_beginning(language_model.tokenizer.vocab_size, params, report)
    report_weights(language_model.model, [encode(text) for text in texts], params, report)
    report_windows(language_model.model, encode("\n".join(texts))[: params.tokens + 1], params.window, report)
    report_units(language_model, encode, texts, params, report)


def encoder(tokenizer: Tokenizer, device: str) -> Encode:
    """Text to ids [T], after a token that begins a text: with it, every token of the text is predicted."""
    try:
        begin = tokenizer.token_id("<|bos|>")
    except ModelError:
        begin = tokenizer.token_id("<|eos|>")  # GPT-2 and its like begin a text with what ended the one before
    return lambda text: torch.tensor([begin, *tokenizer.encode(text, special=True)], device=device)


def report_beginning(vocab_size: int, params: Params, report: Report) -> None:
    """Before any training: a random head whose logits have a standard deviation s gives V exp(s²/2)."""
    config = ModelConfig(vocab_size, 64, 2, 4, 4, 16, 128)
    tokens = torch.randint(vocab_size, (513,), generator=torch.Generator().manual_seed(params.seed)).to(params.device)
    rows = []
    for scale in SCALES:
        model = with_scaled_head(random_decoder(config, params.seed), scale).to(params.device)
        spread = float(model(tokens[None]).detach().std())
        perplexity = score(model, tokens, 0, window=128).perplexity
        expected = vocab_size * math.exp(spread**2 / 2)
        rows.append((spread, perplexity, perplexity / vocab_size, expected / vocab_size))
        report.claim("beginning", measured=perplexity / expected, expected=1.0, tolerance=0.15)
    report.table("untrained", ("std of the logits", "perplexity", "over V", "exp(std² / 2)"), rows)
    report.metric("untrained_perplexity", rows[1][1])


def with_scaled_head(model: Decoder, scale: float) -> Decoder:
    """The model with its head's weights multiplied by `scale`; at 0 it guesses uniformly."""
    with torch.no_grad():
        model.lm_head.weight.mul_(scale)
    return model


def report_weights(model: LogitsOf, texts: Sequence[Tensor], params: Params, report: Report) -> None:
    """The same losses, averaged in three ways, over texts as ragged as real ones."""
    rng = random.Random(params.seed)
    pieces = [text[: rng.choice((2, 3, 5, 9, 20, len(text)))] for text in texts]
    losses = [token_losses(model, piece, window=params.window) for piece in pieces]
    flat = torch.cat(losses)
    right = math.exp(float(flat.mean()))
    total = sum((score(model, piece, 0, window=params.window) for piece in pieces), Score())
    rows = [("all tokens", right, 1.0)]
    for size in (1, 8, 40):
        batches = [torch.cat(losses[start : start + size]) for start in range(0, len(losses), size)]
        value = math.exp(float(torch.stack([batch.mean() for batch in batches]).mean()))
        rows.append((f"mean of the means of {size} texts each", value, value / right))
    report.table("one set of losses", ("averaged over", "perplexity", "of the first"), rows)
    report.metric("mean_of_means_error", 100 * (rows[1][2] - 1))
    report.claim("by-token", measured=total.perplexity / right, expected=1.0, tolerance=1e-4)
    report.claim("mean-of-means", measured=abs(100 * (rows[1][2] - 1)), expected=2.0, relation="at least")


def report_windows(model: LogitsOf, tokens: Tensor, window: int, report: Report) -> None:
    """A long text through a short window: what a smaller stride costs, and what it brings."""
    if len(tokens) <= 2 * window:
        raise LabError(f"a text of {len(tokens)} tokens is short for a window of {window}; ask for more tokens")
    rows, perplexities, costs = [], [], []
    for parts in report.progress(STRIDES, unit="stride"):
        counted = Counted(model)
        made = score(counted, tokens, 0, window=window, stride=max(1, window // parts))
        perplexities.append(made.perplexity)
        costs.append(counted.tokens / made.tokens)
        rows.append((window // parts, made.perplexity, costs[-1]))
        report.point("perplexity", x=window // parts, y=made.perplexity)
    report.table("strides", ("stride", "perplexity", "tokens computed per token scored"), rows)
    report.metric("perplexity", perplexities[-1])
    report.metric("stride_cost", costs[-1])
    report.metric("disjoint_excess", 100 * (perplexities[0] / perplexities[-1] - 1))
    report.claim("stride", measured=100 * (perplexities[0] / perplexities[-1] - 1), expected=2.0, relation="at least")
    half_overlap = (perplexities[0] - perplexities[1]) / (perplexities[0] - perplexities[-1])
    report.claim("half-overlap", measured=100 * half_overlap, expected=50, relation="at least")
    whole = tokens[:window]
    with torch.no_grad():
        one_pass = float(F.cross_entropy(model(whole[None, :-1])[0].float(), whole[1:]))
    slid = float(token_losses(model, whole, window=window, stride=1).mean())
    report.claim("one-pass", measured=abs(slid - one_pass), expected=0.0, tolerance=1e-4)


class Counted:
    """A model that counts the tokens that it is given."""

    def __init__(self, model: LogitsOf) -> None:
        self.model, self.tokens = model, 0

    def __call__(self, tokens: Tensor) -> Tensor:  # [B, T] -> [B, T, V]
        self.tokens += tokens.numel()
        return self.model(tokens)


class Bigram:
    """P(next | token) from counts, mixed with P(next) (Witten and Bell 1991): as a model, a table of logits."""

    def __init__(self, tokens: Tensor, vocab_size: int) -> None:
        V = vocab_size
        counts = torch.bincount(tokens[:-1] * V + tokens[1:], minlength=V * V).view(V, V).float()
        unigram = counts.sum(0) + 1
        unseen = (counts > 0).sum(1, keepdim=True).clamp(min=1)  # weight of the mixture: kinds of followers
        smoothed = counts + unseen * (unigram / unigram.sum())
        self.table = (smoothed / smoothed.sum(1, keepdim=True)).log()

    def __call__(self, tokens: Tensor) -> Tensor:  # [B, T] -> [B, T, V]
        return self.table[tokens]


def uniform(tokens: Tensor, vocab_size: int) -> Tensor:  # [B, T] -> [B, T, V]
    """A model that knows nothing."""
    return torch.zeros(*tokens.shape, vocab_size, device=tokens.device)


def report_units(
    language_model: LanguageModel, encode: Encode, texts: list[str], params: Params, report: Report
) -> None:
    """Models of one text over different vocabularies, per token and per byte."""
    learned = [document.text for document in islice(documents(HELD_OUT_SEED - 1 - params.seed), LEARNED_DOCUMENTS)]
    entrants: dict[str, tuple[LogitsOf, Encode, int]] = {}
    for unit, tokenizer in (("bytes", ByteBPE([])), ("tokens", ByteBPE.train(learned, BIGRAM_VOCABULARY))):
        V, into = tokenizer.vocab_size, encoder(tokenizer, params.device)
        entrants[f"no knowledge, {unit}"] = partial(uniform, vocab_size=V), into, V
        entrants[f"bigrams of {unit}"] = Bigram(torch.cat([into(text) for text in learned]), V), into, V
    entrants[language_model.name] = language_model.model, encode, language_model.tokenizer.vocab_size

    num_bytes = sum(len(text.encode()) for text in texts)
    scores = {name: total(model, into, texts, params.window) for name, (model, into, _) in entrants.items()}
    rows: list[tuple[object, ...]] = [
        (name, entrants[name][2], made.tokens, made.perplexity, made.bits_per_byte) for name, made in scores.items()
    ]
    packed = len(lzma.compress("".join(texts).encode(), preset=9))
    rows.append(("xz, which has read no other text", None, None, None, 8 * packed / num_bytes))
    report.table("one text", ("model", "vocabulary", "tokens", "perplexity", "bits per byte"), rows)

    byte_wise, token_wise = scores["bigrams of bytes"], scores["bigrams of tokens"]
    report.metric("bits_per_byte", scores[language_model.name].bits_per_byte)
    report.metric("perplexity_ratio", token_wise.perplexity / byte_wise.perplexity)
    report.metric("bits_ratio", token_wise.bits_per_byte / byte_wise.bits_per_byte)
    report.claim("units", measured=token_wise.perplexity / byte_wise.perplexity, expected=1.1, relation="at least")
    report.claim("units", measured=token_wise.bits_per_byte / byte_wise.bits_per_byte, expected=0.9, relation="at most")


def total(model: LogitsOf, into: Encode, texts: list[str], window: int) -> Score:
    """The score of all texts together."""
    return sum((score(model, into(text), len(text.encode()), window=window) for text in texts), Score())
