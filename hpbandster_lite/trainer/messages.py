"""The messages between an agent and its trainer.

Law of this file: frozen records; :mod:`~hpbandster_lite.trainer.frames` writes and reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal, TypeAlias

from hpbandster_lite import wire
from hpbandster_lite.records import CurvePoint, EvaluationId, Failure, Plain, ProblemSource, Value, Values
from hpbandster_lite.records.decorator import record

# ------------------------------------------------------------------------------------------- from agent to trainer


@wire.register("TrainerArguments")
@record(frozen=True, slots=True, kw_only=True)
class TrainerArguments:
    """The first message: what ``sys.argv`` is while the problem is imported; empty for the problem's file alone.

    It is no part of the trainer's command line, which every user of the machine can read.
    """

    arguments: tuple[str, ...] = ()


@wire.register("TrainerOrder")
@record(frozen=True, slots=True, kw_only=True)
class TrainerOrder:
    """Run the objective once.

    Directories are absolute; ``previous_directory`` and ``resume_directory`` have a checkpoint, or are None.
    ``budgets`` are the budgets of the search; the trainer first prints the ``note``. ``export`` writes ``file`` and
    reads the model in ``directory``. With ``integer_budgets`` the objective gets budgets as int; with
    ``maximize`` it returns and reports values to maximize, and the trainer's messages have the other sign.
    """

    evaluation: EvaluationId
    attempt: int
    values: Values
    budget: float
    max_budget: float
    unit: str
    seed: int
    directory: str
    previous_directory: str | None = None
    resume_directory: str | None = None
    budgets: tuple[float, ...] = ()
    call: Literal["evaluate", "test", "refit", "export"] = "evaluate"
    file: str | None = None
    note: str = ""
    integer_budgets: bool = False
    maximize: bool = False


@wire.register("TrainerStop")
@record(frozen=True, slots=True, kw_only=True)
class TrainerStop:
    """Interrupt the running evaluation at its next ``trial.report``; ``trial.should_stop`` is True from now on."""


# ------------------------------------------------------------------------------------------- from trainer to agent


@wire.register("TrainerReady")
@record(frozen=True, slots=True, kw_only=True)
class TrainerReady:
    """The problem is imported; ``options`` has the values of the options that all workers of a search share.

    ``source`` is its source at the import; ``folder`` and ``modules`` are the folders of its files.
    """

    problem: str
    source_hash: str
    options: Mapping[str, Value] = field(default_factory=dict)
    source: ProblemSource | None = None
    folder: str = ""
    modules: Mapping[str, str] = field(default_factory=dict)


@wire.register("TrainerFetches")
@record(frozen=True, slots=True, kw_only=True)
class TrainerFetches:
    """The problem is imported, and its data is being downloaded, for which there is no time limit."""


@wire.register("TrainerRefused")
@record(frozen=True, slots=True, kw_only=True)
class TrainerRefused:
    """The problem cannot be imported, or has no data here; the trainer has ended.

    ``no_room_in`` is as in :class:`TrainerEnded`.
    """

    message: str
    no_room_in: str | None = None


@wire.register("TrainerPoint")
@record(frozen=True, slots=True, kw_only=True)
class TrainerPoint:
    """A call of ``trial.report`` in the trainer or in a child process, for the order with number ``order``, from 1."""

    point: CurvePoint
    order: int = 0


@wire.register("TrainerStopSeen")
@record(frozen=True, slots=True, kw_only=True)
class TrainerStopSeen:
    """``trial.should_stop`` was True in a child process of the trainer, so a result of this order may be incomplete."""

    order: int = 0


@wire.register("TrainerEnded")
@record(frozen=True, slots=True, kw_only=True)
class TrainerEnded:
    """The objective ended: with a ``loss`` (None for other calls), or with a ``failure``.

    ``has_children`` says whether it left processes behind; ``renewal`` says why the trainer must not evaluate again, or
    is None.
    ``no_room_in`` is the folder whose disk had no room, if that is the reason of the failure.
    """

    loss: float | None = None
    failure: Failure | None = None
    info: Mapping[str, Plain] = field(default_factory=dict)
    duration_s: float = 0.0
    has_children: bool = False
    renewal: str | None = None
    no_room_in: str | None = None


@wire.register("TrainerInterrupted")
@record(frozen=True, slots=True, kw_only=True)
class TrainerInterrupted:
    """The objective was interrupted in ``trial.report``, or elsewhere: then it ``was_cut_off``, perhaps in a save.

    After ``trial.should_stop`` was True, an objective that returns is interrupted, too.

    ``renewal`` is as in :class:`TrainerEnded`.
    """

    has_children: bool = False
    renewal: str | None = None
    was_cut_off: bool = False


@record(frozen=True, slots=True, kw_only=True)
class TrainerDied:
    """The trainer died; ``failure`` is the failure of its evaluation. The handle makes this record; it is not sent."""

    failure: Failure


TrainerMessage: TypeAlias = (
    TrainerReady
    | TrainerFetches
    | TrainerRefused
    | TrainerPoint
    | TrainerStopSeen
    | TrainerEnded
    | TrainerInterrupted
    | TrainerDied
)
"""The messages that an agent receives from its trainer."""
