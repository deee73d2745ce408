"""At which points of a training it is judged, and on how many examples.

Law of this file: arithmetic only, on the budget, its ladder and the numbers of examples; no clock. So two trainings
have the same points on any machine, and a training that continues from a checkpoint has those of an uninterrupted one:
the points up to a rung are the same for every budget of a ladder.

The end of each rung of the ladder is a point, and each interval between two ends has as many points in between as cost
at most a small share of its training. The judgement at the end of the budget, and at the end of a rung from which the
training continues, uses all validation examples. The others are only for the learning curve: they use some of the
examples where all would cost too much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from hpbandster_lite.workers.training.schedule import Budget

MOST = 20
"""Most points of a training, unless the ladder alone has more."""
FORWARD = 0.35
"""Cost of an example's judgement, in units of its training step (measured on a CPU for small networks: 0.2 to 0.4)."""
SHARE = 0.02
"""Largest share of an interval's training for the judgements that are only for the curve; beyond it there is only the
one of the rung's end, on the fewest examples."""
FEWEST = 500
"""Validation examples of a judgement for the curve, at least, if there are so many."""
NORM_EXAMPLES, NORM_BATCHES = 500, 10
"""Examples of the pass that estimates the statistics of batch normalisation before such a judgement; most batches."""
NORM_EXAMPLES_AT_AN_END, NORM_BATCHES_AT_AN_END = 2_000, 100
"""The same before a judgement on all examples."""


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a training.

    Parameters
    ----------
    at
        Budget used, in its unit.
    examples
        Number of validation examples; None for all.
    """

    at: float
    examples: int | None = None

    @property
    def is_full(self) -> bool:
        """Whether all validation examples judge."""
        return self.examples is None


def points_of(budget: Budget, training: int, validation: int, *, continues: bool) -> tuple[Point, ...]:
    """The points of a training, in order; the last one is its end.

    Parameters
    ----------
    budget
        The budget, with the lower rungs of its ladder.
    training, validation
        Numbers of training and of validation examples; without validation examples a point costs nothing.
    continues
        Whether each rung continues the training of the rung below, so that their ends are the same state.
    """
    ends = (*budget.restarts_at, budget.amount)
    most = MOST // max(budget.rungs, len(ends)) - 1
    norm, fewest = min(NORM_EXAMPLES, training), min(FEWEST, validation)
    found: list[Point] = []
    for begin, end in pairwise((0.0, *ends)):
        # How many epochs fit into seconds is not known: the lowest rung is taken for one, as on the default ladder.
        epochs = end - begin if budget.unit == "epochs" else (end - begin) / ends[0]
        judged = SHARE * epochs * training / FORWARD
        between = min(most, math.ceil(epochs) - 1)
        if validation:
            between = max(0, min(between, int(judged / (fewest + norm)) - 1))
        each = max(int(judged / (between + 1)) - norm, FEWEST)
        part = None if each >= validation else each
        found += [Point(at, part) for at in _spread(begin, end, between, whole=budget.unit == "epochs")]
        found.append(Point(end, None if continues or end == budget.amount else part))
    return tuple(found)


def norm_batches(batch_size: int, *, is_full: bool) -> int:
    """Batches of the pass that estimates the statistics of batch normalisation before a judgement."""
    if is_full:
        return min(math.ceil(NORM_EXAMPLES_AT_AN_END / batch_size), NORM_BATCHES_AT_AN_END)
    return min(math.ceil(NORM_EXAMPLES / batch_size), NORM_BATCHES)


def share_of_ends(epochs: float, training: int, validation: int) -> float:
    """Share of an evaluation's time for the judgement at its end, if it trains for so many epochs."""
    cost = FORWARD * (validation + min(NORM_EXAMPLES_AT_AN_END, training))
    return cost / (cost + epochs * training)


def _spread(begin: float, end: float, count: int, *, whole: bool) -> list[float]:
    """Points between two, at about equal distances; whole epochs after the begin if possible."""
    step = (end - begin) / (count + 1)
    return [begin + (round(k * step) if whole and step >= 1 else k * step) for k in range(1, count + 1)]
