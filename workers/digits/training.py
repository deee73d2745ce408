"""Training on digits: read it from top to bottom.

Claim: a training in parts, each continued from the checkpoint of the part before, ends with bitwise the same network as
an uninterrupted training (on a CPU; tests/unit/test_digits.py). The random numbers of an epoch depend only on the seed
and the epoch, so no random state is saved. The learning rate depends only on the epoch: cosine annealing to zero with
warm restarts (SGDR, arXiv:1608.03983) at 1, 3, 9, 27, ... epochs, so that each rung of the ladder 1, 3, 9, 27 ends with
a finished cycle and the next rung begins with a restart.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from hpbandster_lite.problems.checkpoints import load_checkpoint, save_checkpoint
from hpbandster_lite.problems.trial import Interrupted, Trial
from hpbandster_lite.workers.digits.architecture import Architecture
from hpbandster_lite.workers.digits.data import Images, all_for_refit, images_for_test, training_and_validation
from hpbandster_lite.workers.digits.network import build_network
from hpbandster_lite.workers.training.faults import Diverged
from hpbandster_lite.workers.training.points import points_of
from hpbandster_lite.workers.training.saves import Saves
from hpbandster_lite.workers.training.schedule import Budget

ETA = 3
"""Ratio of two successive epochs at which the learning rate restarts."""
TIE_BREAKER = 2e-3
"""Upper bound of the cross-entropy's part of the loss: less than the 2.2e-3 that one image of 449 adds to the error
rate. So a network with fewer errors always wins; among networks with equal errors the lower cross-entropy wins."""
ADAMW_FACTOR = 0.1
"""Factor of the learning rate for AdamW, whose useful learning rates are a tenth of those of SGD with momentum."""


# --------------------------------------------------------------------------------------------------- one evaluation


def train(config: Mapping[str, Any], epochs: int, trial: Trial) -> dict[str, float]:
    """Train up to ``epochs`` and validate: see :func:`hpbandster_lite.workers.digits.evaluate`."""
    train_images, validation = training_and_validation(trial.device)
    run = Run(config, trial)
    start = run.epoch
    loss, error = validation_loss(run.network, validation)
    saves = Saves(lambda: save_checkpoint(trial, run.state()))
    with saves.saved_if_interrupted():
        for at in run.train_to_points(epochs, trial, saves, train_images, len(validation.y)):
            loss, error = validation_loss(run.network, validation)
            if at == epochs:
                saves.save()
            trial.report(at, loss, validation_error_percent=error)
    return {
        "loss": loss,
        "validation_error_percent": error,
        "parameters": Architecture.of(config).parameter_count,
        "epochs_trained": run.epoch - start,
    }


def refit(config: Mapping[str, Any], epochs: int, trial: Trial) -> nn.Module:
    """The network, trained on all images outside the test set; the learning curve shows the training loss."""
    images = all_for_refit(trial.device)
    run = Run(config, trial)
    saves = Saves(lambda: save_checkpoint(trial, run.state()))
    with saves.saved_if_interrupted():
        for at in run.train_to_points(epochs, trial, saves, images, 0):
            if at == epochs:
                saves.save()
            trial.report(at, run.training_loss)
    return run.network


def test_error_percent(config: Mapping[str, Any], epochs: int, trial: Trial) -> float:
    """Error of the trained network on the test images: see :func:`hpbandster_lite.workers.digits.test`."""
    train_images, _ = training_and_validation(trial.device)
    run = Run(config, trial)
    while run.epoch < epochs:
        run.train_one_epoch(train_images)
    return validation_loss(run.network, images_for_test(trial.device))[1]


@torch.no_grad()
def validation_loss(network: nn.Module, images: Images) -> tuple[float, float]:
    """Error rate plus ``TIE_BREAKER * c / (1 + c)`` of the cross-entropy c, and the error in percent.

    Raises
    ------
    Diverged
        If the cross-entropy is not finite; the classes of such outputs mean nothing.
    """
    network.eval()
    logits = network(images.x)
    error_rate = float((logits.argmax(dim=1) != images.y).double().mean())
    cross_entropy = float(functional.cross_entropy(logits, images.y))
    if not math.isfinite(cross_entropy):
        raise Diverged(f"the cross-entropy of the network on {len(images.y)} images is {cross_entropy}")
    return error_rate + TIE_BREAKER * cross_entropy / (1 + cross_entropy), 100 * error_rate


# ----------------------------------------------------------------------------------------------------- the training


class Run:
    """A network in training: from its checkpoint if there is one, else from its seed.

    Parameters
    ----------
    config
        The configuration.
    trial
        The seed, and the directories with checkpoints.
    """

    def __init__(self, config: Mapping[str, Any], trial: Trial) -> None:
        self._config = config
        self._seed = trial.seed
        torch.manual_seed(trial.seed)
        self.network = build_network(Architecture.of(config)).to(trial.device)
        self._optimizer = _optimizer(self.network, config)
        self.epoch = 0
        self.training_loss = math.nan
        """Mean loss of the last epoch."""
        state = load_checkpoint(trial)
        if state is not None:
            self.network.load_state_dict(state["network"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.epoch = state["epoch"]

    def state(self) -> dict[str, Any]:
        """The state on which the next epoch depends."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "epoch": self.epoch,
        }

    def train_to_points(
        self, epochs: int, trial: Trial, saves: Saves, images: Images, validation: int
    ) -> Iterator[int]:
        """Train up to ``epochs``; yield at each point at which a search judges or reports.

        Parameters
        ----------
        epochs
            The budget.
        trial
            Its budgets determine the points; without them, the rungs are the powers of :data:`ETA`.
        saves
            Saves between two epochs, from time to time.
        images
            The training images.
        validation
            Number of validation images.

        Raises
        ------
        Interrupted
            If the evaluation must stop.
        """
        ladder = trial.budgets or [ETA**rung for rung in range(round(math.log(epochs, ETA)) + 1)]
        for point in points_of(Budget.on(ladder, epochs, "epochs"), len(images.y), validation, continues=True):
            at = round(point.at)
            if at <= self.epoch:
                continue
            while self.epoch < at:
                # Not between the last epoch and its judgement, which a training that continues would leave out.
                saves.save_if_due()
                if trial.should_stop():
                    raise Interrupted(f"the training stops after {self.epoch} epochs")
                self.training_loss = self.train_one_epoch(images)
            yield at

    def train_one_epoch(self, images: Images) -> float:
        """One pass over the images in a new order, without the last, smaller batch; its mean loss.

        Raises
        ------
        Diverged
            If that loss is not finite.
        """
        # This seeds the order, the shifts and dropout, so the seed and the epoch determine all random numbers.
        torch.manual_seed(self._seed * 1_000 + self.epoch)
        self.network.train()
        n, size = len(images.y), self._config["batch_size"]
        order = torch.randperm(n).to(images.y.device)
        steps = n // size
        total = torch.zeros((), device=images.y.device)
        for step in range(steps):
            rows = order[step * size : (step + 1) * size]
            self._set_learning_rate(self.epoch + step / steps)
            x = shifted(images.x[rows], self._config["shift"])
            loss = functional.cross_entropy(self.network(x), images.y[rows])
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]  # torch has no type for it
            self._optimizer.step()
            total += loss.detach()
        self.epoch += 1
        mean: float = float(total) / steps
        if not math.isfinite(mean):
            raise Diverged(f"the training loss is {mean} in epoch {self.epoch}")
        return mean

    def _set_learning_rate(self, epochs: float) -> None:
        factor = cosine_with_restarts(epochs)
        for group in self._optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor


