"""The data of shipped problems: whether this host has it, and what to know about it, before anything is evaluated.

Law of this file: only shipped problems are examined. ``missing_data()`` of such a problem looks on the disk alone,
imports no large library, and returns what is missing and where it looked, or None; ``fetch_data()``, if it has one,
gets it. ``notes()`` returns sentences for the plan and the start of a search, under the same rules.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from hpbandster_lite.errors import ProblemError, UsageError

SHIPPED = "hpbandster_lite.workers."


class MissingData(NamedTuple):
    """What a problem lacks on this host; ``is_fetched`` is whether a worker tries to download it."""

    text: str
    is_fetched: bool


def missing_data(problem: Any) -> MissingData | None:
    """What a problem lacks on this host; None if nothing is known to be missing."""
    hook = _hook(problem, "missing_data")
    text = None if hook is None else hook()
    return None if text is None else MissingData(text, _hook(problem, "fetch_data") is not None)


def notes_of(problem: Any) -> tuple[str, ...]:
    """What a problem has to say about its data and its options before a search begins."""
    hook = _hook(problem, "notes")
    return () if hook is None else tuple(hook())


def require_data(problem: Any, before_fetch: Callable[[], object]) -> None:
    """Refuse a problem whose data is missing here and cannot be downloaded.

    Parameters
    ----------
    problem
        The problem, as it will be evaluated.
    before_fetch
        Called before a download, which may take long.

    Raises
    ------
    SearchError
        With what is missing, where it was looked for, and the remedy.
    """
    missing = missing_data(problem)
    if missing is None:
        return
    if not missing.is_fetched:
        raise ProblemError(missing.text)
    before_fetch()
    fetch = _hook(problem, "fetch_data")
    if fetch is not None:
        fetch()


def refuse_missing(lacks: Iterable[MissingData]) -> None:
    """Refuse a search on this host if its data is missing and no worker can download it.

    Raises
    ------
    UsageError
        With what is missing, where it was looked for, and the remedy.
    """
    for missing in lacks:
        if not missing.is_fetched:
            raise UsageError(missing.text)


def _hook(problem: Any, name: str) -> Callable[[], Any] | None:
    # A module has its own name, an object that of its class's module.
    module = getattr(problem, "__name__", "") if problem in sys.modules.values() else type(problem).__module__
    return getattr(problem, name, None) if module.startswith(SHIPPED) else None
