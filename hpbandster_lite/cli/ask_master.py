"""Ask the master of a running search to change something: what ``pause``, ``resume``, ``stop`` and ``cancel`` share.

Law of this file: it asks the master, which journals its decision before it answers, and prints the answer. Each request
may be repeated without further effect.
"""

from __future__ import annotations

from typing import Annotated

import typer

from hpbandster_lite.cli.view.formats import first_line
from hpbandster_lite.errors import MasterUnreachable
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.master.connection import connect
from hpbandster_lite.process.log_format import escape_controls
from hpbandster_lite.protocol.messages import Command, send
from hpbandster_lite.rundir import RunDirectory
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
        finished = JournalReader(directory.journal).finished()
        state = "does not run" if finished is None else f"is over ({first_line(finished.reason)})"
        raise MasterUnreachable(
            f"the search in {directory.path} {state}: no master serves it, and nothing was changed; to {command} it, "
            "run the command that began it again, then repeat this one"
        )
    try:
        with connect(directory, timeout_s=TIMEOUT_S) as client:
            answer = send(request, client)
    except Busy as error:
        raise Busy(f"{command} was not done: {error}; free space on the disk, then repeat the command") from error
    except MasterUnreachable as error:
        raise MasterUnreachable(
            f"{command} was not done: {error} If the master was killed, run the command that began the search again; "
            "then repeat this one, which changes nothing if the master received it after all"
        ) from error
    typer.echo(escape_controls(answer.sentence))
