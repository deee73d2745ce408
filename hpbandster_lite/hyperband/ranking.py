"""The order of results: which of two is better, which ones are promoted, and which is the incumbent.

Law of this file: no other file compares losses. At one budget a finite loss comes before a failure, a lower loss before
a higher one, and ties go to the smaller config id, so that the order in which results arrive changes nothing. Losses at
different budgets measure different things: the incumbent is the best result at the highest budget that has one.

A search with several objectives needs a change in this file only: it holds every sort key and the equivalent SQL.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from hpbandster_lite.records import ConfigId

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RankKey: TypeAlias = tuple[bool, float, ConfigId]
"""Key of a result among those of one budget; the smallest is the best."""
IncumbentKey: TypeAlias = tuple[float, float, ConfigId]
"""Key of a finite result among those of all budgets; the smallest is the incumbent."""

INCUMBENT_FIRST_SQL = "budget DESC, loss ASC, bracket ASC, sampled_rung ASC, number ASC"
"""The order of :func:`incumbent_key` for the journal's table of evaluations, among rows that have a loss."""

BEST_LOSS_SQL = "min(loss)"
"""The SQL aggregate for :func:`best_loss`; it ignores rows without a loss."""


def rank_key(config_id: ConfigId, loss: float | None) -> RankKey:
    """Key that sorts the results of one budget, the best first; a loss of ``None``, NaN or infinity is a failure."""
    if loss is None or not math.isfinite(loss):
        return True, 0.0, config_id
    return False, loss, config_id


def incumbent_key(budget: float, loss: float, config_id: ConfigId) -> IncumbentKey:
    """Key that sorts finite results of any budgets, the incumbent first."""
    return -budget, loss, config_id


def result_key(budget: float, loss: float | None, config_id: ConfigId) -> tuple[bool, float, float, ConfigId]:
    """Key that sorts results and failures of any budgets, the incumbent first; of failures, the largest budget."""
    has_failed, loss_or_zero, _ = rank_key(config_id, loss)
    return has_failed, -budget, loss_or_zero, config_id


def survivors(results: Iterable[tuple[ConfigId, float | None]], places: int) -> list[ConfigId]:
    """The configurations that a finished rung promotes.

    Parameters
    ----------
    results
        Every configuration of the rung with its loss; ``None`` (or no finite number) for a failure.
    places
        Places of the next rung.

    Returns
    -------
    list of ConfigId
        At most ``places`` configurations, the best first. A failure is never promoted: new samples fill its place.
    """
    ranked = sorted(rank_key(config_id, loss) for config_id, loss in results)
    return [config_id for has_failed, _, config_id in ranked[:places] if not has_failed]


def pool_survivors(
    pool: Iterable[tuple[ConfigId, float]], means: Sequence[float], places: int
) -> list[ConfigId]:
    """The configurations that a finished rung promotes from the pool of its budget.

    Parameters
    ----------
    pool
        Every configuration with a finite loss at the budget that was never promoted from it, in the order of
        :func:`rank_key`.
    means
        The model's means at the full budget, in the same order; empty where there is no model.
    places
        Places of the next rung.

    Returns
    -------
    list of ConfigId
        At most ``places`` configurations, the best first: ranked by half of the rank of the loss and half of the rank
        of the mean; of equal ones the lower loss is first.
    """
    candidates = [config_id for config_id, _ in pool]
    if not means:
        return candidates[:places]
    by_mean = sorted(range(len(candidates)), key=lambda row: (means[row], row))
    rank = {row: place for place, row in enumerate(by_mean)}
    best_first = sorted(range(len(candidates)), key=lambda row: (row + rank[row], row))
    return [candidates[row] for row in best_first[:places]]


def best_loss(losses: Iterable[float], *, maximize: bool = False) -> float | None:
    """The best of finite losses at one budget, or of values of the user; ``None`` if there are none."""
    return max(losses, default=None) if maximize else min(losses, default=None)


def reaches(loss: float, target: float) -> bool:
    """Whether a loss is at least as good as the target loss."""
    return loss <= target


def rows_best_first(losses: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """Rows of a column of losses at one budget, the best first, for the model's split into good and bad results.

    Parameters
    ----------
    losses
        Shape (n,), infinite for failures.

    Returns
    -------
    ndarray
        Shape (n,). Ties keep their order of arrival; everywhere else they follow the config ids. Another order would
        change the model's proposals, and recorded journals would no longer verify.
    """
    return losses.argsort(kind="stable")
