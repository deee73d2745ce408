"""What ``run --dry-run`` prints.

Law of this file: values in, words out; the rehearsal itself is :mod:`hpbandster_lite.standalone.dry_run`.
"""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from hpbandster_lite.cli.view.formats import amount, duration, number, value_text
from hpbandster_lite.cli.view.tables import plain_table
from hpbandster_lite.engine.same_fault import shown
from hpbandster_lite.records import Limits
from hpbandster_lite.results.forecast import Price
from hpbandster_lite.standalone.dry_run import Rehearsal, Tried


def print_rehearsal(out: Console, told: Rehearsal, unit: str) -> None:
    """The evaluations of a rehearsal, one a line, and what became of the checkpoint."""
    refused = f" ({told.refused} others were refused as infeasible before it)" if told.refused else ""
    values = ", ".join(f"{name}={value_text(value)}" for name, value in told.values.items())
    out.print(f"dry run with {values}{refused}", markup=False, soft_wrap=True)
    table = plain_table()
    for heading in ("evaluation", "budget", "loss", "time", "left behind"):
        table.add_column(heading, justify="left" if heading in ("evaluation", "left behind") else "right")
    for tried in told.evaluations:
        loss = number(tried.loss) if tried.failure is None else f"failed: {tried.failure.kind.value}"
        budget, time = amount(tried.budget, unit), duration(tried.duration_s)
        table.add_row(tried.part, budget, escape(loss), time, _left_behind(tried))
    out.print(table)
    out.print(f"\n{_about_checkpoint(told)}", markup=False, soft_wrap=True)
    if told.failure is not None:
        out.print(f"\n{shown(told.failure)}", markup=False, style="red", soft_wrap=True)


def print_price(out: Console, told: Rehearsal, price: Price, *, unit: str, workers: int, limits: Limits) -> None:
    """What the search costs by this measure."""
    what = "one Hyperband cycle" if price.is_one_cycle else "what is to be done"
    total = amount(price.budget, unit)
    each = duration(told.seconds_per_unit) if told.seconds_per_unit >= 1 else f"{number(told.seconds_per_unit, 2)} s"
    who = "1 worker" if workers == 1 else f"{workers} workers"
    hours = "GPU hours" if told.device else "hours of one worker"
    lines = [
        f"price: {what} is {price.evaluations} evaluations, {total} in all, at {each} for {amount(1, unit)}:",
        f"  {price.worker_s / 3600:.2f} {hours} in all ({duration(price.worker_s)})",
        f"  {duration(price.wall_s)} with {who}, and {duration(told.import_s + told.warm_up_s)} until each is warm",
    ]
    if limits.wall_time_s is not None:
        lines.append(f"  the limit on the time ends it after {duration(limits.wall_time_s)}")
    lines.append("Measured with one configuration; others may take more or less.")
    lines.append("Nothing was kept: the same command without --dry-run begins the search.")
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


def _left_behind(tried: Tried) -> str:
    if not tried.files:
        return "nothing"
    files = "1 file" if tried.files == 1 else f"{tried.files} files"
    return f"{files}, {_size(tried.size_bytes)}"


def _size(count: int) -> str:
    for unit, bytes_each in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= bytes_each:
            return f"{count / bytes_each:.3g} {unit}"
    return f"{count} bytes"


def _about_checkpoint(told: Rehearsal) -> str:
    last = told.evaluations[-1]
    if told.failure is not None and last.part == "smallest":
        return "the smallest evaluation failed:"
    if told.failure is not None and last.part == "again":
        return "the same evaluation failed when the same process ran it again, as workers do:"
    if not told.keeps_checkpoint:
        return "the problem keeps no checkpoint: every promotion trains from the start, and what is lost begins anew"
    where = "trial.previous_directory" if last.part == "promotion" else "trial.resume_directory"
    if told.failure is not None:
        return f"a checkpoint was saved, and the evaluation that was to go on with it ({where}) failed:"
    return f"a checkpoint was saved, and another process went on with it ({where})"
