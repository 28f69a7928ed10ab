"""Pretraining: one number falls, and each mark that it passes is something learned.

The loss of a language model is the length of the text under it, in nats a token. So it can be read against models that
need no training at all: ln V for a uniform guess, the loss of the tokens' frequencies for a model without context, that
of the pairs' frequencies for one that sees a single token. A loss between two of these marks says what has been learned
so far. No text is read twice, so the loss of a batch, taken before its step, is a held-out loss as well.

`--size base` is the recipe of the shipped model: Muon for the matrices; warm-up, stable, decay; answers weigh three
times as much as the rest, for most other tokens are matters of chance. Each batch follows from seed and step alone, so
a run that is resumed goes on as if nothing had happened.

Shapes: B windows, T tokens of a window, V vocabulary.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import mean

import torch
import torch.distributed as dist
from torch import Tensor, nn

from llmquiz.lab.sdk import LabError, Params, Report
from llmquiz.llm.base.exam import exam
from llmquiz.llm.base.load import FOLDER, base_model
from llmquiz.llm.base.memory import check_fits, estimate
from llmquiz.llm.base.saving import save_model
from llmquiz.llm.base.tokenizer import Tokenizer, read_tokenizer
from llmquiz.llm.cache.static import StaticCache
from llmquiz.llm.data.batches import Batch, packed_batch, token_stream, weighted_loss
from llmquiz.llm.data.corpus import documents
from llmquiz.llm.decode.generate import generate
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder, random_decoder
from llmquiz.llm.train.device import autocast, fused_adamw, maybe_compile, note_peak
from llmquiz.llm.train.distributed import Ranks, launch, whole_weights, wrap
from llmquiz.llm.train.muon import Muon, parameter_groups
from llmquiz.llm.train.trainer import Trainer

from .guest import invite_guest, report_guest

MUON, ADAMW = "muon", "adamw"


@dataclass(frozen=True, slots=True)
class Size:
    """A model and how it is trained: `steps` batches of `rows` windows of `length` tokens.

    Attributes:
        muon: peak learning rate of the matrices.
        adamw: of AdamW, and of the embeddings and norms beside Muon.
        warmup: steps.
        answer_weight: how much more a token of an answer counts than another.
        stretch: in the last part of the run windows are so many times longer, and as many times fewer: short ones
            teach the most for their cost, long ones train the later positions.
    """

    config: ModelConfig
    steps: int
    rows: int
    length: int
    muon: float = 4e-2
    adamw: float = 1e-2
    warmup: int = 5
    answer_weight: int = 1
    stretch: int = 1

    def peak(self, name: str) -> float:
        return self.muon if name == MUON else self.adamw


TINY = ModelConfig(2048, 64, 2, 4, 2, 16, 128, 256, tie_embeddings=True)
SMALL = ModelConfig(2048, 128, 2, 4, 2, 32, 256, 256, tie_embeddings=True)
BASE = ModelConfig(2048, 256, 5, 8, 4, 32, 512, 512, tie_embeddings=True, norm_eps=1e-5)
SIZES = {
    "tiny": Size(TINY, 24, 8, 64),
    "small": Size(SMALL, 104, 6, 128),
    "base": Size(BASE, 2000, 24, 192, 2e-2, 4e-3, warmup=30, answer_weight=3, stretch=2),
}
DECAY, STRETCHED = 0.35, 0.3  # parts of a run, at its end: the rate falls; the windows are longer
WEIGHT_DECAY = 0.05
FIRST_STD = 0.02  # of the embedding, and so of the tied head: the first logits are all but equal
SAVE_SECONDS = 120.0
HELD_OUT, TO_COUNT = 1 << 40, 1 << 41  # seeds from here on are never trained on
WINDOWS = 48  # of held-out text
COUNTED = 150_000  # tokens whose frequencies and pairs are counted
SMOOTH = 5  # steps whose losses are averaged where two runs are compared
PROMPTS = ("One sunny morning,", "<|user|>What is LoRA?<|assistant|>", "放学后，", "<|user|>什么是量化？<|assistant|>")
SAMPLE = 40  # tokens


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    size, tokenizer = SIZES[params.size], read_tokenizer(FOLDER / "tokenizer.json", {})
    check_request(params, size)
    guest = invite_guest(params)
    held_out = packed_batch(documents(HELD_OUT + params.seed), tokenizer, WINDOWS, size.length)
    marks = count_marks(held_out, tokenizer, params.seed)
    first = loss_on(start(size.config, params.seed).to(params.device), held_out, params)
    report.metric("first_loss", first)
    report.claim("starts-at-ln-v", measured=first, expected=marks["uniform guess"], tolerance=0.15)
    model = trained(MUON, params.size, params, report)
    note_peak(params.device, report.note)
    losses = {"this model": loss_on(model, held_out, params)}
    report_marks(marks, losses["this model"], report)
    race_optimizers(model, params, report)
    shipped = base_model(device=params.device).model
    losses["shipped model"] = loss_on(shipped, held_out, params)
    report_losses({**marks, **losses}, tokenizer, params, report)
    report_samples({"this model": model, "shipped model": shipped}, tokenizer, report)
    if params.size == "base":
        report_exam(model, tokenizer, params, report)
    if guest:
        report_guest(guest, report)
    if params.folder:
        save_model(model, FOLDER / "tokenizer.json", Path(params.folder).expanduser())


def check_request(params: Params, size: Size) -> None:
    """Refuse what cannot work before anything is trained."""
    if params.processes > size.rows:
        raise LabError(f"{size.rows} windows cannot be shared by {params.processes} processes; use fewer")
    total = size.config.num_parameters()
    tokens = size.rows * size.length // params.processes
    check_fits(estimate(total, trainable=total, config=size.config, tokens=tokens), params.device, what="training")


def start(config: ModelConfig, seed: int) -> Decoder:
    """Random weights. A tied embedding as large as the other matrices would make confident first guesses, and the
    first loss larger than ln V."""
    model = random_decoder(config, seed)
    with torch.no_grad():
        model.embed_tokens.weight.mul_(FIRST_STD * config.hidden_size**0.5)
    return model


def trained(name: str, size: str, params: Params, report: Report) -> Decoder:
    """A model of `size` after its run with the optimizer `name`."""
    tell = partial(report.point, "loss")
    weights = launch(train, params, name, size, processes=params.processes, device=params.device, tell=tell)
    model = start(SIZES[size].config, params.seed).to(params.device)
    model.load_state_dict(weights, strict=False)  # the head is the embedding
    return model.eval()


def train(ranks: Ranks, tell: Callable[..., object], params: Params, name: str, of_size: str) -> dict[str, Tensor]:
    """One run, on every rank; the trained weights."""
    size, tokenizer = SIZES[of_size], read_tokenizer(FOLDER / "tokenizer.json", {})
    asked = of_size == params.size  # a race beside the base model has its own length
    main = name == MUON and asked  # what minutes and checkpoint are meant for
    whole = maybe_compile(start(size.config, params.seed).to(ranks.device).train(), params.compile)
    model = wrap(whole, ranks)
    clock = Clock(params.steps if asked and params.steps else size.steps, 60 * params.minutes if main else 0.0, ranks)
    trainer = Trainer(
        model,
        make_optimizer(name, size, model, params, ranks),
        loss_fn=weighted_loss,
        schedule=lambda step: size.peak(name) * clock.rate(step, size.warmup),
        precision=params.precision,
    )
    file, saved = Path(params.checkpoint).expanduser() if params.checkpoint and main else None, time.monotonic()
    if file and file.exists():
        trainer.resume(file)
    while clock.advance(trainer.steps):
        batch = batch_at(trainer.steps, size, tokenizer, params.seed, stretched=clock.done > 1 - STRETCHED)
        loss = trainer.step([ranks.share(Batch(*(part.to(ranks.device) for part in batch)))]).loss
        tell(trainer.steps, loss, f"{of_size}, {name}")
        if file and clock.agree(time.monotonic() - saved) > SAVE_SECONDS:
            trainer.save(file)
            saved = time.monotonic()
    if file:
        trainer.save(file)
    return whole_weights(model)


def make_optimizer(name: str, size: Size, model: nn.Module, params: Params, ranks: Ranks) -> torch.optim.Optimizer:
    if name == ADAMW:
        return fused_adamw(model.parameters(), lr=size.adamw, device=ranks.device, weight_decay=WEIGHT_DECAY)
    groups = parameter_groups(model, lr=size.muon, adamw_lr=size.adamw)
    dtype = torch.bfloat16 if params.precision == "bf16" else torch.float32
    return Muon(groups, dtype=dtype, weight_decay=WEIGHT_DECAY)


def batch_at(step: int, size: Size, tokenizer: Tokenizer, seed: int, *, stretched: bool = False) -> Batch:
    """The batch of a step: documents of a seed of their own."""
    source, times = documents(1_000_003 * seed + step), size.stretch if stretched else 1
    rows, length = size.rows // times, size.length * times
    return packed_batch(source, tokenizer, rows, length, answer_weight=size.answer_weight)


class Clock:
    """How far a run is, by steps or by time, whichever is further; ranks agree on it, or their weights would differ.

    Attributes:
        done: from 0 to 1.
    """

    def __init__(self, steps: int, seconds: float, ranks: Ranks) -> None:
        self.steps, self.seconds, self.ranks = steps, seconds, ranks
        self.started, self.done = time.monotonic(), 0.0

    def advance(self, step: int) -> bool:
        """Whether there is another step to do."""
        passed = (time.monotonic() - self.started) / self.seconds if self.seconds else 0.0
        self.done = self.agree(max(step / self.steps, passed))
        return self.done < 1

    def agree(self, value: float) -> float:
        """The value that rank 0 has."""
        if self.ranks.world == 1:
            return value
        shared = torch.tensor([value], dtype=torch.float64, device=self.ranks.device)
        dist.broadcast(shared, 0)
        return float(shared)

    def rate(self, step: int, warmup: int) -> float:
        """Part of the peak: a rise, then level, then down to zero at the end. Levels can be prolonged: a run that is
        given more minutes only moves its decay."""
        return min(1.0, (step + 1) / warmup) * min(1.0, (1 - self.done) / DECAY)


@torch.no_grad()
def loss_on(model: nn.Module, batch: Batch, params: Params) -> float:
    """Nats a token, every token counted alike."""
    even = Batch(batch.inputs, batch.targets, torch.ones_like(batch.weights))
    with autocast(params.device, params.precision):
        total, count = weighted_loss(model, Batch(*(part.to(params.device) for part in even)))
    return float(total / count)


def count_marks(held_out: Batch, tokenizer: Tokenizer, seed: int) -> dict[str, float]:
    """Nats a token of models that are counted instead of trained."""
    V, tokens = tokenizer.vocab_size, token_stream(documents(TO_COUNT + seed), tokenizer, COUNTED)
    singles = torch.bincount(tokens, minlength=V) + 1.0  # one more than was seen, so that nothing is impossible
    unigram = singles / singles.sum()
    pairs = torch.bincount(tokens[:-1] * V + tokens[1:], minlength=V * V).view(V, V)
    bigram = (pairs + unigram) / (pairs.sum(1, keepdim=True) + 1)  # as if each token had been followed once by any
    last, following = held_out.inputs.flatten(), held_out.targets.flatten()
    return {
        "uniform guess": math.log(V),
        "token frequencies": float(-unigram[following].log().mean()),
        "pair frequencies": float(-bigram[last, following].log().mean()),
    }


def report_marks(marks: dict[str, float], loss: float, report: Report) -> None:
    report.metric("loss", loss)
    for name, mark, claim in (
        ("unigram_loss", marks["token frequencies"], "beats-unigram"),
        ("bigram_loss", marks["pair frequencies"], "beats-bigram"),
    ):
        report.metric(name, mark)
        report.claim(claim, measured=loss, expected=mark, tolerance=0.0, relation="at most")


def race_optimizers(model: Decoder, params: Params, report: Report) -> None:
    """Muon against AdamW: same start, same batches, same number of steps, each at a rate that is good for it.

    The base model is not trained twice for that: there the small one runs.
    """
    size = "small" if params.size == "base" else params.size
    racers = {MUON: model if size == params.size else trained(MUON, size, params, report)}
    racers[ADAMW] = trained(ADAMW, size, params, report)
    tokenizer = read_tokenizer(FOLDER / "tokenizer.json", {})
    held_out = packed_batch(documents(HELD_OUT + params.seed), tokenizer, WINDOWS, SIZES[size].length)
    losses = {name: loss_on(racer, held_out, params) for name, racer in racers.items()}
    report.metric("adamw_loss", losses[ADAMW])
    report.claim("muon-ahead", measured=losses[MUON], expected=losses[ADAMW], tolerance=0.0, relation="at most")
    muon, adamw = (smoothed(report.series("loss", f"{size}, {name}")) for name in (MUON, ADAMW))
    last, goal = adamw[-1]
    report.metric("step_ratio", last / next((step for step, loss in muon if loss <= goal), last))


def smoothed(curve: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Each loss averaged with the few before it: neighbouring batches differ by more than neighbouring steps."""
    losses = [loss for _, loss in curve]
    return [(step, mean(losses[max(0, end - SMOOTH) : end])) for end, (step, _) in enumerate(curve, start=1)]


