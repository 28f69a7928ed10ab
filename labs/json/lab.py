"""JSON by constraint: valid from any model, and what the constraint does to the probabilities.

Random weights know no JSON; under a mask they write nothing else. But a mask alone promises only that a text can still
become valid: inside a string everything may follow, so most texts are cut before they end. Counting the tokens to the
end makes all of them valid.

The shipped model then shows how much probability the mask removes, and a small language, whose texts can all be
enumerated, what masking is not: the model's distribution given that the text is valid. Shapes: B rows, T tokens, V
vocabulary.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from statistics import fmean

import torch
from torch import Tensor

from llmquiz.lab.sdk import LabError, Params, Report, interleaved_medians, quiet_clock
from llmquiz.llm.base.load import LanguageModel, base_model
from llmquiz.llm.base.tokenizer import Tokenizer
from llmquiz.llm.cache.growing import GrowingCache
from llmquiz.llm.decode.constrained import regex
from llmquiz.llm.decode.constrained.automaton import compile_tree
from llmquiz.llm.decode.constrained.constraint import Constraint
from llmquiz.llm.decode.constrained.tokens import TokenAutomaton
from llmquiz.llm.model.causal import CausalLM
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder, random_decoder

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "city": {"enum": ["Paris", "北京"]},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "age", "city"],
}
PROMPT = "<|user|>JSON: name, age, city, tags?<|assistant|>"
BASE_DOCUMENTS = 12
LETTERS, LANGUAGE = "abcd", "a[bc]{2}d?|(b|cd)a*"  # the language is cut at TEXT tokens
TEXT = 4
FEW = 0.5  # of the vocabulary: fewer tokens are allowed between the strings, more inside them


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    language = base_model(params.model, device=params.device)
    if not isinstance(language.model, Decoder):
        raise LabError("texts are drawn from our decoder, with its cache; use a model of the Llama family")
    automaton = TokenAutomaton.from_schema(SCHEMA, language.tokenizer)
    report.note(
        f"the automaton has {len(automaton.automaton)} states; the shortest text {automaton.distance[0]} tokens"
    )
    report_validity(language.tokenizer, automaton, params, report)
    report_mass(language.model, language, automaton, params, report)
    report_cost(language.model, language.tokenizer, automaton, params, report)
    report_bias(params, report)


@dataclass(frozen=True, slots=True)
class Sampled:
    """Texts [B, N], with the probability that the mask removed before each token, and the part of the vocabulary that
    it allowed [B, N]."""

    tokens: Tensor
    removed: Tensor
    allowed: Tensor


@torch.inference_mode()
def sample(model: CausalLM, prompt: Tensor, length: int, constraint: Constraint | None, seed: int) -> Sampled:
    """One token a row and step, drawn from what the mask leaves."""
    generator, cache = torch.Generator(prompt.device).manual_seed(seed), GrowingCache(model.config)
    tokens, removed, allowed = prompt, [], []
    for _ in range(length):
        logits = model(tokens[:, cache.length :], cache, last_only=True)[:, -1]
        masked = logits if constraint is None else constraint(tokens, logits)
        kept = masked > -torch.inf
        removed.append((logits.softmax(-1) * ~kept).sum(-1))
        allowed.append(kept.double().mean(-1))
        following = torch.multinomial(masked.softmax(-1), 1, generator=generator)
        tokens = torch.cat((tokens, following), dim=1)
    return Sampled(tokens[:, prompt.size(1) :], torch.stack(removed, 1), torch.stack(allowed, 1))


def share_valid(tokens: Tensor, tokenizer: Tokenizer) -> float:
    """Per cent of the rows [B, N] that are a document of SCHEMA, as Python's json and the rules below read them."""
    eos = tokenizer.token_id("<|eos|>")
    texts = (row[: row.index(eos)] if eos in row else row for row in tokens.tolist())
    return 100 * fmean(is_valid(tokenizer.decode(text)) for text in texts)


def is_valid(text: str) -> bool:
    """By hand, so that the automaton is judged by something that does not share its mistakes."""
    try:
        found = json.loads(text)
    except ValueError:
        return False
    if not isinstance(found, dict) or not {"name", "age", "city"} <= found.keys() <= {"name", "age", "city", "tags"}:
        return False
    tags = found.get("tags", [""])
    return (
        isinstance(found["name"], str)
        and type(found["age"]) is int
        and found["city"] in ("Paris", "北京")
        and isinstance(tags, list)
        and 1 <= len(tags) <= 2
        and all(isinstance(tag, str) for tag in tags)
    )


def report_validity(tokenizer: Tokenizer, automaton: TokenAutomaton, params: Params, report: Report) -> None:
    """Random weights: without a mask, with one, and with one that counts."""
    config = ModelConfig(tokenizer.vocab_size, 32, 1, 2, 2, 16, 64, max_position=params.new_tokens + 1)
    model = random_decoder(config, params.seed).to(params.device)
    eos = tokenizer.token_id("<|eos|>")
    start = torch.full((params.documents, 1), eos, device=params.device)
    ways = {
        "no mask": None,
        "mask": Constraint(automaton, eos=eos, start=1),
        "mask, tokens counted": Constraint(automaton, eos=eos, start=1, max_new_tokens=params.new_tokens),
    }
    rows, valid = [], {}
    for name, constraint in report.progress(ways.items(), unit="way", total=len(ways)):
        made = sample(model, start, params.new_tokens, constraint, params.seed)
        valid[name] = share_valid(made.tokens, tokenizer)
        rows.append((name, valid[name], 100 * float(made.removed.mean()), 100 - 100 * float(made.allowed.mean())))
        if name == "mask":
            report.claim("as-many", measured=(made.removed + made.allowed).mean(), expected=1.0, tolerance=0.05)
    report.metric("valid", valid["mask, tokens counted"])
    report.metric("valid_cut", valid["mask"])
    report.claim("invalid-alone", measured=valid["no mask"], expected=0, relation="at most")
    report.claim("always-valid", measured=valid["mask, tokens counted"], expected=100)
    report.claim("mask-is-not-enough", measured=valid["mask"], expected=80, relation="at most")
    columns = ("random weights", "% valid", "% of probability removed", "% of vocabulary removed")
    report.table(f"{params.documents} texts of at most {params.new_tokens} tokens", columns, rows)


