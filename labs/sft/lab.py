"""Supervised fine-tuning: which tokens carry loss.

A base model learns a task from examples that are drawn anew for every step: a prompt of random words, an answer that
follows from the last of them, and a sign that ends the turn. Three arms see the same examples in the same order; only
the labels differ. Nobody can guess which words come, so an arm with labels on the prompt has a floor that can be
computed: k words out of M cost k ln M nats, whatever the tokenizer makes of them. Its other tokens follow from these.

Then prompts of uneven length are padded and packed: the same loss from fewer positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llmquiz.lab.sdk import LabError, Params, Report
from llmquiz.llm.base.load import base_model
from llmquiz.llm.base.memory import check_fits, estimate
from llmquiz.llm.base.tokenizer import Tokenizer
from llmquiz.llm.model.decoder import Decoder
from llmquiz.llm.train.device import fused_adamw, maybe_compile, note_peak
from llmquiz.llm.train.distributed import Ranks, launch, whole_weights, wrap
from llmquiz.llm.train.loss import IGNORED
from llmquiz.llm.train.schedule import warmup_cosine
from llmquiz.llm.train.trainer import Trainer
from llmquiz.llm.tune.sft import (
    Batch,
    Encoded,
    Example,
    Template,
    collate,
    encode_example,
    evaluating,
    generate_replies,
    pack,
    sft_loss,
)

WORDS = {"cat": "猫", "dog": "狗", "bird": "鸟", "book": "书", "lamp": "灯", "ball": "球", "map": "地图", "boat": "船"}
PLAIN = Template(user="Q:", assistant="\nA:", end="#")  # of text alone, and an end that no base model knows
LEARNING_RATE, WARMUP = 2e-3, 5
EXAM = 64  # examples that no arm has seen
RAGGED, LONGEST = 96, 16  # examples to pad and to pack, and most words of one

Labelling = Callable[[Encoded], Encoded]


def answers_only(row: Encoded) -> Encoded:
    """The labels as they should be."""
    return row


def all_tokens(row: Encoded) -> Encoded:
    """A copy of the input ids, shifted: the prompt is learned too."""
    return Encoded(row.inputs, [*row.inputs[1:], row.labels[-1]])


def no_end(row: Encoded) -> Encoded:
    """The end is ignored, as by a collator that pads with the end token and ignores all padding."""
    return Encoded(row.inputs, [*row.labels[:-1], IGNORED])


ARMS: dict[str, Labelling] = {"answers only": answers_only, "all tokens": all_tokens, "no end": no_end}


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    language = base_model(params.model, device=params.device)
    model, tokenizer = language.model, language.tokenizer
    if not isinstance(model, Decoder):
        raise LabError(
            "this lab packs rows under a mask, which our decoder alone takes; use a model of the Llama family"
        )
    check_memory(model, tokenizer, params)
    exam = draw(Random(f"exam {params.seed}"), EXAM, params.words)
    before = examine(model, tokenizer, exam)
    tuned = launch(
        train_arms, params, processes=params.processes, device=params.device, tell=partial(report.point, "loss")
    )
    note_peak(params.device, report.note)
    after: dict[str, Exam] = {}
    for name, weights in reversed(tuned.items()):  # so that the right one stays in the model
        model.load_state_dict(weights, strict=False)
        after[name] = examine(model, tokenizer, exam)
    report_arms({"base model": before, **{name: after[name] for name in ARMS}}, params, report)
    report_packing(model, tokenizer, params, report)


def check_memory(model: Decoder, tokenizer: Tokenizer, params: Params) -> None:
    """Refuse a model or a batch that cannot be trained here, before it is tried."""
    trained = sum(weight.numel() for weight in model.parameters())
    (longest,) = encode(draw(Random(0), 1, params.words), tokenizer)
    tokens = params.batch * len(longest.inputs) // params.processes
    needed = estimate(trained, trainable=trained, config=model.config, tokens=tokens)
    check_fits(needed, params.device, what=f"training all of {trained / 1e6:.0f}M parameters")


def draw(rng: Random, count: int, words: int) -> list[Example]:
    """Prompts of `words` words, each as likely as the others; the last one's Chinese name is the answer."""
    prompts = [rng.choices(list(WORDS), k=words) for _ in range(count)]
    return [Example("".join(f" {word}" for word in prompt), WORDS[prompt[-1]]) for prompt in prompts]


def encode(examples: Sequence[Example], tokenizer: Tokenizer) -> list[Encoded]:
    return [encode_example(example, tokenizer, template=PLAIN) for example in examples]


def train_arms(ranks: Ranks, tell: Callable[..., object], params: Params) -> dict[str, dict[str, Tensor]]:
    """Each arm from the same base model; the weights that came of it, by name. Every rank runs this."""
    weights = {}
    schedule = partial(warmup_cosine, warmup=WARMUP, total=params.steps, peak=LEARNING_RATE)
    for name, labelling in ARMS.items():
        language = base_model(params.model, device=ranks.device)
        model = wrap(maybe_compile(language.model.train(), params.compile), ranks, shard=params.shard)
        optimizer = fused_adamw(model.parameters(), lr=LEARNING_RATE, device=ranks.device)
        trainer = Trainer(model, optimizer, loss_fn=sft_loss, schedule=schedule, precision=params.precision)
        rng = Random(params.seed)
        for step in range(1, params.steps + 1):
            rows = encode(draw(rng, params.batch, params.words), language.tokenizer)
            batch = collate([labelling(row) for row in rows])
            tell(step, trainer.step([ranks.share(batch.to(ranks.device))]).loss, name)
        weights[name] = whole_weights(model)
    return weights


