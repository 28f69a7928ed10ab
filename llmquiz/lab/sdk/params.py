"""The parameters of a run, as attributes: ``params.new_tokens``, and always ``params.device`` and ``params.seed``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Params:
    """Typed parameters, as the manifest declares them. They cannot be changed.

    Args:
        values: every parameter of the manifest with its value.
        device: the device that the lab runs on: ``cpu``, ``cuda`` or ``mps``; never ``auto``.
        seed: what random generators were seeded with before the lab was called.
    """

    device: str
    seed: int

    def __init__(self, values: Mapping[str, Any], *, device: str = "cpu", seed: int = 0) -> None:
        vars(self).update(values, device=device, seed=seed)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"the manifest declares no parameter '{name}'; declared are {', '.join(sorted(vars(self)))}"
        )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"parameter '{name}' cannot be changed; give it another name in the lab")

    def __repr__(self) -> str:
        return f"Params({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"
