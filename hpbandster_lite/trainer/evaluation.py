"""One call of the objective, from the order to the outcome.

Law of this file: unless the user's code ends the process, the outcome is a value: a loss with plain information, a
failure, or an interruption. This file checks a result in the worker, as soon as the objective returns it.
"""

from __future__ import annotations

import errno
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from time import perf_counter as clock  # not time.perf_counter, which an objective may replace
from types import TracebackType
from typing import Any

from hpbandster_lite import wire
from hpbandster_lite.hyperband.direction import turned, word_for
from hpbandster_lite.problems import Problem
from hpbandster_lite.problems.plain_forms import plain_forms
from hpbandster_lite.problems.trial import Interrupted, Trial, note, noted, number
from hpbandster_lite.process.forks import ForksEndHere
from hpbandster_lite.records import NOTES, CurvePoint, Failure, FailureKind, Plain, users_values
from hpbandster_lite.trainer.exceptions import one_line
from hpbandster_lite.trainer.full_disk import NoRoom, full_disk
from hpbandster_lite.trainer.messages import TrainerEnded, TrainerInterrupted, TrainerOrder
from hpbandster_lite.trainer.missing import missing

MAX_TRACEBACK_CHARACTERS = 16_384
MAX_REASON_CHARACTERS = 1_000

_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "alloc_failed",
    "resource_exhausted",
)
"""Parts of the texts of RuntimeErrors by CUDA, cuBLAS, torch's CPU allocator and XLA, in lower case."""


_ACCELERATOR = re.compile(
    r"cuda|cublas|cudnn|cufft|cusolver|cusparse|nccl|hip error|accelerator|xlaruntime", re.IGNORECASE
)
"""An exception with such a name or text may have broken the process's context on the GPU."""


class _Invalid(Exception):
    """The objective returned an invalid result."""


def run_objective(
    problem: Problem,
    order: TrainerOrder,
    *,
    on_report: Callable[[CurvePoint], bool],
    must_stop: Callable[[], bool] | None = None,
) -> TrainerEnded | TrainerInterrupted:
    """Call ``feasible``, then the objective, once.

    Parameters
    ----------
    problem
        The problem; its ``evaluate`` is called, or the function that the order names.
    order
        The configuration, the budget, and the data of the trial.
    on_report, must_stop
        See :class:`~hpbandster_lite.problems.trial.Trial`.

    Returns
    -------
    TrainerEnded or TrainerInterrupted
        The loss or the failure; or the interruption, if the worker must give the evaluation back.
    """
    trial = _trial(order, _Turned(on_report) if order.maximize else on_report, must_stop)
    notes: list[str] = []
    before = noted.set(notes)
    if order.note:
        note(order.note)
    began = clock()
    loss: float | None = None
    info: dict[str, Plain] = {}
    failure: Failure | None = None
    renewal: str | None = None
    no_room: NoRoom | None = None
    try:
        with ForksEndHere(Interrupted):
            if order.call != "evaluate":
                info = _figures(problem, order, trial)
            else:
                refusal = _refusal(problem, users_values(order.values))
                if refusal is None:
                    result = problem.evaluate(users_values(order.values), trial.budget, trial)
                    loss, info = checked_result(result, maximize=order.maximize)
                else:
                    failure = Failure(kind=FailureKind.INFEASIBLE, reason=refusal)
    except Interrupted:
        return TrainerInterrupted()
    except _Invalid as error:
        failure = Failure(kind=FailureKind.INVALID, reason=str(error))
    except BaseException as error:  # noqa: BLE001 (any exception of user code is its outcome, also SystemExit)
        no_room = full_disk(error, order.directory)
        failure = failure_of(error, no_room)
        if failure.kind is FailureKind.CODE:
            failure = replace(failure, misses=missing(error, problem, order.values))
        renewal = "the objective ended with an error of the GPU's libraries" if is_of_accelerator(error) else None
    finally:
        trial.end()
        noted.reset(before)
    if trial.was_to_stop and _may_be_incomplete(failure):
        return TrainerInterrupted(was_cut_off=failure is not None, renewal=renewal)
    return TrainerEnded(
        loss=loss,
        failure=failure,
        info={NOTES: list(notes), **info} if notes and order.call == "evaluate" else info,
        duration_s=clock() - began,
        renewal=renewal,
        no_room_in=None if no_room is None else no_room.folder,
    )


