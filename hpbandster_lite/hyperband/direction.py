"""Whether a search minimizes or maximizes: the sign of a result, and the word for it.

Law of this file: every search minimizes inside. If it maximizes, :mod:`~hpbandster_lite.trainer.evaluation` turns the
sign of what the objective returns, and :mod:`~hpbandster_lite.settings.prepare` that of ``target_loss``; what leaves a
journal or an engine for a user is turned back. Between the two everything is a loss: the lower, the better. Words for
users call such a result a ``value``; the names of options, keys and columns remain (``target_loss``, ``loss``), with
the user's sign.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from hpbandster_lite.records import Limits

Result = TypeVar("Result", float, float | None)


def turned(result: Result, *, maximize: bool) -> Result:
    """A result with the other sign if the search maximizes: from a user's value to a loss, and from a loss back."""
    return -result if maximize and result is not None else result


def turned_limits(limits: Limits, *, maximize: bool) -> Limits:
    """The limits, with the target as :func:`turned` gives it."""
    if limits.target_loss is None or not maximize:
        return limits
    return replace(limits, target_loss=turned(limits.target_loss, maximize=True))


def result_text(loss: float, *, maximize: bool) -> str:
    """A loss in words for users: ``loss 0.25``, or ``value 0.75``."""
    return f"{word_for(maximize=maximize)} {turned(loss, maximize=maximize):g}"


def word_for(*, maximize: bool) -> str:
    """What users read for a result: ``loss`` if the search minimizes, else ``value``."""
    return "value" if maximize else "loss"
