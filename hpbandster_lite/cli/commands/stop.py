"""``stop``: end a running search, so that it can be continued."""

from __future__ import annotations

from hpbandster_lite.cli.ask_master import Reason, ask_master
from hpbandster_lite.cli.options import Run
from hpbandster_lite.cli.run_directory import directory_of_a_search
from hpbandster_lite.protocol.messages import StopRequest


def stop(run: Run, reason: Reason = "") -> None:
    """Stop a running search: its workers hand back their evaluations, then all its processes end.

    Nothing is lost: the same run command continues the search.
    """
    ask_master(directory_of_a_search(run), StopRequest(reason=reason))
