"""``pause``, ``resume``, ``stop`` and ``cancel``: what a user tells a running search from outside.

Law of this file: it asks the master, which journals what was decided before it answers, and prints the answer. Each of
them may be repeated: what is so already stays so.
"""

from __future__ import annotations

import re
from typing import Annotated

import typer

from hpbandster_lite.cli.commands.status import directory_of_a_search
from hpbandster_lite.cli.options import Run
from hpbandster_lite.cli.view.formats import first_line
from hpbandster_lite.errors import MasterUnreachable, UsageError
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.master import connect
from hpbandster_lite.process.log_format import escape_controls
from hpbandster_lite.records import ConfigId, EvaluationId, Plain
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.transport import Busy

TIMEOUT_S = 10.0
Reason = Annotated[
    str,
    typer.Option("--reason", metavar="TEXT", help="Why, for the journal and for who looks.", show_default=False),
]


def pause(run: Run, reason: Reason = "") -> None:
    """Pause a running search: nothing more is handed out, what runs is finished.

    It stays paused, also when its master is started again, until: hpbandster-lite resume RUN
    """
    _tell(directory_of_a_search(run), "pause", {"reason": reason})


def resume(run: Run) -> None:
    """Hand out work again in a search that was paused."""
    _tell(directory_of_a_search(run), "resume", {})


def stop(run: Run, reason: Reason = "") -> None:
    """Stop a running search: its workers hand back what they run and end, as does everything that run started.

    Nothing is lost: run with the same command goes on where it was stopped.
    """
    _tell(directory_of_a_search(run), "stop", {"reason": reason})


def cancel(
    run: Run,
    evaluation: Annotated[
        str,
        typer.Argument(metavar="ID", help="The evaluation, as list prints it: 0-0-3@1.", show_default=False),
    ],
    reason: Reason = "",
) -> None:
    """Drop one evaluation of a running search: it ends without a loss, ranks last, and is never shown to the model.

    Its worker is told at the next heartbeat, and works on something else.
    """
    (bracket, sampled_at, index), rung = evaluation_id(evaluation)
    told = {"evaluation": [[bracket, sampled_at, index], rung], "reason": reason}
    _tell(directory_of_a_search(run), "cancel", told)


def evaluation_id(text: str) -> EvaluationId:
    """Read an evaluation as ``list`` prints it.

    Raises
    ------
    UsageError
        If it is none.
    """
    match = re.fullmatch(r"(\d+)-(\d+)-(\d+)@(\d+)", text.strip(), re.ASCII)
    if match is None:
        raise UsageError(f"{text!r} is no evaluation; give one as list prints it: BRACKET-RUNG-INDEX@RUNG, say 0-0-3@1")
    bracket, sampled_at, index, rung = map(int, match.groups())
    return EvaluationId(ConfigId(bracket, sampled_at, index), rung)


def _tell(directory: RunDirectory, command: str, message: Plain) -> None:
    """Ask the master and print what it did.

    Raises
    ------
    MasterUnreachable
        With what to do.
    """
    if directory.read_endpoint() is None:
        finished = JournalReader(directory.journal).finished()
        what = "does not run" if finished is None else f"is over ({first_line(finished.reason)})"
        raise MasterUnreachable(
            f"the search in {directory.path} {what}: no master serves it, and nothing was changed; to {command} it, "
            "begin it again with the command that began it, then repeat this one"
        )
    try:
        with connect(directory, timeout_s=TIMEOUT_S) as client:
            answer = client.call(command, message)
    except Busy as error:
        raise Busy(f"the search was not told to {command}: {error}; make room on the disk, then repeat this") from error
    except MasterUnreachable as error:
        raise MasterUnreachable(
            f"the search was not told to {command}: {error} If it was killed, begin the search again with the command "
            "that began it; then repeat this one, which changes nothing if it was heard after all"
        ) from error
    typer.echo(escape_controls(str(answer["words"])))
