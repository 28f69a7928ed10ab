"""Automata beside Python's own `re` and `json`, then lifted to tokens: nothing invalid passes, nothing gets stuck."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from llmquiz.llm.base.load import base_model  # noqa: E402
from llmquiz.llm.base.tokenizer import HubTokenizer  # noqa: E402
from llmquiz.llm.data.bpe import ByteBPE  # noqa: E402
from llmquiz.llm.decode.beam import beam_search  # noqa: E402
from llmquiz.llm.decode.constrained import regex, schema  # noqa: E402
from llmquiz.llm.decode.constrained.automaton import Automaton, compile_tree  # noqa: E402
from llmquiz.llm.decode.constrained.constraint import Constraint, JsonConstraint, RegexConstraint  # noqa: E402
from llmquiz.llm.decode.constrained.tokens import TokenAutomaton  # noqa: E402
from llmquiz.llm.decode.constrained.vocabulary import token_bytes  # noqa: E402
from llmquiz.llm.decode.generate import generate  # noqa: E402
from llmquiz.llm.decode.speculative import Choice, NGramDraft, speculate  # noqa: E402
from llmquiz.llm.errors import ModelError  # noqa: E402
from llmquiz.llm.model.config import ModelConfig  # noqa: E402
from llmquiz.llm.model.decoder import random_decoder  # noqa: E402

pytestmark = pytest.mark.labs

PERSON = {
    "type": "object",
    "properties": {
        "名字": {"type": "string", "maxLength": 2},
        "age": {"type": "integer"},
        "city": {"enum": ["北京", "Paris"]},
        "tags": {"type": "array", "items": {"type": ["string", "null"]}, "minItems": 1, "maxItems": 2},
    },
    "required": ["age", "city"],
}


@pytest.fixture(scope="module")
def tokenizer() -> ByteBPE:
    made = base_model().tokenizer
    assert isinstance(made, ByteBPE)
    return made


@pytest.fixture(scope="module")
def person(tokenizer: ByteBPE) -> TokenAutomaton:
    return TokenAutomaton.from_schema(PERSON, tokenizer)


def automaton(pattern: str) -> Automaton:
    return compile_tree(regex.parse(pattern))


def of_schema(document: Any, **settings: int) -> Automaton:
    return compile_tree(schema.tree_of(document, **settings))


@pytest.mark.parametrize(
    "pattern",
    [
        "a(b|ba)*b?",
        "(ab|a)(bc|c)?",
        "[^a]b{2,3}|c*",
        "(a{1,2}b?){2}",
        r"\w[ab]?.",
        "(|a)(b|)",
        "^(a|b)+c$",
        "[a-b]{0,2}[-b]",
        "(?:a|b.?)*",
        r"\x61\u0062?[\w-]*",
    ],
)
def test_an_automaton_accepts_what_python_matches(pattern: str) -> None:
    ours, theirs = automaton(pattern), re.compile(pattern, re.ASCII)
    for length in range(5):
        for letters in product("abc-", repeat=length):
            text = "".join(letters)
            assert ours.matches(text) == bool(theirs.fullmatch(text)), text


@pytest.mark.parametrize("code", [0x7F, 0x80, 0x7FF, 0x800, 0x4E2D, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF])
def test_a_character_is_one_however_many_bytes_it_has(code: int) -> None:
    char = chr(code)
    assert automaton(".").matches(char)
    assert not automaton("..").matches(char)
    assert automaton(f"[^{'a' if char != 'a' else 'b'}]").matches(char)
    for low, high in ((0, code - 1), (code, code), (code + 1, 0x10FFFF)):
        if 0 <= low <= high <= 0x10FFFF and not 0xD800 <= low <= 0xDFFF and not 0xD800 <= high <= 0xDFFF:
            ranges = automaton(f"[{re.escape(chr(low))}-{re.escape(chr(high))}]")
            assert ranges.matches(char) == (low <= code <= high)


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("a(b", "not closed"),
        ("a)", "no counterpart"),
        ("*a", "nothing stands before"),
        ("a{2,1}", "wrong way round"),
        ("a+?", "lazy"),
        (r"(a)\1", "back-references"),
        ("(?=a)b", "look-around"),
        ("[b-a]", "a range"),
        ("[a", "ends where"),
        ("a^b", "only the ends"),
        (f"{'(' * 200}a{')' * 200}", "groups in groups"),
        ("[^\\x00-\U0010ffff]", "nothing can match"),
        ("a{999999999}", "at most 100000"),
        ("(((a{99}){99}){99}){99}", "at most 100000"),
        ("(a|b)*a(a|b){20}", "more than 5000 states"),
    ],
)
def test_what_no_small_automaton_can_do_is_refused(pattern: str, problem: str) -> None:
    with pytest.raises(ModelError, match=problem):
        automaton(pattern)


@pytest.mark.parametrize(
    ("document", "valid", "invalid"),
    [
        ({"type": "integer"}, ["0", "-7", "123456789012345"], ["01", "1.0", "+1", "", "1" * 16]),
        ({"type": "number"}, ["0.5", "-1e9", "3", "1.25E-2"], [".5", "1.", "1e", "NaN"]),
        ({"type": "boolean"}, ["true", "false"], ["True", "null"]),
        ({"type": ["null", "boolean"]}, ["null", "true"], ["0"]),
        (
            {"type": "string"},
            ['""', '"a"', '"中文😀"', r'"\"\\\n\u4e2d"', '"é"'],
            ['"', '"a', '"""', '"\n"', r'"\x"', r'"\ud800"', '"\x1f"'],
        ),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ['"中文"', r'"\n\nb"'], ['"a"', '"abcd"']),
        ({"const": {"a": [1, None, "中"]}}, ['{"a":[1,null,"中"]}'], ['{"a":[1,null]}']),
        ({"enum": ["a", 1, 2.5], "type": "string"}, ['"a"'], ["1", "2.5"]),
        ({"type": "array", "items": {"type": "integer"}}, ["[]", "[1]", "[1,2, 3]"], ["[1,]", "[,1]", "1"]),
        (
            {"type": "array", "items": {"const": 1}, "minItems": 1, "maxItems": 2},
            ["[1]", "[1,1]"],
            ["[]", "[1,1,1]"],
        ),
        ({"type": "array", "items": {"const": 1}, "maxItems": 0}, ["[]"], ["[1]"]),
        ({"type": "object"}, ["{}"], ['{"a":1}']),
        (
            {"type": "object", "properties": {c: {"const": 1} for c in "abc"}, "required": ["b"]},
            ['{"b":1}', '{"a": 1, "b":1}', '{"b":1,"c":1}', '{"a":1,"b":1,"c":1}'],
            ["{}", '{"a":1}', '{"b":1,"a":1}', '{"a":1,,"b":1}', '{,"b":1}', '{"b":1,}', '{"a":1"b":1}'],
        ),
        (
            {"type": "object", "properties": {c: {"const": 1} for c in "ab"}},
            ["{}", '{"a":1}', '{"b":1}', '{"a":1,"b":1}'],
            ['{"a":1,}', '{,"b":1}'],
        ),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, ["null", "5"], ['"5"']),
    ],
)
def test_a_schema_accepts_its_documents(document: Any, valid: list[str], invalid: list[str]) -> None:
    made = of_schema(document)
    for text in valid:
        json.loads(text)
        assert made.matches(text), text
    for text in invalid:
        assert not made.matches(text), text


