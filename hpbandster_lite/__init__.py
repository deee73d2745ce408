"""Joint neural architecture and hyperparameter search with BOHB over many GPU workers.

>>> import hpbandster_lite as hpb
>>> result = hpb.minimize(evaluate, space, min_budget=1, max_budget=27)  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hpbandster_lite._version import __version__

if TYPE_CHECKING:
    from hpbandster_lite.api import minimize
    from hpbandster_lite.problems.checkpoints import load_checkpoint, save_checkpoint
    from hpbandster_lite.problems.trial import Interrupted, Trial
    from hpbandster_lite.results.result import Result
    from hpbandster_lite.workers.images.trained_classifier import load_model

__all__ = [
    "Interrupted",
    "Result",
    "Trial",
    "__version__",
    "load_checkpoint",
    "load_model",
    "minimize",
    "save_checkpoint",
]

_ROOM_OF = {
    "minimize": "api",
    "load_checkpoint": "problems.checkpoints",
    "save_checkpoint": "problems.checkpoints",
    "load_model": "workers.images.trained_classifier",
    "Result": "results.result",
    "Trial": "problems.trial",
    "Interrupted": "problems.trial",
}


def __getattr__(name: str) -> Any:
    # Imported when first used: a trainer imports this package but uses none of these names.
    room = _ROOM_OF.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{room}"), name)
