"""A sliding window: cost linear in the length, a cache of W tokens, and what is out of sight.

Counts come first: pairs of the mask, operations of tiled attention, bytes of a ring cache. Reach is measured by the
gradient: where it is zero, no information can have come from. Then the window is imposed on a model that was trained
without one, which shows what it had been looking at: its answers, and whether the first token is a place to rest on
(an attention sink, Xiao et al. 2023, section 3.1) here.

Shapes: B batch, T tokens, W window, L layers.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from llmquiz.lab.sdk import LabError, Params, Report, growth_exponent, interleaved_medians, quiet_clock
from llmquiz.llm.base.exam import encode
from llmquiz.llm.base.load import LanguageModel, base_model
from llmquiz.llm.cache.ring import RingCache
from llmquiz.llm.data.corpus import documents
from llmquiz.llm.model.attention import visibility
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder, random_decoder
from llmquiz.llm.model.load import build
from llmquiz.llm.model.tiled import Work, tiled_attention

WINDOWED, MASKED, FULL = "tiles in the window", "window as a mask", "all"
HEADS, WIDTH, TILE, HALVINGS, TURNS = 4, 64, 128, 3, 5
SMALL = ModelConfig(512, 64, 2, 4, 2, 16, 128)
RING_WINDOW, PROMPT, TOLERANCE = 16, 10, 1e-5  # the tolerance: of the largest logit
HELD_OUT, DOCUMENTS, MOST_TOKENS = 10**6, 24, 256
WINDOWS, NARROW = (MOST_TOKENS, 64, 32, 16, 8), 8


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    if 4 * params.window > params.tokens:
        raise LabError(f"a window of {params.window} is no quarter of {params.tokens} tokens; choose a smaller one")
    measure_cost(params, report)
    measure_reach(params, report)
    decode_with_ring(params, report)
    cut_window(params, report)


def measure_cost(params: Params, report: Report) -> None:
    """Pairs, operations and time of one layer on ever longer sequences: with the window, with it as a mask, without."""
    lengths = [params.tokens >> halving for halving in reversed(range(HALVINGS))]
    clock, W = quiet_clock(params.device, 1), params.window
    flops, rows, visible = {}, [], 0
    for T in report.progress(lengths, unit="length"):
        q, k, v = torch.randn(3, 1, HEADS, T, WIDTH, device=params.device).unbind(0)
        seen = visibility(T, T, causal=True, window=W, device=q.device)
        visible = 0 if seen is None else int(seen.sum())
        work = {WINDOWED: Work(), FULL: Work()}
        tiled_attention(q, k, v, causal=True, window=W, tile=TILE, work=work[WINDOWED])
        tiled_attention(q, k, v, causal=True, tile=TILE, work=work[FULL])
        ways = {
            WINDOWED: partial(tiled_attention, q, k, v, causal=True, window=W, tile=TILE),
            MASKED: partial(F.scaled_dot_product_attention, q, k, v, attn_mask=seen),
            FULL: partial(tiled_attention, q, k, v, causal=True, tile=TILE),
        }
        seconds = interleaved_medians(ways, device=params.device, repeats=TURNS, clock=clock)
        for way, taken in seconds.items():
            report.point("latency", x=T, y=1e3 * taken, series=way)
        for way, counted in work.items():
            flops[way, T] = counted.forward_flops
        times = [1e3 * taken for taken in seconds.values()]
        rows.append((T, flops[WINDOWED, T] / 1e6, flops[FULL, T] / 1e6, *times))
    report.metric("pairs", visible)
    report.metric("pairs_share", visible / (T * (T + 1) / 2))
    report.claim("visible-pairs", measured=visible, expected=T * W - W * (W - 1) // 2)
    for way, expected, tolerance in ((WINDOWED, 1.0, 0.2), (FULL, 2.0, 0.2)):
        growth = growth_exponent([(T, flops[way, T]) for T in lengths])
        report.claim("linear-cost", measured=growth, expected=expected, tolerance=tolerance)
    exponents = {way: growth_exponent(report.series("latency", way)) for way in (WINDOWED, MASKED, FULL)}
    report.metric("window_exponent", exponents[WINDOWED])
    report.metric("masked_exponent", exponents[MASKED])
    report.metric("full_exponent", exponents[FULL])
    saved = exponents[MASKED] - exponents[WINDOWED]
    report.claim("linear-time", measured=saved, expected=0.5, relation="at least")
    columns = ("tokens", "MFLOPs, window", "MFLOPs, all", *(f"ms, {way}" for way in ways))
    report.table(f"{HEADS} heads of {WIDTH}, window of {W}", columns, rows)


def measure_reach(params: Params, report: Report) -> None:
    """How far back the last token's hidden state has a gradient that is not zero."""
    L, W = params.layers, params.reach_window
    tokens = L * (W - 1) + W
    config = replace(SMALL, num_layers=L, sliding_window=W, max_position=tokens)
    model = random_decoder(config, params.seed).to(params.device)
    text = torch.randint(config.vocab_size, (1, tokens), device=params.device)
    embeddings = model.embed_tokens(text).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model.hidden_states(embeddings)[0, -1].sum(), embeddings)
    felt = gradient[0].abs().amax(-1)  # [T]
    reach = tokens - 1 - int(felt.nonzero()[0])
    report.metric("reach", reach)
    report.claim("reach", measured=reach, expected=L * (W - 1))
    places = sorted({0, W - 1, *(layer * (W - 1) for layer in range(1, L + 1)), L * (W - 1) + 1})
    rows = [(back, float(felt[tokens - 1 - back] / felt[-1])) for back in places]
    report.table(f"{L} layers, window of {W}", ("tokens back", "gradient, of the token's own"), rows)


