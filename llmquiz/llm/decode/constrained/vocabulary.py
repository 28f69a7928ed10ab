"""The bytes that each token writes, which is not what its name in the vocabulary looks like.

A byte-level vocabulary spells each byte as a printable character (`Ġ` is a space), SentencePiece marks a space as `▁`
and lets single bytes stand as `<0xE4>`. Decoding a token alone would not tell: a third of a Chinese character decodes
to U+FFFD. Special tokens write nothing: `<|eos|>` spelled out by a model is no end of a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from llmquiz.llm.base.tokenizer import HubTokenizer, Tokenizer
from llmquiz.llm.data.bpe import ByteBPE
from llmquiz.llm.data.tokenizer_json import ALPHABET
from llmquiz.llm.errors import ModelError

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_OF_LETTER = {letter: byte for byte, letter in enumerate(ALPHABET)}


def token_bytes(tokenizer: Tokenizer) -> list[bytes]:
    """The bytes of each id; none for a special token.

    Raises:
        ModelError: if the tokenizer does not say what its tokens are made of.
    """
    if isinstance(tokenizer, ByteBPE):
        return [*tokenizer.tokens[: tokenizer.vocab_size - len(tokenizer.special)], *(b"" for _ in tokenizer.special)]
    if isinstance(tokenizer, HubTokenizer):
        return _of_file(json.loads(tokenizer.to_json()))
    raise ModelError("constraint: the tokenizer does not tell the bytes of its tokens; use one from a tokenizer.json")


def _of_file(content: Mapping[str, Any]) -> list[bytes]:
    """Of what a tokenizer.json holds."""
    vocabulary, added = content["model"]["vocab"], content["added_tokens"]
    if isinstance(vocabulary, list):  # a unigram model lists pieces with their scores
        vocabulary = {piece: token for token, (piece, _) in enumerate(vocabulary)}
    byte_level = '"ByteLevel"' in json.dumps(content["decoder"])
    found = {token: _spelled(piece) if byte_level else _marked(piece) for piece, token in vocabulary.items()}
    found |= {token["id"]: b"" if token["special"] else token["content"].encode() for token in added}
    return [found.get(token, b"") for token in range(max(found) + 1)]


def _spelled(piece: str) -> bytes:
    """A letter for each byte."""
    return bytes(_OF_LETTER[letter] for letter in piece) if _OF_LETTER.keys() >= set(piece) else piece.encode()


def _marked(piece: str) -> bytes:
    """A mark for a space, a code for a single byte."""
    byte = _BYTE.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace("▁", " ").encode()
