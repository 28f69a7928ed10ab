"""The shipped model: its files, what it can do, loading it or another one, and refusing what does not fit."""

from __future__ import annotations

import json
import re
import time
import warnings
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

from llmquiz.llm.base import load, memory  # noqa: E402
from llmquiz.llm.base.exam import encode, exam, likeliest_is_true  # noqa: E402
from llmquiz.llm.base.load import FOLDER, TransformersModel, base_model, num_parameters  # noqa: E402
from llmquiz.llm.base.memory import Memory, check_fits, estimate  # noqa: E402
from llmquiz.llm.base.saving import save_model  # noqa: E402
from llmquiz.llm.base.tokenizer import HubTokenizer, read_tokenizer  # noqa: E402
from llmquiz.llm.base.vocabulary import train_tokenizer  # noqa: E402
from llmquiz.llm.cache.static import StaticCache  # noqa: E402
from llmquiz.llm.data.bpe import ByteBPE  # noqa: E402
from llmquiz.llm.data.corpus import documents, words  # noqa: E402
from llmquiz.llm.data.corpus.document import document  # noqa: E402
from llmquiz.llm.decode.generate import generate  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import Decoder, random_decoder  # noqa: E402
from llmquiz.llm.train.device import saved_activation_bytes  # noqa: E402

pytestmark = pytest.mark.labs

HELD_OUT = 123_456_789


@pytest.fixture(scope="module")
def language() -> load.LanguageModel:
    return base_model()


def reply(language: load.LanguageModel, said: str, length: int = 40) -> str:
    model, tokenizer = language.model, language.tokenizer
    assert isinstance(model, Decoder)
    ids = [tokenizer.token_id("<|bos|>"), *tokenizer.encode(f"<|user|>{said}<|assistant|>", special=True)]
    cache = StaticCache(model.config, len(ids) + length, dtype=torch.float32, device="cpu")
    eos = tokenizer.token_id("<|eos|>")
    made = generate(model, torch.tensor([ids]), length, cache=cache, eos=[eos]).tokens[0].tolist()
    return tokenizer.decode(made[: made.index(eos)] if eos in made else made)


def test_the_files_are_small_and_readable_by_all() -> None:
    sizes = [(FOLDER / name).stat() for name in ("model.safetensors", "tokenizer.json", "config.json", "training.json")]

    assert sum(size.st_size for size in sizes) < 10e6
    assert all(size.st_mode & 0o044 == 0o044 for size in sizes)


def test_the_shape_is_what_the_files_say(language: load.LanguageModel) -> None:
    model = language.model
    assert isinstance(model, Decoder)

    assert language.name == "llmquiz-base"
    assert num_parameters(FOLDER) == model.config.num_parameters() == sum(p.numel() for p in model.parameters())
    assert model.config.tie_embeddings
    assert model.config.vocab_size == language.tokenizer.vocab_size == 2048
    assert model.config.eos_token_ids == (language.tokenizer.token_id("<|eos|>"),)
    assert next(iter(model.parameters())).dtype is torch.float32


def words_with_tokens_of_their_own(tokenizer: ByteBPE) -> float:
    """The share of names, things and places in Chinese stories that begin and end where a token does."""
    names = (word.zh for word in words.THINGS + words.PLACES + words.WOMEN + words.MEN)
    anywhere = re.compile("|".join(sorted(names, key=len, reverse=True)))
    own = found = 0
    for doc in islice(documents(HELD_OUT, ["story"], ["zh"]), 150):
        cuts = {0, *accumulate(len(tokenizer.tokens[token]) for token in tokenizer.encode(doc.text, special=True))}
        for word in anywhere.finditer(doc.text):
            start = len(doc.text[: word.start()].encode())
            found += 1
            own += {start, start + len(word[0].encode())} <= cuts
    return own / found


