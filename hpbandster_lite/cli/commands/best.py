"""``best``: the incumbent of a search."""

from __future__ import annotations

import json

import typer

from hpbandster_lite.cli.options import AsJson, Run
from hpbandster_lite.cli.run_directory import directory_of_a_search
from hpbandster_lite.cli.view.incumbent import print_incumbent
from hpbandster_lite.cli.view.terminal import console
from hpbandster_lite.records import ConfigId
from hpbandster_lite.results.incumbent import current_incumbent
from hpbandster_lite.standalone.trained import trained_in, trained_plain


def best(run: Run, as_json: AsJson = False) -> None:
    """Print the incumbent: the best configuration at the highest budget evaluated so far.

    If the problem has a test, the output includes the test figures once the search is over. With --json it has
    everything that a refit needs: hpbandster-lite refit accepts a file with it instead of RUN, also on another machine.
    """
    directory = directory_of_a_search(run)
    if as_json:
        incumbent, trained = current_incumbent(directory), {}
        if incumbent is not None:
            trained = trained_plain(trained_in(directory, ConfigId(*incumbent["config_id"])))
        typer.echo(json.dumps(None if incumbent is None else {**trained, **incumbent}, indent=2))
    else:
        print_incumbent(console(), directory)
