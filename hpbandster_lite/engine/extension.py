"""Limits that are given as an amount to add to what a search has: ``--evaluations +50``.

Law of this file: a pure function of the state; what it returns is journalled with the next start, as any limits. A
limit that the search has reached grows by the given amount; one that it has not reached stays. So the same command
extends a search once, however often it is started again before it has reached the new limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpbandster_lite.engine.limits import is_affordable
from hpbandster_lite.engine.state import State
from hpbandster_lite.records import FinishKind, SearchSettings
from hpbandster_lite.records.decorator import record

SLACK_S = 1.0
"""The time between a master's first and last commit is that much shorter than the one for which it has served."""
_WORDS = {
    "brackets": "{:g} brackets",
    "evaluations": "{:g} evaluations",
    "total_budget": "a total budget of {:g}",
    "wall_time_s": "a wall time of {:g} s",
}


@record(frozen=True, slots=True, kw_only=True)
class Extension:
    """Values of limits by name, whether one of them has changed, and a note about each."""

    limits: Mapping[str, Any]
    is_change: bool
    notes: tuple[str, ...]


def extend(state: State, settings: SearchSettings, more: Mapping[str, float], *, spent_s: float) -> Extension:
    """The limits of a search that is extended by these amounts.

    Parameters
    ----------
    state, settings
        Of the search.
    more
        Amounts by the names of limits.
    spent_s
        Seconds for which masters have served the search.
    """
    limits, notes, is_change = {}, [], False
    for name, amount in more.items():
        limit, so_far = getattr(state.limits, name), _so_far(state, name, spent_s)
        if limit is not None and not _is_reached(state, settings, name, spent_s):
            limits[name] = limit
            notes.append(
                f"+{amount:g} changes nothing: the search has not reached its limit of {_words(name, limit)}; once it "
                "has, the same +N extends it"
            )
            continue
        limits[name] = (so_far if limit is None else limit) + amount
        is_change = True
        before = f"than the {so_far:g} so far" if limit is None else f"than its limit of {limit:g}"
        notes.append(f"the search goes on to {_words(name, limits[name])}, {amount:g} more {before}")
    return Extension(limits=limits, is_change=is_change, notes=tuple(notes))


def _words(name: str, value: float) -> str:
    is_one = value == 1 and name in ("brackets", "evaluations")
    return f"1 {name.removesuffix('s')}" if is_one else _WORDS[name].format(value)


def _so_far(state: State, name: str, spent_s: float) -> float:
    """How much of a limit is used."""
    match name:
        case "brackets":
            return len(state.brackets)
        case "evaluations":
            return state.started - state.refused
        case "total_budget":
            return state.budget_started
        case _:
            return spent_s


def _is_reached(state: State, settings: SearchSettings, name: str, spent_s: float) -> bool:
    """Whether the search has ended and this limit leaves nothing to do."""
    if state.finished is None:
        # Also if everything was started: results of evaluations that run, or were lost with their master, are missing.
        return False
    limit: float = getattr(state.limits, name)
    if name == "wall_time_s":
        return state.finished.kind is FinishKind.LIMIT and spent_s >= limit - SLACK_S
    if state.to_rerun or state.held_by:
        return False
    match name:
        case "brackets":
            return len(state.brackets) >= limit and all(bracket.is_complete for bracket in state.brackets)
        case "evaluations":
            return state.started - state.refused >= limit
        case _:
            where = state.rung_with_work()
            least = settings.budgets[0] if where is None else state.brackets[where[0]].rungs[where[1]].budget
            return not is_affordable(state, least)
