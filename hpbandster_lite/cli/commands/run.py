"""``run``: a search on this machine."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from typing import Annotated

import typer
from rich.console import Console

from hpbandster_lite.cli.chosen_directory import chosen_directory
from hpbandster_lite.cli.options import Problem, takes_options
from hpbandster_lite.cli.run_directory import completed, read_status
from hpbandster_lite.cli.view.dry_run_report import print_dry_run, print_price
from hpbandster_lite.cli.view.incumbent import print_incumbent, print_where_saved
from hpbandster_lite.cli.view.plan import introduce_plan
from hpbandster_lite.cli.view.progress import watcher_for
from hpbandster_lite.cli.view.terminal import console
from hpbandster_lite.engine.same_fault import first_line
from hpbandster_lite.errors import UsageError
from hpbandster_lite.hyperband.direction import word_for
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.launch.local_search import LaunchOptions, is_over, search_here
from hpbandster_lite.launch.supervisor import SAME_COMMAND
from hpbandster_lite.process.shutdown import INTERRUPTED, REQUEUE
from hpbandster_lite.protocol.status import Status
from hpbandster_lite.records import FailureKind
from hpbandster_lite.results.forecast import price
from hpbandster_lite.results.journal_status import NO_MASTER
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.options import PlaceOptions, SearchOptions
from hpbandster_lite.settings.prepare import prepare
from hpbandster_lite.settings.search_file import FILE_NAME
from hpbandster_lite.standalone.dry_run import perform_dry_run

DRY_RUN_FAILED = 1
"""Exit code of a dry run in which an evaluation failed."""
NOTHING_FOUND = 1
"""Exit code of a search that is over without a loss."""


@takes_options
def run(
    problem: Problem,
    search: SearchOptions,
    place: PlaceOptions,
    launch: LaunchOptions,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Run one evaluation at the smallest budget in a worker's process, continue it from its checkpoint, "
            "and estimate the cost of the search. Keeps nothing.",
        ),
    ] = False,
    progress: Annotated[
        bool | None,
        typer.Option(
            "--progress/--no-progress",
            help="Show a live view, or else log lines. [dim]\\[default: a live view on a terminal][/]",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Search on this machine: start a name server, a master and workers, and show the progress.

    Run the same command again, without --new, to continue a search that was stopped or killed. You may then give other
    limits, which extend or shorten the search, and another number of workers.

    Ctrl-C hands the running evaluations back and ends; a second Ctrl-C ends at once.

    Exit codes: 0 the search is over, or was stopped; 1 it is over without any loss, or it was stopped because its first
    evaluations all failed with the same fault, or a dry run failed; 2 wrong input; 3 a master or name server did not
    answer; 4 the run directory cannot be used, another master serves it, or its journal was deleted or replaced; 5 the
    source of the problem was edited during the search, and no worker with the former source is left; 75 the allocation
    ends (SIGUSR2): the same command continues in the next one; 130 interrupted. After the end of its last worker, its
    code.
    """
    if place.new and place.run_dir is not None:
        raise UsageError("give either --new, which takes a free run directory, or --run-dir, not both")
    directory = chosen_directory(problem, place.run_dir, new=place.new)
    if directory.path.exists():
        # Before the plan is shown.
        directory.check()
    out = console(drops=True)
    if dry_run:
        sys.exit(_dry_run(out, search, directory, launch))
    way_on = _way_on(directory, is_new=place.new)
    live = out.is_terminal if progress is None else progress
    with watcher_for(out, completed, live=live) as watcher:
        code = search_here(search, directory, launch, watcher, way_on=way_on)
        if directory.journal.exists():
            # What has happened since the last status of the master.
            watcher.status(_ended(read_status(directory), code, way_on))
    if code == 0:
        sys.exit(_concluded(out, directory, way_on, is_shown=live))
    if way_on != SAME_COMMAND:
        # With another code a process has refused the input, or a fault must be removed first.
        first = "to go on" if code in (INTERRUPTED, REQUEUE) else "once the cause is removed"
        out.print(f"\n{first}, {way_on}", markup=False, soft_wrap=True)
    sys.exit(code)


