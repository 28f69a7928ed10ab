"""What a calculator cannot work with."""

from __future__ import annotations

from llmquiz.core.errors import ExitCode, LlmquizError


class CalcError(LlmquizError, ValueError):
    """A number outside its range, an unknown model or GPU, a config.json that is none."""

    exit_code = ExitCode.USAGE
