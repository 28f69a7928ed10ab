"""The decode loop: padding, forks, stops and streams change when work is done, not what is said."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from llmquiz.llm.cache.growing import GrowingCache  # noqa: E402
from llmquiz.llm.cache.static import StaticCache  # noqa: E402
from llmquiz.llm.data.bpe import ByteBPE  # noqa: E402
from llmquiz.llm.decode.best_of_n import best_of_n, pass_at_k  # noqa: E402
from llmquiz.llm.decode.generate import generate  # noqa: E402
from llmquiz.llm.decode.sampling import Sampler, SamplingParams  # noqa: E402
from llmquiz.llm.decode.stopping import StopStrings, TextStream  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import Decoder, random_decoder  # noqa: E402
from llmquiz.llm.model.gpt2 import GPT2, GPT2Config  # noqa: E402

pytestmark = pytest.mark.labs

SHAPE = (96, 32, 2, 4, 2, 8, 48)
NEW = 12
TEXT = "Stop, 停下来 or go on: émigré 🙂 naïve. "
BYTES = ByteBPE([], ())


def llama() -> Decoder:
    model = random_decoder(ModelConfig(*SHAPE, max_position=64), seed=0)
    model.lm_head.weight.data *= 6  # spread the logits: near ties would flip with the batch's rounding
    return model


def gpt2() -> GPT2:
    torch.manual_seed(0)
    model = GPT2(GPT2Config(96, 32, 2, 4, 4, 8, 128, max_position=64, tie_embeddings=False)).eval()
    for name, parameter in model.named_parameters():
        parameter.data.normal_(1.0 if "norm.weight" in name else 0.0, 0.3)
    return model


def prompt(length: int, seed: int = 0, batch: int = 1) -> Any:
    return torch.randint(0, 96, (batch, length), generator=torch.Generator().manual_seed(seed))


@contextmanager
def fed(model: Any) -> Iterator[list[tuple[int, int]]]:
    """The [B, T] of each pass through the model."""
    passes: list[tuple[int, int]] = []
    handle = model.register_forward_pre_hook(lambda _, inputs: passes.append(tuple(inputs[0].shape)))
    yield passes
    handle.remove()


@pytest.mark.parametrize("make", [llama, gpt2])
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("drawn", [True, False])
def test_padded_on_the_left_each_row_says_what_it_says_alone(make: Any, cached: bool, drawn: bool) -> None:
    model, rows = make(), [prompt(length, seed=length)[0] for length in (9, 4, 1)]
    padded = torch.stack([torch.nn.functional.pad(row, (9 - len(row), 0), value=5) for row in rows])
    mask = torch.arange(9) >= torch.tensor([[9 - len(row)] for row in rows])
    params = SamplingParams(repetition_penalty=1.3)

    def made(tokens: Any, mask: Any, padding: Any, sampler: Any) -> Any:
        cache = GrowingCache(model.config) if cached else None
        chain = params.processors(padding=padding)
        sample = sampler if drawn else None
        return generate(model, tokens, NEW, cache=cache, mask=mask, processors=chain, sample=sample).tokens

    together = made(padded, mask, (~mask).sum(dim=1), Sampler.seeded(0, 3))
    for index, row in enumerate(rows):
        alone = made(row[None], None, 0, Sampler.seeded(index, 1))
        assert torch.equal(together[index], alone[0])
    if not drawn:  # the wrong way: padding that nobody hides
        assert not torch.equal(together, made(padded, None, 0, None))


def test_padding_on_the_right_is_refused() -> None:
    with pytest.raises(ModelError, match="pad on the left"):
        generate(llama(), prompt(3), 2, mask=torch.tensor([[True, True, False]]))


@pytest.mark.parametrize("cache", [None, "growing", "static"])
def test_a_fork_computes_the_prompt_once_and_says_the_same(cache: str | None) -> None:
    model, text, n = llama(), prompt(10, batch=2), 3

    def made(tokens: Any, batch: int, fork: int) -> Any:
        config = model.config
        held = {"growing": GrowingCache(config), "static": StaticCache(config, 10 + NEW, batch=batch)}.get(cache or "")
        return generate(model, tokens, NEW, cache=held, sample=Sampler.seeded(0, 2 * n), fork=fork, logprobs=True)

    with fed(model) as passes:
        forked = made(text, 2, n)
    spread = made(text.repeat_interleave(n, dim=0), 2 * n, 1)

    assert torch.equal(forked.tokens, spread.tokens)
    torch.testing.assert_close(forked.logprobs, spread.logprobs, rtol=1e-5, atol=1e-5)
    assert passes[0] == (2, 10)
    assert passes[1] == (2 * n, 1 if cache else 11)


def test_log_probabilities_are_the_models_own() -> None:
    model, text = llama(), prompt(5)
    params = SamplingParams(temperature=3.0, top_k=20)
    made = generate(
        model, text, NEW, processors=params.processors(), sample=Sampler.seeded(0, 1), eos=[7, 11], logprobs=True
    )
    whole = torch.cat((text, made.tokens), dim=1)
    with torch.inference_mode():
        expected = model(whole)[:, 4:-1].log_softmax(-1).gather(-1, made.tokens[..., None])[..., 0]

    assert made.logprobs is not None
    torch.testing.assert_close(
        made.logprobs[:, : made.lengths[0]], expected[:, : made.lengths[0]], rtol=1e-5, atol=1e-5
    )
    assert generate(model, text, 2).logprobs is None


def test_a_stop_ends_its_own_sequence() -> None:
    model, text = llama(), prompt(4, batch=2)
    free = generate(model, text, NEW).tokens
    seen: list[Any] = []
    made = generate(
        model,
        text,
        NEW,
        cache=GrowingCache(model.config),
        stop=lambda new: torch.tensor([new.size(1) >= 3, new.size(1) >= 5]),
        on_tokens=lambda new: seen.append(new.clone()),
    )

    assert made.lengths.tolist() == [3, 5]
    assert torch.equal(made.tokens[1], free[1, :5])
    assert made.tokens[0].tolist() == [*free[0, :3].tolist(), *[int(free[0, 2])] * 2]
    assert torch.equal(torch.stack(seen, dim=1), made.tokens)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator")
def test_the_host_waits_for_nothing_in_the_loop() -> None:
    model, text = llama().cuda(), prompt(4, batch=2).cuda()
    cache = StaticCache(model.config, 64, batch=2, device="cuda")
    params = SamplingParams(temperature=2.0, top_k=30, top_p=0.9, min_p=0.01, repetition_penalty=1.2)
    waits: list[int] = []

    def watch(_: Any) -> None:
        torch.cuda.set_sync_debug_mode("error" if len(waits) in range(1, 10) else "default")
        waits.append(1)

    try:
        generate(
            model, text, 12, cache=cache, sample=Sampler.seeded(0, 2, "cuda"), processors=params.processors(), eos=[95],
            on_tokens=watch, logprobs=True,
        )  # fmt: skip
    finally:
        torch.cuda.set_sync_debug_mode("default")


@given(st.text(max_size=12), st.lists(st.text(min_size=1, max_size=4), max_size=3), st.data())
@settings(max_examples=50, deadline=None)
def test_a_stream_is_the_text_up_to_the_first_stop(text: str, stops: list[str], data: Any) -> None:
    cut = data.draw(st.integers(0, len(text)))
    stops = [*stops, text[cut : cut + 3]] if text[cut : cut + 3] else stops
    stream, pieces = TextStream(BYTES, stops), []
    for token in text.encode("utf-8", errors="replace"):
        pieces.append(stream.push(token))
    pieces.append(stream.finish())
    whole = text.encode("utf-8", errors="replace").decode()
    ends = [whole.find(stop) + len(stop) for stop in stops if stop in whole]
    first = next((n for n in range(len(whole) + 1) if n in ends), None)
    begins = [whole.find(stop) for stop in stops if stop in whole and whole.find(stop) + len(stop) == first]

    assert "".join(pieces) == whole[: min(begins, default=len(whole))]
    assert stream.stopped == bool(ends)


def test_a_stream_never_gives_half_a_character() -> None:
    tokenizer = ByteBPE.train([TEXT] * 3, 280, special=())
    ids, stream = tokenizer.encode(TEXT), TextStream(tokenizer)
    pieces = [stream.push(token) for token in ids]

    assert "".join(pieces) == TEXT
    assert "\ufffd" in "".join(tokenizer.decode([token]) for token in ids)
    assert all("\ufffd" not in piece for piece in pieces)
    assert sum(map(bool, pieces)) > 10  # and does not wait for the end

    cut = TextStream(BYTES)
    assert [cut.push(byte) for byte in "🙂".encode()[:3]] == ["", "", ""]
    assert cut.finish() == "\ufffd"


def test_a_stop_string_may_lie_across_tokens_and_inside_of_one() -> None:
    stop = StopStrings(BYTES, ["or go", "停下"])
    encoded = torch.tensor([list(TEXT.encode())])
    hits = [n for n in range(1, encoded.size(1) + 1) if bool(stop(encoded[:, :n]))]
    assert hits[0] == len("Stop, 停下".encode())

    merged = ByteBPE.train([TEXT] * 9, 320, special=())
    ids = merged.encode(TEXT)
    whole = [i for i, token in enumerate(ids) if "i" in merged.decode([token])]
    assert bool(StopStrings(merged, ["i"])(torch.tensor([ids[: whole[0] + 1]])))
    stream = TextStream(merged, ["gr"])
    assert "".join(map(stream.push, ids)) + stream.finish() == TEXT.partition("gr")[0]


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(ModelError, match="an empty one is in every text"):
        TextStream(BYTES, ["a", ""])


def test_a_sample_does_not_depend_on_how_many_are_drawn() -> None:
    model, text = llama(), prompt(6)
    many = best_of_n(model, text, NEW, 5, cache=GrowingCache(model.config), seed=4, eos=[3])
    few = best_of_n(model, text, NEW, 2, cache=StaticCache(model.config, 6 + NEW), seed=4, eos=[3])

    for row in range(2):
        length = int(few.lengths[row])
        assert torch.equal(many.tokens[row, :length], few.tokens[row, :length])
    assert len({tuple(row) for row in many.tokens.tolist()}) == 5


def test_candidates_are_ranked_by_the_mean() -> None:
    model, text = llama(), prompt(6)
    made = best_of_n(model, text, NEW, 6, cache=GrowingCache(model.config), eos=list(range(12)))
    ranked = made.ranked()
    scores = []
    for answer in ranked:
        whole = torch.cat((text, torch.tensor([answer])), dim=1)
        with torch.inference_mode():
            log_p = model(whole)[0, 5:-1].log_softmax(-1)
        scores.append(float(log_p[range(len(answer)), answer].mean()))

    assert sorted(scores, reverse=True) == pytest.approx(scores, abs=1e-6)
    assert sorted(map(len, ranked)) == sorted(made.lengths.tolist())
    assert len(set(made.lengths.tolist())) > 1


@pytest.mark.parametrize(("n", "params"), [(0, None), (-1, None), (2, SamplingParams(temperature=0))])
def test_what_makes_no_sense_is_refused(n: int, params: SamplingParams | None) -> None:
    with pytest.raises(ModelError, match=r"answers"):
        best_of_n(llama(), prompt(3), 2, n, cache=GrowingCache(llama().config), params=params)


@given(st.integers(1, 9), st.data())
@settings(max_examples=25, deadline=None)
def test_pass_at_k_is_the_share_of_subsets(n: int, data: Any) -> None:
    from itertools import combinations

    right, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    subsets = list(combinations(range(n), k))
    share = sum(min(subset) < right for subset in subsets) / len(subsets)

    assert pass_at_k(n, right, k) == pytest.approx(share)
    with pytest.raises(ModelError, match="make no sense"):
        pass_at_k(n, right, n + 1)
