"""Train the incumbent, or another configuration, once more with all the data, and keep its model.

Law of this file: it reads a search and changes nothing in it. The model and its figures are in one directory: a refit
that was killed continues there, a complete one is not repeated, and a refit of another configuration, budget, seed or
problem is never mixed with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from hpbandster_lite.errors import BudgetError, Held, ProblemError, ResumeError, RunDirectoryError, UsageError
from hpbandster_lite.hyperband.direction import turned
from hpbandster_lite.journal import option_difference
from hpbandster_lite.problems import ARGUMENTS_REMEDY, describe_in_child, given_in, text_of, with_options
from hpbandster_lite.process.devices import worker_devices
from hpbandster_lite.process.shutdown import sigterm_as_ctrl_c
from hpbandster_lite.records import (
    ConfigId,
    CurvePoint,
    EvaluationId,
    Failure,
    FailureKind,
    Plain,
    ProblemDescription,
    Values,
)
from hpbandster_lite.records.decorator import record
from hpbandster_lite.rundir import RunDirectory, refuse_to_replace, sync, write_atomically
from hpbandster_lite.standalone.trained import Took, Trained, read_trained, trained_in
from hpbandster_lite.standalone.trainer import StandaloneTrainer, as_ended
from hpbandster_lite.trainer.messages import TrainerOrder

FILE_NAME = "refit.json"
LOCK_NAME = ".lock"
GRACE_S = 20.0
"""Seconds that the training has to save after a signal, as in a search."""
OURS = (RunDirectory.LOG_NAME, FILE_NAME, LOCK_NAME)
"""Files in the directory of a refit that are no checkpoint."""
SEEDS = 2**31
INTERRUPTED = Failure(
    kind=FailureKind.INFRASTRUCTURE, reason="it was interrupted; the same command continues it"
)


@record(frozen=True, slots=True, kw_only=True)
class RefitOptions:
    """What a user can request.

    Attributes
    ----------
    problem_options
        Options of the problem as text; only options that are local to a host may differ from the search.
    config_id
        The configuration; default: the incumbent.
    budget
        Default: the largest of the search.
    seed
        In [0, 2**31); default: the seed with which the search trained this configuration.
    directory
        Where to train and save; default: a directory in the run directory, named after configuration and budget.
    export
        A file for the problem's ``export`` to write after the training.
    force
        Replace that file also if no refit wrote it.
    """

    problem_options: tuple[tuple[str, str], ...] = ()
    config_id: ConfigId | None = None
    budget: float | None = None
    seed: int | None = None
    directory: Path | None = None
    export: Path | None = None
    force: bool = False


@record(frozen=True, slots=True, kw_only=True)
class Refit:
    """A refit that can start: everything was found and checked.

    ``figures`` are those of an earlier, complete run; ``is_resumed`` says whether there is a checkpoint to continue;
    ``took`` is how long the search trained the configuration, if that is known.
    """

    run_id: str
    problem: ProblemDescription
    evaluation: EvaluationId
    values: Values
    budget: float
    max_budget: float
    budgets: tuple[float, ...]
    unit: str
    seed: int
    directory: Path
    export: Path | None
    figures: dict[str, Plain] | None
    is_resumed: bool
    force: bool = False
    took: Took | None = None

    @property
    def file(self) -> Path:
        """The file of the figures."""
        return self.directory / FILE_NAME

    @property
    def identity(self) -> dict[str, Plain]:
        """What distinguishes this refit from others."""
        shared = {each.name: each.value for each in self.problem.options if not each.is_local}
        return {
            "run_id": self.run_id,
            "problem": self.problem.name,
            "options": shared,
            "config_id": list(self.evaluation.config_id),
            "values": dict(self.values),
            "budget": self.budget,
            "unit": self.unit,
            "seed": self.seed,
        }


def prepare_refit(run: RunDirectory | Path, options: RefitOptions) -> Refit:
    """Find the configuration, and check everything before the training.

    Parameters
    ----------
    run
        Directory of a search, which may be running; or a file with the output of ``best --json``.
    options
        What the user requests.

    Raises
    ------
    UsageError
        If there is no such configuration, or none with a loss yet; if the seed is invalid; if the directory holds
        another refit; if a file that no refit wrote is where the export is to be.
    BudgetError
        If the budget is invalid.
    ProblemError
        If the problem has no ``refit``, or no ``export`` although one is requested; with what to write.
    """
    wanted = options.config_id
    trained = read_trained(run, wanted) if isinstance(run, Path) else trained_in(run, wanted)
    # A search may have whole budgets, or maximize, although its problem does not say so.
    about = replace(
        _described(trained, options), integer_budgets=trained.integer_budgets, maximize=trained.maximize
    )
    budget = _budget(options.budget, trained, about)
    seed = trained.seed if options.seed is None else options.seed
    if not 0 <= seed < SEEDS:
        raise UsageError(f"the seed must be in [0, 2**31), got {seed}")
    name = f"{trained.config_id}-{budget:g}" + ("" if options.seed is None else f"-seed{seed}")
    # The highest rung of the configuration's bracket that the budget reaches.
    rung = max(0, sum(each <= budget for each in trained.rungs) - 1)
    refit = Refit(
        run_id=trained.run_id,
        problem=about,
        evaluation=EvaluationId(trained.config_id, rung),
        values=trained.values,
        budget=budget,
        max_budget=max(budget, trained.budgets[-1]),
        budgets=trained.budgets,
        unit=trained.unit,
        seed=seed,
        directory=Path(os.path.abspath(options.directory or trained.directory / name)),  # noqa: PTH100 (as it was typed)
        export=None if options.export is None else options.export.resolve(),
        figures=None,
        is_resumed=False,
        force=options.force,
        took=trained.took,
    )
    refit = _with_earlier_results(refit)
    if refit.export is not None:
        _refuse_to_replace(refit, refit.export)
    return refit


def _described(trained: Trained, options: RefitOptions) -> ProblemDescription:
    """The problem as it is now, with the options of the search."""
    given = {**given_in(trained.reference), **dict(options.problem_options)}
    about = describe_in_child(with_options(trained.reference, given))
    different = option_difference(trained.options, about.options)
    if different is not None:
        name, ours, theirs = different
        raise ResumeError(
            f"the search has {name}={text_of(ours)}, and a refit with {text_of(theirs)} would be of another problem; "
            "leave the option out"
        )
    if about.source is not None and trained.arguments not in ("", about.source.arguments):
        raise ResumeError(
            f"the script of the problem {about.name!r} reads its arguments (sys.argv) when it is imported, and a refit "
            f"imports it without those of the search; {ARGUMENTS_REMEDY}"
        )
    if not about.has_refit:
        raise ProblemError(
            f"the problem {about.name!r} has no refit; give it a function refit(config, budget, trial) that trains "
            "with all its data but the test split, saves a model in trial.directory, and returns a mapping with "
            "'model', the name of that file, and test figures"
        )
    if options.export is not None and not about.has_export:
        raise ProblemError(
            f"the problem {about.name!r} has no export; give it a function export(directory, file) that loads the "
            "model which refit saved in the directory, writes it to the file in another form, checks that this gives "
            "the same outputs, and returns a mapping with what it found"
        )
    return about


def _budget(wanted: float | None, trained: Trained, about: ProblemDescription) -> float:
    budget = trained.budgets[-1] if wanted is None else wanted
    if not (math.isfinite(budget) and budget > 0):
        raise BudgetError(f"the budget of a refit must be above 0, got {budget}")
    if about.integer_budgets and budget != int(budget):
        raise BudgetError(f"the problem {about.name!r} takes whole budgets, got {budget}; give {math.ceil(budget)}")
    return budget


def _with_earlier_results(refit: Refit) -> Refit:
    """The refit with the results of an earlier run in its directory.

    Raises
    ------
    UsageError
        If the directory holds something else.
    """
    if not refit.directory.exists():
        return refit
    if not refit.directory.is_dir():
        raise UsageError(f"{refit.directory} is not a directory; give another --out")
    # A name that begins with a dot belongs to a half-written file, after a kill.
    names = [entry.name for entry in refit.directory.iterdir()]
    others = [name for name in names if name not in OURS and not name.startswith(".")]
    if not refit.file.exists():
        # The log is begun after that file.
        others += [name for name in names if name == RunDirectory.LOG_NAME]
        if others:
            raise UsageError(f"{refit.directory} holds other things ({min(others)}, ...); give another --out")
        return refit
    kept = _kept(refit.file)
    if kept is None:
        raise UsageError(f"{refit.file} was not written by a refit; give another --out")
    for name, value in refit.identity.items():
        if kept.get(name) != value:
            raise UsageError(
                f"{refit.directory} holds another refit: {name} is {kept.get(name)} there, and {value} in this one; "
                "give another --out"
            )
    figures = kept["figures"]
    if figures is not None and not (refit.directory / figures["model"]).is_file():
        # The model was moved away, so it is made again.
        figures = None
    return replace(refit, figures=figures, is_resumed=bool(others))


def _kept(file: Path) -> dict[str, Plain] | None:
    """What an earlier refit wrote; None if there is no such file, or if no refit wrote it."""
    try:
        kept: Plain = json.loads(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return kept if isinstance(kept, dict) and "figures" in kept else None


def _refuse_to_replace(refit: Refit, file: Path) -> None:
    """Refuse to replace a user's file, also one in the place of an earlier export."""

    def is_ours() -> bool:
        kept = _kept(refit.file) or {}
        if "exported" not in kept:
            # An earlier version recorded the names alone.
            return str(file) in kept.get("exports", {})
        return bool(kept["exported"].get(str(file)) == _mark(file))

    refuse_to_replace(file, force=refit.force, is_ours=is_ours)