def test_chinese_words_have_tokens_of_their_own() -> None:
    assert words_with_tokens_of_their_own(ByteBPE.load(FOLDER / "tokenizer.json")) > 0.99
    assert words_with_tokens_of_their_own(train_tokenizer(1024, share=0.04)) > 0.98


@pytest.mark.slow
def test_the_tokenizer_is_what_its_recipe_makes(tmp_path: Path) -> None:
    train_tokenizer().save(tmp_path / "tokenizer.json")
    assert (tmp_path / "tokenizer.json").read_bytes() == (FOLDER / "tokenizer.json").read_bytes()


def test_it_loads_in_less_than_a_second() -> None:
    base_model()
    started = time.process_time()
    base_model()
    assert time.process_time() - started < 1.0


def test_it_answers_in_both_languages(language: load.LanguageModel) -> None:
    assert reply(language, "What is LoRA?") == "LoRA trains two thin matrices beside each frozen weight."
    assert reply(language, "什么是量化？") == "量化用更少的比特存数，模型占用的内存更少。"
    assert reply(language, "What is 7 + 8?") == "7 + 8 = 15."


def test_it_passes_an_exam_on_held_out_documents(language: load.LanguageModel) -> None:
    """Far below what README.md reports, far above what guessing gives."""
    marks = exam(language.model, language.tokenizer, islice(documents(HELD_OUT), 120))

    for kind, least in {"story": 0.7, "recall": 0.85, "arithmetic": 0.9, "glossary": 0.7, "facts": 0.7}.items():
        tallies = [tally for (of, _), tally in marks.items() if of == kind]
        assert sum(tally.right for tally in tallies) / sum(tally.asked for tally in tallies) > least, kind


def test_the_exam_marks_what_decoding_would_write(language: load.LanguageModel) -> None:
    """Teacher forcing and greedy decoding agree on whether an answer is exact."""
    model, tokenizer = language.model, language.tokenizer
    assert isinstance(model, Decoder)
    seen = set()
    for doc in islice(documents(HELD_OUT, ["story"]), 16):
        tokens, answers = encode(doc, tokenizer)
        row = likeliest_is_true(model, [tokens], "cpu")[0]
        for start, end in answers:
            cache = StaticCache(model.config, end, dtype=torch.float32, device="cpu")
            made = generate(model, torch.tensor([tokens[:start]]), end - start, cache=cache).tokens[0].tolist()
            exact = bool(row[start - 1 : end - 1].all())
            assert exact == (made == tokens[start:end])
            seen.add(exact)
    assert seen == {True, False}


def test_padding_does_not_change_the_marks(language: load.LanguageModel) -> None:
    rows = [encode(doc, language.tokenizer)[0] for doc in islice(documents(HELD_OUT), 6)]

    together = likeliest_is_true(language.model, rows, "cpu")

    for row, right in zip(rows, together, strict=True):
        assert torch.equal(right[: len(row) - 1], likeliest_is_true(language.model, [row], "cpu")[0])


def test_a_wrong_answer_is_marked_wrong(language: load.LanguageModel) -> None:
    right, wrong = (document(f"7 + 8 =⟦ {c}⟧\n2 + 2 =⟦ 4⟧", "arithmetic", "en") for c in (15, 16))

    marks = [exam(language.model, language.tokenizer, [doc])["arithmetic", "en"] for doc in (right, wrong)]

    assert [(tally.right, tally.asked) for tally in marks] == [(2, 2), (1, 2)]


def test_saving_and_loading_gives_the_same_model(tmp_path: Path) -> None:
    config = ModelConfig(2048, 32, 2, 4, 2, 8, 48, 128, tie_embeddings=True, norm_eps=1e-5)
    model = random_decoder(config, 0)

    save_model(model, FOLDER / "tokenizer.json", tmp_path / "made", dtype=torch.float32)

    again = base_model(str(tmp_path / "made"))
    assert isinstance(again.model, Decoder)
    assert again.model.config == ModelConfig(
        2048, 32, 2, 4, 2, 8, 48, 128, tie_embeddings=True, norm_eps=1e-5, eos_token_ids=(2044,)
    )
    tokens = torch.randint(2048, (2, 9))
    assert torch.equal(again.model(tokens), model(tokens))
    assert again.tokenizer.encode("绳子 = 7") == base_model().tokenizer.encode("绳子 = 7")


