"""A manifest says everything about a lab or is refused with the file and the key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmquiz.core.card import Lang
from llmquiz.core.errors import ManifestError, UsageError
from llmquiz.lab.manifest import Manifest, Prediction, load
from llmquiz.lab.parameter import Param

WriteLab = Callable[..., Path]
TITLE = 'title = { en = "A" }\n'
METRIC = '[metrics.speed]\nunit = "x"\n'


@pytest.fixture
def quick(lab: Callable[..., object]) -> Manifest:
    return lab("quick").manifest


def test_reads_all_that_a_lab_declares(quick: Manifest) -> None:
    assert quick.name == "quick"
    assert quick.title == {Lang.EN: "Squares", Lang.ZH: "平方"}
    assert quick.budget.seconds == 10
    assert list(quick.params) == ["count", "shape", "scale", "fast", "model"]
    assert quick.params["count"].range == (2, 100)
    assert quick.params["shape"].choices == ("full", "half")
    assert quick.metrics["total"].better == "higher"
    assert quick.claims["quadratic"].predict == Prediction("total", 1.5)
    assert quick.plot is not None
    assert quick.plot.log == ("x", "y")


def test_budget_and_texts_have_defaults(write_lab: WriteLab) -> None:
    manifest = load(write_lab("mine", TITLE))

    assert (manifest.budget.seconds, manifest.budget.memory_mb) == (60, 2000)
    assert manifest.summary == {}
    assert manifest.plot is None


@pytest.mark.parametrize(
    ("manifest", "where", "what"),
    [
        ("", "title", "at least English"),
        ('title = { zh = "甲" }', "title", "at least English"),
        ('title = "A"', "title", "table"),
        (TITLE + "colour = 1", "colour", "unknown key"),
        (TITLE + "topics = [1]", "topics", "not a name"),
        (TITLE + 'needs = ["os.path"]', "needs", "not a name"),
        (TITLE + 'needs = ["torch", "torch"]', "needs", "twice"),
        (TITLE + 'warm = ["antigravity"]', "warm", "does not belong"),
        (TITLE + "budget = { seconds = 0 }", "budget.seconds", "from 0.1 to 3600"),
        (TITLE + "budget = { seconds = inf }", "budget.seconds", "number"),
        (TITLE + "budget = { memory_mb = true }", "budget.memory_mb", "number"),
        (TITLE + "budget = { hours = 1 }", "budget.hours", "unknown key"),
        (TITLE + "[params.Count]", "params.Count", "must match"),
        (TITLE + '[params.device]\ntype = "int"\ndefault = 1', "params.device", "another name"),
        (TITLE + '[params.no_save]\ntype = "int"\ndefault = 1', "params.no_save", "another name"),
        (TITLE + '[params.lambda]\ntype = "int"\ndefault = 1', "params.lambda", "another name"),
        (TITLE + '[params.n]\ntype = "list"', "params.n.type", "not known"),
        (TITLE + '[params.n]\ntype = "int"', "params.n.default", "missing"),
        (TITLE + '[params.n]\ntype = "int"\ndefault = 5\nrange = [1, 4]', "params.n.default", "from 1 to 4"),
        (TITLE + '[params.n]\ntype = "int"\ndefault = "5"', "params.n.default", "whole number"),
        (TITLE + '[params.n]\ntype = "int"\ndefault = 5\nrange = [9, 4]', "params.n.range", "above"),
        (TITLE + '[params.n]\ntype = "int"\ndefault = 5\nrange = [1]', "params.n.range", "2 numbers"),
        (TITLE + '[params.n]\ntype = "int"\ndefault = 5\nchoices = ["a"]', "params.n.choices", "unknown key"),
        (TITLE + '[params.n]\ntype = "choice"\ndefault = "a"', "params.n.choices", "at least one"),
        (TITLE + '[params.n]\ntype = "choice"\ndefault = "c"\nchoices = ["a"]', "params.n.default", "one of a"),
        (TITLE + '[metrics.speed]\nbetter = "faster"', "metrics.speed.better", "lower, higher, none"),
        (TITLE + '[claims.c]\nzh = "论断"', "claims.c.en", "missing"),
        (TITLE + '[claims.c]\nen = "c"\npredict = { metric = "speed" }', "claims.c.predict.metric", "not known"),
        (TITLE + METRIC + '[claims.c]\nen = "c"\npredict = { metric = "speed", within = 1 }', "within", "number"),
        (TITLE + METRIC + '[plot]\nmetric = "speed"\nx = "长度"', "plot.x", "ASCII"),
        (TITLE + METRIC + '[plot]\nmetric = "speed"\nlog = ["z"]', "plot.log", "'z'"),
        ('title = { en = "\\u001b[2J" }', "title.en", "control characters"),
    ],
)
def test_refuses_what_does_not_fit_and_says_where(write_lab: WriteLab, manifest: str, where: str, what: str) -> None:
    folder = write_lab("mine", manifest)

    with pytest.raises(ManifestError) as refused:
        load(folder)

    message = str(refused.value)
    assert message.startswith(f"{folder / 'lab.toml'}: ")
    assert where in message
    assert what in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b'title = { en = "A" }\nneeds = ]', ":2: not TOML"),
        (b"a = 1\n\xff\xfe", ":2: not UTF-8"),
        (b"a = " + b"[" * 20_000 + b"]" * 20_000, "nested too deeply"),
        (b"#" * 70_000, "longer than 64 KiB"),
        (b"a = 1" + b"0" * 5_000, "not TOML"),
        (b"\x00", ":1: not TOML"),
        (b"a = 1\nb\n\n", ":2: not TOML"),
    ],
)
def test_hostile_files_are_refused(write_lab: WriteLab, content: bytes, what: str) -> None:
    with pytest.raises(ManifestError, match=what):
        load(write_lab("mine", content))


def test_a_manifest_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine" / "lab.toml").mkdir(parents=True)

    with pytest.raises(ManifestError, match="no such file"):
        load(tmp_path / "mine")


@pytest.mark.parametrize("name", ["Mine", "mine_too", "history", "-x"])
def test_a_folder_must_be_named_as_a_command(write_lab: WriteLab, name: str) -> None:
    with pytest.raises(ManifestError, match="named in lower-case words"):
        load(write_lab(name, TITLE))


def test_text_is_parsed_by_type(quick: Manifest) -> None:
    values = quick.resolve({"count": "7", "scale": "0.5", "fast": "yes", "shape": "half"})

    assert values == {"count": 7, "shape": "half", "scale": 0.5, "fast": True, "model": ""}


def test_typed_values_pass_as_they_are(quick: Manifest) -> None:
    assert quick.resolve({"count": 7, "fast": True, "scale": 1})["scale"] == 1.0


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ({"count": "1"}, "from 2 to 100"),
        ({"count": "1e1"}, "whole number"),
        ({"count": True}, "whole number"),
        ({"count": "9" * 5000}, "whole number"),
        ({"scale": "nan"}, "from 0.5 to 2"),
        ({"fast": "perhaps"}, "true or false"),
        ({"shape": "third"}, "one of full, half"),
        ({"colour": "red"}, "no parameter 'colour'; it takes count"),
    ],
)
def test_values_that_do_not_fit_are_refused(quick: Manifest, raw: dict[str, object], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        quick.resolve(raw)


def test_a_card_cannot_set_free_text(quick: Manifest) -> None:
    assert quick.check_params({"count": "5"}) == []
    assert "free text" in quick.check_params({"model": "somebody/something"})[0]
    assert quick.problems({"model": "somebody/something"}) == []


def test_check_params_names_every_problem(quick: Manifest) -> None:
    assert len(quick.check_params({"count": "0", "nothing": "1"})) == 2


def test_a_metric_without_a_claim_is_judged_within_a_factor_of_two(quick: Manifest) -> None:
    assert quick.prediction("total").within == 1.5
    assert quick.prediction("square").within == 2.0
    with pytest.raises(UsageError, match="no metric 'speed'; it measures square, total"):
        quick.prediction("speed")


@given(st.integers(-(10**17), 10**17))
def test_every_whole_number_survives_its_text(value: int) -> None:
    assert Param("n", "int", 0).parse(str(value)) == value


@given(st.text())
def test_any_text_is_a_value_or_a_value_error(text: str) -> None:
    for kind in ("int", "float", "bool", "text"):
        try:
            Param("n", kind, 0).parse(text)
        except ValueError as error:
            assert "'n' must be" in str(error)  # noqa: PT017
