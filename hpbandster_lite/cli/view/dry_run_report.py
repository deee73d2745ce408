"""What ``run --dry-run`` prints.

Law of this file: values in, text out; :mod:`hpbandster_lite.standalone.dry_run` runs the evaluations.
"""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from hpbandster_lite.cli.view.formats import amount, duration, number, value_text
from hpbandster_lite.cli.view.tables import plain_table
from hpbandster_lite.engine.same_fault import shown
from hpbandster_lite.records import Limits, users_values
from hpbandster_lite.results.forecast import Price
from hpbandster_lite.standalone.dry_run import DryEvaluation, DryRun


def print_dry_run(out: Console, dry_run: DryRun, unit: str, *, word: str = "loss") -> None:
    """Print the evaluations of a dry run, one per line, and whether the checkpoint was continued.

    ``word`` is the heading of what the objective returned.
    """
    refused = f" ({dry_run.refused} others were refused as infeasible before it)" if dry_run.refused else ""
    values = ", ".join(f"{name}={value_text(value)}" for name, value in users_values(dry_run.values).items())
    out.print(f"dry run with {values}{refused}", markup=False, soft_wrap=True)
    table = plain_table()
    for heading in ("evaluation", "budget", word, "time", "left behind"):
        table.add_column(heading, justify="left" if heading in ("evaluation", "left behind") else "right")
    for evaluation in dry_run.evaluations:
        loss = number(evaluation.loss) if evaluation.failure is None else f"failed: {evaluation.failure.kind.value}"
        budget, time = amount(evaluation.budget, unit), duration(evaluation.duration_s)
        table.add_row(evaluation.part, budget, escape(loss), time, _left_behind(evaluation))
    out.print(table)
    out.print(f"\n{_about_checkpoint(dry_run)}", markup=False, soft_wrap=True)
    if dry_run.failure is not None:
        out.print(f"\n{shown(dry_run.failure)}", markup=False, style="red", soft_wrap=True)


def print_price(out: Console, dry_run: DryRun, price: Price, *, unit: str, workers: int, limits: Limits) -> None:
    """Print what the search costs at the measured speed."""
    what = "one Hyperband cycle" if price.is_one_cycle else "the rest of the search"
    total = amount(price.budget, unit)
    unit_s = dry_run.seconds_per_unit
    each = duration(unit_s) if unit_s >= 1 else f"{number(unit_s, 2)} s"
    crew = "1 worker" if workers == 1 else f"{workers} workers"
    warm_after_s = dry_run.import_s + dry_run.warm_up_s
    hours = "GPU hours" if dry_run.device else "hours of one worker"
    lines = [
        f"price: {what} is {price.evaluations} evaluations, {total} in all, at {each} for {amount(1, unit)}:",
        f"  {price.worker_s / 3600:.2f} {hours} in all ({duration(price.worker_s)})",
        f"  {duration(price.wall_s)} with {crew}, and {duration(warm_after_s)} until each is warm",
    ]
    if limits.wall_time_s is not None:
        lines.append(f"  the time limit ends it after {duration(limits.wall_time_s)}")
    lines.append("Measured with one configuration; others may take more or less.")
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)


def _left_behind(evaluation: DryEvaluation) -> str:
    if not evaluation.files:
        return "nothing"
    files = "1 file" if evaluation.files == 1 else f"{evaluation.files} files"
    return f"{files}, {_size(evaluation.size_bytes)}"


def _size(count: int) -> str:
    for unit, bytes_each in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= bytes_each:
            return f"{count / bytes_each:.3g} {unit}"
    return f"{count} bytes"


def _about_checkpoint(dry_run: DryRun) -> str:
    last = dry_run.evaluations[-1]
    if dry_run.failure is not None and last.part == "smallest":
        return "the smallest evaluation failed:"
    if dry_run.failure is not None and last.part == "again":
        return "the same evaluation failed when the same process ran it again, as workers do:"
    if not dry_run.keeps_checkpoint:
        return "the problem keeps no checkpoint: every promotion and every lost evaluation trains from the start"
    where = "trial.previous_directory" if last.part == "promotion" else "trial.resume_directory"
    if dry_run.failure is not None:
        return f"a checkpoint was saved, and the evaluation that continued from it ({where}) failed:"
    return f"a checkpoint was saved, and another process continued from it ({where})"
