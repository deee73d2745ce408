"""Handwritten digits: the architecture of a convolutional network and its hyperparameters, searched together.

Real images (scikit-learn's 1,797 digits of 8x8 pixels), a real network, and evaluations of seconds on one CPU core: a
good first search. The data is in :mod:`~hpbandster_lite.workers.digits.data`, the network in
:mod:`~hpbandster_lite.workers.digits.network`, and its training in :mod:`~hpbandster_lite.workers.digits.training`.

Law of this file: it has the parts of the problem that a search uses, without torch, so that a machine without torch can
describe the problem.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from ConfigSpace import ConfigurationSpace

    from hpbandster_lite.problems.trial import Trial

version = 2
min_budget = 1
max_budget = 27
eta = 3
unit = "epochs"
integer_budgets = True
brackets = 8
"""Two Hyperband cycles, three to four minutes on two cores."""

MAX_PARAMETERS = 50_000
"""Larger networks are refused before training: an epoch would take seconds on a CPU, too long for 898 images of 64
pixels."""
MAX_STAGES = 3
"""Each stage halves the image: 8, 4, 2 pixels."""


def missing_data() -> str | None:
    """The libraries that this host lacks; scikit-learn has the images."""
    absent = [name for name in ("sklearn", "torch") if find_spec(name) is None]
    if not absent:
        return None
    names = " and ".join(absent).replace("sklearn", "scikit-learn, which has the images,")
    return f"{names} cannot be imported here, and training needs it; install what is missing"


def space() -> ConfigurationSpace:
    """Sixteen hyperparameters: nine of the architecture and seven of the training, some of them with a condition.

    The default is a plain network of two stages with textbook values for the training.
    """
    from ConfigSpace import (
        Categorical,
        ConfigurationSpace,
        EqualsCondition,
        Float,
        GreaterThanCondition,
        Integer,
        OrdinalHyperparameter,
    )

    stages = Integer("stages", (1, MAX_STAGES), default=2)
    blocks = [Integer(f"blocks_{i}", (1, 2), default=1) for i in range(1, MAX_STAGES + 1)]
    widening = Float("widening", (1.0, 2.0), default=2.0)
    optimizer = Categorical("optimizer", ["sgd", "adamw"], default="sgd")
    momentum = Float("momentum", (0.5, 0.99), default=0.9)
    whole = ConfigurationSpace()
    whole.add(
        stages,
        *blocks,
        Integer("filters", (4, 24), log=True, default=8),
        widening,
        OrdinalHyperparameter("kernel_size", [3, 5], default_value=3),
        Categorical("residual", [False, True], default=False),
        Categorical("activation", ["relu", "silu", "tanh"], default="relu"),
        optimizer,
        Float("learning_rate", (1e-3, 1.0), log=True, default=0.05),
        momentum,
        Float("weight_decay", (1e-6, 1e-2), log=True, default=1e-4),
        Integer("batch_size", (32, 128), log=True, default=64),
        Float("dropout", (0.0, 0.5), default=0.0),
        Integer("shift", (0, 2), default=0),
    )
    whole.add(
        GreaterThanCondition(blocks[1], stages, 1),
        GreaterThanCondition(blocks[2], stages, 2),
        GreaterThanCondition(widening, stages, 1),
        EqualsCondition(momentum, optimizer, "sgd"),
    )
    return whole


def feasible(config: Mapping[str, Any]) -> bool | str:
    """True if the network is small enough, else the reason for the refusal."""
    from hpbandster_lite.workers.digits.architecture import Architecture

    count = Architecture.of(config).parameter_count
    return count <= MAX_PARAMETERS or f"{count:,} parameters are more than {MAX_PARAMETERS:,}"


def evaluate(config: Mapping[str, Any], budget: float, trial: Trial) -> dict[str, float]:
    """Train for ``budget`` epochs, from the checkpoint of the rung below or of an earlier attempt if there is one.

    Parameters
    ----------
    config
        A configuration of :func:`space`.
    budget
        Number of epochs, including those of the checkpoint.
    trial
        Its seed, device and directories are used.

    Returns
    -------
    dict
        ``loss`` (see :func:`~hpbandster_lite.workers.digits.training.validation_loss`), ``validation_error_percent``,
        ``parameters``, and ``epochs_trained``, the number of epochs that this evaluation added to the checkpoint.
    """
    from hpbandster_lite.workers.digits.training import train

    return train(config, round(budget), trial)


def test(config: Mapping[str, Any], budget: float, trial: Trial) -> dict[str, float]:
    """Error of the trained network on the 450 test images, which only this function reads.

    Without a checkpoint in ``trial.previous_directory``, it trains the network again from its seed.

    Returns
    -------
    dict
        ``test_error_percent``.
    """
    from hpbandster_lite.workers.digits.training import test_error_percent

    return {"test_error_percent": test_error_percent(config, round(budget), trial)}


def refit(config: Mapping[str, Any], budget: float, trial: Trial) -> dict[str, Any]:
    """Train with the training and the validation images, test once, and keep the model.

    Returns
    -------
    dict
        ``model``, the name of the file for :func:`hpbandster_lite.load_model`; ``test_error_percent`` with its 95 %
        interval; ``test_images`` and ``parameters``.
    """
    from hpbandster_lite.workers.digits.model import train_and_save

    return train_and_save(config, round(budget), trial)


def export(directory: Path, file: Path) -> dict[str, Any]:
    """Write the model of a refit as a ``.pt2`` file of torch.export, and check that its outputs are the same."""
    from hpbandster_lite.workers.digits.model import FILE_NAME
    from hpbandster_lite.workers.images.trained_classifier import export_model, load_model

    return export_model(load_model(directory / FILE_NAME), file)
