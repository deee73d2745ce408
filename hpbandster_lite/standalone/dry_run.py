"""The dry run of a search: one smallest evaluation and its continuation, as a worker would run them.

Law of this file: it uses real trainer processes and a temporary run directory, keeps nothing, and writes to no journal.
Its measurements are for users: no decision depends on them.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

from hpbandster_lite.engine.initial_proposals import first_proposals
from hpbandster_lite.errors import ProblemError
from hpbandster_lite.hyperband.direction import turned
from hpbandster_lite.process.devices import worker_devices
from hpbandster_lite.process.shutdown import sigterm_as_ctrl_c
from hpbandster_lite.randomness import Purpose, generator_for, training_seed
from hpbandster_lite.records import ConfigId, EvaluationId, Failure, FailureKind, SearchSettings, Values
from hpbandster_lite.records.decorator import record
from hpbandster_lite.rundir import RunDirectory, checkpoint_files
from hpbandster_lite.space import SearchSpace
from hpbandster_lite.standalone.trainer import StandaloneTrainer, as_ended
from hpbandster_lite.trainer.messages import TrainerOrder

WARM_UP_MATTERS_S = 60.0
"""A shorter evaluation is repeated in the same process: the first call of torch alone takes some seconds."""
MOST_REFUSED = 100
"""Configurations that are tried before the dry run fails because ``feasible`` refuses all of them."""

Part: TypeAlias = Literal["smallest", "again", "promotion", "taken over"]
INTERRUPTED = Failure(kind=FailureKind.CODE, reason="the objective ended as interrupted, but no signal was sent")


@record(frozen=True, slots=True, kw_only=True)
class DryEvaluation:
    """One evaluation of the dry run: a ``loss`` or a ``failure``; the files that it left are its checkpoint.

    ``part`` says which one: the ``smallest``; the same one ``again``, in the same process; the one that continues from
    the checkpoint as a ``promotion`` or, on a ladder of one budget, as ``taken over`` by another worker. ``trained`` is
    the part of the budget that was not trained before, if the problem continues.
    """

    part: Part
    budget: float
    trained: float
    duration_s: float
    loss: float | None
    failure: Failure | None
    files: int
    size_bytes: int


@record(frozen=True, slots=True, kw_only=True)
class DryRun:
    """The result of a dry run.

    Attributes
    ----------
    values
        The configuration: the first one of the search that ``feasible`` does not refuse.
    refused
        How many configurations it refused before.
    import_s
        How long a trainer took to import the problem.
    device
        Token of the worker's GPU; ``None`` or empty without one.
    evaluations
        In order; a failed one is the last.
    """

    values: Values
    refused: int
    import_s: float
    device: str | None
    evaluations: tuple[DryEvaluation, ...]

    @property
    def failure(self) -> Failure | None:
        """Why it ended early."""
        return self.evaluations[-1].failure

    @property
    def keeps_checkpoint(self) -> bool:
        """Whether an evaluation left files to continue from."""
        return self.evaluations[0].files > 0

    @property
    def warm_up_s(self) -> float:
        """How much longer the first evaluation of a process takes than the second, if both were measured."""
        first = self.evaluations[0]
        again = next((each for each in self.evaluations if each.part == "again"), first)
        return max(0.0, first.duration_s - again.duration_s)

    @property
    def seconds_per_unit(self) -> float:
        """Mean time for one unit of the budget in a warm process."""
        trained = [each for each in self.evaluations if each.trained > 0]
        spent_s = math.fsum(
            each.duration_s if each.part == "again" else max(0.0, each.duration_s - self.warm_up_s) for each in trained
        )
        return spent_s / math.fsum(each.trained for each in trained)


def perform_dry_run(
    settings: SearchSettings,
    *,
    workers: int | None = None,
    threads: int | None = None,
    gpus: str | None = None,
    gpus_per_worker: int = 1,
    limit_s: float | None = None,
) -> DryRun:
    """Evaluate the default configuration at the smallest budget, then continue it in another process.

    Parameters
    ----------
    settings
        Of the search.
    workers, threads, gpus, gpus_per_worker
        As for the search: they determine the devices and threads of a worker.
    limit_s
        Time limit of one evaluation.

    Raises
    ------
    ProblemError
        If a trainer cannot import the problem, or ``feasible`` refuses all configurations that are tried.
    KeyboardInterrupt
        After Ctrl-C or SIGTERM; the trainer has ended, and the directory is deleted.
    """
    with (
        sigterm_as_ctrl_c(),
        tempfile.TemporaryDirectory(prefix="hpbandster_lite-dry-run-") as place,
    ):
        devices = worker_devices(workers, threads, gpus=gpus, gpus_per_worker=gpus_per_worker)
        return _DryRunner(settings, RunDirectory(place), devices[0], gpus_per_worker, limit_s).run()


class _DryRunner:
    """The evaluations of one dry run, in a directory."""

    def __init__(
        self,
        settings: SearchSettings,
        directory: RunDirectory,
        device: tuple[str | None, int | None],
        processes: int,
        limit_s: float | None,
    ) -> None:
        self._settings = settings
        self._directory = directory
        self._device, self._threads = device
        self._processes = processes
        self._limit_s = limit_s
        self._import_s = 0.0

    def run(self) -> DryRun:
        with self._trainer() as trainer:
            order, first, refused = self._first_feasible(trainer)
            evaluations = [first]
            if first.failure is None and first.duration_s < WARM_UP_MATTERS_S:
                evaluations.append(self._evaluated(trainer, "again", self._placed(order, attempt=2)))
        if evaluations[-1].failure is None and first.files:
            # Another process, like another worker: it shares only files with the first one.
            with self._trainer() as trainer:
                evaluations.append(self._continued(trainer, order))
        return DryRun(
            values=order.values,
            refused=refused,
            import_s=self._import_s,
            device=self._device,
            evaluations=tuple(evaluations),
        )

    def _first_feasible(self, trainer: StandaloneTrainer) -> tuple[TrainerOrder, DryEvaluation, int]:
        """The first order that is not refused, its evaluation, and how many were refused before it."""
        order, reason = self._order(), ""
        for refused, values in enumerate(self._candidates()):
            order = replace(order, values=values)
            first = self._evaluated(trainer, "smallest", order)
            if first.failure is None or first.failure.kind is not FailureKind.INFEASIBLE:
                return order, first, refused
            reason = first.failure.reason
        raise ProblemError(
            f"feasible() of {self._settings.problem.name!r} refuses all of the first {MOST_REFUSED} configurations, "
            f"the last one because of: {reason}; correct feasible(), or the space"
        )

    def _trainer(self) -> StandaloneTrainer:
        return StandaloneTrainer(
            self._settings.problem.reference,
            device=self._device,
            threads=self._threads,
            processes=self._processes,
        )

    def _candidates(self) -> Iterator[Values]:
        """The first configurations of the search, then random ones."""
        space = SearchSpace.from_json(self._settings.problem.space_tables)
        firsts = [proposal.values for proposal in first_proposals(space, self._settings)][:MOST_REFUSED]
        yield from firsts
        for number in range(len(firsts), MOST_REFUSED):
            rng = generator_for(self._settings.seed, Purpose.PROPOSAL, ConfigId(0, 0, number))
            yield from space.to_values(space.sample(rng, 1))

    def _order(self) -> TrainerOrder:
        evaluation = EvaluationId(ConfigId(0, 0, 0), 0)
        return TrainerOrder(
            evaluation=evaluation,
            attempt=1,
            values={},
            budget=self._settings.budgets[0],
            max_budget=self._settings.budgets[-1],
            budgets=self._settings.budgets,
            unit=self._settings.unit,
            integer_budgets=self._settings.problem.integer_budgets,
            maximize=self._settings.maximize,
            seed=training_seed(self._settings.seed, evaluation.config_id),
            directory=str(self._directory.attempt_directory(evaluation, 1)),
        )

    def _placed(self, order: TrainerOrder, *, attempt: int) -> TrainerOrder:
        """The order as another attempt, in a separate directory."""
        place = self._directory.attempt_directory(order.evaluation, attempt)
        return replace(order, attempt=attempt, directory=str(place))

    def _continued(self, trainer: StandaloneTrainer, order: TrainerOrder) -> DryEvaluation:
        """Continue from the checkpoint of an order."""
        budgets, left = self._settings.budgets, order.directory
        if len(budgets) == 1:
            following = replace(self._placed(order, attempt=3), resume_directory=left)
            return self._evaluated(trainer, "taken over", following, trained=0.0)
        promoted = replace(order, evaluation=EvaluationId(order.evaluation.config_id, 1), budget=budgets[1])
        following = replace(self._placed(promoted, attempt=1), previous_directory=left)
        return self._evaluated(trainer, "promotion", following, trained=budgets[1] - order.budget)

    def _evaluated(
        self, trainer: StandaloneTrainer, part: Part, order: TrainerOrder, *, trained: float | None = None
    ) -> DryEvaluation:
        place = Path(order.directory)
        end = as_ended(
            trainer.run(order, place / RunDirectory.LOG_NAME, limit_s=self._limit_s), interrupted=INTERRUPTED
        )
        self._import_s = trainer.import_s or self._import_s
        files = list(checkpoint_files(place))
        return DryEvaluation(
            part=part,
            budget=order.budget,
            trained=order.budget if trained is None else trained,
            duration_s=end.duration_s,
            loss=turned(end.loss, maximize=self._settings.maximize),
            failure=end.failure,
            files=len(files),
            size_bytes=sum(file.stat(follow_symlinks=False).st_size for file in files),
        )
