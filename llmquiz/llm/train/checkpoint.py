"""Files of a run that survive what happens to runs: a kill in the middle of a write, a full disk, a flipped bit.

A checkpoint that is written over the previous one is worth nothing at the moment when it is needed, for then neither is
whole. So the new one is written beside it, flushed to the disk and renamed; a rename replaces a name at once or not at
all. A checkpoint is also data from somewhere else: unpickling one runs what it says, so only tensors and plain values
are read (`weights_only`), and a checksum tells a damaged file from a whole one before any of it is believed.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tempfile
from pathlib import Path
from typing import Any

import torch

from llmquiz.llm.errors import TrainingError

_MAGIC = b"llmquiz checkpoint 1\n"
_DIGEST_BYTES = hashlib.sha256().digest_size


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors and plain values, nested) to `path`, whole or not at all.

    Raises:
        TrainingError: if it cannot be written, as on a full disk; what stood at `path` is still there.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    body = buffer.getbuffer()
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = Path(file.name)
            file.write(_MAGIC)
            file.write(hashlib.sha256(body).digest())
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise TrainingError(
            f"{path}: not saved ({error.strerror or error}); free some space or choose another folder. "
            "An earlier checkpoint there is untouched"
        ) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `write_checkpoint` wrote, with every tensor on the CPU.

    Raises:
        TrainingError: if the file is missing, damaged, or no checkpoint of ours.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TrainingError(f"{path}: not readable ({error.strerror}); check the path") from error
    head, body = content[: len(_MAGIC)], memoryview(content)[len(_MAGIC) + _DIGEST_BYTES :]
    if head != _MAGIC:
        raise TrainingError(f"{path}: not a checkpoint of a run; give a file that Trainer.save wrote")
    if hashlib.sha256(body).digest() != content[len(_MAGIC) : len(_MAGIC) + _DIGEST_BYTES]:
        raise TrainingError(f"{path}: damaged or cut short; resume from an earlier checkpoint")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise TrainingError(f"{path}: holds more than tensors and plain values; do not trust it") from error
    return state
