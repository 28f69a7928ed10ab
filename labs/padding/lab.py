"""Padding: prompts of different lengths in one batch, and what must go with it so that nothing changes.

The next token is read off the last column. So padding stands on the left, a mask hides it, and positions count real
tokens alone. Each of the three is left out in turn, in a model with rotary positions and in one with learned ones, and
the logits of the prompt's end are compared with those of the prompt by itself. Rotary positions forgive a shift, since
only distances count; learned ones do not.

Shapes: B batch, P longest prompt, N new tokens, V vocabulary.
"""

from __future__ import annotations

from itertools import islice
from typing import TypeAlias

import torch
from torch import Tensor

from llmquiz.lab.sdk import LabError, Params, Report
from llmquiz.llm.base.load import base_model
from llmquiz.llm.cache.growing import GrowingCache
from llmquiz.llm.data.corpus import documents
from llmquiz.llm.decode.generate import generate
from llmquiz.llm.errors import ModelError
from llmquiz.llm.model.causal import CausalLM
from llmquiz.llm.model.decoder import Decoder
from llmquiz.llm.model.gpt2 import GPT2, GPT2Config

ROTARY, LEARNED = "rotary", "learned"
LEFT, NO_POSITIONS, NO_MASK, RIGHT = "left, mask, positions", "left, mask", "left, positions", "right, mask"
RIGHT_READ = "right, mask, last real column"
WAYS = (LEFT, NO_POSITIONS, NO_MASK, RIGHT, RIGHT_READ)
WRONG = (
    ("right-is-wrong", ROTARY, RIGHT),
    ("right-is-wrong", LEARNED, RIGHT),
    ("mask-is-needed", ROTARY, NO_MASK),
    ("mask-is-needed", LEARNED, NO_MASK),
    ("learned-needs-positions", LEARNED, NO_POSITIONS),
)
PADDING = 0  # any id will do: a right mask hides it
SPREAD = 8.0  # standard deviation of the random model's logits, roughly: far above rounding

Batch: TypeAlias = tuple[Tensor, Tensor]  # tokens [B, P] and mask [B, P], True where a token is real


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    try:
        rotary = base_model(params.model, device=params.device)
    except ModelError as error:
        raise LabError(str(error)) from error
    if not isinstance(rotary.model, Decoder):
        raise LabError(f"{rotary.name} is not of the Llama family; this lab needs its masks and positions")
    text = " ".join(document.text for document in islice(documents(params.seed, ["story"]), 4 * params.batch))
    prompts = cut(torch.tensor(rotary.tokenizer.encode(text)), params)
    models: dict[str, CausalLM] = {ROTARY: rotary.model, LEARNED: random_gpt2(rotary.model, params)}
    if max(map(len, prompts)) + params.new_tokens > min(model.config.max_position for model in models.values()):
        raise LabError("prompts and new tokens exceed the model's positions; choose a smaller --longest")
    errors: dict[tuple[str, str], float] = {}
    same: dict[str, float] = {}
    with torch.inference_mode():
        for name, model in models.items():
            errors |= {(name, way): error for way, error in compare(model, prompts, report, name).items()}
            same[name] = same_tokens(model, prompts, params.new_tokens)
        library = same_as_transformers(rotary.model, prompts, params.new_tokens, report)
    report.table(
        "largest difference of the next logits from those of the prompt alone",
        ("batch", *models),
        [(way, *(errors[name, way] for name in models)) for way in WAYS],
    )
    judge(errors, same, library, report)
    waste(prompts, report)


def cut(ids: Tensor, params: Params) -> list[Tensor]:
    """Prompts of evenly spaced lengths in random order, each from another place of one text."""
    if params.shortest >= params.longest:
        raise LabError(f"--shortest {params.shortest} is not below --longest {params.longest}; choose two lengths")
    if ids.numel() <= params.longest:
        raise LabError(f"the text has {ids.numel()} tokens; choose a --longest below that, or a larger --batch")
    generator = torch.Generator().manual_seed(params.seed)
    lengths = torch.linspace(params.shortest, params.longest, params.batch).round().long()
    lengths = lengths[torch.randperm(params.batch, generator=generator)]
    starts = torch.randint(ids.numel() - params.longest, (params.batch,), generator=generator)
    return [ids[start : start + length].to(params.device) for start, length in zip(starts, lengths, strict=True)]


def random_gpt2(like: Decoder, params: Params) -> GPT2:
    """Learned positions with the rotary model's shape, and random weights: logits are compared, not texts."""
    config = like.config
    shape = GPT2Config(
        vocab_size=config.vocab_size,
        hidden_size=64,
        num_layers=2,
        num_heads=4,
        num_kv_heads=4,
        head_dim=16,
        intermediate_size=256,
        max_position=min(config.max_position, 1024),
    )
    torch.manual_seed(params.seed)
    model = GPT2(shape)
    with torch.no_grad():
        model.lm_head.weight.normal_(0.0, SPREAD * shape.hidden_size**-0.5)
    return model.to(params.device).eval()


