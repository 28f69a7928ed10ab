"""Preference pairs in words: a completion's tokens are all of it and nothing else, however a batch is padded."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.align.pairs import (  # noqa: E402
    ASSISTANT,
    END,
    PAIRS,
    UNSEEN_PAIRS,
    USER,
    collate_pairs,
    encode_pair,
    pair_batches,
    pair_logprobs,
)
from llmquiz.llm.base.load import LanguageModel, base_model  # noqa: E402

pytestmark = pytest.mark.labs


@pytest.fixture(scope="module")
def language() -> LanguageModel:
    return base_model()


def test_no_pair_is_seen_twice_and_none_is_a_tie() -> None:
    every = PAIRS + UNSEEN_PAIRS
    assert len({pair.prompt for pair in every}) == len(every)
    assert all(pair.chosen != pair.rejected for pair in every)


def test_the_masks_give_back_the_texts(language: LanguageModel) -> None:
    tokenizer = language.tokenizer
    (batch,) = pair_batches(PAIRS, tokenizer, len(PAIRS), "cpu")
    answers = [pair.chosen for pair in PAIRS] + [pair.rejected for pair in PAIRS]

    for number, (pair, answer) in enumerate(zip(PAIRS * 2, answers, strict=True)):
        tokens, real, completion = (rows[number] for rows in batch)
        assert tokenizer.decode(tokens[completion].tolist()) == answer + END
        assert tokenizer.decode(tokens[real].tolist()) == f"{USER}{pair.prompt}{ASSISTANT}{answer}{END}"
        shared = encode_pair(pair, tokenizer).prompt
        assert tokens[: len(shared)].tolist() == shared  # both completions follow the same ids


@torch.no_grad()
def test_logprobs_are_those_of_each_completion_alone(language: LanguageModel) -> None:
    rows = [encode_pair(pair, language.tokenizer) for pair in PAIRS[:2]]
    together = pair_logprobs(language.model, collate_pairs(rows))

    for number, row in enumerate(rows):
        for kind, completion in enumerate((row.chosen, row.rejected)):
            text = torch.tensor([row.prompt + completion])
            log_p = language.model(text).log_softmax(-1)[0]
            alone = sum(log_p[len(row.prompt) + n - 1, token] for n, token in enumerate(completion))
            torch.testing.assert_close(together[kind, number], alone, rtol=1e-5, atol=1e-4)


def test_batches_keep_the_order_and_lose_no_pair(language: LanguageModel) -> None:
    batches = pair_batches(PAIRS, language.tokenizer, 5, "cpu")
    assert [len(batch.tokens) for batch in batches] == [10, 10, 4]
    first = encode_pair(PAIRS[5], language.tokenizer)
    assert batches[1].tokens[0, : len(first.prompt)].tolist() == first.prompt
