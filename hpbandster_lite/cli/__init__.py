"""The command line, ``hpbandster-lite COMMAND``: to search, to look, to steer, and the processes of a search apart.

Law of this folder: it parses, prints and chooses exit codes; all work is done by the rooms below. An error raised on
purpose is printed as one message, without a traceback, and ends with the exit code of its branch of the error tree.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable

import typer
from rich.console import Console

from hpbandster_lite.cli.commanding import cancel, pause, resume, stop
from hpbandster_lite.cli.explaining import options
from hpbandster_lite.cli.problem_options import PASSES_ON
from hpbandster_lite.cli.reading import best, list_evaluations, status
from hpbandster_lite.cli.refitting import refit
from hpbandster_lite.cli.searching import plan, run
from hpbandster_lite.cli.serving import master, nameserver, worker
from hpbandster_lite.cli.verifying import verify
from hpbandster_lite.ending import leave
from hpbandster_lite.errors import SearchError

app = typer.Typer(
    name="hpbandster-lite",
    help="Find the best network and its hyperparameters together, at a bounded cost, with BOHB.\n\n"
    "Begin with: [b]hpbandster-lite run digits[/]",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


TAKES_PROBLEM_OPTIONS = ("run", "plan", "options", "refit", "master", "worker")
"""Commands that pass options which they do not know on to the problem."""


def _paragraphs(command: Callable[..., None]) -> str:
    """A command's docstring with one line a paragraph: help breaks lines to the width of the terminal by itself."""
    text = inspect.getdoc(command) or ""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


for _name, _command, _panel in (
    ("run", run, "Search"),
    ("plan", plan, "Search"),
    ("options", options, "Search"),
    ("status", status, "Look"),
    ("best", best, "Look"),
    ("list", list_evaluations, "Look"),
    ("verify", verify, "Look"),
    ("refit", refit, "Search"),
    ("pause", pause, "Steer"),
    ("resume", resume, "Steer"),
    ("stop", stop, "Steer"),
    ("cancel", cancel, "Steer"),
    ("master", master, "On more than one machine"),
    ("worker", worker, "On more than one machine"),
    ("nameserver", nameserver, "On more than one machine"),
):
    _settings = dict(PASSES_ON) if _name in TAKES_PROBLEM_OPTIONS else None
    app.command(_name, help=_paragraphs(_command), rich_help_panel=_panel, context_settings=_settings)(_command)


def main() -> None:
    """Run the command that ``sys.argv`` names; never returns."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        app()
    except SearchError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]error:[/] {_escaped(str(error))}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            leave(ended.code or 0)
        raise


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
