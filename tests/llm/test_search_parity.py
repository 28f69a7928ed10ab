"""Beam search and speculative decoding beside transformers, token for token.

Greedy tokens or beams of random weights that nearly tie would prove little, so the head is scaled until the logits
spread; and end tokens are common, so that hypotheses finish at different lengths.
"""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from llmquiz.llm.cache.growing import GrowingCache  # noqa: E402
from llmquiz.llm.decode.beam import beam_search  # noqa: E402
from llmquiz.llm.decode.speculative import ModelDraft, NGramDraft, speculate  # noqa: E402
from llmquiz.llm.model.gpt2 import GPT2Config, build_gpt2  # noqa: E402
from llmquiz.llm.model.reference import from_transformers  # noqa: E402

pytestmark = [pytest.mark.labs, pytest.mark.slow]

V, EOS, NEW = 24, [3, 7, 11], 12
SHAPE = {
    "vocab_size": V,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"num_key_value_heads": 2}),
    "qwen2": ("Qwen2", {"num_key_value_heads": 2, "tie_word_embeddings": False}),
    "qwen3": ("Qwen3", {"num_key_value_heads": 2, "head_dim": 16}),
    "gpt2": ("GPT2", {"n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 128}),
}


def make(name: str, seed: int) -> tuple[Any, Any]:
    family, extra = MODELS[name]
    shape = {"vocab_size": V, "initializer_range": 0.2} if family == "GPT2" else SHAPE
    torch.manual_seed(seed)
    theirs = getattr(transformers, f"{family}ForCausalLM" if family != "GPT2" else "GPT2LMHeadModel")(
        getattr(transformers, f"{family}Config")(**shape, **extra, bos_token_id=0, eos_token_id=EOS, pad_token_id=0)
    ).eval()
    with torch.no_grad():
        theirs.lm_head.weight.mul_(1.5)
    if family == "GPT2":
        config = GPT2Config.from_transformers(theirs.config)
        return theirs, build_gpt2(config, {name: tensor.clone() for name, tensor in theirs.state_dict().items()})
    return theirs, from_transformers(theirs)


@pytest.fixture(scope="module", params=MODELS)
def twins(request: pytest.FixtureRequest) -> tuple[Any, Any, Any, Any]:
    return (*make(request.param, 0), *make(request.param, 1))


def prompts(batch: int) -> Any:
    return torch.randint(12, V, (batch, 6), generator=torch.Generator().manual_seed(2))


def settings(**more: Any) -> Any:
    return transformers.GenerationConfig(
        max_new_tokens=NEW, do_sample=False, eos_token_id=EOS, pad_token_id=0, bos_token_id=0, **more
    )


def cut(row: Any) -> list[int]:
    """Up to the first end token."""
    tokens = row.tolist()
    ends = [place for place, token in enumerate(tokens) if token in EOS]
    return tokens[: ends[0] + 1] if ends else tokens


@pytest.mark.parametrize("stopping", [True, False, "never"])
@pytest.mark.parametrize(("width", "penalty"), [(2, 1.0), (3, 0.0), (4, 2.0), (4, -0.5)])
def test_beams_are_those_of_transformers(twins: Any, width: int, penalty: float, stopping: Any) -> None:
    theirs, ours, *_ = twins
    prompt = prompts(3)
    expected = theirs.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        generation_config=settings(
            num_beams=width,
            num_return_sequences=width,
            length_penalty=penalty,
            early_stopping=stopping,
            return_dict_in_generate=True,
            output_scores=True,
        ),
    )
    found = beam_search(
        ours,
        prompt,
        NEW,
        beams=width,
        length_penalty=penalty,
        early_stopping=stopping,
        eos=EOS,
        cache=GrowingCache(ours.config),
    )
    texts = [cut(row) for row in expected.sequences[:, prompt.size(1) :]]

    assert penalty > 0 or len({len(text) for text in texts}) > 1
    assert [cut(row) for row in found.tokens.flatten(0, 1)] == texts
    torch.testing.assert_close(found.scores.flatten(), expected.sequences_scores, rtol=1e-4, atol=1e-4)


def test_speculation_gives_the_tokens_of_assisted_generation(twins: Any) -> None:
    theirs, ours, their_draft, our_draft = twins
    for row in prompts(3).split(1):
        mask = torch.ones_like(row)
        assisted = theirs.generate(row, attention_mask=mask, assistant_model=their_draft, generation_config=settings())[
            0, 6:
        ]
        looked_up = theirs.generate(row, attention_mask=mask, generation_config=settings(prompt_lookup_num_tokens=3))[
            0, 6:
        ]
        for expected, draft in (
            (assisted, ModelDraft(our_draft, GrowingCache(our_draft.config))),
            (looked_up, NGramDraft(V)),
        ):
            made = speculate(ours, draft, row, NEW, tokens_ahead=4, eos=EOS, cache=GrowingCache(ours.config))
            assert cut(made.tokens[0]) == cut(expected)
