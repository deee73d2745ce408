"""Former name of :mod:`hpbandster_lite.workers.images.problem`, which entry points of an earlier installation name."""

from __future__ import annotations

import warnings
from typing import Any

from hpbandster_lite.workers.images import problem


def __getattr__(name: str) -> Any:
    value = getattr(problem, name)
    if not name.startswith("__"):
        warnings.warn(f"{__name__} has moved: use {problem.__name__}", DeprecationWarning, stacklevel=2)
    return value
