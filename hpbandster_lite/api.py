"""The Python interface: :func:`minimize`.

Law of this file: it starts the same search as ``hpbandster-lite run`` from a script, and decides nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from hpbandster_lite.errors import ProblemError, RunDirectoryError, UsageError
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.launch.local_search import LaunchOptions, Watcher, is_over, search_here
from hpbandster_lite.problems import (
    FunctionProblem,
    Problem,
    configured,
    describe,
    loaded,
    loading,
    reference_of,
    with_options,
)
from hpbandster_lite.problems.interface import HOOKS, defaults_of, instantiated
from hpbandster_lite.problems.options import takes_options
from hpbandster_lite.process.log_format import escape_controls
from hpbandster_lite.process.shutdown import INTERRUPTED, REQUEUE
from hpbandster_lite.process.streams import open_closed_descriptors
from hpbandster_lite.protocol.status import Status
from hpbandster_lite.records import Finished, FinishKind, Limits, ProblemDescription, ProblemSource, Value, Values
from hpbandster_lite.records.decorator import record
from hpbandster_lite.results.journal_status import notes_of
from hpbandster_lite.results.result import Result
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.options import (
    LimitOptions,
    PlaceOptions,
    SearchOptions,
    check_values,
    options_of,
    split_limits,
)
from hpbandster_lite.settings.place import Place, place_of, place_of_function
from hpbandster_lite.settings.prepare import Prepared

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from pandas import DataFrame

Objective = Callable[[dict[str, Any], float, Any], Any]


_EXTENDABLE = ("brackets", "evaluations", "total_budget", "wall_time_s")
"""Limits of which a higher value extends a search."""
_RECORDS = (LimitOptions, SearchOptions, LaunchOptions, PlaceOptions)


class _Lines:
    """Progress as lines on standard error; standard output belongs to the script."""

    def __init__(self) -> None:
        self._is_stalled = False

    def status(self, status: Status) -> None:
        """Print that the search waits for its disk; else the notes and the result are enough."""
        is_stalled = status.journal_stalled_s is not None
        if is_stalled != self._is_stalled:
            self._is_stalled = is_stalled
            why = f"the search waits: {status.journal_stalled_by}" if is_stalled else "the search goes on"
            self.note(why)

    def begin(self, prepared: Prepared, directory: RunDirectory) -> None:
        """Print the run directory and the notes."""
        self.note(f"{'continuing' if prepared.resumed else 'beginning'} the search in {directory.path}")
        for text in prepared.notes:
            self.note(text)
        if is_over(prepared, directory):
            finished = JournalReader(directory.journal).finished()
            if finished is not None:
                self.note(_over_note(prepared.users_limits, finished, maximize=prepared.settings.maximize))

    def note(self, text: str) -> None:
        """Print one line; the search goes on where nothing can be printed."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(f"hpbandster_lite: {escape_controls(text)}\n")


