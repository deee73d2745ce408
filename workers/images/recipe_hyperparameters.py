"""Hyperparameters of a training that several spaces share: the optimizer, and what regularises and steadies it.

Law of this file: the default is plain SGD with the values that the space gives, without any of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hpbandster_lite.workers.images.search_space import ADAMW_DECAY, ADAMW_RATE

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace
    from ConfigSpace.hyperparameters import Hyperparameter

CLIP_NORMS = (0.0, 10.0, 5.0, 2.0, 1.0, 0.5)
"""From no clipping to the strictest."""
AVERAGE_DECAYS = (0.0, 0.9, 0.97, 0.99, 0.997, 0.999)
"""From no average of the weights to the longest."""


def add_optimizers(whole: ConfigurationSpace, of_sgd: Sequence[Hyperparameter[Any, Any]]) -> None:
    """Add SGD with its hyperparameters, and AdamW with its own; each is active with its optimizer."""
    from ConfigSpace import Categorical, EqualsCondition, Float

    optimizer = Categorical("optimizer", ["sgd", "adamw"], default="sgd")
    of_adamw = [
        Float(ADAMW_RATE, (1e-5, 1e-1), log=True, default=1e-3),
        Float(ADAMW_DECAY, (1e-3, 1.0), log=True, default=0.05),
    ]
    whole.add(optimizer, *of_sgd, *of_adamw)
    whole.add(
        *(EqualsCondition(its, optimizer, "sgd") for its in of_sgd),
        *(EqualsCondition(its, optimizer, "adamw") for its in of_adamw),
    )


def steadying() -> list[Hyperparameter[Any, Any]]:
    """Label smoothing, warm-up, gradient clipping, and the exponential average of the weights."""
    from ConfigSpace import Float, OrdinalHyperparameter

    return [
        Float("label_smoothing", (0.0, 0.2), default=0.0),
        Float("warmup", (0.0, 0.2), default=0.0),
        OrdinalHyperparameter("clip_norm", list(CLIP_NORMS), default_value=CLIP_NORMS[0]),
        OrdinalHyperparameter("average_decay", list(AVERAGE_DECAYS), default_value=AVERAGE_DECAYS[0]),
    ]