def _may_be_incomplete(failure: Failure | None) -> bool:
    """Whether an objective that knew that it must stop may have ended in this way because of it."""
    if failure is None:
        note("the objective returned after trial.should_stop() was True: the evaluation is handed back")
    return failure is None or failure.kind in (FailureKind.CODE, FailureKind.INVALID)


def _trial(
    order: TrainerOrder, on_report: Callable[[CurvePoint], bool], must_stop: Callable[[], bool] | None
) -> Trial:
    budget, max_budget, *budgets = _as_declared(order, order.budget, order.max_budget, *order.budgets)
    return Trial(
        budget=budget,
        max_budget=max_budget,
        budgets=budgets,
        unit=order.unit,
        seed=order.seed,
        config_id=order.evaluation.config_id,
        rung=order.evaluation.rung,
        attempt=order.attempt,
        maximize=order.maximize,
        directory=order.directory,
        previous_directory=order.previous_directory,
        resume_directory=order.resume_directory,
        on_report=on_report,
        must_stop=must_stop,
    )


class _Turned:
    """Passes points on with the other sign; a spawned child process of the objective receives it by pickle."""

    def __init__(self, on_report: Callable[[CurvePoint], bool]) -> None:
        self._on_report = on_report

    def __call__(self, point: CurvePoint) -> bool:
        return self._on_report(point._replace(loss=turned(point.loss, maximize=True)))


def _as_declared(order: TrainerOrder, *budgets: float) -> list[float]:
    """Budgets as int where the search has whole ones; a journal from before this rule may have others, too."""
    is_whole = order.integer_budgets
    return [int(budget) if is_whole and float(budget).is_integer() else budget for budget in budgets]


def _refusal(problem: Problem, config: dict[str, Any]) -> str | None:
    feasible = getattr(problem, "feasible", None)
    answer = None if feasible is None else feasible(config)
    if answer is None:
        return None
    if isinstance(answer, str):
        return answer or "refused by feasible(config)"
    return None if answer else "refused by feasible(config)"


# ---------------------------------------------------------------------------------------------------------- results


def checked_result(result: Any, *, maximize: bool = False) -> tuple[float, dict[str, Plain]]:
    """The loss and the information in the result of ``evaluate``.

    The keys of a mapping other than ``loss`` are the information; a mapping under ``info`` is merged into it
    (HpBandSter's form). A note replaces a value that has no plain form or is too large. What is to be large may be
    under ``value`` instead of ``loss``, which then is information; its loss has the other sign.

    Raises
    ------
    _Invalid
        If the result is neither a number nor a mapping with ``loss``, or if the loss is not finite.
    """
    word = word_for(maximize=maximize)
    if isinstance(result, Mapping):
        key = word if word in result else "loss"
        if key not in result:
            keys = ", ".join(repr(key) for key in list(result)[:10]) or "nothing"
            remedy = f"return {{{word!r}: ..., ...}}"
            raise _Invalid(f"evaluate returned a mapping without {word!r} (it has {keys}); {remedy}")
        loss = _number(result[key], f"the {word} that evaluate returned", word)
        return turned(loss, maximize=maximize), _information(result, key)
    if result is None:
        why = "does a branch lack its return statement?"
        raise _Invalid(f"evaluate returned None; return the {word}, a number ({why})")
    return turned(_number(result, "what evaluate returned", word), maximize=maximize), {}


def _number(value: Any, what: str, word: str) -> float:
    try:
        found = number(value, what)
    except TypeError as error:
        raise _Invalid(f"{error}, or a mapping with {word!r}") from error
    if found - found != 0.0:
        raise _Invalid(f"{what} is {found}; return a finite number, or raise an error with the reason")
    return found


def _information(result: Mapping[Any, Any], key: str) -> dict[str, Plain]:
    merged = {name: value for name, value in result.items() if name not in (key, "info")}
    nested = result.get("info")
    if isinstance(nested, Mapping):
        merged.update(nested)
    elif nested is not None:
        merged["info"] = nested
    return _plain_information(merged, "info")


