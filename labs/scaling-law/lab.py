"""Scaling laws: one that can be proved, one that can be measured, and what no short series of models can tell.

The provable one: in a language where each symbol's log-odds after each other are a matrix with singular values k^-a, a
model of width d can hold the d largest (Eckart and Young 1936). To second order its excess loss is half the mean square
of the rest, sum over k > d of k^-2a, about d^(1-2a): a power law in the data becomes a power law in the model.

The measured one: decoders of growing width, each trained on equally many tokens of the corpus. All but the largest are
fitted and the largest is predicted; then the floor is asked for. Shapes: V symbols, D tokens of training.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from llmquiz.lab.sdk import Params, Report, growth_exponent
from llmquiz.llm.base.guest import Guest, invite
from llmquiz.llm.data.bpe import ByteBPE
from llmquiz.llm.data.corpus import documents
from llmquiz.llm.eval.scaling import fit_power_law, plausible_floors
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder, random_decoder
from llmquiz.llm.train.device import fused_adamw
from llmquiz.llm.train.loss import language_model_loss
from llmquiz.llm.train.schedule import warmup_cosine
from llmquiz.llm.train.trainer import Trainer

SPREAD = 0.5  # standard deviation of the provable language's log-odds: small, so that second order is enough
RANKS = (1, 2, 4, 8, 16)
PEAK_RATE = 2e-2  # at width 32; as width^-1/2 elsewhere
GUEST_LENGTH = 64  # tokens that the user's own model reads
FAR = 100  # times the largest model: how far out the plausible fits are compared


@dataclass(frozen=True)
class Size:
    """How much of everything; `symbols` and `rank_steps` belong to the provable language."""

    symbols: int
    rank_steps: int
    vocab_size: int
    widths: tuple[int, ...]
    steps: int
    batch: int = 16
    length: int = 32
    num_documents: int = 1500


SIZES = {
    "tiny": Size(64, 60, 280, (8, 12, 16, 24, 32), 20, num_documents=200),
    "small": Size(256, 200, 320, (8, 12, 16, 24, 32, 48, 64), 150),
    "base": Size(1024, 400, 2048, (16, 32, 64, 128, 256, 512), 3000, batch=64, length=128, num_documents=40_000),
}


def run(params: Params, report: Report) -> None:
    """The provable law, then the measured one."""
    torch.set_num_threads(1)
    guest = None
    if params.model:
        guest = invite(params.model, rows=1, length=GUEST_LENGTH, seed=params.seed, device=params.device)
    size = SIZES[params.size]
    report_provable(size, params, report)
    family = train_family(size, params, report)
    report_family(family, report)
    if guest:
        report_guest(guest, report)


def report_provable(size: Size, params: Params, report: Report) -> None:
    """Excess loss by width, beside what Eckart and Young leave."""
    generator = torch.Generator().manual_seed(params.seed)
    log_odds = power_law_matrix(size.symbols, params.decay, generator).to(params.device)
    truth = log_odds.softmax(-1)  # [V, V]: P(next | symbol), symbols equally frequent
    squares = torch.linalg.svdvals((log_odds - log_odds.mean(-1, keepdim=True)).cpu()).square()
    rows = []
    for rank in report.progress(RANKS, unit="model", label="provable"):
        excess = train_low_rank(truth, rank, size.rank_steps, generator)
        rows.append((rank, 2 * size.symbols * rank, excess, float(squares[rank:].sum()) / (2 * size.symbols**2)))
    report.table("a law with a proof", ("width", "parameters", "excess loss (nats)", "Eckart-Young"), rows)
    measured, proved = (growth_exponent([(row[1], row[k]) for row in rows]) for k in (2, 3))
    report.metric("provable_exponent", -measured)
    report.claim("provable", measured=-measured, expected=-proved, tolerance=0.1)
    report.note(f"the whole tail of an infinite language would fall with the power {2 * params.decay - 1:.2f}")


def power_law_matrix(symbols: int, decay: float, generator: torch.Generator) -> Tensor:  # [V, V]
    """Singular values k^-decay between random directions, scaled to entries of standard deviation SPREAD."""
    left, right = (torch.linalg.qr(torch.randn(symbols, symbols, generator=generator))[0] for _ in range(2))
    matrix: Tensor = left * torch.arange(1, symbols + 1).pow(-decay) @ right.T
    return matrix * (SPREAD / matrix.std())


def train_low_rank(truth: Tensor, rank: int, steps: int, generator: torch.Generator) -> float:
    """Nats above the entropy of a bigram model of width `rank`, trained on the language itself: no sampling noise."""
    shape = len(truth), rank
    weights = [
        (0.1 * torch.randn(shape, generator=generator)).to(truth.device).requires_grad_() for _ in ("embedding", "head")
    ]
    optimizer = fused_adamw(weights, lr=0.1, device=truth.device, betas=(0.9, 0.99))
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = warmup_cosine(step, warmup=1, total=steps, peak=0.1)
        excess = F.kl_div((weights[0] @ weights[1].T).log_softmax(-1), truth, reduction="batchmean")
        torch.autograd.backward(excess)
        optimizer.step()
        optimizer.zero_grad()
    return float(excess.detach())


@dataclass(frozen=True)
class Trained:
    """One model of the family."""

    width: int
    parameters: int
    embedding: int  # parameters of the embedding, which is looked up and not multiplied with
    loss: float
    flops_per_token: float


def train_family(size: Size, params: Params, report: Report) -> list[Trained]:
    """Decoders of every width on the same tokens in the same order; their losses on held-out text."""
    texts = stories(params.seed, size.num_documents)
    tokenizer = ByteBPE.train(texts, size.vocab_size)
    rows = cut(tokenizer, texts, size.length + 1).to(params.device)
    exam = cut(tokenizer, stories(params.seed + 50_000, 60), size.length + 1).to(params.device)
    family = []
    for width in report.progress(size.widths, unit="model", label="family"):
        heads = max(1, width // 16)
        config = ModelConfig(
            tokenizer.vocab_size, width, 2, heads, heads, width // heads, 2 * width, max_position=size.length
        )
        model = random_decoder(config, params.seed).to(params.device)
        flops = flops_per_token(model, exam[:1])
        train(model, rows, size, params.seed)
        loss = mean_loss(model, exam)
        family.append(Trained(width, config.num_parameters(), model.embed_tokens.weight.numel(), loss, flops))
        report.point("loss", x=family[-1].parameters, y=loss, series="measured")
    return family


def stories(seed: int, number: int) -> list[str]:
    """One kind of text in one language, so that small models get somewhere."""
    return [document.text for document in islice(documents(seed, ("story",), ("en",)), number)]


def cut(tokenizer: ByteBPE, texts: list[str], length: int) -> Tensor:  # [rows, length]
    """All texts as one stream, cut into rows."""
    begin = tokenizer.token_id("<|bos|>")
    ids = torch.tensor([token for text in texts for token in (begin, *tokenizer.encode(text, special=True))])
    return ids[: len(ids) // length * length].view(-1, length)


def train(model: Decoder, rows: Tensor, size: Size, seed: int) -> None:
    """`size.steps` steps; a rate that suits one width is too high for a wider one."""
    peak = PEAK_RATE * (32 / model.config.hidden_size) ** 0.5
    schedule = partial(warmup_cosine, warmup=size.steps // 10, total=size.steps, peak=peak)
    trainer = Trainer(model.train(), fused_adamw(model.parameters(), lr=peak, device=rows.device), schedule=schedule)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(size.steps):
        drawn = rows[torch.randint(len(rows), (size.batch,), generator=generator)]
        trainer.step([(drawn[:, :-1], drawn[:, 1:])])
    model.eval()


@torch.no_grad()
def mean_loss(model: Decoder, rows: Tensor) -> float:
    """Nats per token of held-out `rows`."""
    parts = [language_model_loss(model, (part[:, :-1], part[:, 1:])) for part in torch.split(rows, 64)]
    return sum(float(nll) for nll, _ in parts) / sum(int(tokens) for _, tokens in parts)


def flops_per_token(model: Decoder, row: Tensor) -> float:
    """Floating-point operations in matrix products of one training step, per token; attention's own are left out."""
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward(language_model_loss(model, (row[:, :-1], row[:, 1:]))[0])
    model.zero_grad(set_to_none=True)
    products = counter.get_flop_counts()["Global"].get(torch.ops.aten.mm, 0)
    return float(products) / (row.numel() - 1)