def minimize(
    problem: str | Path | Problem | Objective,
    space: ConfigurationSpace | None = None,
    *,
    problem_options: Mapping[str, Any] | None = None,
    min_budget: float | None = None,
    max_budget: float | None = None,
    eta: float | None = None,
    budgets: Sequence[float] | None = None,
    integer_budgets: bool | None = None,
    unit: str | None = None,
    maximize: bool | None = None,
    algorithm: str | None = None,
    bracket_rule: str | None = None,
    seed: int | None = None,
    sampler: Mapping[str, Value] | None = None,
    initial: Values | Sequence[Values] | DataFrame | str | Path | None = None,
    skip_default: bool | None = None,
    brackets: int | str | None = None,
    evaluations: int | str | None = None,
    total_budget: float | str | None = None,
    wall_time_s: float | str | None = None,
    target_loss: float | None = None,
    max_concurrent: int | None = None,
    workers: int | None = None,
    threads: int | None = None,
    gpus: str | int | None = None,
    gpus_per_worker: int = 1,
    timeout_s: float | None = None,
    isolation: str = "trainer",
    fresh_process: bool = False,
    grace_s: float = 20.0,
    keep_checkpoints: str = "needed",
    checkpoint_quota: int | str | None = None,
    run_dir: str | Path | None = None,
    new: bool = False,
    retry_failed: bool = False,
    accept_edited_source: bool = False,
    restored: bool = False,
    keep_going: bool = False,
    watcher: Watcher | None = None,
) -> Result:
    """Search for the configuration with the lowest loss, with worker processes on this machine.

    Call it under ``if __name__ == "__main__":``, because every worker imports the script that has the objective. Called
    again with the same run directory, it continues the search there. With ``isolation="none"``, an objective that no
    other process can import (a lambda, a function inside a function or typed into a notebook) runs in threads of this
    process. Without limits, a search runs the brackets that the problem names, else one Hyperband cycle.

    Parameters
    ----------
    problem
        A function ``evaluate(config, budget, trial)`` that returns the loss, or with ``maximize`` what is to be
        large (then ``space`` is needed), a problem
        object, the path of a file, or a reference such as ``"digits"``, ``"my_module:problem"`` or
        ``"my_module?option=value"``.
    space
        The ConfigSpace of a function.
    problem_options
        The problem's own options by name, where it has any; a search that continues keeps those that are left out.
    min_budget
        Smallest budget of one evaluation. Default: the problem's.
    max_budget
        Largest budget of one evaluation. Default: the problem's.
    eta
        Each rung promotes one configuration in ETA, with ETA times the budget. Above 1. Default: the problem's,
        else 3.
    budgets
        Increasing list of the budgets, instead of ``min_budget`` and ``max_budget``.
    integer_budgets
        Budgets are whole numbers: those between the smallest and the largest are rounded, and the objective gets an
        int. Default: as the problem says.
    unit
        Unit of budgets, for display: epochs, seconds, ... Default: the problem's.
    maximize
        The objective returns and reports what is to be large, such as an accuracy; everything that you read has its
        sign. Default: as the problem says, else the lowest loss is searched for.
    algorithm
        ``bohb``: the model inside Hyperband; ``mfbo``: a model of all budgets inside Hyperband, which also decides
        about promotions; ``hyperband``: random samples inside Hyperband; ``sh``: random samples inside successive
        halving: Hyperband's most aggressive bracket alone; ``bo``: the model alone, at the full budget; ``random``:
        random samples at the full budget. Default: bohb.
    bracket_rule
        Number of configurations with which a bracket begins: ``floor`` as in the BOHB paper's runs and HpBandSter,
        ``ceil`` as in Hyperband's Algorithm 1. Default: floor.
    seed
        Makes the search repeatable, with one worker. Default: a random number, which is printed and stored.
    sampler
        Parameters of the algorithm's sampler by name, for example random_fraction=0.2.
    initial
        Configurations to evaluate first, after the default one: a list of objects such as [{"lr": 0.1, "depth":
        3}], one such object, rows of a table of ``Result``, or a file of them: JSON, JSON lines or CSV. What is
        left out is as in the default configuration, or sampled.
    skip_default
        Do not evaluate the default configuration first: for comparisons of algorithms, which all evaluate it.
    brackets
        Number of brackets. ``+N`` (in quotes in Python and in a search file): N more, once the search has reached
        its limit; before, it changes nothing. The journal stores the new limit, so the same command keeps it until
        it is reached. Without such a limit: N more than were started.
    evaluations
        Number of evaluations, or ``+N`` more.
    total_budget
        Sum of the budgets of all evaluations, or ``+BUDGET`` more.
    wall_time_s
        Time for which a master serves the search, or ``+TIME`` more. In seconds.
    target_loss
        Stop when a loss at the largest budget is this low; with ``maximize``, when a value is this high.
    max_concurrent
        Largest number of concurrent evaluations, even if there are more workers.
    workers
        Worker processes on this machine. Default: one for each GPU; without a GPU one for each core, at most 4. Of
        the command ``worker``: one.
    threads
        CPU threads of each worker. Default: its share of the cores.
    gpus
        One worker for each of these GPUs, unless ``workers`` gives another number: ``all`` visible ones (at least
        one), the first ``N``, or a list of GPUs as in CUDA_VISIBLE_DEVICES.
    gpus_per_worker
        Give each evaluation N GPUs, and the environment variables with which its processes find each other. Without
        a GPU: N processes on the CPU. Default: 1.
    timeout_s
        End an evaluation that takes longer; it counts as a bad result. In seconds. Default: never.
    isolation
        ``trainer`` evaluates in a separate process: a crash does not end the worker. ``none`` evaluates in the
        worker's main process: for cheap functions that do not crash; those of milliseconds are leased several at a
        time. Default: trainer.
    fresh_process
        Start a new process for each evaluation, which imports the problem again: for objectives that leak memory or
        change state that a worker does not restore (TensorFlow).
    grace_s
        Time in which an interrupted evaluation saves its state before its worker ends it: for large checkpoints.
        What ends the worker, such as Slurm or a container engine, must wait 10 seconds longer. In seconds. Default:
        20s.
    keep_checkpoints
        ``needed``: when the search has dropped a configuration, one lease length later or at the end of the search,
        delete what its attempts saved in trial.directory, except their logs and what is in trial.keep_directory;
        the incumbent keeps everything. ``best:N``: the best N configurations keep everything. ``all``: delete
        nothing. Default: needed.
    checkpoint_quota
        When the checkpoints in the run directory take more, delete those of finished evaluations, the worst first,
        even those that ``keep_checkpoints`` keeps; never those of the incumbent, nor those that a lease or a
        promotion needs. The master's log lists them. Checkpoints on workers' own disks (``--scratch``) do not
        count. Default: no limit.
    run_dir
        Directory of the search, which holds everything about it. Default: runs/PROBLEM.
    new
        Start a new search: in runs/PROBLEM-2, -3, ... if runs/PROBLEM has one.
    retry_failed
        After you corrected the code: run evaluations that failed because of it once more, unless a later decision
        depends on them.
    accept_edited_source
        Continue a search although the source of its problem was edited. You assert that the losses before and after
        the edit are comparable; ``status`` shows the first evaluation with the edited source.
    restored
        You put a copy of the journal in its place: workers that have seen later masters take work again, results of
        evaluations that the copy has not leased are not recorded, and new attempts get new directories. Refused
        while a master serves the run directory.
    keep_going
        Do not stop if all evaluations fail with the same fault: for a space with many invalid configurations.
    watcher
        Receives the progress. Default: prints notes on standard error.

    Returns
    -------
    Result
        Read from the run directory.

    Raises
    ------
    UsageError
        For invalid input, before any process is started.
    KeyboardInterrupt
        If the search was interrupted; everything reported is kept.
    SystemExit
        With code 75 after SIGUSR2: the allocation ends, and the same script continues in the next one.
    RunDirectoryError
        If the search ended by a fault of this machine.
    """
    _refuse_within_an_import()
    open_closed_descriptors()
    given = {
        "retry_failed": retry_failed, "accept_edited_source": accept_edited_source, "restored": restored,
        "keep_going": keep_going,
        "min_budget": min_budget, "max_budget": max_budget, "eta": eta, "budgets": budgets, "unit": unit, "seed": seed,
        "algorithm": algorithm, "bracket_rule": bracket_rule, "sampler": {} if sampler is None else sampler,
        "initial": initial, "skip_default": skip_default, "brackets": brackets, "evaluations": evaluations,
        "total_budget": total_budget, "wall_time_s": wall_time_s, "target_loss": target_loss,
        "max_concurrent": max_concurrent, "workers": workers, "threads": threads, "gpus": gpus,
        "gpus_per_worker": gpus_per_worker, "timeout_s": timeout_s, "isolation": isolation,
        "fresh_process": fresh_process, "grace_s": grace_s, "keep_checkpoints": keep_checkpoints,
        "checkpoint_quota": checkpoint_quota,
        "integer_budgets": integer_budgets, "maximize": maximize, "run_dir": run_dir, "new": new,
    }  # fmt: skip
    _check_others(problem_options, watcher)
    return _with_options(problem, space, problem_options or {}, given, watcher or _Lines())


