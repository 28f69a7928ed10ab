"""A model only ever grows to fit its tokenizer; padding in training is a token of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.base.load import base_model  # noqa: E402
from llmquiz.llm.base.reconcile import grow_vocabulary, reconcile  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import Decoder, random_decoder  # noqa: E402

pytestmark = pytest.mark.labs

CONFIG = ModelConfig(60, 16, 2, 2, 2, 8, 24)


class Words:
    """A tokenizer of `vocab_size` tokens, with the special ones that are named."""

    def __init__(self, vocab_size: int, **special: int) -> None:
        self.vocab_size, self.special = vocab_size, special

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        return [ord(letter) % self.vocab_size for letter in text]

    def decode(self, ids: Iterable[int]) -> str:
        return " ".join(map(str, ids))

    def token_id(self, special: str) -> int:
        name = special.strip("<|>")
        if name not in self.special:
            raise ModelError(f"the tokenizer has no token '{special}'")
        return self.special[name]


def logits(model: Decoder) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.arange(10)[None])


@pytest.mark.parametrize("tied", [False, True])
def test_growing_changes_no_logit_and_new_rows_stay_improbable(tied: bool) -> None:
    model = random_decoder(replace(CONFIG, tie_embeddings=tied), 0)
    model.lm_head.weight.data *= 8  # sharp logits: a random row would stand out
    before = logits(model)
    fits = reconcile(model, Words(64, bos=1, eos=2, pad=3))

    assert (fits.rows_added, fits.bos, fits.eos, fits.pad) == (4, 1, 2, 3)
    assert model.config.vocab_size == model.embed_tokens.num_embeddings == model.lm_head.out_features == 64
    assert (model.lm_head.weight is model.embed_tokens.weight) == tied
    after = logits(model)
    torch.testing.assert_close(after[..., :60], before)
    torch.testing.assert_close(model.embed_tokens.weight[60:], model.embed_tokens.weight[:60].mean(0).expand(4, -1))
    assert float(after.softmax(-1)[..., 60:].max()) <= 1 / 61


def test_a_padded_vocabulary_is_left_alone() -> None:
    model = random_decoder(CONFIG, 0)
    weight = model.embed_tokens.weight
    fits = reconcile(model, Words(50, eos=2, pad=3))

    assert fits.rows_added == 0
    assert model.embed_tokens.weight is weight
    assert any("10 rows belong to no token" in note for note in fits.notes)


def test_shrinking_is_refused_and_why_is_shown() -> None:
    model = random_decoder(CONFIG, 0)
    with pytest.raises(ModelError, match="50 rows are fewer than the model's 60"):
        grow_vocabulary(model, 50)
    assert model.config.vocab_size == 60

    cut = random_decoder(replace(CONFIG, vocab_size=50), 0)  # what shrinking would leave
    with pytest.raises(IndexError):
        cut(torch.tensor([[55]]))
    with pytest.raises(RuntimeError, match="size mismatch"):
        cut.load_state_dict(model.state_dict())


def test_a_missing_start_is_no_fault() -> None:
    fits = reconcile(random_decoder(CONFIG, 0), Words(60, eos=2, pad=3))

    assert fits.bos is None
    assert fits.notes == ("no token begins a text: prompts start without one",)


@pytest.mark.parametrize("special", [{"eos": 2}, {"eos": 2, "pad": 2}])
@pytest.mark.parametrize(("tokens", "added"), [(50, 0), (60, 1)])
def test_training_pads_with_a_token_of_its_own(special: dict[str, int], tokens: int, added: int) -> None:
    fits = reconcile(random_decoder(CONFIG, 0), Words(tokens, **special), training=True)

    assert fits.pad == tokens
    assert fits.rows_added == added


def test_inference_may_pad_with_the_end_token() -> None:
    assert reconcile(random_decoder(CONFIG, 0), Words(60, bos=1, eos=2)).pad == 2
    assert reconcile(random_decoder(CONFIG, 0), Words(60)).pad is None


def test_training_without_an_end_is_refused() -> None:
    with pytest.raises(ModelError, match="never stops"):
        reconcile(random_decoder(CONFIG, 0), Words(60, bos=1), training=True)


def test_frozen_weights_stay_frozen_and_formats_stay() -> None:
    model = random_decoder(CONFIG, 0).to(torch.bfloat16).requires_grad_(False)
    reconcile(model, Words(62, eos=2))

    assert model.embed_tokens.weight.dtype is torch.bfloat16
    assert not model.embed_tokens.weight.requires_grad


def test_the_shipped_pair_fits() -> None:
    shipped = base_model()
    assert isinstance(shipped.model, Decoder)
    fits = reconcile(shipped.model, shipped.tokenizer, training=True)

    assert fits.rows_added == 0
    assert len({fits.bos, fits.eos, fits.pad}) == 3


@pytest.mark.slow
def test_a_grown_model_is_saved_and_loads_in_transformers(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from llmquiz.llm.model.reference import from_transformers, to_transformers

    model = random_decoder(replace(CONFIG, tie_embeddings=True), 0)
    reconcile(model, Words(64, eos=2))

    torch.testing.assert_close(logits(from_transformers(to_transformers(model))), logits(model))