def _mark(file: Path) -> list[int]:
    """Marks that show whether a file is unchanged."""
    state = file.stat()
    return [state.st_size, state.st_mtime_ns]


# ------------------------------------------------------------------------------------------------------------ training


def run_refit(refit: Refit, on_point: Callable[[CurvePoint], object]) -> dict[str, Plain] | Failure:
    """Train, or continue the training; then export, if that is requested.

    Parameters
    ----------
    refit
        From :func:`prepare_refit`.
    on_point
        Called with each point of the learning curve when it arrives.

    Returns
    -------
    dict or Failure
        The content of ``refit.json``: what was trained, ``figures``, and ``exports`` by file; or why there is none.

    Raises
    ------
    Held
        If another process refits in the directory.
    ProblemError
        If the problem cannot be imported.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM; the training had :data:`GRACE_S` to save.
    """
    with lock_directory(refit.directory), sigterm_as_ctrl_c():
        kept = {**refit.identity, "attempts": 0, "exports": {}}
        kept = _kept(refit.file) or kept
        kept["figures"] = refit.figures
        if refit.figures is not None and refit.export is None:
            return kept
        device, threads = worker_devices(1)[0]
        run = refit.directory.resolve().parents[1]
        with StandaloneTrainer(
            refit.problem.reference,
            device=device,
            threads=threads,
            run_directory=str(run) if RunDirectory(run).journal.exists() else None,
        ) as trainer:
            failure = None if refit.figures is not None else _trained(refit, trainer, kept, on_point)
            if failure is None and refit.export is not None:
                failure = _exported(refit, trainer, kept, refit.export)
    return kept if failure is None else failure


