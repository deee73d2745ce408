"""``cancel``: drop one evaluation."""

from __future__ import annotations

from typing import Annotated

import typer

from hpbandster_lite.cli.ask_master import Reason, ask_master
from hpbandster_lite.cli.options import Run
from hpbandster_lite.cli.run_directory import directory_of_a_search
from hpbandster_lite.cli.typed_ids import read_evaluation_id
from hpbandster_lite.protocol.messages import CancelRequest


def cancel(
    run: Run,
    evaluation: Annotated[
        str,
        typer.Argument(metavar="ID", help="The evaluation, as list prints it: 0-0-3@1.", show_default=False),
    ],
    reason: Reason = "",
) -> None:
    """Cancel one evaluation of a running search: it ends without a loss, ranks last, and the model ignores it.

    Its worker stops it at the next heartbeat, and takes other work.
    """
    ask_master(directory_of_a_search(run), CancelRequest(evaluation=read_evaluation_id(evaluation), reason=reason))
