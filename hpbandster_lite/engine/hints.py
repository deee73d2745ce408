"""Hints that a problem does not profit from budgets: losses or costs that do not depend on the budget.

Law of this file: it compares the outcomes of the same configuration at two neighbouring rungs, in constant time a pair.
It reports and decides nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from hpbandster_lite.records import NOTES, FailureKind, Plain

ENOUGH_PAIRS = 3
"""Fewer configurations at two budgets give no hint."""
MOST_RATIOS = 25
"""Ratios of costs that are kept: the median moves little with more, and memory stays small."""
FLAT = (0.8, 1.25)
"""A ratio of costs between these does not count as growth."""
LEAST_GROWTH = 1.5
"""If the budgets suggest less growth than this, a flat cost is expected."""
SHORTEST_S = 0.1
"""A shorter evaluation is mostly overhead, which no budget changes."""


@dataclass(slots=True)
class _Pairs:
    """Configurations with a loss at both of two neighbouring budgets."""

    count: int = 0
    equal: int = 0
    ratios: list[float] = field(default_factory=list)
    longest_s: float = 0.0
    continued: bool = False


class Growth:
    """How losses and costs change with the budget."""

    def __init__(self) -> None:
        self._pairs: dict[tuple[float, float], _Pairs] = {}

    def add(
        self,
        budgets: tuple[float, float],
        losses: tuple[float | None, float | None],
        durations_s: tuple[float | None, float | None],
        *,
        has_checkpoint: bool,
    ) -> None:
        """Add one configuration that has a loss at both budgets; of each pair the lower budget comes first.

        With a checkpoint of the lower budget, the evaluation at the upper one may train only what is added to it.
        """
        pairs = self._pairs.setdefault(budgets, _Pairs())
        pairs.count += 1
        pairs.equal += losses[0] == losses[1]
        lower_s, upper_s = durations_s
        if lower_s and upper_s and len(pairs.ratios) < MOST_RATIOS:
            pairs.ratios.append(upper_s / lower_s)
            pairs.longest_s = max(pairs.longest_s, upper_s)
            pairs.continued |= has_checkpoint

    def is_settled(self, budgets: int) -> bool:
        """Whether further configurations change no hint of a search with this number of budgets."""
        return len(self._pairs) >= budgets - 1 and all(
            pairs.equal < pairs.count and len(pairs.ratios) >= MOST_RATIOS for pairs in self._pairs.values()
        )

    def hints(self, unit: str, word: str = "loss") -> list[str]:
        """One sentence for losses, which users know as ``word``, and one for costs, each where it applies."""
        found = []
        for about in (self._about_losses, self._about_costs):
            possible = (about(*budgets, pairs, unit, word) for budgets, pairs in self._in_order())
            sentence = next(filter(None, possible), None)
            if sentence is not None:
                found.append(sentence)
        return found

    def _in_order(self) -> list[tuple[tuple[float, float], _Pairs]]:
        return sorted(self._pairs.items(), key=lambda item: item[0])

    @staticmethod
    def _about_losses(low: float, high: float, pairs: _Pairs, unit: str, word: str) -> str | None:
        if pairs.count < ENOUGH_PAIRS or pairs.equal < pairs.count:
            return None
        where = f"at {_named(low, unit, short=True)} and at {_named(high, unit)}"
        return (
            f"the {word} does not depend on the budget: all {pairs.count} configurations that were evaluated "
            f"{where} have the same {word} at both; does the objective use its budget?"
        )

    @staticmethod
    def _about_costs(low: float, high: float, pairs: _Pairs, unit: str, _word: str) -> str | None:
        if len(pairs.ratios) < ENOUGH_PAIRS or pairs.longest_s < SHORTEST_S:
            return None
        # Here: it takes 3 ms to import, and a trainer, which imports this file for the notes, does not need it.
        from statistics import median

        ratio = median(pairs.ratios)
        expected = (high - low) / low if pairs.continued else high / low
        if not FLAT[0] <= ratio <= FLAT[1] or expected < LEAST_GROWTH:
            return None
        return (
            f"the cost does not grow with the budget: at {_named(high, unit)} an evaluation takes {ratio:.2g} times as "
            f"long as at {_named(low, unit, short=True)} (median of {len(pairs.ratios)}); low budgets save nothing: "
            "let the objective do less with less, or begin another search with a higher lowest budget"
        )


def _named(budget: float, unit: str, *, short: bool = False) -> str:
    """A budget in a sentence: ``9 epochs``, ``9`` if ``short``, and ``budget 9`` where the unit has no name."""
    if unit == "budget":
        return f"budget {budget:g}"
    return f"{budget:g}" if short else f"{budget:g} {unit}"


class Noted:
    """The notes of trainers about evaluations: the ``first`` one, and the ``count`` of evaluations that have one."""

    def __init__(self) -> None:
        self.first = ""
        self.count = 0

    def add(self, info: Mapping[str, Plain]) -> None:
        """Add what an evaluation returned beside its loss."""
        notes = info.get(NOTES)
        if isinstance(notes, list | tuple) and notes and all(isinstance(each, str) for each in notes):
            self.first = self.first or str(notes[0])
            self.count += 1

    def hints(self) -> list[str]:
        """One sentence, if there are notes."""
        others = f" ({self.count} evaluations have such a note)" if self.count > 1 else ""
        return [f"{self.first}{others}"] if self.count else []


def failure_counts(failures: Mapping[FailureKind, int]) -> str:
    """Counts by kind, such as ``4 code, 1 memory``, the most frequent first."""
    in_order = sorted(failures.items(), key=lambda item: (-item[1], item[0].value))
    return ", ".join(f"{count} {kind.value}" for kind, count in in_order if count)
