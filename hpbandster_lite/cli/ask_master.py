"""Ask the master of a running search to change something: what ``pause``, ``resume``, ``stop`` and ``cancel`` share.

Law of this file: it asks the master, which journals its decision before it answers, and prints the answer. Each request
may be repeated without further effect.
"""

from __future__ import annotations

from typing import Annotated

import typer

from hpbandster_lite.engine.same_fault import first_line
from hpbandster_lite.errors import MasterUnreachable
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.master.connection import connect
from hpbandster_lite.process.log_format import escape_controls
from hpbandster_lite.protocol.messages import Command, ResumeRequest, StopRequest, send
from hpbandster_lite.rundir import RunDirectory, why_no_answer, why_stopped
from hpbandster_lite.settings.search_file import how_to_continue
from hpbandster_lite.transport import Busy

TIMEOUT_S = 10.0
Reason = Annotated[
    str,
    typer.Option(
        "--reason", metavar="TEXT", help="Reason, which the journal stores and status shows.", show_default=False
    ),
]


def ask_master(directory: RunDirectory, request: Command) -> None:
    """Send a request to the master and print its answer.

    Raises
    ------
    MasterUnreachable
        If no master answers; the message says what to do.
    """
    command = request.method
    if directory.read_endpoint() is None:
        if directory.is_served():
            # It is starting, or it writes its endpoint again.
            raise MasterUnreachable(
                f"{command} was not done: no answer: {why_no_answer(directory.holder_file)}; repeat the command"
            )
        raise MasterUnreachable(_not_served(directory, command))
    try:
        with connect(directory, timeout_s=TIMEOUT_S) as client:
            answer = send(request, client)
    except Busy as error:
        raise Busy(f"{command} was not done: {error}; free space on the disk, then repeat the command") from error
    except MasterUnreachable as error:
        if stopped := why_stopped(directory.holder_file):
            raise MasterUnreachable(
                f"{command} was not done: no answer: {stopped}; then repeat the command, which changes nothing if the "
                "master received it after all"
            ) from error
        raise MasterUnreachable(
            f"{command} was not done: {error} If the master lives, repeat the command, which changes nothing if the "
            f"master received it after all; if it was killed, {_start_one(directory, command)}"
        ) from error
    typer.echo(escape_controls(answer.sentence))


def _not_served(directory: RunDirectory, command: str) -> str:
    """That no master serves the search, and what to do, if anything can be done."""
    finished = JournalReader(directory.journal).finished()
    if finished is None:
        return (
            f"the search in {directory.path} does not run: no master serves it, and nothing was changed; "
            f"{_start_one(directory, command)}"
        )
    reason = first_line(finished.reason)
    if not finished.kind.was_stopped:
        over = f"the search in {directory.path} is over ({reason}): nothing was changed"
        return f"{over}, and there is nothing to {command}"
    if command == StopRequest.method:
        return f"the search in {directory.path} is stopped already ({reason}): nothing was changed"
    return f"the search in {directory.path} was {reason}: nothing was changed; {_start_one(directory, command)}"


def _start_one(directory: RunDirectory, command: str) -> str:
    settings = JournalReader(directory.journal).settings()
    how = how_to_continue(directory, settings.problem.reference)
    then = "" if command == ResumeRequest.method else f"; to {command} it, repeat this command while it runs"
    return f"to continue the search, {how}{then}"