def _trained(
    refit: Refit, trainer: StandaloneTrainer, kept: dict[str, Plain], on_point: Callable[[CurvePoint], object]
) -> Failure | None:
    kept["attempts"] += 1
    # Save the identity first: a later refit continues only in a directory whose content it knows.
    _save(refit, kept)
    order = _order(refit, kept["attempts"])

    def show(point: CurvePoint) -> None:
        on_point(point._replace(loss=turned(point.loss, maximize=order.maximize)))

    end = as_ended(trainer.run(order, _log(refit), on_point=show, grace_s=GRACE_S), interrupted=INTERRUPTED)
    if end.failure is None:
        kept.update(figures=dict(end.info), duration_s=end.duration_s)
        _save(refit, kept)
    return _with_remedy(refit, end.failure)


def _with_remedy(refit: Refit, failure: Failure | None) -> Failure | None:
    """The failure, with what to do if the refit before was cut off within a save."""
    if failure is None or failure.kind is not FailureKind.CODE or not refit.is_resumed:
        return failure
    remedy = (
        f"it continued from files that an earlier refit left in {refit.directory}; if one of them is incomplete, "
        "delete it, or start over with another --out"
    )
    return replace(failure, reason=f"{failure.reason} ({remedy})")


def _exported(refit: Refit, trainer: StandaloneTrainer, kept: dict[str, Plain], file: Path) -> Failure | None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}.") as folder:
        # The name is kept: its ending may say in which form the problem writes.
        order = replace(_order(refit, kept["attempts"]), call="export", file=str(Path(folder) / file.name))
        end = as_ended(trainer.run(order, _log(refit)), interrupted=INTERRUPTED)
        if end.failure is None:
            kept.setdefault("exported", {}).update(_moved(refit, Path(folder), file))
    if end.failure is not None:
        return replace(end.failure, reason=end.failure.reason.replace(folder, str(file.parent)))
    kept["exports"] = {**kept["exports"], str(file): dict(end.info)}
    _save(refit, kept)
    return None


