"""What a sampler has observed at all budgets, and what is running, for the samplers that use every budget.

Law of this file: it keeps and orders results; no model and no randomness. Everything it returns is a function of the
sequence of calls. Budgets are numbered by their place in the ladder (*rungs*, 0 is the lowest), and configurations by
the order in which they were first observed or begun.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hpbandster_lite.errors import InvariantBroken
from hpbandster_lite.hyperband.ranking import rows_best_first
from hpbandster_lite.records.decorator import record
from hpbandster_lite.samplers.kde.axes import Indices
from hpbandster_lite.samplers.protocol import Vector
from hpbandster_lite.samplers.random import as_vector
from hpbandster_lite.space import Array, Mask

FEWEST_ROWS = 16
"""Rows that are made at a time, at least."""


@record(frozen=True, slots=True, kw_only=True)
class Table:
    """Evaluations as columns.

    Parameters
    ----------
    vectors
        Configurations, shape (n, d), NaN for inactive dimensions.
    rungs
        Number of the budget in the ladder, shape (n,).
    numbers
        Number of the configuration, shape (n,): equal where two evaluations have the same configuration.
    losses
        Shape (n,), infinite for bad results; all NaN for evaluations that are running.
    """

    vectors: Array
    rungs: Indices
    numbers: Indices
    losses: Array

    @classmethod
    def empty(cls, n: int, d: int) -> Table:
        """Room for evaluations."""
        return cls(
            vectors=np.empty((n, d)),
            rungs=np.empty(n, dtype=np.intp),
            numbers=np.empty(n, dtype=np.intp),
            losses=np.empty(n),
        )

    def __len__(self) -> int:
        return len(self.losses)

    def take(self, rows: Indices | Mask | slice) -> Table:
        """The evaluations of these rows."""
        return Table(
            vectors=self.vectors[rows], rungs=self.rungs[rows], numbers=self.numbers[rows], losses=self.losses[rows]
        )


class History:
    """Results in the order in which they were observed, and the evaluations that are running.

    Parameters
    ----------
    budgets
        The ladder, increasing.
    d
        Number of coordinates of a vector.

    Attributes
    ----------
    changes : int
        How many calls have changed the results; what is computed from the results holds until this number changes.
    forgotten : int
        How many results were removed; while it stays the same, results are only appended.
    """

    def __init__(self, budgets: Sequence[float], d: int) -> None:
        self.budgets = tuple(sorted(float(budget) for budget in budgets))
        self.changes = 0
        self.forgotten = 0
        self._d = d
        self._rung_of = {budget: rung for rung, budget in enumerate(self.budgets)}
        self._number_of: dict[bytes, int] = {}
        self._count = 0
        self._columns = Table.empty(FEWEST_ROWS, d)
        self._finite = [0] * len(self.budgets)
        self._running: dict[tuple[int, int], Array] = {}
        self._best_first: dict[int, Table] = {}

    def __len__(self) -> int:
        return self._count

    @property
    def top(self) -> int:
        """Number of the full budget."""
        return len(self.budgets) - 1

    def begin(self, vector: Vector, budget: float) -> None:
        """Note that an evaluation runs; once more for the same evaluation changes nothing."""
        array = self._canonical(vector)
        self._running[self._number(array), self._rung(budget)] = array

    def end(self, vector: Vector, budget: float) -> None:
        """Note that an evaluation does not run any more; nothing happens if it was not running."""
        self._running.pop((self._number(self._canonical(vector)), self._rung(budget)), None)

    def observe(self, vector: Vector, budget: float, loss: float | None) -> None:
        """Add a result, ``None`` for a bad one; its evaluation does not run any more."""
        if loss is not None and not math.isfinite(loss):
            raise InvariantBroken(f"a loss must be finite, got {loss!r}; a bad result is None")
        array, rung = self._canonical(vector), self._rung(budget)
        number = self._number(array)
        self._running.pop((number, rung), None)
        if self._count == len(self._columns):
            # Twice the size: each result is copied twice on average.
            self._columns = _joined([self._columns, Table.empty(max(self._count, FEWEST_ROWS), self._d)])
        columns, row = self._columns, self._count
        columns.vectors[row], columns.rungs[row], columns.numbers[row] = array, rung, number
        columns.losses[row] = math.inf if loss is None else loss
        self._count += 1
        self._finite[rung] += loss is not None
        self._changed(rung)

    def forget(self, vector: Vector, budget: float) -> None:
        """Remove the newest bad result of an evaluation."""
        number, rung = self._number(self._canonical(vector)), self._rung(budget)
        table = self.table()
        rows = np.flatnonzero((table.numbers == number) & (table.rungs == rung) & np.isinf(table.losses))
        if len(rows):
            self.forgotten += 1
            # A copy, because tables that were given out show the removed result.
            self._columns = table.take(np.delete(np.arange(self._count), rows[-1]))
            self._count -= 1
            self._changed(rung)
            return
        raise InvariantBroken(f"cannot forget a bad result of {list(vector)} at budget {budget!r}: none was observed")

    def number_of(self, vector: Array) -> int:
        """The number of a configuration; -1 for one that was neither observed nor begun."""
        return self._number_of.get(_key(vector), -1)

    def finite_at(self, rung: int) -> int:
        """How many results at a budget are finite."""
        return self._finite[rung]

    def table(self) -> Table:
        """All results, in the order of observation."""
        return self._columns.take(slice(self._count))

    def best_first(self, rung: int) -> Table:
        """The results at one budget, the best first."""
        if rung not in self._best_first:
            at_rung = self.table().take(self.table().rungs == rung)
            self._best_first[rung] = at_rung.take(rows_best_first(at_rung.losses))
        return self._best_first[rung]

    def best(self, most: int) -> Table:
        """The best configurations, each once: by their losses at the full budget, then at the budgets below."""
        ranked = [self.best_first(rung) for rung in reversed(range(len(self.budgets)))]
        table = _joined([each.take(np.isfinite(each.losses)) for each in ranked])
        _, first = np.unique(table.numbers, return_index=True)
        return table.take(np.sort(first)[:most])

    def running(self) -> Table:
        """The evaluations that are running, in the order in which they began."""
        keys = np.array(list(self._running), dtype=np.intp).reshape(-1, 2)
        return Table(
            vectors=np.array(list(self._running.values()), dtype=np.float64).reshape(len(keys), self._d),
            rungs=keys[:, 1],
            numbers=keys[:, 0],
            losses=np.full(len(keys), math.nan),
        )

    def _changed(self, rung: int) -> None:
        self.changes += 1
        self._best_first.pop(rung, None)

    def _canonical(self, vector: Vector) -> Array:
        return as_vector(vector, self._d)

    def _number(self, vector: Array) -> int:
        return self._number_of.setdefault(_key(vector), len(self._number_of))

    def _rung(self, budget: float) -> int:
        rung = self._rung_of.get(budget)
        if rung is None:
            raise InvariantBroken(f"the budget {budget!r} is not in the ladder {list(self.budgets)}")
        return rung


def _joined(tables: Sequence[Table]) -> Table:
    return Table(
        vectors=np.concatenate([table.vectors for table in tables]),
        rungs=np.concatenate([table.rungs for table in tables]),
        numbers=np.concatenate([table.numbers for table in tables]),
        losses=np.concatenate([table.losses for table in tables]),
    )


def _key(vector: Array) -> bytes:
    """Identity of a canonical vector: its numbers, with one form of NaN."""
    return np.where(np.isnan(vector), math.nan, vector).tobytes()
