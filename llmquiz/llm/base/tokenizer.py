"""What a lab asks of a tokenizer, for the shipped model and for any other.

Tokenizers differ in how they name the tokens that begin and end a text: `<s>`, `<|endoftext|>`, `<|im_end|>`. Labs ask
by role, in the shipped model's spelling; a foreign tokenizer is asked for the id that its own config gives to the role.
A role that the model was never trained with has no id, and asking for it is an error rather than a token of noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from llmquiz.llm.data.bpe import ByteBPE
from llmquiz.llm.errors import ModelError

ROLES = {"<|bos|>": "bos_token_id", "<|eos|>": "eos_token_id", "<|pad|>": "pad_token_id"}  # -> key of config.json


class Tokenizer(Protocol):
    """Text to ids and back."""

    @property
    def vocab_size(self) -> int: ...

    def encode(self, text: str, *, special: bool = False) -> list[int]: ...

    def decode(self, ids: Iterable[int]) -> str: ...

    def token_id(self, special: str) -> int: ...


class HubTokenizer:
    """A tokenizer.json of any kind, read by Hugging Face's `tokenizers`.

    Args:
        path: the tokenizer.json.
        config: the model's config.json, which says what begins and ends a text.
    """

    def __init__(self, path: Path, config: Mapping[str, object]) -> None:
        from tokenizers import Tokenizer as Backend

        self._backend = Backend.from_file(str(path))
        self._ordinary = Backend.from_file(str(path))
        self._ordinary.encode_special_tokens = True  # `<s>` in a text is spelled out: it is text
        self._config = config

    @property
    def vocab_size(self) -> int:
        return int(self._backend.get_vocab_size())

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text, without those that begin and end it."""
        backend = self._backend if special else self._ordinary
        return list(backend.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Iterable[int]) -> str:
        return str(self._backend.decode(list(ids), skip_special_tokens=False))

    def to_json(self) -> str:
        """What its tokenizer.json says."""
        return str(self._backend.to_str())

    def token_id(self, special: str) -> int:
        """The id of a token by its spelling, or of a role such as `<|eos|>`.

        Raises:
            ModelError: if the model has no such token.
        """
        spelled = self._backend.token_to_id(special)
        if spelled is not None:
            return int(spelled)
        ids = self._config.get(ROLES.get(special, special))
        first = ids[0] if isinstance(ids, list) and ids else ids
        if not isinstance(first, int):
            raise ModelError(f"the tokenizer has no token '{special}'; choose a model that was trained with one")
        return first


def read_tokenizer(path: Path, config: Mapping[str, object]) -> Tokenizer:
    """Our own tokenizer if the file is of its kind, else through `tokenizers`.

    Raises:
        ModelError: if the file is missing or damaged, or `tokenizers` is needed and not installed.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no tokenizer here; save it beside the model with save_pretrained")
    try:
        return ByteBPE.load(path)
    except ModelError:
        pass  # of another kind; if it is damaged, the next reader says so
    try:
        return HubTokenizer(path, config)
    except ImportError as error:
        raise ModelError("tokenizers is not installed; install the labs extra") from error
    except Exception as error:  # the library raises bare Exception for whatever it cannot parse
        raise ModelError(f"{path}: not readable as a tokenizer.json: {error}") from error