def report_family(family: list[Trained], report: Report) -> None:
    """The fit, the prediction of the largest, and the floors that the points allow."""
    points = [(model.parameters, model.loss) for model in family]
    largest = family[-1]
    law = fit_power_law(points[:-1])
    for number, _ in points:
        report.point("loss", x=number, y=law(number), series="fitted without the largest")
    columns = ("width", "parameters", "loss (nats)", "fitted without the largest", "FLOPs per token and parameter")
    report.table(
        "family",
        columns,
        [
            (m.width, m.parameters, m.loss, law(m.parameters), m.flops_per_token / (m.parameters - m.embedding))
            for m in family
        ],
    )
    error = 100 * (law(largest.parameters) / largest.loss - 1)
    report.metric("loss", largest.loss)
    report.metric("exponent", law.exponent)
    report.metric("exponent_margin", law.margin)
    report.metric("prediction_error", error)
    report.claim("predicts", measured=abs(error), expected=20, relation="at most")
    per_parameter = largest.flops_per_token / (largest.parameters - largest.embedding)
    report.metric("flops_per_parameter", per_parameter)
    report.claim("six-n-d", measured=per_parameter, expected=6.0, tolerance=0.2)
    report_floors(points, report)
    without = fit_power_law([(model.parameters - model.embedding, model.loss) for model in family])
    counted = fit_power_law(points)
    report.note(
        f"counting the embedding the exponent is {counted.exponent:.2f} ± {counted.margin:.2f}, without it "
        f"{without.exponent:.2f} ± {without.margin:.2f}: two laws are comparable if they count alike"
    )