def pad(prompts: list[Tensor], side: str) -> Batch:
    longest = max(map(len, prompts))
    tokens = torch.full((len(prompts), longest), PADDING, dtype=torch.long, device=prompts[0].device)
    mask = torch.zeros_like(tokens, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        place = slice(longest - len(prompt), longest) if side == "left" else slice(len(prompt))
        tokens[row, place], mask[row, place] = prompt, True
    return tokens, mask


def count_positions(mask: Tensor) -> Tensor:  # [B, P] -> same
    """0, 1, 2, ... along the real tokens; padding gets any valid position."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def next_logits(model: CausalLM, prompts: list[Tensor], way: str) -> Tensor:  # [B, V]
    """What each way of padding says of the token after each prompt."""
    tokens, mask = pad(prompts, way.split(",")[0])
    positions = count_positions(mask) if "positions" in way else None
    logits = model(tokens, mask=None if way == NO_MASK else mask, positions=positions)
    if way == RIGHT_READ:
        return logits[torch.arange(len(prompts)), mask.sum(dim=1) - 1]
    return logits[:, -1]


def compare(model: CausalLM, prompts: list[Tensor], report: Report, name: str) -> dict[str, float]:
    """For each way, the largest difference of a logit from the prompt's own, in units of the largest logit."""
    alone = torch.cat([model(prompt[None], last_only=True)[:, -1] for prompt in prompts])  # [B, V]
    errors = {}
    for way in WAYS:
        difference = (next_logits(model, prompts, way) - alone).abs().amax(dim=1) / alone.abs().max()  # [B]
        errors[way] = float(difference.max())
        for prompt, row in sorted(zip(map(len, prompts), difference.tolist(), strict=True)):
            report.point("error", x=prompt, y=max(row, 1e-9), series=f"{name}: {way}")
    return errors


def same_tokens(model: CausalLM, prompts: list[Tensor], new_tokens: int) -> float:
    """The share of prompts that a left-padded batch continues as each alone is continued, token for token."""
    tokens, mask = pad(prompts, "left")
    together = generate(model, tokens, new_tokens, cache=GrowingCache(model.config), mask=mask).tokens
    alone = [generate(model, it[None], new_tokens, cache=GrowingCache(model.config)).tokens[0] for it in prompts]
    return sum(bool((row == single).all()) for row, single in zip(together, alone, strict=True)) / len(prompts)


def same_as_transformers(model: Decoder, prompts: list[Tensor], new_tokens: int, report: Report) -> float | None:
    """The share of rows in which transformers continues the same padded batch as ours does, if it is installed."""
    from llmquiz.llm.model import reference  # takes seconds to import, where the process is not warm

    if not reference.AVAILABLE:
        report.note("transformers is not installed: it was left out of the comparison")
        return None
    from transformers import GenerationConfig

    tokens, mask = pad(prompts, "left")
    ours = generate(model, tokens, new_tokens, cache=GrowingCache(model.config), mask=mask).tokens
    theirs = reference.to_transformers(model)
    theirs.generation_config.eos_token_id = None
    settings = GenerationConfig(max_new_tokens=new_tokens, do_sample=False, pad_token_id=PADDING)
    made = theirs.generate(tokens, attention_mask=mask.long(), generation_config=settings)[:, tokens.size(1) :]
    return float((made == ours).all(dim=1).float().mean())


def judge(errors: dict[tuple[str, str], float], same: dict[str, float], library: float | None, report: Report) -> None:
    right = max(errors[name, LEFT] for name in (ROTARY, LEARNED))
    report.metric("left_error", right)
    report.metric("rotary_without_positions", errors[ROTARY, NO_POSITIONS])
    report.metric("learned_without_positions", errors[LEARNED, NO_POSITIONS])
    report.metric("same_tokens", min(same.values()))
    report.claim("left-is-alone", measured=right, expected=1e-4, relation="at most")
    report.claim("left-is-alone", measured=min(same.values()), expected=0.99, relation="at least")
    if library is not None:
        report.metric("same_as_transformers", library)
        report.claim("left-is-alone", measured=library, expected=0.99, relation="at least")
    report.claim("rotary-forgives", measured=errors[ROTARY, NO_POSITIONS], expected=1e-4, relation="at most")
    for claim, name, way in WRONG:
        report.claim(claim, measured=errors[name, way], expected=0.02, relation="at least")
    read = max(errors[name, RIGHT_READ] for name in (ROTARY, LEARNED))
    report.claim("right-for-training", measured=read, expected=1e-4, relation="at most")


def waste(prompts: list[Tensor], report: Report) -> None:
    """Padded tokens of the batch as it came, and sorted by length into batches of four."""
    lengths = [len(prompt) for prompt in prompts]
    _, mask = pad(prompts, "left")
    share = 1 - float(mask.float().mean())
    report.metric("wasted", share)
    mean = sum(lengths) / len(lengths)
    report.claim("waste-formula", measured=share, expected=1 - mean / max(lengths), tolerance=1e-6)
    in_order, by_length = (wasted_in_fours(order) for order in (lengths, sorted(lengths)))
    report.metric("wasted_sorted", by_length)
    report.claim("sorting-helps", measured=in_order - by_length, expected=0.05, relation="at least")


def wasted_in_fours(lengths: list[int]) -> float:
    groups = [lengths[first : first + 4] for first in range(0, len(lengths), 4)]
    return 1 - sum(lengths) / sum(max(group) * len(group) for group in groups)