def report_mass(
    model: CausalLM, language: LanguageModel, automaton: TokenAutomaton, params: Params, report: Report
) -> None:
    """The shipped model: where the mask decides, and where the model does."""
    tokenizer = language.tokenizer
    prompt = torch.tensor([tokenizer.encode(PROMPT, special=True)], device=params.device).repeat(BASE_DOCUMENTS, 1)
    eos, length = tokenizer.token_id("<|eos|>"), params.new_tokens
    constraint = Constraint(automaton, eos=eos, start=prompt.size(1), max_new_tokens=length)
    made = sample(model, prompt, length, constraint, params.seed)
    running = torch.cat((made.tokens.new_ones(BASE_DOCUMENTS, 1), (made.tokens != eos)[:, :-1].long()), dim=1).bool()
    for place in range(length):
        if running[:, place].any():
            report.point("removed", x=place + 1, y=100 * made.removed[running[:, place], place].mean())
    inside = made.allowed >= FEW
    parts = {"inside strings": made.removed[running & inside], "between them": made.removed[running & ~inside]}
    rows = [(name, len(removed), 100 * float(removed.mean())) for name, removed in parts.items() if len(removed)]
    report.metric("mass_removed", 100 * float(made.removed[running].mean()))
    report.claim("always-valid", measured=share_valid(made.tokens, tokenizer), expected=100)
    report.claim("overruled", measured=100 * parts["between them"].mean(), expected=30, relation="at least")
    report.table(f"{language.name}: what the mask removes", ("where", "tokens", "% of probability removed"), rows)


def report_cost(
    model: CausalLM, tokenizer: Tokenizer, automaton: TokenAutomaton, params: Params, report: Report
) -> None:
    """A step of one row inside a string, where most tokens are allowed."""
    tokens = torch.tensor([tokenizer.encode('{"name": "a')], device=params.device)
    constraint = Constraint(automaton, eos=tokenizer.token_id("<|eos|>"), start=0)
    logits = torch.zeros(1, tokenizer.vocab_size, device=params.device)
    state = automaton.automaton.walk(0, b'{"name": "a')
    works: dict[str, Callable[[], object]] = {
        "mask of the state, kept": partial(constraint, tokens, logits),
        "vocabulary walked at each step": partial(walk_vocabulary, automaton, state),
        "pass of the model": partial(pass_of_model, model, tokens[:, :1]),
    }
    seconds = interleaved_medians(works, device=params.device, repeats=9, clock=quiet_clock(params.device, 1))
    kept, walked, passed = seconds.values()
    report.metric("mask_share", 100 * kept / passed)
    report.claim("kept-masks", measured=walked / kept, expected=2, relation="at least")
    rows = [(name, 1e6 * taken, taken / passed) for name, taken in seconds.items()]
    report.table("cost of a token", ("", "microseconds", "passes of the model"), rows)


def walk_vocabulary(automaton: TokenAutomaton, state: int) -> list[int]:
    """The allowed tokens, found anew."""
    return [token for token in range(len(automaton.tokens)) if automaton.step(state, token) >= 0]


@torch.inference_mode()
def pass_of_model(model: CausalLM, tokens: Tensor) -> Tensor:
    return model(tokens)


@torch.inference_mode()
def report_bias(params: Params, report: Report) -> None:
    """All texts of a small language, their probability given that the text is one of them, and under the mask."""
    V = len(LETTERS) + 1  # and the end token
    automaton = TokenAutomaton(compile_tree(regex.parse(LANGUAGE)), [letter.encode() for letter in LETTERS])
    model = random_decoder(ModelConfig(V, 32, 2, 2, 2, 16, 64), params.seed)
    texts = [
        [*map(LETTERS.index, text), V - 1]
        for length in range(1, TEXT + 1)
        for text in product(LETTERS, repeat=length)
        if automaton.automaton.matches("".join(text))
    ]
    constraint = Constraint(automaton, eos=V - 1, start=1, max_new_tokens=TEXT)
    alone = torch.tensor([probability(model, text, None) for text in texts])
    masked = torch.tensor([probability(model, text, constraint) for text in texts])
    given = alone / alone.sum()
    report.claim("sums-to-one", measured=masked.sum(), expected=1.0, tolerance=1e-4)
    distance = float((masked - given).abs().sum() / 2)
    report.metric("bias", distance)
    report.claim("not-conditional", measured=distance, expected=0.05, relation="at least")
    likeliest = sorted(zip(given.tolist(), masked.tolist(), texts, strict=True), reverse=True)[:6]
    rows = [("".join(LETTERS[token] for token in text[:-1]), g, m) for g, m, text in likeliest]
    report.table(f"the {len(texts)} texts of {LANGUAGE}", ("text", "given that it is one", "by masking"), rows)


def probability(model: CausalLM, text: Sequence[int], constraint: Constraint | None) -> float:
    """Of a text with its end token."""
    tokens, logprob = torch.tensor([[0, *text]]), 0.0
    for place, logits in enumerate(model(tokens[:, :-1])[0], start=1):  # [V] each
        left = logits[None] if constraint is None else constraint(tokens[:, :place], logits[None])
        logprob += float(left.log_softmax(-1)[0, tokens[0, place]])
    return math.exp(logprob)
