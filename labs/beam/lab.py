"""Beam search: what a wider beam finds, what it misses, and what it costs.

On a model of a few tokens everything can be tried, so the best text is known and a beam as wide as there are texts must
find it. On a larger one the best text is the best that any beam found; against it the error of each width is measured,
prompt by prompt, which shows what the mean hides: some prompts get worse. The third part lets texts end.

The models of these parts are random, with logits that spread: nothing learned favours one token, so greed errs often.
The last part is the shipped model, beside transformers. Shapes: P tokens of a prompt, V vocabulary, N new tokens.
"""

from __future__ import annotations

from functools import partial
from itertools import islice, pairwise, product
from statistics import fmean

import torch
from torch import Tensor

from llmquiz.lab.sdk import LabError, Params, Report, interleaved_medians, memory_available, quiet_clock
from llmquiz.llm.base.load import base_model
from llmquiz.llm.cache.growing import GrowingCache
from llmquiz.llm.data.corpus import documents
from llmquiz.llm.decode.beam import Beams, beam_search
from llmquiz.llm.decode.peers import search_beams
from llmquiz.llm.model.config import ModelConfig
from llmquiz.llm.model.decoder import Decoder, random_decoder
from llmquiz.llm.model.load import find_checkpoint

EXHAUSTIVE_VOCABULARY, EXHAUSTIVE_TOKENS, EXHAUSTIVE_PROMPTS = 5, 4, 6
VOCABULARY, PROMPT = 24, 4
WIDEST = 4  # times the widest beam: what the others are measured against
BASE_BEAMS, BASE_PROMPTS, BASE_PROMPT, BASE_TOKENS = 4, 3, 24, 20
SAME = 1e-3  # nats
TRANSFORMERS = f"transformers, {BASE_BEAMS}"


def run(params: Params, report: Report) -> None:
    torch.set_num_threads(1)
    check_fits(params)
    report_exhaustive(params, report)
    report_widths(params, report)
    report_base(params, report)


def shape(vocab_size: int, params: Params) -> ModelConfig:
    return ModelConfig(vocab_size, 64, 2, 4, 4, 16, 128, max_position=PROMPT + params.new_tokens)


def check_fits(params: Params) -> None:
    """Refuse what the widest beam has no memory for: its cache, and the copy that reordering makes."""
    rows = WIDEST * params.beams * params.prompts
    needed = 3 * shape(VOCABULARY, params).cache_bytes(PROMPT + params.new_tokens, batch=rows)
    free = memory_available(params.device)
    if needed > 0.5 * free:
        raise LabError(
            f"{rows} sequences need about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free; "
            "lower --beams, --prompts or --new-tokens"
        )


def random_model(vocab_size: int, params: Params) -> Decoder:
    return random_decoder(shape(vocab_size, params), params.seed).to(params.device)


def random_prompts(count: int, vocab_size: int, params: Params) -> Tensor:  # [count, PROMPT]
    generator = torch.Generator().manual_seed(params.seed)
    return torch.randint(vocab_size, (count, PROMPT), generator=generator).to(params.device)


def report_exhaustive(params: Params, report: Report) -> None:
    """V^N beams against trying all V^N texts."""
    V, N = EXHAUSTIVE_VOCABULARY, EXHAUSTIVE_TOKENS
    model, prompts = random_model(V, params), random_prompts(EXHAUSTIVE_PROMPTS, V, params)
    found = beam_search(model, prompts, N, beams=V**N, length_penalty=0.0).scores[:, 0]
    best = torch.stack([brute_force(model, prompt, V, N) for prompt in prompts])
    greedy = beam_search(model, prompts, N, beams=1, length_penalty=0.0).scores[:, 0]
    report.claim("exhaustive", measured=(found - best).abs().max(), expected=0.0, tolerance=SAME)
    rows = [
        (f"prompt {place + 1}", float(b), float(f), float(g))
        for place, (b, f, g) in enumerate(zip(best, found, greedy, strict=True))
    ]
    columns = ("", "best of all", f"{V**N} beams", "greedy")
    report.table(f"log-probability of {N} tokens, all {V**N} texts tried", columns, rows)


@torch.inference_mode()
def brute_force(model: Decoder, prompt: Tensor, vocab_size: int, length: int) -> Tensor:  # [P] -> []
    """The log-probability of the likeliest of all texts."""
    texts = torch.tensor(list(product(range(vocab_size), repeat=length)), device=prompt.device)
    whole = torch.cat((prompt.expand(len(texts), -1), texts), dim=1)
    logprobs = model(whole[:, :-1])[:, -length:].log_softmax(-1)
    best: Tensor = logprobs.gather(2, texts[:, :, None]).sum((1, 2)).max()
    return best


