"""A byte-level tokenizer as the file that Hugging Face's `tokenizers` reads and writes: tokenizer.json.

JSON holds text, and most bytes are no text. So GPT-2 (Radford et al. 2019) lent each byte a printable character: those
that print stand for themselves, the others for U+0100 and up. That is why a space shows as "Ġ" and a Chinese character
as three letters such as "ä½ł": no damage, only spelling.

Source of the format: https://huggingface.co/docs/tokenizers/api/models (BPE), /api/pre-tokenizers (Split, ByteLevel).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmquiz.llm.errors import ModelError

_PRINTABLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_OTHERS = [byte for byte in range(256) if byte not in _PRINTABLE]
ALPHABET = [chr(byte) if byte in _PRINTABLE else chr(0x100 + _OTHERS.index(byte)) for byte in range(256)]


def write(path: Path, merges: Sequence[tuple[int, int]], special: Sequence[str], pre_token: str) -> None:
    """Write the tokenizer of `merges` (pairs of ids, bytes first) and `special` tokens (ids after the merges)."""
    spelled = list(ALPHABET)
    for left, right in merges:
        spelled.append(spelled[left] + spelled[right])
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(len(spelled) + k, name) for k, name in enumerate(special)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [_split(pre_token), _byte_level()]},
        "post_processor": None,
        "decoder": _byte_level(),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: index for index, token in enumerate(spelled)},
            "merges": [[spelled[left], spelled[right]] for left, right in merges],
        },
    }
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def read(path: Path, pre_token: str) -> tuple[list[tuple[int, int]], list[str]]:
    """The merges and special tokens of a file that `write` made.

    Raises:
        ModelError: if the file is missing, broken, or of a tokenizer with other rules.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        vocab, merges = content["model"]["vocab"], content["model"]["merges"]
        pairs = [(vocab[left], vocab[right]) for left, right in merges]
        added = sorted((token["id"], token["content"]) for token in content["added_tokens"])
        cuts = content["pre_tokenizer"]["pretokenizers"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: not readable as the tokenizer.json of a byte-level BPE") from error
    ids = [*(vocab.get(byte) for byte in ALPHABET), *(vocab.get(left + right) for left, right in merges)]
    if [*ids, *(index for index, _ in added)] != list(range(len(vocab) + len(added))) or cuts[0] != _split(pre_token):
        raise ModelError(f"{path}: a tokenizer with other rules; load it with transformers' AutoTokenizer")
    return pairs, [name for _, name in added]


def _added_token(index: int, name: str) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": name, **flags, "special": True}


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _byte_level() -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
