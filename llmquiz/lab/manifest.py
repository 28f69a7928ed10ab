"""What a lab declares in its `lab.toml`: everything that can be known about it without running it.

The command line, the screens and the deck linter read manifests alone. A manifest is data from anyone, so it is checked
strictly: an unknown key, a wrong type or a default outside its range is an error with the file and the key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from keyword import iskeyword
from pathlib import Path
from types import MappingProxyType

from llmquiz.core.card import Lang
from llmquiz.core.errors import ManifestError, UsageError
from llmquiz.lab.parameter import Param, ParamValue
from llmquiz.lab.toml import Table, read_toml

MANIFEST = "lab.toml"
WORDS = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")  # labs, topics, claims
IDENTIFIER = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")  # parameters, metrics
MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")  # no dots: finding a dotted module would import its parent
DOTTED = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")
TYPES = ("int", "float", "bool", "choice", "text")
BETTER = ("lower", "higher", "none")
AXES = ("x", "y")
COMMANDS = frozenset({"history", "list"})  # of the command line; a lab cannot be called so
RESERVED = frozenset({"as_json", "device", "events", "help", "json", "lang", "memory", "save", "seconds", "seed"})
BUDGET_SECONDS = 60.0
BUDGET_MB = 2000
WITHIN = 2.0  # a guess counts as good within this factor, where the manifest says nothing


@dataclass(frozen=True, slots=True)
class Budget:
    """What one run may use: wall seconds from its `run` on, and the memory of all its processes in MB (2^20 bytes)."""

    seconds: float = BUDGET_SECONDS
    memory_mb: int = BUDGET_MB


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that the lab reports, with its unit; `better` says which way is good."""

    name: str
    unit: str = ""
    better: str = "none"
    title: Mapping[Lang, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a learner may guess: a metric, and the factor within which a guess is good."""

    metric: str
    within: float = WITHIN


@dataclass(frozen=True, slots=True)
class Claim:
    """A law, a limit or a ratio that the lab tests, in each language."""

    name: str
    texts: Mapping[Lang, str]
    predict: Prediction | None = None


@dataclass(frozen=True, slots=True)
class PlotSpec:
    """The curve that is drawn while the lab runs: its metric, the label of its x axis, which axes are logarithmic.

    `title` says what the curves have in common, where that is not the title of the metric's final value.
    """

    metric: str
    x: str = "x"
    log: tuple[str, ...] = ()
    title: Mapping[Lang, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """All of a `lab.toml`. Mappings keep the order of the file.

    Attributes:
        name: the lab's name, which is the name of its folder.
        needs: top-level Python packages that must be installed.
        warm: modules worth importing before the lab is asked for.
    """

    name: str
    title: Mapping[Lang, str]
    summary: Mapping[Lang, str]
    topics: tuple[str, ...]
    needs: tuple[str, ...]
    warm: tuple[str, ...]
    budget: Budget
    params: Mapping[str, Param]
    metrics: Mapping[str, Metric]
    claims: Mapping[str, Claim]
    plot: PlotSpec | None = None

    def check_params(self, raw: Mapping[str, str]) -> list[str]:
        """What is wrong with the parameters that a card gives, one line each.

        A card cannot set free text: text may name a model or a folder, and that choice stays with the user.
        """
        problems = self.problems(raw)
        for name in raw:
            if name in self.params and self.params[name].type == "text":
                problems.append(f"'{name}' is free text, which a card cannot set; leave it out")
        return problems

    def problems(self, raw: Mapping[str, object]) -> list[str]:
        """What is wrong with the parameters that a user gives, one line each."""
        found = []
        for name, value in raw.items():
            try:
                self._param(name).parse(value)
            except ValueError as error:
                found.append(str(error))
        return found

    def resolve(self, raw: Mapping[str, object]) -> dict[str, ParamValue]:
        """Every parameter with its value: those of `raw`, else the defaults.

        Raises:
            UsageError: for an unknown parameter or a value that does not fit.
        """
        if found := self.problems(raw):
            raise UsageError(f"lab {self.name}: {found[0]}")
        return {name: param.parse(raw[name]) if name in raw else param.default for name, param in self.params.items()}

    def prediction(self, metric: str) -> Prediction:
        """How a guess of `metric` is judged: as the claim that it belongs to says, else within a factor of two.

        Raises:
            UsageError: if the lab has no such metric.
        """
        if metric not in self.metrics:
            raise UsageError(f"lab {self.name}: no metric '{metric}'; it measures {_names(self.metrics)}")
        for claim in self.claims.values():
            if claim.predict is not None and claim.predict.metric == metric:
                return claim.predict
        return Prediction(metric)

    def _param(self, name: str) -> Param:
        if name not in self.params:
            raise ValueError(f"no parameter '{name}'; it takes {_names(self.params)}")
        return self.params[name]


def load(path: Path) -> Manifest:
    """The manifest in `path`, a `lab.toml` or the folder that holds one.

    Raises:
        ManifestError: if the file cannot be read, or anything in it is unknown or wrong.
    """
    path = path / MANIFEST if path.is_dir() else path
    name = path.parent.name
    if not WORDS.fullmatch(name) or name in COMMANDS:
        where = path if str(path).isprintable() else ascii(str(path))
        raise ManifestError(f"{where}: a lab's folder is named in lower-case words and hyphens, not {name[:40]!r}")
    top = Table(read_toml(path), path)
    metrics = {key: _metric(key, table) for key, table in top.tables("metrics", IDENTIFIER)}
    needs = top.words("needs", MODULE)
    manifest = Manifest(
        name=name,
        title=top.texts("title", required=True),
        summary=top.texts("summary"),
        topics=top.words("topics", WORDS),
        needs=needs,
        warm=_warm(top, needs),
        budget=_budget(top.table("budget")),
        params=MappingProxyType({key: _read_param(key, table) for key, table in top.tables("params", IDENTIFIER)}),
        metrics=MappingProxyType(metrics),
        claims=MappingProxyType({key: _claim(key, table, metrics) for key, table in top.tables("claims", WORDS)}),
        plot=_plot(top.table("plot"), metrics) if "plot" in top else None,
    )
    top.finish()
    return manifest


def _budget(table: Table) -> Budget:
    seconds = table.number("seconds", default=BUDGET_SECONDS, low=0.1, high=3600)
    memory = table.number("memory_mb", default=BUDGET_MB, low=16, high=1_000_000)
    table.finish()
    return Budget(seconds, int(memory))


def _read_param(name: str, table: Table) -> Param:
    if name in RESERVED or name.startswith("no_") or iskeyword(name):
        raise table.error("", f"'{name}' means something else on a command line or in Python; choose another name")
    kind = table.choice("type", TYPES)
    bounds = table.numbers("range", 2) if kind in ("int", "float") and "range" in table else None
    if bounds and bounds[0] > bounds[1]:
        raise table.error("range", "the first bound is above the second")
    choices = table.words("choices") if kind == "choice" else ()
    if kind == "choice" and not choices:
        raise table.error("choices", "a choice needs at least one word")
    default = table.value("default")
    texts = table.texts("help")
    table.finish()
    try:
        blank = Param(name, kind, "", texts, (bounds[0], bounds[1]) if bounds else None, choices)
        if isinstance(default, str) != (kind in ("choice", "text")):
            raise ValueError(f"'{name}' must be {blank.expected}, not {str(default)[:40]!r}")
        return Param(name, kind, blank.parse(default), texts, blank.range, choices)
    except ValueError as error:
        raise table.error("default", str(error)) from error


def _metric(name: str, table: Table) -> Metric:
    metric = Metric(name, table.text("unit"), table.choice("better", BETTER, default="none"), table.texts("title"))
    table.finish()
    return metric


def _claim(name: str, table: Table, metrics: Mapping[str, Metric]) -> Claim:
    texts = {lang: table.text(lang.value) for lang in Lang if lang.value in table}
    if Lang.EN not in texts:
        raise table.error("en", "missing; a claim says in English what is tested")
    predict = _prediction(table.table("predict"), metrics) if "predict" in table else None
    table.finish()
    return Claim(name, MappingProxyType(texts), predict)


def _prediction(table: Table, metrics: Mapping[str, Metric]) -> Prediction:
    prediction = Prediction(
        table.choice("metric", tuple(metrics)), table.number("within", default=WITHIN, low=1.01, high=1e6)
    )
    table.finish()
    return prediction


def _plot(table: Table, metrics: Mapping[str, Metric]) -> PlotSpec:
    log = table.words("log")
    if unknown := [axis for axis in log if axis not in AXES]:
        raise table.error("log", f"'{unknown[0]}' is not one of {', '.join(AXES)}")
    metric = table.choice("metric", tuple(metrics))
    plot = PlotSpec(metric, table.text("x", default="x"), log, table.texts("title") or metrics[metric].title)
    if not plot.x.isascii():
        raise table.error("x", "labels of a plot are ASCII: wide characters break its rows")
    table.finish()
    return plot


def _warm(top: Table, needs: tuple[str, ...]) -> tuple[str, ...]:
    warm = top.words("warm", DOTTED)
    for module in warm:
        if module.partition(".")[0] not in (*needs, "llmquiz"):
            raise top.error("warm", f"'{module}' does not belong to 'needs'")
    return warm


def _names(mapping: Mapping[str, object]) -> str:
    return ", ".join(mapping) or "none"
