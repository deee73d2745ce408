"""The command line, ``hpbandster-lite COMMAND``: the list of commands, and how errors become exit codes.

Law of this folder: it parses, prints and chooses exit codes; all work is done by the rooms below. An error raised on
purpose is printed as one message, without a traceback, and ends with the exit code of its branch of the error tree.
"""

from __future__ import annotations

import errno
import importlib
import inspect
import logging
import sys
from collections.abc import Callable, Mapping
from typing import Annotated

import typer
from typer.main import get_command

from hpbandster_lite._version import __version__
from hpbandster_lite.cli import completion
from hpbandster_lite.cli.problem_options import PASSES_ON
from hpbandster_lite.errors import BudgetError, RunDirectoryError, SearchError, UsageError
from hpbandster_lite.process import early_interrupt
from hpbandster_lite.process.log_format import escape_controls, log_to_stderr, logs_json
from hpbandster_lite.process.shutdown import INTERRUPTED, exit_now

NAME = "hpbandster-lite"
SEARCH, LOOK, STEER, MACHINES = "Search", "Look", "Steer", "On more than one machine"
COMMANDS: Mapping[str, str] = {
    **dict.fromkeys(("run", "plan", "options", "refit"), SEARCH),
    **dict.fromkeys(("status", "best", "list", "backup", "verify", "ping", "doctor"), LOOK),
    **dict.fromkeys(("pause", "resume", "stop", "cancel"), STEER),
    **dict.fromkeys(("master", "worker", "nameserver", "certs"), MACHINES),
}
"""The group of each command, in the order in which help shows them; its module and function have the command's name."""
GROUPS: Mapping[str, str] = {"slurm": MACHINES}
"""The same for commands that have commands of their own, in the module ``app`` of a folder."""
TAKES_PROBLEM_OPTIONS = ("run", "plan", "options", "refit", "master", "worker")
"""Commands that pass options which they do not know on to the problem."""
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of standard output that a user can do something about."""
_ABOUT_INITIAL = "initial: "
"""Begins an error about the configurations of an option; the rest has names and values of the user's space."""


def make_app(only: str | None = None) -> typer.Typer:
    """The command line.

    Parameters
    ----------
    only
        The one command that will be used: the modules of the others are not imported, which saves a worker half a
        second. If there is no such command, all are imported, for help and for the list of names.
    """
    app = typer.Typer(
        name=NAME,
        help="Find the best network and its hyperparameters together, at a bounded cost, with BOHB.\n\n"
        "Begin with: [b]hpbandster-lite run digits[/]",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    # Without a callback, typer would call an app with one command without the name of the command.
    app.callback()(without_a_command)
    is_one = only is not None and only in {*COMMANDS, *GROUPS}
    for name, group in COMMANDS.items():
        if is_one and name != only:
            continue
        module = importlib.import_module(f"hpbandster_lite.cli.commands.{name}")
        # ``list`` is Python's.
        command = getattr(module, "list_" if name == "list" else name)
        settings = dict(PASSES_ON) if name in TAKES_PROBLEM_OPTIONS else None
        app.command(name, help=paragraphs(command), rich_help_panel=group, context_settings=settings)(command)
    for name, group in GROUPS.items():
        if not is_one or name == only:
            module = importlib.import_module(f"hpbandster_lite.cli.commands.{name}.app")
            app.add_typer(module.app, name=name, rich_help_panel=group)
    return app


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"{NAME} {__version__}")
        raise typer.Exit


def without_a_command(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version, and end."),
    ] = False,
) -> None:
    """The options that need no command."""


def paragraphs(command: Callable[..., None]) -> str:
    """A command's docstring with one line for each paragraph: help wraps lines to the width of the terminal."""
    text = inspect.getdoc(command) or ""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def main() -> None:
    """Run the command that ``sys.argv`` names; never returns."""
    log_to_stderr()
    try:
        # Under its own name also for ``python -m``: completion is installed for the command of this name.
        completion.refuse_a_shell(sys.argv[1:])
        app = make_app(sys.argv[1] if len(sys.argv) > 1 else None)
        if completion.is_asked():
            command = get_command(app)
            completion.shorten(command)
            command(prog_name=NAME)
        early_interrupt.interrupt()
        app(prog_name=NAME)
    except SearchError as error:
        text = in_words_of_the_command_line(error)
        if logs_json():
            logging.getLogger("hpbandster_lite").error("%s", text, extra={"exit_code": error.exit_code})
            sys.exit(error.exit_code)
        # Here: most commands end without an error.
        from rich.console import Console

        message = _escaped(escape_controls(text))
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]error:[/] {message}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except RuntimeError as error:
        if not early_interrupt.is_behind(error):
            raise
        sys.exit(INTERRUPTED)
    except OSError as error:
        if error.errno not in UNWRITABLE or error.filename is not None:
            raise
        # Errors of files have been converted, and have a name.
        sys.stderr.write(f"error: cannot write the output: {error.strerror}\n")
        exit_now(RunDirectoryError.exit_code)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            exit_now(ended.code or 0)
        raise


def in_words_of_the_command_line(error: SearchError) -> str:
    """The text of an error; one about options names them as they are typed, and not as in Python."""
    is_about_options = type(error) in (UsageError, BudgetError)
    if not is_about_options and not str(error).startswith(_ABOUT_INITIAL):
        return str(error)
    # Here: most commands end without an error.
    from hpbandster_lite.settings.option_words import for_command_line

    return for_command_line(str(error)) if is_about_options else f"--{error}"


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