def report_losses(losses: dict[str, float], tokenizer: Tokenizer, params: Params, report: Report) -> None:
    """The table of all models, from the worst guess to the shipped one."""
    texts = [document.text for document in islice(documents(HELD_OUT + params.seed), 500)]
    num_bytes = sum(len(text.encode()) for text in texts)
    per_byte = sum(len(tokenizer.encode(text, special=True)) + 2 for text in texts) / num_bytes  # with begin and end
    bits = {name: loss / math.log(2) * per_byte for name, loss in losses.items()}
    report.metric("bits_per_byte", bits["this model"])
    report.metric("shipped_loss", losses["shipped model"])
    rows = [(name, losses[name], math.exp(losses[name]), bits[name]) for name in losses]
    report.table("on held-out text", ("model", "nats/token", "perplexity", "bits/byte"), rows)
    for point in json.loads((FOLDER / "training.json").read_text(encoding="utf-8")):
        report.point("loss", x=point["step"], y=point["loss"], series="shipped model, as recorded")


def report_samples(models: dict[str, nn.Module], tokenizer: Tokenizer, report: Report) -> None:
    """What the models write, word by likeliest word."""
    rows = [(prompt, *(continued(model, tokenizer, prompt) for model in models.values())) for prompt in PROMPTS]
    report.table("samples", ("prompt", *models), rows)


def continued(model: nn.Module, tokenizer: Tokenizer, prompt: str) -> str:
    """The likeliest continuation, up to the end of the text or of a few words."""
    assert isinstance(model, Decoder)
    weight, eos = model.embed_tokens.weight, tokenizer.token_id("<|eos|>")
    ids = [tokenizer.token_id("<|bos|>"), *tokenizer.encode(prompt, special=True)]
    cache = StaticCache(model.config, len(ids) + SAMPLE, dtype=weight.dtype, device=weight.device)
    made = generate(model, torch.tensor([ids], device=weight.device), SAMPLE, cache=cache, eos=[eos])
    return tokenizer.decode(made.tokens[0].tolist()).partition("<|eos|>")[0].strip().replace("\n", " / ")


def report_exam(model: nn.Module, tokenizer: Tokenizer, params: Params, report: Report) -> None:
    """Answers that the model would write exactly, by kind."""
    marks = exam(model, tokenizer, islice(documents(HELD_OUT + params.seed), 600), params.device)
    rows = [(kind, lang, tally.asked, tally.share) for (kind, lang), tally in sorted(marks.items())]
    report.table("exact answers", ("kind", "language", "asked", "right"), rows)