def _moved(refit: Refit, folder: Path, file: Path) -> dict[str, Plain]:
    """Move what ``export`` wrote to its place, the file last; the marks of the moved files.

    Raises
    ------
    UsageError
        If a file that no refit wrote has appeared there.
    """
    # Some forms have a second file beside the first.
    written = sorted(folder.iterdir(), key=lambda each: each.name == file.name)
    places = {each: file.with_name(each.name) for each in written}
    for place in places.values():
        _refuse_to_replace(refit, place)
    for each, place in places.items():
        if each.is_file():
            sync(each)
        each.replace(place)
    sync(file.parent)
    return {str(place): _mark(place) for place in places.values()}


def _order(refit: Refit, attempt: int) -> TrainerOrder:
    return TrainerOrder(
        evaluation=refit.evaluation,
        attempt=attempt,
        values=refit.values,
        budget=refit.budget,
        max_budget=refit.max_budget,
        budgets=refit.budgets,
        unit=refit.unit,
        integer_budgets=refit.problem.integer_budgets,
        maximize=refit.problem.maximize,
        seed=refit.seed,
        directory=str(refit.directory),
        resume_directory=str(refit.directory) if refit.is_resumed else None,
        call="refit",
    )


def _log(refit: Refit) -> Path:
    return refit.directory / RunDirectory.LOG_NAME


def _save(refit: Refit, kept: dict[str, Plain]) -> None:
    write_atomically(refit.file, json.dumps(kept, indent=2) + "\n")


@contextlib.contextmanager
def lock_directory(directory: Path) -> Iterator[None]:
    """Lock the directory against a second refit.

    Raises
    ------
    Held
        If another process has the lock.
    RunDirectoryError
        If the directory cannot be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK_NAME, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        words = f"cannot write to {directory}: {error.strerror or error}; give another --out"
        raise RunDirectoryError(words) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Held(f"another process refits in {directory}; wait for it, or give another --out") from error
        yield
    finally:
        os.close(descriptor)