def _figures(problem: Problem, order: TrainerOrder, trial: Trial) -> dict[str, Plain]:
    """The figures that ``test``, ``refit`` or ``export`` returns.

    Raises
    ------
    _Invalid
        If the problem has no such function, or it returned no mapping or did not write its file.
    """
    function = getattr(problem, order.call, None)
    if function is None:
        raise _Invalid(f"the problem has no {order.call}")
    if order.call == "export":
        result = function(Path(order.directory), Path(order.file or ""))
    else:
        result = function(users_values(order.values), trial.budget, trial)
    if not isinstance(result, Mapping):
        kind = type(result).__qualname__
        raise _Invalid(f"{order.call} returned a {kind}; return a mapping such as {_EXAMPLES[order.call]}")
    figures = _plain_information(result, order.call)
    if order.call == "refit":
        _check_model(figures.get("model"), trial.directory)
    if order.call == "export" and not Path(order.file or "").is_file():
        raise _Invalid(f"export returned without writing {order.file}; write the file there")
    return figures


_EXAMPLES = {
    "test": "{'test_error': ...}",
    "refit": "{'model': 'model.pt', 'test_error': ...}",
    "export": "{'largest_difference': ...}",
}


def _check_model(name: Plain, directory: Path) -> None:
    if not isinstance(name, str):
        what = "nothing" if name is None else repr(name)
        raise _Invalid(f"refit returned {what} under 'model'; return the name of the file in trial.directory")
    if not (directory / name).is_file():
        raise _Invalid(f"refit returned the model {name!r}, but there is no such file in {directory}; save it there")


def _plain_information(value: Mapping[Any, Any], path: str) -> dict[str, Plain]:
    return plain_forms(value, path, wire.MAX_INFO_BYTES) if value else {}


# ---------------------------------------------------------------------------------------------------------- failures


def failure_of(error: BaseException, no_room: NoRoom | None = None) -> Failure:
    """The failure for an exception of the user's code, with the traceback from the user's first line on.

    ``no_room`` names the full disk if that is the cause of the exception.
    """
    reason = f"the objective called sys.exit({error.code!r})" if isinstance(error, SystemExit) else one_line(error)
    kind = FailureKind.CODE
    if no_room is not None:
        kind, reason = FailureKind.INFRASTRUCTURE, no_room.reason
    elif is_out_of_memory(error):
        kind = FailureKind.MEMORY
    elif isinstance(error, FloatingPointError):
        # Python and numpy raise this class for failed arithmetic: a training that diverged.
        kind = FailureKind.INVALID
    lines = traceback.format_exception(type(error), error, _from_users_code(error.__traceback__))
    return Failure(
        kind=kind,
        reason=_clipped(reason, MAX_REASON_CHARACTERS),
        traceback=_clipped("".join(lines), MAX_TRACEBACK_CHARACTERS),
    )


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception, or one of its causes, means that the host or the GPU is out of memory."""
    while error is not None:
        names = {cls.__name__ for cls in type(error).__mro__}
        # By name, so that torch.cuda.OutOfMemoryError needs no import of torch.
        if names & {"MemoryError", "OutOfMemoryError"} or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        if isinstance(error, RuntimeError) and any(words in one_line(error).lower() for words in _OUT_OF_MEMORY):
            return True
        error = error.__cause__
    return False


def is_of_accelerator(error: BaseException | None) -> bool:
    """Whether an exception, or one of its causes, comes from CUDA or its libraries, so that their context may fail."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        names = " ".join(cls.__name__ for cls in type(error).__mro__)
        if _ACCELERATOR.search(names) or _ACCELERATOR.search(one_line(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _from_users_code(frames: TracebackType | None) -> TracebackType | None:
    users = frames
    while users is not None and users.tb_frame.f_code.co_filename == __file__:
        users = users.tb_next
    return users or frames


def _clipped(text: str, limit: int) -> str:
    """The text, shortened to the limit: a quarter from its beginning, the rest from its end."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 4]}\n... {len(text) - limit:,} characters omitted ...\n{text[-(limit - limit // 4) :]}"
