"""The table of evaluations that ``list`` prints.

Law of this file: rows in, table out; it reads and prints nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from hpbandster_lite.cli.view.formats import amount, duration, number
from hpbandster_lite.cli.view.tables import plain_table


def evaluations_table(
    rows: Sequence[Mapping[str, Any]], unit: str, sources: Sequence[int] = (), *, word: str = "loss"
) -> Table:
    """One row per evaluation: budget, state, loss, time, worker, and why it failed; and its source, if given.

    ``word`` is the heading of what the objective returned.
    """
    table = plain_table()
    again = any(row["attempt"] > 1 for row in rows)
    failed = any(row["failure"] is not None for row in rows)
    for heading in ("evaluation", "budget", "state", word, "time", "worker"):
        table.add_column(heading, no_wrap=True, justify="right" if heading in ("budget", word, "time") else "left")
    if again:
        table.add_column("attempt", justify="right")
    if sources:
        table.add_column("source", justify="right")
    if failed:
        table.add_column("reason", overflow="fold", ratio=1)
    for index, row in enumerate(rows):
        taken = row["finished_at"] - row["leased_at"] if row["finished_at"] and row["leased_at"] else None
        cells = [
            f"{row['config_id']}@{row['rung']}",
            amount(row["budget"], unit),
            row["state"] if row["failure"] is None else f"failed: {row['failure']}",
            number(row["loss"]),
            duration(taken),
            row["worker"] or "-",
        ]
        cells += [str(row["attempt"])] if again else []
        cells += [str(sources[index])] if sources else []
        cells += [row["reason"] or ""] if failed else []
        table.add_row(*(escape(cell) for cell in cells))
    return table