def test_recursion_is_unrolled_and_ends() -> None:
    tree = {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"v": {"const": 1}, "next": {"$ref": "#/$defs/node"}},
                "required": ["v"],
            }
        },
        "$ref": "#/$defs/node",
    }
    nested = ['{"v":1}']
    for _ in range(4):
        nested.append('{"v":1,"next":' + nested[-1] + "}")

    assert [of_schema(tree, max_depth=3).matches(text) for text in nested] == [True, True, True, False, False]
    endless = {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}
    with pytest.raises(ModelError, match="recursion without an end"):
        of_schema(endless)
    with pytest.raises(ModelError, match="at most 100000 are built"):
        of_schema({"type": "array", "items": {"$ref": "#"}, "minItems": 9, "maxItems": 9}, max_depth=6)
    two = {
        name: {"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}, "b": {"$ref": "#/$defs/y"}}}
        for name in "xy"
    }
    with pytest.raises(ModelError, match="5000 in all"):
        of_schema({"$defs": two, "$ref": "#/$defs/x"}, max_depth=10)


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ({"type": "integer", "minimum": 3}, "keyword 'minimum' is not supported"),
        ({"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}}, "#/properties/a: keyword 'pat"),
        ({"type": "object", "required": ["a"]}, "required property 'a'"),
        ({"type": "date"}, "type 'date' is not one of"),
        ({}, "type None is not one of"),
        ([], "is not a schema"),
        ({"type": "array"}, "without 'items'"),
        ({"type": "array", "items": {"type": "null"}, "minItems": 3, "maxItems": 2}, "'maxItems' 2 is below"),
        ({"type": "string", "maxLength": True}, "'maxLength' is True"),
        ({"type": "object", "properties": []}, "'properties' must be an object"),
        ({"enum": []}, "none of the values"),
        ({"const": float("nan")}, "cannot be written"),
        ({"$ref": "http://example.org"}, "neither '#' nor an entry"),
        ({"type": "string", "maxLength": 10**9}, "at most 100000 are built"),
    ],
)
def test_what_a_schema_may_not_say_is_named(document: Any, problem: str) -> None:
    with pytest.raises(ModelError, match=re.escape(problem)):
        of_schema(document)


def test_a_token_may_span_several_parts_of_the_text(tokenizer: ByteBPE) -> None:
    made = TokenAutomaton.from_regex("(中文|ab)c*", tokenizer)
    state = 0
    for token in tokenizer.encode("中文"):
        state = made.step(state, token)
    assert made.distance[state] == 0
    text = "中文".encode()
    half = made.step(made.step(0, text[0]), text[1])  # two of the six bytes, each a token of its own
    fitting = [token for token, spelled in enumerate(tokenizer.tokens) if text[2:].startswith(spelled)]
    assert sorted(made.moves[half].ids.tolist()) == fitting


def test_special_tokens_never_spell_text(tokenizer: ByteBPE) -> None:
    made = TokenAutomaton.from_regex(r"[<|>a-z]*", tokenizer)
    special = {tokenizer.token_id(name) for name in tokenizer.special}

    assert not special & set(made.moves[0].ids.tolist())
    assert tokenizer.token_id("<|eos|>") in Constraint(made, eos=2044, start=0).allowed(0, 0).tolist()


def test_a_byte_level_tokenizer_of_the_hub_tells_the_same_bytes(tokenizer: ByteBPE, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    tokenizer.save(tmp_path / "tokenizer.json")

    assert token_bytes(HubTokenizer(tmp_path / "tokenizer.json", {})) == token_bytes(tokenizer)


def test_pieces_with_marks_are_read_as_their_decoder_reads_them(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    pieces = ["<unk>", "</s>", "<0xE4>", "▁a", "▁", "中"]
    model = tokenizers.models.BPE({piece: token for token, piece in enumerate(pieces)}, [], byte_fallback=True)
    backend = tokenizers.Tokenizer(model)
    backend.decoder = tokenizers.decoders.Sequence(
        [tokenizers.decoders.Replace("▁", " "), tokenizers.decoders.ByteFallback(), tokenizers.decoders.Fuse()]
    )
    backend.add_special_tokens(["<unk>", "</s>"])
    backend.add_tokens(["<think>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    foreign = HubTokenizer(tmp_path / "tokenizer.json", {})

    assert token_bytes(foreign) == [b"", b"", b"\xe4", b" a", b" ", "中".encode(), b"<think>"]
    assert b"".join(token_bytes(foreign)[3:]).decode() == foreign.decode(range(3, 7))


def test_a_tokenizer_that_does_not_tell_is_refused() -> None:
    with pytest.raises(ModelError, match="does not tell the bytes"):
        token_bytes(None)  # type: ignore[arg-type]


def test_a_token_that_leads_where_no_token_goes_on_is_not_allowed() -> None:
    """Bytes could go on; these tokens cannot: after `a` there must be `b`, which only `ab` can write."""
    tokens = [b"a", b"ab", b"c"]
    made = TokenAutomaton(automaton("abc?|c"), tokens)

    assert sorted(made.moves[0].ids.tolist()) == [1, 2]
    with pytest.raises(ModelError, match="cannot spell"):
        TokenAutomaton(automaton("b"), tokens)


@pytest.mark.parametrize("budget", [0, 20])
def test_every_text_of_a_random_model_is_valid(tokenizer: ByteBPE, person: TokenAutomaton, budget: int) -> None:
    """`budget` tokens more than the shortest document has: the last token always completes it."""
    N = person.distance[0] + budget
    model = random_decoder(ModelConfig(tokenizer.vocab_size, 16, 1, 2, 2, 8, 16), seed=0)
    eos, B = tokenizer.token_id("<|eos|>"), 8
    constraint = Constraint(person, eos=eos, start=2, max_new_tokens=N)
    generator = torch.Generator().manual_seed(budget)
    tokens = torch.randint(256, (B, 2), generator=generator)
    for _ in range(N):
        with torch.inference_mode():
            logits = constraint(tokens, 3 * model(tokens, last_only=True)[:, -1])
        tokens = torch.cat((tokens, torch.multinomial(logits.softmax(-1), 1, generator=generator)), dim=1)
    for row in tokens[:, 2:].tolist():
        document = json.loads(tokenizer.decode(token for token in row if token != eos))
        assert isinstance(document["age"], int)
        assert document["city"] in ("北京", "Paris")
        assert len(document.get("名字", "")) <= 2
        assert 1 <= len(document.get("tags", [None])) <= 2


def test_searches_may_reorder_and_take_back(tokenizer: ByteBPE) -> None:
    model = random_decoder(ModelConfig(tokenizer.vocab_size, 16, 1, 2, 2, 8, 16, max_position=64), seed=1)
    eos, prompt = tokenizer.token_id("<|eos|>"), torch.tensor([[1, 2, 3]])
    pattern = r"(是|不是)(，因为[\u4e00-\u9fff]{1,4})?。"
    constraint = RegexConstraint(pattern, tokenizer, start=3, max_new_tokens=24)
    greedy = generate(model, prompt, 24, eos=[eos], processors=[constraint]).tokens[0].tolist()
    beams = beam_search(model, prompt, 24, beams=3, eos=[eos], processors=[constraint])
    choice = Choice(processors=[constraint])
    draft = NGramDraft(tokenizer.vocab_size)
    made = speculate(model, draft, prompt, 24, tokens_ahead=3, choice=choice, eos=[eos])

    for row in (greedy, *beams.tokens[0].tolist()):
        assert re.fullmatch(pattern, tokenizer.decode(token for token in row if token != eos))
    assert made.tokens[0].tolist() == greedy


def test_too_few_tokens_and_a_forbidden_text_are_refused(tokenizer: ByteBPE) -> None:
    with pytest.raises(ModelError, match=r"shortest text has \d+ tokens, max_new_tokens is 4"):
        JsonConstraint({"const": "中文" * 9}, tokenizer, start=0, max_new_tokens=4)
    constraint = RegexConstraint("ab", tokenizer, start=1)
    with pytest.raises(ModelError, match="token 99 cannot follow"):
        constraint(torch.tensor([[0, 99]]), torch.zeros(1, tokenizer.vocab_size))