def _optimizer(network: nn.Module, config: Mapping[str, Any]) -> torch.optim.Optimizer:
    rate, decay = config["learning_rate"], config["weight_decay"]
    optimizer: torch.optim.Optimizer
    if config["optimizer"] == "sgd":
        optimizer = torch.optim.SGD(
            network.parameters(), rate, momentum=config["momentum"], nesterov=True, weight_decay=decay, fused=True
        )
    else:
        # AdamW multiplies its decoupled decay by the learning rate, so a value has about the same effect as for SGD.
        optimizer = torch.optim.AdamW(network.parameters(), ADAMW_FACTOR * rate, weight_decay=decay, fused=True)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def cosine_with_restarts(epochs: float) -> float:
    """Factor of the learning rate after ``epochs``, in (0, 1]: half a cosine wave between two restarts."""
    begin, end = 0, 1
    while epochs >= end:
        begin, end = end, ETA * end
    return 0.5 * (1 + math.cos(math.pi * (epochs - begin) / (end - begin)))


def shifted(x: torch.Tensor, most: int) -> torch.Tensor:
    """Images, each shifted at random by at most ``most`` pixels in each direction; the border is repeated.

    Parameters
    ----------
    x
        Images, shape (n, 1, h, w).
    most
        Largest shift in pixels; 0 changes nothing.

    Returns
    -------
    torch.Tensor
        Shape (n, 1, h, w).
    """
    if most == 0:
        return x
    n, _, height, width = x.shape
    padded = functional.pad(x, (most, most, most, most), mode="replicate")[:, 0]
    # Draw on the CPU for every device, because the CPU's generator has the epoch's seed.
    down, right = torch.randint(0, 2 * most + 1, (2, n)).to(x.device)
    rows = (down[:, None] + torch.arange(height, device=x.device))[:, :, None]
    columns = (right[:, None] + torch.arange(width, device=x.device))[:, None, :]
    image = torch.arange(n, device=x.device)[:, None, None]
    return padded[image, rows, columns][:, None]