@torch.inference_mode()
def decode_with_ring(params: Params, report: Report) -> None:
    """A prompt, then token by token, four windows in all; beside one pass over the same tokens."""
    config = replace(SMALL, sliding_window=RING_WINDOW)
    model = random_decoder(config, params.seed).to(params.device)
    text = torch.randint(config.vocab_size, (1, 4 * RING_WINDOW), device=params.device)
    cache = RingCache(config, device=params.device)
    parts = [model(text[:, :PROMPT], cache)]
    parts += [model(text[:, t : t + 1], cache) for t in range(PROMPT, text.size(1))]
    whole = model(text)
    error = (torch.cat(parts, dim=1) - whole).abs().max() / whole.abs().max()
    report.claim("bounded-cache", measured=error, expected=0, tolerance=TOLERANCE)
    report.metric("cache_bytes", cache.bytes())
    report.metric("cache_ratio", config.cache_bytes(text.size(1)) / cache.bytes())
    report.claim("bounded-cache", measured=cache.bytes(), expected=config.cache_bytes(RING_WINDOW))


def cut_window(params: Params, report: Report) -> None:
    """The answers of held-out documents with ever less in sight."""
    language = base_model(params.model, device=params.device)
    model = language.model
    if not isinstance(model, Decoder):
        raise LabError(f"{language.name} is not of the Llama family, so no window can be set; choose another model")
    tokens, answers = read_documents(language, params)
    T = tokens.size(1)
    full = answer_loss(model, tokens, answers)
    rows: list[tuple[str, int | None, float]] = [("all", None, full)]
    for window in report.progress(WINDOWS, unit="window", label="cutting the window"):
        windowed = build(replace(model.config, sliding_window=window), dict(model.state_dict()))
        rows.append(("window", window, answer_loss(windowed, tokens, answers)))
        report.point("loss", x=window, y=rows[-1][2], series="answers")
    cut = [loss for _, _, loss in rows]
    report.metric("loss_full", full)
    report.metric("loss_narrow", cut[-1])
    report.claim("window-hides", measured=cut[1], expected=full, tolerance=1e-3)
    for wider, narrower in pairwise(cut[2:]):
        report.claim("window-hides", measured=narrower - wider, expected=0.05, relation="at least")
    rows += rest_on_first(model, tokens, answers, full, cut[-1], report)
    report.table(f"{language.name}, {T} tokens at most", ("in sight", "keys", "nats a token of the answers"), rows)


def rest_on_first(
    model: Decoder, tokens: Tensor, answers: Tensor, full: float, narrow: float, report: Report
) -> list[tuple[str, int | None, float]]:
    """Is the first token a sink? Hide it alone, and see it in place of the oldest of a narrow window."""
    T = tokens.size(1)
    first = torch.arange(T, device=tokens.device) == 0
    latest = visibility(T, T, causal=True, window=NARROW - 1, device=tokens.device)
    assert latest is not None
    without = answer_loss(model, tokens, answers, ~first | torch.eye(T, dtype=torch.bool, device=tokens.device))
    kept = answer_loss(model, tokens, answers, latest | first)
    report.metric("sink_loss", without - full)
    report.metric("sink_gain", narrow - kept)
    report.note(
        f"were the first token a sink, both would be large: hiding it alone adds {without - full:.3f} nats, "
        f"seeing it in place of the oldest of {NARROW} saves {narrow - kept:.3f}"
    )
    return [("all but the first token", None, without), ("window, the oldest replaced by the first", NARROW, kept)]


def read_documents(language: LanguageModel, params: Params) -> tuple[Tensor, Tensor]:  # -> [B, T], [B, T - 1]
    """Documents whose answers stand in the text, one a row, and where the targets are answers."""
    rows: list[tuple[list[int], list[tuple[int, int]]]] = []
    found = documents(HELD_OUT + params.seed, ("story", "recall"))
    while len(rows) < DOCUMENTS:
        tokens, spans = encode(next(found), language.tokenizer)
        if spans and len(tokens) <= MOST_TOKENS:
            rows.append((tokens, spans))
    longest = max(len(tokens) for tokens, _ in rows)
    padded = torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens, _ in rows])  # causal: none sees padding
    answers = torch.zeros(len(rows), longest - 1, dtype=torch.bool)
    for row, (_, spans) in zip(answers, rows, strict=True):
        for start, end in spans:
            row[start - 1 : end - 1] = True
    return padded.to(params.device), answers.to(params.device)


@torch.inference_mode()
def answer_loss(model: Decoder, tokens: Tensor, answers: Tensor, seen: Tensor | None = None) -> float:
    """Nats a token of the answers; `seen` [T, T] says what may be attended besides causality."""
    mask = None if seen is None else seen.expand(len(tokens), -1, -1)
    logits = model(tokens, mask=mask)[:, :-1]
    return float(F.cross_entropy(logits[answers].float(), tokens[:, 1:][answers]))
