"""Options are checked when they are made, and say what is wrong in a line."""

from __future__ import annotations

from typing import Any

import pytest
from fsrs.scheduler import DEFAULT_PARAMETERS as FSRS_PARAMETERS

from llmquiz.core.errors import ScheduleError
from llmquiz.core.options import DEFAULT_PARAMETERS, Options
from llmquiz.core.scheduler import Scheduler


def test_the_default_weights_are_those_of_the_library() -> None:
    assert DEFAULT_PARAMETERS == FSRS_PARAMETERS


def test_a_settings_table_may_write_steps_as_text() -> None:
    options = Options.from_mapping({"learning_steps": ["30s", "10m", "1.5h", "1d", 90], "new_per_day": 5})
    assert options.learning_steps == (30, 600, 5400, 86400, 90)
    assert options.new_per_day == 5


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"desired_retention": 1.0}, "desired_retention must be a number from 0.7 to 0.99, not 1.0"),
        ({"desired_retention": float("nan")}, "desired_retention must be a number"),
        ({"desired_retention": True}, "desired_retention must be a number"),
        ({"new_per_day": -1}, "new_per_day must be a whole number from 0 to 9999, not -1"),
        ({"reviews_per_day": 2.5}, "reviews_per_day must be a whole number"),
        ({"maximum_interval": 0}, "maximum_interval must be a whole number from 1 to 36500"),
        ({"leech_threshold": "8"}, "leech_threshold must be a whole number"),
        ({"learning_steps": [0]}, "learning_steps must be whole seconds from 1 to a year, not 0"),
        ({"learning_steps": ["soon"]}, "learning_steps: 'soon' is not a step; write e.g. '30s'"),
        ({"relearning_steps": "10m"}, "relearning_steps must be a list, not '10m'"),
        ({"fuzz": 1}, "fuzz must be true or false, not 1"),
        ({"new_order": "alphabet"}, "new_order must be one of deck, random, not 'alphabet'"),
        ({"parameters": [1.0] * 17}, "parameters must be the 21 weights of FSRS-6, not 17"),
        ({"parameters": [float("inf")] * 21}, r"parameters\[0\] must be a number, not inf"),
        ({"retention": 0.9}, "unknown option 'retention'; known are bury_siblings,"),
    ],
)
def test_what_is_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(ScheduleError, match=f"^schedule: {problem}") as error:
        Options.from_mapping(values)
    assert "\n" not in str(error.value)


def test_weights_beyond_the_bounds_of_fsrs_are_refused_in_a_line() -> None:
    weights = (*DEFAULT_PARAMETERS[:4], 99.0, *DEFAULT_PARAMETERS[5:])
    with pytest.raises(
        ScheduleError, match=r"parameters\[4\] = 99.0 is out of bounds.*leave out 'parameters'"
    ) as error:
        Scheduler(Options(parameters=weights))
    assert "\n" not in str(error.value)
