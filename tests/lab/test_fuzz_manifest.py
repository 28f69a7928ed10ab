"""Whatever a lab.toml holds, reading it gives a manifest or says what is wrong, in one line that a terminal may print.

`python -m tests.lab.test_fuzz_manifest 100000` tries so many inputs of each kind. What it found, and the nastiest of
what it tries, is kept in `corpus`.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmquiz.core.errors import ManifestError, UsageError
from llmquiz.lab.manifest import Manifest, load
from llmquiz.lab.toml import MAX_BYTES

CORPUS = Path(__file__).parent / "corpus"
LABS = Path(__file__).parent.parent.parent / "labs"
BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
EXAMPLES = 20
SECONDS = 1.0  # of CPU, for any one manifest

# fmt: off
KEYS = (
    "title", "summary", "topics", "needs", "warm", "budget", "seconds", "memory_mb", "params", "metrics",
    "claims", "plot", "type", "default", "range", "choices", "help", "unit", "better", "en", "zh", "predict",
    "metric", "within", "x", "log", "count", "device", "no_x", "class", "total", "quadratic", '"\\u001b[31m"',
    '"\\u202e"', '""', "a.b", '"a.b"', "x-y", ".".join(["a"] * 40), '"' + "k" * 300 + '"',
)
VALUES = (
    "1", "-1", "0", "1.5", "1e300", "1e400", "nan", "inf", "-inf", "true", "false", '"int"', '"float"',
    '"bool"', '"choice"', '"text"', '"lower"', '"total"', '"x"', '"y"', '""', '"\\u001b[2J"', '"\\u202e"',
    '"\\u0000"', "'''a\nb'''", "1979-05-27", "07:32:00", "1979-05-27T07:32:00Z", "[]", "[1, 2]", "[2, 1]",
    '["a", "a"]', '["kv-cache"]', '["torch"]', "[[1], [2]]", "{}", '{ en = "A" }', '{ zh = "甲" }',
    '{ en = "A", fr = "B" }', "[" * 30 + "]" * 30, "9" * 30, "9" * 5000, "1" + "0" * 400, "0x" + "f" * 6000,
    "{ a = " * 20 + "1" + " }" * 20, "{ " + ".".join("b" * 60) + " = 1 }", '"' + "x" * 3000 + '"',
)
TABLES = (
    "[budget]", "[params.count]", "[params.scale]", "[metrics.total]", "[claims.quadratic]",
    "[claims.quadratic.predict]", "[plot]", "[[params]]", "[params]", "[metrics]", "[a.b.c.d.e.f.g.h.i.j]",
    "[" + ".".join(["a"] * 900) + "]", "[params.device]", "[metrics.Bad]", "[other]", "[]", '["\\u001b"]',
)
NOISE = (
    "[", "]", "{", "}", "=", '"', "'", '"""', "'''", ",", ".", "#", "\n", "\\", "\\u001b", "\\u202e", "\x1b",
    "\x00", "\u202e", "\ufeff", "\r", "\t", "é", "中", "1", "a", "true", "inf", "e", "_", "-",
)
# fmt: on
LINE = st.one_of(
    st.builds("{} = {}".format, st.sampled_from(KEYS), st.sampled_from(VALUES)), st.sampled_from((*TABLES, "", "# c"))
)
WRITTEN = st.lists(LINE, max_size=16).map(lambda lines: 'title = { en = "A" }\n' + "\n".join(lines))


@cache
def real() -> list[str]:
    return [path.read_text(encoding="utf-8") for path in sorted(LABS.glob("*/lab.toml"))]


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A real manifest with pieces put in, and values, keys and bytes taken away or exchanged."""
    text = real()[draw(st.integers(0, len(real()) - 1))]
    piece = st.one_of(st.sampled_from(NOISE), st.sampled_from(VALUES), st.sampled_from(KEYS), st.text(max_size=3))
    for place, length, put in draw(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 12), piece), max_size=4)):
        at = place * len(text) // 1000
        text = text[:at] + put + text[at + length :]
    return text


@st.composite
def revalued(draw: st.DrawFn) -> str:
    """A real manifest in which some values are others; all else is as it was."""
    lines = real()[draw(st.integers(0, len(real()) - 1))].split("\n")
    for place, value in draw(
        st.lists(st.tuples(st.integers(0, 1000), st.sampled_from(VALUES)), min_size=1, max_size=3)
    ):
        at = place * len(lines) // 1001
        key, equals, _ = lines[at].partition("=")
        lines[at] = f"{key}{equals} {value}" if equals else lines[at]
    return "\n".join(lines)


@cache
def folder() -> Path:
    made = Path(tempfile.mkdtemp(prefix="llmquiz-fuzz-")) / "quick"
    made.mkdir()
    return made


def printable(text: str) -> None:
    bad = [char for char in text if unicodedata.category(char) in ("Cc", "Cs") or char in BIDI]
    assert not bad, text[:200].encode("unicode_escape")


def loads(content: str | bytes) -> None:
    """The property: a manifest or a `ManifestError`; nothing of either steers a terminal."""
    path = folder() / "lab.toml"
    path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
    try:
        manifest = load(path)
    except ManifestError as error:
        printable(str(error))
    else:
        uses(manifest)


def uses(manifest: Manifest) -> None:
    """What a command line, a card and a screen do with a manifest."""
    for texts in (manifest.title, manifest.summary, *(claim.texts for claim in manifest.claims.values())):
        for text in texts.values():
            printable(text)
    assert manifest.resolve({}).keys() == manifest.params.keys()
    for name, param in manifest.params.items():
        printable(f"{name} {param.option} {param.expected} {param.default}")
        for raw in ("1", "-1e9", "x", "true", "9" * 400, "\x1b", ""):
            for problem in manifest.check_params({name: raw}):
                printable(problem)
    for metric in (*manifest.metrics, "none"):
        with contextlib.suppress(UsageError):
            assert manifest.prediction(metric).within > 1


PROPERTIES: dict[str, st.SearchStrategy[str] | st.SearchStrategy[bytes]] = {
    "written": WRITTEN,
    "mutated": mutated(),
    "revalued": revalued(),
    "bytes": st.binary(max_size=80),
}


@pytest.mark.parametrize("kind", PROPERTIES)
def test_anything_is_a_manifest_or_a_line(kind: str) -> None:
    calm = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    calm(given(PROPERTIES[kind])(loads))()


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.toml")), ids=lambda path: path.stem)
def test_what_was_found_is_a_manifest_or_a_line(path: Path) -> None:
    loads(path.read_bytes())


@pytest.mark.parametrize("unit", ["[", "a.", "[[a]]\n", '"', "x=[{a=1},"])
def test_time_is_bounded_by_the_size_of_the_file(unit: str) -> None:
    """As long as a manifest may be; none is one, all are looked at."""
    started = time.process_time()
    loads(unit * (MAX_BYTES // len(unit)))
    assert time.process_time() - started < SECONDS


def main(most: int) -> None:
    for kind, strategy in PROPERTIES.items():
        started = time.process_time()
        long = settings(max_examples=most, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        checked: Callable[[], None] = long(given(strategy)(loads))
        checked()
        print(f"{kind}: {most} inputs, {time.process_time() - started:.0f} s of CPU", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
