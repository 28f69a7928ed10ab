"""The errors of the library. They stand apart from llmquiz's own, so that these modules can be read and used alone.

Each message is one line: where, what, what to do next.
"""

from __future__ import annotations


class ModelError(ValueError):
    """A model, a cache or a request that does not fit."""


class AdapterError(ModelError):
    """An adapter that does not fit its base, or a file of one that cannot be trusted."""


class TrainingError(ModelError):
    """Training that cannot go on: a loss that is not a number, a checkpoint that does not fit."""
