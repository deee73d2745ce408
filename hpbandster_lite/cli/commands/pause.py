"""``pause``: hand out no more work."""

from __future__ import annotations

from hpbandster_lite.cli.ask_master import Reason, ask_master
from hpbandster_lite.cli.options import Run
from hpbandster_lite.cli.run_directory import directory_of_a_search
from hpbandster_lite.protocol.messages import PauseRequest


def pause(run: Run, reason: Reason = "") -> None:
    """Pause a running search: its master hands out no more work, and running evaluations finish.

    The search stays paused, also if its master starts again, until: hpbandster-lite resume RUN
    """
    ask_master(directory_of_a_search(run), PauseRequest(reason=reason))