def _ended(status: Status, code: int, way_on: str) -> Status:
    """The last status that ``run`` shows: it has ended the master itself, and knows what was typed."""
    head, _, how = (status.reason or "").partition(f"{NO_MASTER}; ")
    if status.state == "stopped" and not head and how.startswith("to continue, ") and way_on == SAME_COMMAND:
        first = "to continue" if code in (INTERRUPTED, REQUEUE) else "once the cause is removed"
        return replace(status, reason=f"{first}, {way_on}")
    return status


def _way_on(directory: RunDirectory, *, is_new: bool) -> str:
    """What continues this search: with ``--new``, the same command would begin another one."""
    typed = sys.argv[1:]
    if "--new" in typed:
        at = typed.index("--new")
        words = [*typed[:at], "--run-dir", str(directory.path), *typed[at + 1 :]]
        return f"run: hpbandster-lite {shlex.join(words)}"
    return f"run: hpbandster-lite run {shlex.quote(str(directory.path / FILE_NAME))}" if is_new else SAME_COMMAND


def _dry_run(out: Console, options: SearchOptions, directory: RunDirectory, launch: LaunchOptions) -> int:
    """Run one evaluation and its continuation, and print what the search costs; return the exit code."""
    prepared = prepare(options, directory)
    settings = prepared.settings
    introduce_plan(out, prepared)
    tried = perform_dry_run(
        settings,
        workers=launch.workers,
        threads=launch.threads,
        gpus=launch.gpus,
        gpus_per_worker=launch.gpus_per_worker,
        limit_s=launch.timeout_s,
    )
    print_dry_run(out, tried, settings.unit, word=word_for(maximize=settings.maximize))
    if tried.failure is not None:
        return DRY_RUN_FAILED
    workers = len(launch.devices())
    price_of_rest = price(
        read_status(directory) if prepared.resumed else None,
        settings,
        prepared.limits,
        seconds_per_unit=tried.seconds_per_unit,
        continues=tried.keeps_checkpoint,
        workers=workers,
    )
    out.print()
    print_price(out, tried, price_of_rest, unit=settings.unit, workers=workers, limits=prepared.limits)
    begins = "continues" if prepared.resumed else "starts"
    if not prepared.resumed or not is_over(prepared, directory):
        out.print(f"Nothing was kept: the same command without --dry-run {begins} the search.")
    return 0


def _concluded(out: Console, directory: RunDirectory, way_on: str, *, is_shown: bool) -> int:
    """Print what a search that is over has found, or that it has found nothing; return the exit code.

    ``way_on`` continues it; ``is_shown`` is whether the view above has the whole reason already.
    """
    reader = JournalReader(directory.journal)
    with reader.group():
        finished, rungs, best = reader.finished(), reader.rungs(), reader.best()
    why = "" if finished is None else finished.reason
    out.print()
    if best is None and any(row["done"] + row["failed"] for row in rungs):
        # With the traceback, where the reason has one and the view has not shown it.
        reason = first_line(why) if is_shown else why
        out.print(f"nothing was found, the search is over: {reason}", markup=False, style="red", soft_wrap=True)
        _print_where_failures_are(out, reader, directory, way_on)
        return NOTHING_FOUND
    print_incumbent(out, directory)
    if finished is not None and finished.kind.was_stopped:
        again = "the same command continues it" if way_on == SAME_COMMAND else f"to continue it, {way_on}"
        out.print(f"\nthe search was {why}; {again}", markup=False, soft_wrap=True)
        return 0
    print_where_saved(out, directory)
    return 0


def _print_where_failures_are(out: Console, reader: JournalReader, directory: RunDirectory, way_on: str) -> None:
    where = directory.path
    parts = [f"all failures: hpbandster-lite list {shlex.quote(str(where))} --failed"]
    if directory.has_attempt_logs():
        parts.append(f"logs: {where / 'evaluations'}")
    kinds = [FailureKind(kind) for kind in reader.failures()]
    if any(kind.is_mendable for kind in kinds):
        again = "the same command with --retry-failed runs them again"
        if way_on != SAME_COMMAND:
            again = f"to run them again, {way_on} --retry-failed"
        parts.append(f"once the code is corrected, {again}")
    elif kinds:
        # A result of these kinds stands, because it is no fault of the code.
        names = ", ".join(sorted(kind.value.replace("_", " ") for kind in kinds))
        parts.append(f"no command repeats evaluations that failed with {names}; a higher limit evaluates others")
    out.print("\n" + "; ".join(parts), markup=False, soft_wrap=True)
