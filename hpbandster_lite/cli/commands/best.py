"""``best``: the incumbent of a search."""

from __future__ import annotations

import json

import typer

from hpbandster_lite.cli.options import AsJson, Run
from hpbandster_lite.cli.run_directory import directory_of_a_search
from hpbandster_lite.cli.view.incumbent import print_incumbent
from hpbandster_lite.cli.view.terminal import console
from hpbandster_lite.results.incumbent import current_incumbent


def best(run: Run, as_json: AsJson = False) -> None:
    """Print the incumbent: the best configuration at the highest budget evaluated so far.

    If the problem has a test, the output includes the test figures once the search is over.
    """
    directory = directory_of_a_search(run)
    if as_json:
        typer.echo(json.dumps(current_incumbent(directory), indent=2))
    else:
        print_incumbent(console(), directory)
