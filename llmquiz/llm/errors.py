"""The one error of the library. It stands apart from llmquiz's own, so that these modules can be read and used
alone."""

from __future__ import annotations


class ModelError(ValueError):
    """A model, a cache or a request that does not fit; the message is one line: where, what, what to do next."""