@dataclass(frozen=True, slots=True)
class Exam:
    """What a model knows of unseen examples: nats on a prompt, nats per token of an answer with its end; the parts of
    replies that are right, and that stopped."""

    prompt_nats: float
    answer_loss: float
    exact: float
    stopped: float


@torch.no_grad()
def examine(model: Decoder, tokenizer: Tokenizer, examples: Sequence[Example]) -> Exam:
    rows = encode(examples, tokenizer)
    learned, everything = collate(rows), collate([all_tokens(row) for row in rows])
    device = model.embed_tokens.weight.device
    with evaluating(model):
        logits = model(learned.inputs.to(device)).float().cpu()  # [B, T, V]
    nll = F.cross_entropy(logits.flatten(0, 1), everything.labels.flatten(), ignore_index=IGNORED, reduction="none")
    nll = nll.view_as(everything.labels)  # [B, T]
    answer = learned.labels != IGNORED
    longest = max(len(tokenizer.encode(example.answer)) for example in examples)
    replies = generate_replies(model, tokenizer, [e.prompt for e in examples], 2 * longest + 2, template=PLAIN)
    right = [reply.text == example.answer for reply, example in zip(replies, examples, strict=True)]
    return Exam(
        prompt_nats=float(nll[~answer].sum()) / len(examples),  # padding has none
        answer_loss=float(nll[answer].mean()),
        exact=sum(right) / len(examples),
        stopped=sum(reply.stopped for reply in replies) / len(examples),
    )


def report_arms(exams: dict[str, Exam], params: Params, report: Report) -> None:
    """Every arm against the same unseen examples, and against what can be computed."""
    entropy = params.words * math.log(len(WORDS))
    right, everything, endless = (exams[name] for name in ARMS)
    report.metric("entropy", entropy)
    report.metric("prompt_nats", everything.prompt_nats)
    report.metric("answer_loss", right.answer_loss)
    report.metric("exact_match", right.exact)
    report.metric("stopped", right.stopped)
    report.metric("stopped_no_end", endless.stopped)
    report.claim("prompt-floor", measured=everything.prompt_nats, expected=entropy, tolerance=0.1 * entropy)
    report.claim("answers-learned", measured=right.exact, expected=0.95, relation="at least")
    report.claim("answer-loss", measured=right.answer_loss, expected=0.1, relation="at most")
    report.claim("stops", measured=right.stopped, expected=0.95, relation="at least")
    report.claim("never-stops", measured=endless.stopped, expected=0.05, relation="at most")
    rows = [
        (name, exam.prompt_nats, exam.answer_loss, 100 * exam.exact, 100 * exam.stopped) for name, exam in exams.items()
    ]
    columns = ("labels on", "nats/prompt", "nats/answer token", "exact %", "stops %")
    report.table(f"{EXAM} unseen examples", columns, rows)


@torch.no_grad()
def report_packing(model: Decoder, tokenizer: Tokenizer, params: Params, report: Report) -> None:
    """Uneven examples, padded to the longest and packed into rows of four times that: positions wasted, loss, and what
    packing without a document mask would do."""
    rng = Random(f"ragged {params.seed}")
    examples = [draw(rng, 1, rng.randint(1, LONGEST))[0] for _ in range(RAGGED)]
    rows = encode(examples, tokenizer)
    tokens = sum(len(row.inputs) for row in rows)
    padded, packed = collate(rows), pack(rows, 4 * max(len(row.inputs) for row in rows))
    leaking = Batch(packed.inputs, packed.labels)
    everything = {"padded": padded, "packed": packed, "packed, no mask": leaking}
    waste = {name: 1 - tokens / batch.inputs.numel() for name, batch in everything.items()}
    loss = {name: mean_loss(model, batch.to(params.device)) for name, batch in everything.items()}
    report.metric("padding", 100 * waste["padded"])
    report.metric("padding_packed", 100 * waste["packed"])
    report.claim("packing", measured=waste["packed"], expected=waste["padded"] / 3, relation="at most")
    report.claim("packed-loss", measured=loss["packed"], expected=loss["padded"], tolerance=1e-4 * loss["padded"])
    cells = [(name, *batch.inputs.shape, 100 * waste[name], loss[name]) for name, batch in everything.items()]
    report.table(
        f"{RAGGED} examples of 1 to {LONGEST} words", ("rows are", "rows", "length", "padding %", "loss"), cells
    )


def mean_loss(model: nn.Module, batch: Batch) -> float:
    with evaluating(model):
        nll, tokens = sft_loss(model, batch)
    return float(nll / tokens)
