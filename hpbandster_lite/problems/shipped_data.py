"""The data of shipped problems: whether this host has it, and what to know about it, before anything is evaluated.

Law of this file: only shipped problems are examined. ``missing_data()`` of such a problem looks on the disk alone,
imports no large library, and returns what is missing and where it looked, or None; ``fetch_data()``, if it has one,
gets it. ``refused_data(on_progress)`` looks at the data itself, which may take minutes, and returns why it cannot be
used, or None. ``prepare_data()`` makes what all trainers of a host share. ``chosen_at_the_beginning()`` returns, by
name, options that the host on which a search begins chooses for all workers. ``notes()`` returns sentences for the plan
and the start of a search.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from hpbandster_lite.errors import ProblemError, UsageError

SHIPPED = "hpbandster_lite.workers."


class MissingData(NamedTuple):
    """What a problem lacks on this host, or why its data cannot be used.

    ``is_fetched`` is whether a worker tries to download it.
    """

    text: str
    is_fetched: bool


def missing_data(problem: Any, on_progress: Callable[[str], object] | None = None) -> MissingData | None:
    """What a problem lacks on this host; None if nothing is known to be missing, and its data can be used.

    Parameters
    ----------
    problem
        The problem.
    on_progress
        Receives words about a look at the data that takes long. Default: None, for the log.
    """
    hook = _hook(problem, "missing_data")
    text = None if hook is None else hook()
    if text is not None:
        return MissingData(text, _hook(problem, "fetch_data") is not None)
    look = _hook(problem, "refused_data")
    refusal = None if look is None else look(on_progress)
    return None if refusal is None else MissingData(refusal, is_fetched=False)


def notes_of(problem: Any) -> tuple[str, ...]:
    """What a problem has to say about its data and its options before a search begins."""
    hook = _hook(problem, "notes")
    return () if hook is None else tuple(hook())


def chosen_at_the_beginning(problem: Any) -> dict[str, Any]:
    """Options that this host chooses for a search that begins on it; the reference of the search then has them."""
    hook = _hook(problem, "chosen_at_the_beginning")
    return {} if hook is None else dict(hook())


def require_data(problem: Any, before_fetch: Callable[[], object]) -> None:
    """Refuse a problem whose data is missing here and cannot be downloaded, or cannot be used; prepare it otherwise.

    Parameters
    ----------
    problem
        The problem, as it will be evaluated.
    before_fetch
        Called before a download or a look at the data, which may take long.

    Raises
    ------
    SearchError
        With what is missing, where it was looked for, and the remedy.
    """
    if _hook(problem, "refused_data") is not None:
        before_fetch()
    missing = missing_data(problem)
    if missing is None:
        prepare = _hook(problem, "prepare_data")
        if prepare is not None:
            prepare()
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


def _hook(problem: Any, name: str) -> Callable[..., Any] | None:
    # A module has its own name, an object that of its class's module.
    module = getattr(problem, "__name__", "") if problem in sys.modules.values() else type(problem).__module__
    return getattr(problem, name, None) if module.startswith(SHIPPED) else None
