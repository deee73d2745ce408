"""Former name of :mod:`hpbandster_lite.workers.images.trained_classifier`; use ``hpbandster_lite.load_model``."""

from __future__ import annotations

import warnings
from typing import Any

from hpbandster_lite.workers.images import trained_classifier


def __getattr__(name: str) -> Any:
    value = getattr(trained_classifier, name)
    if not name.startswith("__"):
        new = "hpbandster_lite.load_model" if name == "load_model" else f"{trained_classifier.__name__}.{name}"
        warnings.warn(f"{__name__}.{name} has moved: use {new}", DeprecationWarning, stacklevel=2)
    return value
