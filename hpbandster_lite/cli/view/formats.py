"""Numbers, budgets, times and values as short texts.

Law of this file: values in, text out.
"""

from __future__ import annotations

from collections.abc import Mapping

from hpbandster_lite.records import Plain

DEFAULT_UNIT = "budget"
"""The unit of a problem that names none; it is written before the number."""


def number(value: float | None, digits: int = 6) -> str:
    """A number with few digits; a dash for none."""
    return "-" if value is None else f"{value:.{digits}g}"


def amount(budget: float, unit: str) -> str:
    """A budget with its unit: ``9 epochs``, ``1 epoch``, ``budget 9`` where the unit has no name."""
    if unit == DEFAULT_UNIT:
        return f"{unit} {number(budget, 10)}"
    one_of_many = budget == 1 and len(unit) > 2 and unit.endswith("s")
    return f"{number(budget, 10)} {unit[:-1] if one_of_many else unit}"


def duration(seconds: float | None) -> str:
    """Seconds as text: ``8.2 s``, ``42 s``, ``3 min 20 s``, ``2 h 05 min``, ``3 d 04 h``."""
    if seconds is None:
        return "-"
    # Round before the split into parts, or 119.7 s would be 1 min 60 s.
    if round(seconds, 1) < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02d} h"


def rate(count: int, seconds: float) -> str:
    """How often something happens, in the unit that gives at least one: ``2.5 a second``, ``12 a minute``."""
    if seconds <= 0:
        return "-"
    each_second = count / seconds
    if each_second >= 1:
        return f"{number(each_second, 2 if each_second < 100 else 3)} a second"
    if each_second * 60 >= 1:
        return f"{number(each_second * 60, 2)} a minute"
    return f"{number(each_second * 3600, 2)} an hour"


def value_text(value: Plain) -> str:
    """A plain value in a few characters."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={value_text(entry)}" for name, entry in value.items())
    if isinstance(value, tuple):
        # A choice of the user's space.
        return repr(value)
    if isinstance(value, list):
        return ", ".join(value_text(entry) for entry in value)
    return "-" if value is None else str(value)