def report_widths(params: Params, report: Report) -> None:
    """Each width on the same prompts: without an end, where only the search can err; then with one."""
    model, prompts = random_model(VOCABULARY, params), random_prompts(params.prompts, VOCABULARY - 1, params)
    search = partial(beam_search, model, prompts, params.new_tokens)
    widths = [2**k for k in range(params.beams.bit_length())]
    scores, lengths = {}, {}
    for width in report.progress([*widths, WIDEST * params.beams], unit="width"):
        cache = GrowingCache(model.config)
        scores[width] = search(beams=width, length_penalty=0.0, cache=cache).scores[:, 0]  # [prompts]
        if width not in widths:
            break
        for kind, penalty in (("sum", 0.0), ("mean", 1.0)):
            found = search(beams=width, length_penalty=penalty, eos=[VOCABULARY - 1], cache=GrowingCache(model.config))
            lengths[kind, width] = float(found.lengths[:, 0].double().mean())
            report.point("length", x=width, y=lengths[kind, width], series=f"scored by the {kind}")
        if width in (1, widths[-1]):
            report.claim("cost", measured=cache.bytes() / per_beam(model, cache, params), expected=width)
    best = torch.stack(list(scores.values())).amax(0)
    errors = {width: float((best - scores[width]).mean()) for width in widths}
    worse = {wide: float((scores[wide] < scores[narrow] - SAME).double().mean()) for narrow, wide in pairwise(widths)}
    for width in widths:
        report.point("error", x=width, y=errors[width])
    report.metric("worse", 100 * worse[2])
    report.metric("length_by_sum", lengths["sum", widths[-1]])
    report.metric("length_by_mean", lengths["mean", widths[-1]])
    report.claim("errs-less", measured=errors[widths[-1]] / errors[1], expected=0.5, relation="at most")
    report.claim("not-monotone", measured=max(worse.values()) * params.prompts, expected=1, relation="at least")
    ratio = lengths["sum", widths[-1]] / lengths["mean", widths[-1]]
    report.claim("short-wins", measured=ratio, expected=0.6, relation="at most")
    rows = [
        (width, errors[width], 100 * worse.get(width, 0.0), lengths["sum", width], lengths["mean", width])
        for width in widths
    ]
    columns = ("beams", "search error, nats", "% worse than half", "length by sum", "length by mean")
    report.table(f"{params.prompts} prompts, up to {params.new_tokens} tokens", columns, rows)


def per_beam(model: Decoder, cache: GrowingCache, params: Params) -> int:
    """Bytes of cache that decoding these prompts once would hold."""
    return model.config.cache_bytes(cache.length, batch=params.prompts)


def report_base(params: Params, report: Report) -> None:
    """Unfinished documents, continued by the shipped model: against greed, and against transformers."""
    language = base_model(params.model, device=params.device)
    model, tokenizer = language.model, language.tokenizer
    if not isinstance(model, Decoder):
        raise LabError("beams need a cache, which our decoder has; use a model of the Llama family")
    encoded = (tokenizer.encode(document.text, special=True) for document in documents(50_000 + params.seed))
    long = (tokens for tokens in encoded if len(tokens) > BASE_PROMPT)
    prompts = [torch.tensor([tokens[:BASE_PROMPT]], device=params.device) for tokens in islice(long, BASE_PROMPTS)]
    ways = {f"ours, {width}": partial(search_base, model, width) for width in (1, BASE_BEAMS)}
    found = {name: [way(prompt) for prompt in prompts] for name, way in ways.items()}
    wide = found[f"ours, {BASE_BEAMS}"]
    report.metric("shared", 100 * fmean(shared(beams) for beams in wide))
    found["no cache"] = [beam_search(model, prompt, BASE_TOKENS, beams=BASE_BEAMS) for prompt in prompts]
    from llmquiz.llm.model import reference  # takes seconds to import, where the process is not warm

    if reference.AVAILABLE:
        folder = find_checkpoint(params.model) if params.model else None
        if folder is None:
            twin = reference.to_transformers(model)
        else:
            twin = reference.load_with_transformers(folder, dtype=torch.float32, device=params.device)
        ways[TRANSFORMERS] = partial(search_transformers, twin)
        found[TRANSFORMERS] = [ways[TRANSFORMERS](prompt) for prompt in prompts]
    else:
        report.note("transformers is not installed: it was left out of the comparison")
    for name in {"no cache", TRANSFORMERS} & found.keys():
        pairs = zip(wide, found[name], strict=True)
        difference = max(float((ours.scores - theirs.scores).abs().max()) for ours, theirs in pairs)
        report.claim("same-beams", measured=difference, expected=0.0, tolerance=SAME)
    works = {name: partial(way, prompts[0]) for name, way in ways.items()}
    seconds = interleaved_medians(works, device=params.device, repeats=3, clock=quiet_clock(params.device, 1))
    rows = [
        (name, fmean(float(beams.scores[0, 0]) for beams in found[name]), 1e3 * seconds[name] / BASE_TOKENS)
        for name in ways
    ]
    report.metric("slowdown", seconds[f"ours, {BASE_BEAMS}"] / seconds["ours, 1"])
    report.table(f"{language.name}, {BASE_TOKENS} tokens", ("beams", "mean log-probability", "ms a step"), rows)


def search_base(model: Decoder, width: int, prompt: Tensor) -> Beams:
    return beam_search(model, prompt, BASE_TOKENS, beams=width, cache=GrowingCache(model.config))


def search_transformers(twin: object, prompt: Tensor) -> Beams:
    tokens, scores = search_beams(twin, prompt, BASE_TOKENS, BASE_BEAMS)
    return Beams(tokens[None], scores[None], torch.full((1, BASE_BEAMS), BASE_TOKENS))


def shared(beams: Beams) -> float:
    """The part of the best text's tokens that stand in the other beams at the same place."""
    tokens = beams.tokens[0]  # [W, N]
    return float((tokens[1:] == tokens[:1]).double().mean())