def test_what_no_plain_llama_has_is_not_saved(tmp_path: Path) -> None:
    model = random_decoder(ModelConfig(64, 16, 1, 2, 2, 8, 24, qk_norm=True), 0)
    with pytest.raises(ModelError, match="only a plain Llama"):
        save_model(model, FOLDER / "tokenizer.json", tmp_path)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "config.json").write_text("{"), "config.json: not readable as JSON"),
        (lambda folder: (folder / "config.json").write_text("[]"), "not an object"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no \\*.safetensors here"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 64), "not readable as safetensors"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer here"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "not readable as a tokenizer.json"),
    ],
)
def test_damaged_folders_are_refused_in_words(tmp_path: Path, break_it: Any, message: str) -> None:
    save_model(random_decoder(ModelConfig(2048, 16, 1, 2, 1, 8, 24), 0), FOLDER / "tokenizer.json", tmp_path)
    break_it(tmp_path)
    with pytest.raises(ModelError, match=message):
        base_model(str(tmp_path))


def test_a_model_that_is_too_large_is_refused_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = json.dumps({"weight": {"dtype": "BF16", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 2 << 40]}})
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header.encode())
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')

    with pytest.raises(ModelError, match=r"needs about 4096.00 GiB \(weights 4096.00\) and [\d.]+ GiB are free on cpu"):
        base_model(str(tmp_path))


def test_training_takes_sixteen_bytes_a_parameter_and_activations_on_top() -> None:
    config = ModelConfig(2048, 64, 2, 4, 2, 16, 128)

    frozen, trained = estimate(1000, itemsize=2), estimate(1000, trainable=1000)

    assert frozen == Memory(2000)
    assert trained.total == 16_000
    assert estimate(1000, trainable=10).total == 4000 + 10 * 12
    one, two = (estimate(1000, trainable=1000, config=config, tokens=tokens) for tokens in (100, 200))
    assert two.activations == 2 * one.activations > 0
    assert two.logits == 2 * one.logits > 0


@pytest.mark.parametrize("layers", [2, 6])
def test_activations_are_estimated_within_a_third(layers: int) -> None:
    config = ModelConfig(64, 64, layers, 4, 2, 16, 192)
    model, tokens = random_decoder(config, 0).train(), torch.randint(64, (4, 32))

    measured = saved_activation_bytes(
        lambda: model.hidden_states(model.embed_tokens(tokens)).sum(), list(model.parameters())
    )

    guessed = estimate(0, trainable=1, config=config, tokens=tokens.numel()).activations
    assert guessed == pytest.approx(measured, rel=0.33)


def test_what_fits_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    check_fits(Memory(800), "cpu")
    with pytest.raises(ModelError, match="training needs about"):
        check_fits(Memory(800, optimizer=200), "cpu", what="training")


