"""``resume``: hand out work again after a pause."""

from __future__ import annotations

from hpbandster_lite.cli.ask_master import ask_master
from hpbandster_lite.cli.options import Run
from hpbandster_lite.cli.run_directory import directory_of_a_search
from hpbandster_lite.protocol.messages import ResumeRequest


def resume(run: Run) -> None:
    """Continue a search that was paused: its master hands out work again."""
    ask_master(directory_of_a_search(run), ResumeRequest())
