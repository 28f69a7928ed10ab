"""The command line: one Typer app, and the one place where every error becomes a line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from llmquiz import __version__
from llmquiz.cli import (
    backup,
    calc,
    deck,
    doctor,
    export,
    exportlibrary,
    importing,
    importjson,
    importtext,
    lab,
    search,
    stats,
    study,
)
from llmquiz.core.errors import ExitCode, LlmquizError

app = typer.Typer(
    name="llmquiz",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("study")(study.study)
app.command("stats")(stats.stats)
app.command("search")(search.search)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("doctor")(doctor.doctor)
app.add_typer(lab.app, name="lab")
app.add_typer(calc.app, name="calc")
app.add_typer(deck.app, name="deck")
app.add_typer(importing.app, name="import")
app.add_typer(export.app, name="export")
importing.app.command("csv")(importtext.csv)
importing.app.command("markdown")(importtext.markdown)
importing.app.command("json")(importjson.json)
export.app.command("csv")(exportlibrary.csv)
export.app.command("markdown")(exportlibrary.markdown)
export.app.command("json")(exportlibrary.json)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"llmquiz {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Prepare for LLM interviews: spaced repetition, and labs that prove the answers.

    Without a command, opens the home screen.
    """
    if context.invoked_subcommand is None:
        study.home()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code (see `ExitCode`). Prints errors as one line on stderr."""
    try:
        code = app(args=argv, prog_name="llmquiz", standalone_mode=False)
    except typer.TyperException as error:
        return _usage(error)
    except LlmquizError as error:
        return _fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has gone; keep the interpreter's own flush at exit from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.OK
    except Exception as error:  # noqa: BLE001 - the one broad catch: a fault of ours ends in a report, not a traceback
        return _fault(error)
    return code if isinstance(code, int) else ExitCode.OK


def _usage(error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    hint = f"; see '{context.command_path} --help'" if context else ""
    message = error.format_message().rstrip(".")
    return _fail(message[:1].lower() + message[1:] + hint, error.exit_code)


def _fail(message: str, code: int) -> int:
    print(f"llmquiz: error: {' '.join(message.splitlines())}", file=sys.stderr)
    return int(code)


def _fault(error: Exception) -> int:
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    with tempfile.NamedTemporaryFile("w", prefix="llmquiz-", suffix=".log", delete=False, encoding="utf-8") as log:
        log.write(text)
    return _fail(f"internal fault: {error!r}; please report it with {log.name}", ExitCode.INTERNAL)
