"""``list``: the evaluations of a search."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from hpbandster_lite.cli.options import AsJson, Run
from hpbandster_lite.cli.run_directory import directory_of_a_search
from hpbandster_lite.cli.view.evaluations import evaluations_table
from hpbandster_lite.cli.view.terminal import console
from hpbandster_lite.hyperband.direction import word_for
from hpbandster_lite.journal import JournalReader, source_of_row
from hpbandster_lite.records import Proposal
from hpbandster_lite.results.users_sign import evaluation_rows


def list_(
    run: Run,
    failed: Annotated[bool, typer.Option("--failed", help="List only failed evaluations.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the evaluations: configuration@rung, budget, state, loss, time, worker, and why one failed.

    Through a pipe each evaluation is a single line. If an edited source of the problem was accepted, the column source
    shows the source with which an evaluation began; 1 is the first.
    """
    reader = JournalReader(directory_of_a_search(run).journal)
    rows, edits = evaluation_rows(reader, ["failed"] if failed else ()), reader.source_edits()
    sources = [source_of_row(row, edits) for row in rows] if edits else []
    if as_json:
        proposals = reader.proposals() if rows else {}
        plain = [
            {
                "evaluation": f"{row['config_id']}@{row['rung']}",
                **row,
                "config_id": list(row["config_id"]),
                "source": source_of_row(row, edits),
                **_proposed(proposals[row["config_id"]]),
            }
            for row in rows
        ]
        typer.echo(json.dumps(plain, indent=2))
    elif not rows:
        console().print("no evaluation has failed" if failed else "no evaluation has begun")
    else:
        settings = reader.settings()
        word = word_for(maximize=settings.maximize)
        console().print(evaluations_table(rows, settings.unit, sources, word=word))


def _proposed(proposal: Proposal) -> dict[str, Any]:
    """Where a configuration comes from, and what its model predicts."""
    return {
        "origin": proposal.origin.value,
        "model_budget": proposal.model_budget,
        "fit": proposal.fit,
        "log_improvement": proposal.log_improvement,
    }