def report_floors(points: list[tuple[int, float]], report: Report) -> None:
    """Every floor that fits about as well as the best one, and what it says far out."""
    fits = plausible_floors(points)
    number, loss = points[-1]
    best = min(fits, key=lambda fit: fit.misfit)
    rows = [
        (name, fit.floor, fit.exponent, 100 * (fit.misfit / len(points)) ** 0.5, fit(FAR * number))
        for name, fit in (("lowest floor", fits[0]), ("best fit", best), ("highest floor", fits[-1]))
    ]
    columns = ("fit", "floor E (nats)", "exponent", "typical error (%)", f"loss at {FAR} times the largest")
    report.table("floors that the points allow", columns, rows)
    width = 100 * (fits[-1].floor - fits[0].floor) / loss
    report.metric("floor_width", width)
    report.claim("floor-unknown", measured=width, expected=20, relation="at least")


@torch.no_grad()
def report_guest(guest: Guest, report: Report) -> None:
    """The user's own model: the FLOPs of a token as counted, beside the rule 2 N, and what the laws say of its size."""
    tokens = guest.texts[:, :-1]
    with FlopCounterMode(display=False) as counter:
        guest.model(tokens)
    counted, N = counter.get_total_flops() / tokens.numel(), guest.num_parameters()
    rows = [
        ("parameters N", N),
        (f"FLOPs a token, forward, counted over {tokens.numel()} tokens", counted),
        ("2 N", 2 * N),
        ("counted / 2 N", counted / (2 * N)),
        ("tokens at 20 a parameter", 20 * N),
        ("FLOPs of that training, 6 N D", 6 * N * 20 * N),
    ]
    report.table(guest.name, ("what", "how much"), rows)
