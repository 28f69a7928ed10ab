"""`llmquiz lab`: list labs, run one, see earlier runs. Options of a lab come from its manifest; torch stays out."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from llmquiz.core.errors import UsageError

if TYPE_CHECKING:
    from llmquiz.core.card import Lang
    from llmquiz.lab.catalog import Catalog, Lab
    from llmquiz.lab.parameter import Param

DEVICES = ("auto", "cpu", "cuda", "mps")
LANGS = ("en", "zh")


def _among(words: Iterable[str]) -> Callable[[str], list[str]]:
    """What completes an option that takes one of `words`."""
    return lambda incomplete: [word for word in words if word.startswith(incomplete)]


DeviceOption = Annotated[
    str, typer.Option(metavar="|".join(DEVICES), autocompletion=_among(DEVICES), help="Where to compute.")
]
LangOption = Annotated[
    str, typer.Option(metavar="|".join(LANGS), autocompletion=_among(LANGS), help="Language of the report.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class LabGroup(TyperGroup):
    """Every lab is a command, made from its manifest when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The labs, then the fixed commands."""
        return [*(lab.name for lab in _catalog().labs()), *self.commands]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a lab.

        Raises:
            UsageError: if there is no such lab; while completing a command line, None is returned instead.
        """
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        if ctx.resilient_parsing and cmd_name not in {lab.name for lab in _catalog().labs()}:
            return None
        return _command(_catalog().find(cmd_name))


app = typer.Typer(
    cls=LabGroup,
    rich_markup_mode=None,
    help="Run an experiment that proves a card's answer, or list them all.",
    subcommand_metavar="[LAB [OPTIONS]]",
)


@app.callback(invoke_without_command=True)
def labs(
    context: typer.Context,
    listed: Annotated[bool, typer.Option("--list", help="List the labs; the same as no lab at all.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Run every lab, one after the other.")] = False,
    device: DeviceOption = "auto",
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of every random generator, with --all.")] = 0,
    as_json: JsonOption = False,
    lang: LangOption = "",
) -> int:
    """List the labs, or run them all."""
    if context.invoked_subcommand is not None:
        return 0
    catalog = _catalog()
    for finding in catalog.findings:
        print(f"llmquiz: warning: {finding}", file=sys.stderr)
    if everything:
        from llmquiz.cli.laball import run_all

        return run_all(catalog.labs(), _language(lang), device=_device(device), seed=seed, as_json=as_json)
    from llmquiz.cli.labtables import print_labs

    print_labs(catalog.labs(), _language(lang), as_json=as_json)
    return 0


@app.command("history")
def history(
    lab: Annotated[str | None, typer.Argument(help="Only runs of this lab.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many runs, the youngest first.")] = 20,
    as_json: JsonOption = False,
    lang: LangOption = "",
) -> None:
    """Earlier runs, the youngest first."""
    from llmquiz.cli.labtables import print_runs
    from llmquiz.store import Store

    if lab is not None:
        _catalog().find(lab)
    with Store.open() as store:
        runs = store.runs(lab, limit)
    print_runs(runs, _language(lang), as_json=as_json)


def _command(lab: Lab) -> Any:
    """The command of `lab`: one option for each parameter, then those that every lab has."""

    def call(**options: Any) -> int:
        from llmquiz.cli.labrun import Wanted, run_lab

        params = {name: options[name] for name in lab.manifest.params if options[name] is not None}
        common = {name: options[name] for name in _COMMON}
        wanted = Wanted(**{**common, "lang": _language(options["lang"]), "device": _device(options["device"])})
        return run_lab(lab, lab.manifest.resolve(params), wanted)

    signature = [_parameter(param) for param in lab.manifest.params.values()]
    signature += [_common_parameter(name) for name in _COMMON]
    call.__signature__ = inspect.Signature(signature)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in signature}
    single = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False)
    single.command(lab.name, help=_help(lab), short_help=_short_help(lab))(call)
    return typer.main.get_command(single)


def _parameter(param: Param) -> inspect.Parameter:
    from llmquiz.lab.words import in_lang

    words = in_lang(param.help, _language(""))
    text = (
        f"{words} [{param.expected}; default: {param.default}]"
        if words
        else f"[{param.expected}; default: {param.default}]"
    )
    if param.type == "bool":
        annotation: Any = Annotated[bool | None, typer.Option(f"{param.option}/--no-{param.option[2:]}", help=text)]
    else:
        completion = _among(param.choices or (str(param.default),))
        annotation = Annotated[
            str | None, typer.Option(param.option, metavar=param.type.upper(), autocompletion=completion, help=text)
        ]
    return inspect.Parameter(param.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


_COMMON: dict[str, tuple[Any, Any]] = {
    "device": (DeviceOption, "auto"),
    "seed": (Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of every random generator.")], 0),
    "seconds": (Annotated[float | None, typer.Option(help="Time limit instead of the manifest's.")], None),
    "memory": (Annotated[int | None, typer.Option(help="Memory limit in MB instead of the manifest's.")], None),
    "as_json": (Annotated[bool, typer.Option("--json", help="Print the result as JSON.")], False),
    "events": (Annotated[bool, typer.Option("--events", help="Print every event as a line of JSON.")], False),
    "lang": (LangOption, ""),
    "save": (Annotated[bool, typer.Option("--save/--no-save", help="Keep the run for `llmquiz lab history`.")], True),
}


def _common_parameter(name: str) -> inspect.Parameter:
    annotation, default = _COMMON[name]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _help(lab: Lab) -> str:
    from llmquiz.lab.words import in_lang

    lang, manifest = _language(""), lab.manifest
    needs = ", ".join(manifest.needs) or "nothing"
    budget = f"Limits: {manifest.budget.seconds:g} s, {manifest.budget.memory_mb} MB. Needs: {needs}."
    claims = [f"- {in_lang(claim.texts, lang)}" for claim in manifest.claims.values()]
    parts = [in_lang(manifest.title, lang), in_lang(manifest.summary, lang), budget]
    if claims:
        parts.append("\b\n" + "\n".join(["Claims:", *claims]))
    return "\n\n".join(part for part in parts if part)


def _short_help(lab: Lab) -> str:
    from llmquiz.lab.words import in_lang

    return in_lang(lab.manifest.title, _language(""))


def _language(wanted: str) -> Lang:
    from llmquiz import settings
    from llmquiz.core.card import Lang

    if wanted and wanted not in LANGS:
        raise UsageError(f"--lang '{wanted}' is not one of {', '.join(LANGS)}")
    return Lang.ZH if (wanted or settings.load().language) == "zh" else Lang.EN


def _device(wanted: str) -> str:
    if wanted not in DEVICES:
        raise UsageError(f"--device '{wanted}' is not one of {', '.join(DEVICES)}")
    return wanted


def _catalog() -> Catalog:
    from llmquiz.lab.catalog import Catalog

    return Catalog()
