"""Byte-pair encoding: any string comes back, `tokenizers` gives the same ids, and training equals counting anew."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmquiz.llm.data.bpe import SPECIAL, ByteBPE, _pre_tokens, _replace
from llmquiz.llm.data.tokenizer_json import ALPHABET
from llmquiz.llm.errors import ModelError

pytestmark = pytest.mark.labs

TEXT = (
    "The cache keeps the keys and the values; the query is new. 缓存保存的是键和值，查询是新的。\n"
    "12 + 345 = 357\n\n  the keys, the keys — the values! 键和值，键和值。Ключи и значения. 🙂🙂\t\r\n"
) * 8
characters = st.one_of(
    st.characters(codec="utf-8"),
    st.sampled_from(" \t\n\r\v\f\x85\xa0\u2028\u3000_0189'<|>，。"),
    st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF),
    st.characters(max_codepoint=0x7F),
)
pieces = st.one_of(characters, st.sampled_from(["the keys", " values", "键和值", "  ", *SPECIAL, "<|", "|>"]))
texts = st.lists(pieces, max_size=30).map("".join)


@pytest.fixture(scope="module")
def bpe() -> ByteBPE:
    return ByteBPE.train([TEXT], 420)


def slow_merges(text: str, num_merges: int) -> list[tuple[int, int]]:
    """Training by its definition: count all pairs anew for every merge."""
    words = [list(word.encode()) for word in _pre_tokens(text)]
    tokens = [bytes([byte]) for byte in range(256)]
    merges: list[tuple[int, int]] = []
    while len(merges) < num_merges:
        counts = Counter(pair for word in words for pair in pairwise(word))
        fresh = [pair for pair in counts if tokens[pair[0]] + tokens[pair[1]] not in tokens]
        best = min(fresh, key=lambda pair: (-counts[pair], pair))
        words = [_replace(word, best, len(tokens))[0] for word in words]
        tokens.append(tokens[best[0]] + tokens[best[1]])
        merges.append(best)
    return merges


@given(text=texts)
def test_every_string_comes_back(bpe: ByteBPE, text: str) -> None:
    assert bpe.decode(bpe.encode(text)) == text
    assert bpe.decode(bpe.encode(text, special=True)) == text
    assert ByteBPE([]).encode(text) == list(text.encode())


@given(text=texts)
def test_pre_tokens_are_the_text(text: str) -> None:
    assert "".join(_pre_tokens(text)) == text


@given(text=texts)
def test_what_a_user_types_is_never_a_special_token(bpe: ByteBPE, text: str) -> None:
    special = {bpe.token_id(name) for name in SPECIAL}

    assert special.isdisjoint(bpe.encode(text + "<|eos|>"))
    assert bpe.encode(text + "<|eos|>", special=True)[-1] == bpe.token_id("<|eos|>")


@given(text=st.text("ab ", min_size=20, max_size=60))
def test_training_is_counting_anew_after_each_merge(text: str) -> None:
    learned = ByteBPE.train([text], 256 + 5, special=()).merges

    assert learned == slow_merges(text, len(learned))


def test_training_on_text_is_counting_anew() -> None:
    assert ByteBPE.train([TEXT], 256 + 60, special=()).merges == slow_merges(TEXT, 60)


def test_a_smaller_vocabulary_is_the_beginning_of_a_larger_one(bpe: ByteBPE) -> None:
    assert ByteBPE.train([TEXT], 320).merges == bpe.merges[: 320 - 256 - len(SPECIAL)]


def test_merges_are_replayed_in_the_order_of_learning_not_longest_first() -> None:
    a, b, c = b"abc"
    bpe = ByteBPE([(b, c), (a, b), (257, c + 1)], special=())  # bc before ab and abd

    assert bpe.encode("abc") == [a, 256]
    assert bpe.encode("abd") == [258]
    assert bpe.encode("aabcab") == [a, a, 256, 257]


def test_pre_tokens_keep_the_space_with_the_word_and_digits_apart() -> None:
    assert _pre_tokens("it's  10%\n\n of 用LoRA微调，ok") == [
        *("it", "'", "s", "  ", "1", "0", "%", "\n\n", " of"),
        *(" ", "用", "LoRA", "微调", "，", "ok"),
    ]


def test_training_stops_when_no_pair_occurs_twice() -> None:
    bpe = ByteBPE.train(["abab cdcd"], 10_000)

    assert bpe.tokens[256:-5] == [b"ab", b"cd"]
    assert ByteBPE.train([], 300).merges == []


def test_a_long_run_without_a_cut_is_encoded() -> None:
    bpe = ByteBPE.train(["ab" * 50], 300)

    assert bpe.decode(bpe.encode("ab" * 5000)) == "ab" * 5000


def test_ids_that_cut_a_character_decode_to_the_replacement_character(bpe: ByteBPE) -> None:
    first, *rest = "龘".encode()

    assert bpe.decode([first]) == "\ufffd"
    assert bpe.decode([first, *rest]) == "龘"


def test_half_a_surrogate_pair_is_refused(bpe: ByteBPE) -> None:
    with pytest.raises(UnicodeEncodeError):
        bpe.encode("\ud83d")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ByteBPE.train([TEXT], 260), "260"),
        (lambda: ByteBPE([(97, 256)]), "no earlier merge"),
        (lambda: ByteBPE([(97, 98), (97, 98)]), "same token"),
        (lambda: ByteBPE([]).token_id("<|system|>"), "<|system|>"),
    ],
)
def test_what_cannot_be_a_tokenizer_is_refused(make: object, message: str) -> None:
    with pytest.raises(ModelError, match=message.replace("|", r"\|")):
        make()  # type: ignore[operator]


class TestFile:
    @pytest.fixture(scope="class")
    def path(self, bpe: ByteBPE, tmp_path_factory: pytest.TempPathFactory) -> Path:
        path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
        bpe.save(path)
        return path

    @pytest.fixture(scope="class")
    def theirs(self, path: Path) -> object:
        tokenizers = pytest.importorskip("tokenizers")
        return tokenizers.Tokenizer.from_file(str(path))

    def test_it_comes_back(self, bpe: ByteBPE, path: Path) -> None:
        again = ByteBPE.load(path)

        assert (again.merges, again.special, again.tokens) == (bpe.merges, bpe.special, bpe.tokens)

    @settings(max_examples=300)
    @given(text=texts)
    def test_tokenizers_gives_the_same_ids(self, bpe: ByteBPE, theirs: object, text: str) -> None:
        theirs.encode_special_tokens = True  # type: ignore[attr-defined]  # treat special tokens as text
        assert theirs.encode(text).ids == bpe.encode(text)  # type: ignore[attr-defined]
        theirs.encode_special_tokens = False  # type: ignore[attr-defined]
        assert theirs.encode(text).ids == bpe.encode(text, special=True)  # type: ignore[attr-defined]

    @given(data=st.data())
    def test_tokenizers_gives_the_same_text(self, bpe: ByteBPE, theirs: object, data: st.DataObject) -> None:
        ids = data.draw(st.lists(st.integers(0, bpe.vocab_size - 1), max_size=30))

        assert theirs.decode(ids, skip_special_tokens=False) == bpe.decode(ids)  # type: ignore[attr-defined]

    def test_the_alphabet_is_that_of_byte_level(self) -> None:
        tokenizers = pytest.importorskip("tokenizers")

        assert sorted(ALPHABET) == sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
        assert ALPHABET[ord(" ")] == "Ġ"

    def test_a_file_with_other_rules_is_refused(self, path: Path, tmp_path: Path) -> None:
        content = json.loads(path.read_text(encoding="utf-8"))
        content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\w+"
        other = tmp_path / "other.json"
        other.write_text(json.dumps(content), encoding="utf-8")

        with pytest.raises(ModelError, match="other rules"):
            ByteBPE.load(other)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": {"vocab": {}, "merges": [["a", "b"]]}}'])
    def test_a_broken_file_is_refused(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "broken.json"
        path.write_text(text)

        with pytest.raises(ModelError, match=r"broken\.json"):
            ByteBPE.load(path)
        with pytest.raises(ModelError, match=r"missing\.json"):
            ByteBPE.load(tmp_path / "missing.json")
