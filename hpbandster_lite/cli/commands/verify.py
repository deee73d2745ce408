"""``verify``: recompute every decision in the journal of a search."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import typer

from hpbandster_lite.cli.options import AsJson, Run
from hpbandster_lite.cli.run_directory import directory_of_a_search
from hpbandster_lite.errors import InvariantBroken
from hpbandster_lite.process.log_format import escape_controls
from hpbandster_lite.results.verify_run import verify_run


def verify(run: Run, as_json: AsJson = False) -> None:
    """Replay the journal of a search and recompute every decision in it, while it runs or afterwards.

    Brackets, promotions and reruns must be exactly the same. Proposals must be the same bit for bit if the master had
    the same Python, numpy, scipy, C library, processor features and threads as this command; otherwise the choices must
    be the same and the numbers within 1e-9, and the output names what differs.

    Exit codes: 0 every decision is the same; 70 some differ, and the output shows the first differences.
    """
    verification = verify_run(directory_of_a_search(run))
    if as_json:
        report = {"holds": verification.holds, "is_bitwise": verification.is_bitwise, **asdict(verification)}
        typer.echo(json.dumps(report, indent=2))
    else:
        typer.echo(escape_controls(verification.summary))
    sys.exit(0 if verification.holds else InvariantBroken.exit_code)
