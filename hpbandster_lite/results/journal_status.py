"""The status of a search from its journal, where no master answers.

Law of this file: it asks the journal's tables and changes nothing. The record is the same as that of
:func:`hpbandster_lite.engine.status.status_of`, without what only a living master knows: workers, waits and the
master's process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hpbandster_lite.engine.hints import Growth, Noted
from hpbandster_lite.engine.status import about_model, hints_of
from hpbandster_lite.hyperband.brackets import BracketPlan
from hpbandster_lite.journal import JournalReader, Promotion, RungRow, lost_note
from hpbandster_lite.journal import SourceEdit as JournalEdit
from hpbandster_lite.protocol.status import Bracket, Evaluations, Incumbent, Rung, SourceEdit, Status, in_users_sign
from hpbandster_lite.records import NOTES, FailureKind, SearchSettings
from hpbandster_lite.rundir import RunDirectory, why_no_answer
from hpbandster_lite.samplers import bracket_plan
from hpbandster_lite.settings.search_file import how_to_continue

FIRST_PROMOTIONS = 1_000
"""Promotions that are read first: in a long search they settle the hints, and all of them take a second to read."""
NO_MASTER = "no master answers"
"""Begins the reason why a search is stopped."""
FIRST_OUTCOMES = 1_000
"""Outcomes that are searched for notes: an objective that leads to notes does so from the beginning."""


def status_from_journal(reader: JournalReader) -> Status:
    """The status of a search that no master serves."""
    settings, rungs, finished = reader.settings(), reader.rungs(), reader.finished()
    why_paused, paused_at = reader.paused() or (None, None)
    failures = {FailureKind(kind): count for kind, count in reader.failures().items()}
    incumbent = incumbent_from_journal(reader)
    recorded = sum(row["done"] + row["failed"] for row in rungs)
    growth = _growth(reader, len(settings.budgets))
    brackets, configurations = _brackets(reader, settings, rungs), reader.configuration_count()
    from_model = reader.configurations_of_model()
    status = Status(
        answered_by="journal",
        state="stopped" if finished is None else "finished",
        finish_kind=None if finished is None else finished.kind,
        reason=_no_master(reader, settings) if finished is None else finished.reason,
        paused=why_paused,
        paused_at=paused_at,
        run_id=settings.run_id,
        problem=settings.problem.name,
        algorithm=settings.algorithm,
        unit=settings.unit,
        seed=settings.seed,
        maximize=settings.maximize,
        epoch=max((master["epoch"] for master in reader.masters()), default=0),
        limits=reader.limits(),
        hints=(
            *notes_of(reader),
            *hints_of(growth, failures, settings, recorded=recorded, has_loss=incumbent is not None),
        ),
        model=about_model(settings, brackets, from_model=from_model, configurations=configurations),
        brackets=brackets,
        evaluations=Evaluations(
            started=recorded + sum(row["queued"] + row["running"] for row in rungs),
            recorded=recorded,
            running=sum(row["running"] for row in rungs),
            to_run_again=sum(row["queued"] for row in rungs),
            late=None,
        ),
        configurations=configurations,
        budget_started=reader.budget_started(),
        failures={kind.value: count for kind, count in failures.items()},
        incumbent=incumbent,
        source_edits=tuple(source_edit_of(each) for each in reader.source_edits()),
    )
    return in_users_sign(status)


def _no_master(reader: JournalReader, settings: SearchSettings) -> str:
    directory = RunDirectory(reader.path.parent)
    if directory.is_served():
        # The same command again would wait for this master.
        return f"no answer: {why_no_answer(directory.holder_file)}"
    how = how_to_continue(directory, settings.problem.reference)
    lost = lost_note(reader.path)
    return f"{NO_MASTER}; {lost}; then {how}" if lost else f"{NO_MASTER}; to continue, {how}"


def source_edit_of(edit: JournalEdit) -> SourceEdit:
    """An accepted edit of the source as the status shows it."""
    return SourceEdit(
        recorded=edit.recorded,
        first=None if edit.first is None else str(edit.first),
        differences=edit.change.differences,
    )


def incumbent_from_journal(reader: JournalReader) -> Incumbent | None:
    """The incumbent with its values, its loss and what its objective returned beside it; None before any loss."""
    best = reader.best()
    if best is None or best["outcome"] is None or best["loss"] is None:
        return None
    return Incumbent(
        config_id=best["config_id"],
        rung=best["rung"],
        budget=best["budget"],
        loss=best["loss"],
        values=reader.configuration(best["config_id"])["values"],
        info=dict(reader.outcome(best["outcome"]).info),
        directory=best["directory"],
    )


def notes_of(reader: JournalReader) -> list[str]:
    """The notes of trainers about evaluations, as one sentence, if there are any."""
    noted = Noted()
    for outcome in reader.outcomes_with(f'"{NOTES}":', FIRST_OUTCOMES):
        noted.add(outcome.info)
    return noted.hints()


def _growth(reader: JournalReader, budgets: int) -> Growth:
    growth = _growth_of(reader.promotions(FIRST_PROMOTIONS))
    return growth if growth.is_settled(budgets) else _growth_of(reader.promotions())


def _growth_of(promotions: Iterable[Promotion]) -> Growth:
    growth = Growth()
    for each in promotions:
        growth.add(
            (each.lower_budget, each.upper_budget),
            (each.lower_loss, each.upper_loss),
            (each.lower_s, each.upper_s),
            has_checkpoint=bool(each.has_checkpoint),
        )
    return growth


def _brackets(reader: JournalReader, settings: SearchSettings, rows: list[RungRow]) -> tuple[Bracket, ...]:
    started = {(row["bracket"], row["rung"]): row for row in rows}
    last = max((bracket for bracket, _ in started), default=-1)
    plans = [bracket_plan(settings, number) for number in range(last + 1)]
    filled = reader.filled_rungs()
    # Only a rung with free places may have shrunk; in a long search those are in the newest brackets.
    free = [plan.bracket for plan in plans if any(_may_have_shrunk(plan, started, filled))]
    shrunk = filled | (reader.shrunk_rungs(min(free)) if free else {})
    return tuple(_bracket(plan, started, shrunk) for plan in plans)


def _may_have_shrunk(
    plan: BracketPlan, started: dict[tuple[int, int], RungRow], filled: dict[tuple[int, int], int]
) -> Iterator[bool]:
    """Whether each rung of a bracket has free places; one without evaluations may have none at all."""
    for index, planned in enumerate(plan.rungs):
        row = started.get((plan.bracket, index))
        taken = 0
        if row is not None:
            taken = row["queued"] + row["running"] + row["done"] + row["failed"] - row["infeasible"]
        yield taken < filled.get((plan.bracket, index), planned.places)


def _bracket(plan: BracketPlan, started: dict[tuple[int, int], RungRow], shrunk: dict[tuple[int, int], int]) -> Bracket:
    rungs: list[Rung] = []
    for index, planned in enumerate(plan.rungs):
        places = shrunk.get((plan.bracket, index), planned.places)
        # A rung opens when the one below it is complete.
        is_open = not rungs or (rungs[-1].is_open and rungs[-1].done >= rungs[-1].places)
        row = started.get((plan.bracket, index))
        rungs.append(_rung(planned.budget, places, row, is_open=is_open))
    last = rungs[-1]
    return Bracket(bracket=plan.bracket, complete=last.is_open and last.done >= last.places, rungs=tuple(rungs))


def _rung(budget: float, places: int, row: RungRow | None, *, is_open: bool) -> Rung:
    if row is None:
        return Rung(budget=budget, places=places, is_open=is_open)
    # An infeasible configuration gave its place back.
    failed = row["failed"] - row["infeasible"]
    return Rung(
        budget=budget,
        places=places,
        is_open=is_open,
        done=row["done"] + failed,
        running=row["running"],
        failed=failed,
        best=row["best"],
    )