def _with_options(
    problem: str | Path | Problem | Objective,
    space: ConfigurationSpace | None,
    problem_options: Mapping[str, Any],
    given: Mapping[str, Any],
    watcher: Watcher,
) -> Result:
    """Check the options, describe the problem and run the search."""
    limits, wanted, launch, place = (_typed(each, given) for each in _RECORDS)
    check_values(LimitOptions(**limits))
    fixed, more = split_limits(limits)
    launch_options, place_options = LaunchOptions(**launch), PlaceOptions(**place)
    described = _described(problem, space, launch_options.isolation, problem_options)
    options = SearchOptions(
        problem=described.reference, description=described.description, arguments=_script_arguments(),
        only_minimize=described.here is not None or (not isinstance(problem, str) and space is not None),
        limits=fixed, more=more, **wanted,
    )  # fmt: skip
    check_values(options)
    found = _place(described, place_options, is_edit=options.retry_failed or options.accept_edited_source)
    is_new_each_time = place_options.run_dir is None and bool(described.here and described.source.not_comparable)
    way_on = _way_on(found, is_new=place_options.new, is_new_each_time=is_new_each_time)
    return _search(options, launch_options, found, watcher, described, way_on)


def _typed(record_type: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are options of a record, checked."""
    # Imported here: a worker that imports the script needs no pydantic.
    from hpbandster_lite.settings.python_values import typed_values

    return typed_values(record_type, {name: given[name] for name in options_of(record_type) if name in given})


def _check_others(problem_options: object, watcher: object) -> None:
    """Check the arguments that are not in the table of options, as far as no problem is needed."""
    is_right = isinstance(problem_options, Mapping) and all(isinstance(name, str) for name in problem_options)
    if problem_options is not None and not is_right:
        raise UsageError(
            f"problem_options must be a mapping from names to values, got {problem_options!r:.100}; give for example "
            "problem_options={'depth': 3}"
        )
    missing = [name for name in ("begin", "status", "note") if not callable(getattr(watcher, name, None))]
    if watcher is not None and missing:
        raise UsageError(f"watcher must have the methods begin, status and note, got {watcher!r:.100}; leave it out")


def _refuse_within_an_import() -> None:
    if loading():
        raise UsageError(
            "minimize was called while a worker imports this script; put the call under "
            'if __name__ == "__main__": so that workers can import the objective alone'
        )


def _search(
    options: SearchOptions,
    launch: LaunchOptions,
    place: Place,
    watcher: Watcher,
    described: _Described,
    way_on: str,
) -> Result:
    """Run the search; exit codes of the processes become exceptions."""
    directory = place.directory
    for note in filter(None, (place.note, described.note)):
        watcher.note(note)
    try:
        code = search_here(options, directory, launch, watcher, problem=described.here, way_on=way_on)
    finally:
        described.note_own_changes()
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    if code == REQUEUE:
        raise SystemExit(REQUEUE)
    if code != 0:
        raise RunDirectoryError(f"the master ended with exit code {code}; see {directory.log('master')}")
    for note in notes_of(JournalReader(directory.journal)):
        watcher.note(note)
    result = Result(directory.path)
    kind = result.finish_kind
    if kind is not None and (kind.was_stopped or result.incumbent is None):
        # The reason may contain a traceback.
        watcher.note(f"the search is over: {result.finished}")
    return result


def _way_on(place: Place, *, is_new: bool, is_new_each_time: bool) -> str:
    """What continues this search; a call with new=True, or with a function that cannot be compared, begins another."""
    if not is_new and not is_new_each_time:
        return "call minimize again"
    return f"call minimize again with run_dir={str(place.directory.path)!r}{' instead of new=True' if is_new else ''}"


def _set_later(problem: Any, reference: str) -> list[str]:
    """What the problem reads and only this process has; nothing if the script has no file."""
    # Imported here: a worker that imports the script needs none of it.
    from hpbandster_lite.problems.set_later import set_later

    script = sys.modules["__main__"]
    where = reference.partition("?")[0].partition(":")[0]
    file, spec = getattr(script, "__file__", None), getattr(script, "__spec__", None)
    names = {file and str(Path(file).resolve()), spec and spec.name.removesuffix(".__main__")}
    return set_later(problem, script, is_of_script=where in names or str(Path(where).resolve()) in names)


def _refusal_of_later(names: Sequence[str], *, is_reference: bool = False) -> ProblemError:
    remedy = "" if is_reference else ", or, if it is cheap, use isolation='none', which evaluates it in this process"
    return ProblemError(
        f"the objective reads {', '.join(names)}, which this script has set since the import, mostly under "
        'if __name__ == "__main__": the workers import the problem\'s file without that and would have another value, '
        "or none; set it at the top level of that file, which workers import with this script's arguments, make it an "
        f"option of the problem{remedy}"
    )


@record(frozen=True, slots=True, kw_only=True)
class _Described:
    """A problem as workers find it: its reference, and its description where only this process can give it.

    ``note`` is for the user. ``here`` is the problem itself, where no other process can import it, which
    ``isolation="none"`` allows, and ``function`` what the user gave for it.
    """

    reference: str
    description: ProblemDescription | None = None
    here: Problem | None = None
    function: Any = None
    note: str = ""

    @property
    def source(self) -> ProblemSource:
        """What a function reads that no other process can import."""
        return (None if self.description is None else self.description.source) or ProblemSource()

    def note_own_changes(self) -> None:
        """The search is over: what its evaluations changed in such a function makes it no other function."""
        if self.here is not None:
            from hpbandster_lite.problems.function_source import note_own_changes

            note_own_changes(self.function, self.source)


def _place(described: _Described, given: PlaceOptions, *, is_edit: bool) -> Place:
    if described.here is None or given.run_dir is not None or given.new:
        return place_of(described.reference, given.run_dir, new=given.new)
    return place_of_function(described.reference, described.source, is_edit=is_edit)


def _described(
    problem: str | Path | Problem | Objective,
    space: ConfigurationSpace | None,
    isolation: str,
    given: Mapping[str, Any],
) -> _Described:
    """A problem as workers find it."""
    if isinstance(problem, os.PathLike):
        problem = os.fspath(problem)
    if isinstance(problem, str):
        if space is not None:
            raise UsageError(
                f"a name such as {problem!r:.100} is that of a problem, which has its own space; leave space out, or "
                "give the function itself"
            )
        target = loaded(problem)
        later = [] if target is None else _set_later(target, problem)
        if later:
            raise _refusal_of_later(later, is_reference=True)
        return _Described(reference=with_options(problem, given))
    if not callable(problem) and not hasattr(problem, "evaluate"):
        raise UsageError(
            f"problem must be a function, an object with evaluate(config, budget, trial), or a reference such as "
            f"'digits', got {problem!r:.100}"
        )
    made = instantiated(problem, getattr(problem, "__qualname__", ""))
    if not callable(made) and not hasattr(made, "evaluate"):
        raise UsageError(
            f"problem must be a function, or an object or a class with evaluate(config, budget, trial), got "
            f"{problem!r:.100}, whose instances have none"
        )
    target = _with_space(made, space)
    try:
        # In this process, a lambda or what a function returns is evaluated as it is here, not as a module defines it.
        name = reference_of(problem, by_own_name=isolation == "none")
        later = _set_later(problem, name)
        if later and isolation == "none":
            raise _refusal_of_later(later)
    except ProblemError:
        if isolation != "none":
            raise
        return _described_here(problem, target, given)
    if later:
        raise _refusal_of_later(later)
    reference = with_options(name, given)
    return _Described(reference=reference, description=describe(configured(target, reference), reference))


def _described_here(problem: Problem | Objective, target: Problem, given: Mapping[str, Any]) -> _Described:
    """A problem that no other process can import."""
    reference = with_options(getattr(problem, "__qualname__", type(problem).__qualname__), given)
    target = configured(target, reference)
    # Imported here: most searches are of problems that other processes import.
    from hpbandster_lite.problems.function_source import source_of_function

    description = replace(describe(target, reference), source=source_of_function(problem, target))
    return _Described(reference=reference, description=description, here=target, function=problem)


def _with_space(problem: Any, space: ConfigurationSpace | None) -> Problem:
    """The problem that a function or an object and a space make."""
    if _is_function(problem):
        return cast(Problem, FunctionProblem(problem, space))
    if space is None:
        return cast(Problem, problem)
    if getattr(problem, "space", None) is not None:
        raise UsageError(f"the problem {problem!r:.100} has its own space; leave space out")
    if takes_options(problem):
        raise UsageError(f"the problem {problem!r:.100} has options; give it a function space(), and leave space out")
    hooks = {name: getattr(problem, name, None) for name in HOOKS}
    defaults = defaults_of(problem, type(problem).__name__)
    return cast(Problem, FunctionProblem(problem.evaluate, space, **hooks, **defaults))


def _over_note(limits: Limits, finished: Finished, *, maximize: bool) -> str:
    """That a search is over and nothing is evaluated, and what to give to extend it."""
    over = f"nothing was evaluated: the search is over ({finished.reason})"
    if finished.kind is FinishKind.EXHAUSTED:
        return f"{over}, and no limit extends it; new=True begins another one"
    if finished.kind is FinishKind.INFEASIBLE:
        return f"{over}, and no limit extends it: correct feasible() or the space, then begin another one with new=True"
    if finished.kind is FinishKind.TARGET:
        extension = f"a {'higher' if maximize else 'lower'} target_loss than {limits.target_loss:g}"
    else:
        had = {name: getattr(limits, name) for name in _EXTENDABLE if getattr(limits, name) is not None}
        name, value = next(iter(had.items()), ("brackets", 1))
        extension = f"a higher limit, for example {name}={2 * value:g}"
    return f"{over}; to extend it, give {extension}; new=True begins another one"


def _script_arguments() -> tuple[str, ...]:
    """``sys.argv`` of the running script; empty without one, as in a notebook."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    return tuple(sys.argv) if file is not None and Path(file).is_file() else ()


def _is_function(problem: Problem | Objective) -> TypeGuard[Objective]:
    return callable(problem) and not hasattr(problem, "evaluate")
