"""`afmid`: its commands, and the one place where an error becomes one line and an exit code."""

import difflib
import io
import logging
import os
import sys
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import afmid
from afmid.cli.output import note
from afmid.errors import AfmidError, UsageError

INTERRUPTED = 130
COMMANDS = {  # each lives in the module of its name
    "simulate": "Simulate the scan of a molecule.",
    "augment": "Make a simulated scan look measured.",
    "prepare": "Prepare molecules for training: a list becomes one small file.",
    "identify": "Say what molecule a scan shows, and how sure that is.",
    "train": "Train a method on the molecules you choose.",
    "evaluate": "Measure how right a method is, on scans whose molecule is known.",
    "report": "Make a page of an answer or an evaluation, to look at offline.",
    "plugins": "List what is installed, what it brings, and what failed to load.",
    "weights": "List, fetch, verify or export pretrained weights.",
    "doctor": "Examine the installation.",
}


class Commands(TyperGroup):
    """Imports a command's module when it is called for, so that `afmid --help` is instant."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command of a name.

        Raises:
            UsageError: there is none.
        """
        if cmd_name not in COMMANDS:
            near = difflib.get_close_matches(cmd_name, COMMANDS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(COMMANDS)}"
            raise UsageError(f"no command {cmd_name!r}; {hint}")
        module = import_module(f"afmid.cli.{cmd_name}")
        commands = getattr(module, "app", None)
        if commands is None:
            commands = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
            commands.command(cmd_name)(getattr(module, cmd_name))
        return typer.main.get_command(commands)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write what the commands do."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


app = typer.Typer(
    cls=Commands,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def afmid_(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version and exit")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="say on stderr what is being done")] = False,
) -> None:
    """Identify single molecules from CO-tip atomic force microscopy images.

    \b
    afmid identify scan.npz -o result/
    afmid simulate pentacene -o - | afmid augment - -o - | afmid identify - --json
    afmid identify --help

    Exit codes: 0 done; 1 failed, with a message; 2 wrong usage; 3 no confident answer; 130 interrupted.
    """
    _log_to_stderr(verbose)
    if version:
        typer.echo(f"afmid {afmid.__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> NoReturn:
    """Run the command line and exit. Exceptions that are no user's fault keep their traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no Å gets a question mark
    try:
        code = app(prog_name="afmid", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        code = _failed(_usage(error), error.exit_code)
    except AfmidError as error:
        code = _failed(str(error), error.exit_code)
    except MemoryError as error:
        code = _failed(f"not enough memory: {str(error) or 'none is left'}; take fewer pixels, heights or atoms", 1)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what stdout did not take is not tried again
        where = f"{error.filename}: " if error.filename else ""
        quiet = isinstance(error, BrokenPipeError)  # whoever reads our output has seen enough
        code = 1 if quiet else _failed(where + _lowered(error.strerror or str(error)), 1)
    except KeyboardInterrupt:
        code = INTERRUPTED
    code = code if isinstance(code, int) else 0
    if "afmid.processes" in sys.modules:  # torch is imported with it
        sys.modules["afmid.processes"].leave(code)
    sys.exit(code)


def _failed(message: str, code: int) -> int:
    note(message)
    return code


def _usage(error: typer.TyperException) -> str:
    message, context = _lowered(error.format_message().rstrip(".")), getattr(error, "ctx", None)
    return message if context is None or message.endswith("?") else f"{message}; see: {context.command_path} --help"


def _lowered(message: str) -> str:
    return message[:1].lower() + message[1:]


def _log_to_stderr(verbose: bool) -> None:
    """Show the warnings of all libraries, and with `verbose` what afmid has to tell besides."""
    root = logging.getLogger()
    root.handlers[:] = [_Stderr()]
    root.setLevel(logging.INFO if verbose else logging.WARNING)


class _Stderr(logging.Handler):
    """Writes each record as one line to what is stderr at that moment: a progress bar may stand before it."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.WARNING:
            note(f"{record.levelname.lower()}: {record.getMessage()}")
        elif record.name.startswith("afmid"):
            note(record.getMessage())