def test_a_foreign_tokenizer_is_asked_by_role(tmp_path: Path) -> None:
    path = FOLDER / "tokenizer.json"
    ours, foreign = ByteBPE.load(path), HubTokenizer(path, {"bos_token_id": 5, "eos_token_id": [7, 8]})

    for text in ("Where is Mia? 小雅在哪里？", "<|eos|>"):
        for special in (False, True):
            assert foreign.encode(text, special=special) == ours.encode(text, special=special)
    assert foreign.decode(ours.encode("绳子")) == "绳子"
    assert foreign.vocab_size == ours.vocab_size
    assert foreign.token_id("<|user|>") == ours.token_id("<|user|>")  # by its spelling, where there is one

    renamed = json.loads(path.read_text(encoding="utf-8"))
    for token in renamed["added_tokens"]:
        token["content"] = token["content"].replace("<|", "[").replace("|>", "]")
    renamed["pre_tokenizer"]["pretokenizers"] = renamed["pre_tokenizer"]["pretokenizers"][1:]
    other = tmp_path / "tokenizer.json"
    other.write_text(json.dumps(renamed), encoding="utf-8")
    reader = read_tokenizer(other, {"bos_token_id": 5, "eos_token_id": [7, 8]})
    assert isinstance(reader, HubTokenizer)
    assert (reader.token_id("<|bos|>"), reader.token_id("<|eos|>")) == (5, 7)
    with pytest.raises(ModelError, match=r"no token '<\|user\|>'"):
        reader.token_id("<|user|>")


def test_the_recorded_curve_falls(language: load.LanguageModel) -> None:
    curve = json.loads((FOLDER / "training.json").read_text(encoding="utf-8"))

    assert [point["step"] for point in curve] == sorted(point["step"] for point in curve)
    assert curve[0]["loss"] == pytest.approx(7.62, abs=0.15)  # ln 2048
    assert curve[-1]["loss"] < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_transformers_loads_the_folder_and_gives_the_same_logits(dtype: str) -> None:
    transformers = pytest.importorskip("transformers")
    language = base_model(dtype=getattr(torch, dtype))
    peer = transformers.AutoModelForCausalLM.from_pretrained(FOLDER, dtype=getattr(torch, dtype)).eval()
    tokens = torch.tensor([encode(next(iter(documents(HELD_OUT))), language.tokenizer)[0]])

    with torch.inference_mode():
        ours, theirs = language.model(tokens), peer(tokens).logits

    tolerance = 1e-4 if dtype == "float32" else 0.25  # logits are near 10, where bf16 steps by 1/16
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0.0)


@pytest.mark.slow
def test_transformers_tokenizer_gives_the_same_ids() -> None:
    transformers = pytest.importorskip("transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(FOLDER / "tokenizer.json"))
    ours = base_model().tokenizer
    for doc in islice(documents(HELD_OUT), 50):
        assert peer(doc.text)["input_ids"] == ours.encode(doc.text, special=True)


@pytest.mark.slow
def test_another_architecture_runs_in_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    ids = base_model().tokenizer
    config = transformers.GPTNeoXConfig(
        vocab_size=2048, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        bos_token_id=ids.token_id("<|bos|>"), eos_token_id=ids.token_id("<|eos|>"),
    )  # fmt: skip
    peer = transformers.GPTNeoXForCausalLM(config).eval()
    peer.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((FOLDER / "tokenizer.json").read_bytes())

    language = base_model(str(tmp_path))

    assert isinstance(language.model, TransformersModel)
    tokens = torch.randint(2048, (2, 8))
    with torch.inference_mode():
        torch.testing.assert_close(language.model(tokens), peer(tokens).logits)


@pytest.mark.slow
def test_what_is_no_decoder_is_refused(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    transformers.ViTModel(config).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((FOLDER / "tokenizer.json").read_bytes())
    with pytest.raises(ModelError, match="transformers cannot load it as a decoder"):
        base_model(str(tmp_path))


def test_a_token_without_a_row_gets_one(tmp_path: Path) -> None:
    """2,048 tokens, and a model of 2,000 rows: the last tokens of a text would be out of range."""
    config = ModelConfig(2000, 32, 1, 2, 2, 16, 48, tie_embeddings=True)
    save_model(random_decoder(config, 0), FOLDER / "tokenizer.json", tmp_path)
    language = base_model(str(tmp_path))

    assert language.model(torch.tensor([[2047]])).shape == (1, 1, 2048)
    assert any("48 rows added" in note for note in language.notes)
    assert base_model().notes == ()
