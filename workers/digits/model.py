"""The model of a refit on digits: a file for :func:`hpbandster_lite.load_model`, tested as it is deployed.

Law of this file: the test error is that of the saved model on pixels from 0 to 255, not that of the network in
training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hpbandster_lite.problems.trial import Trial
from hpbandster_lite.workers.digits.architecture import CLASSES, Architecture
from hpbandster_lite.workers.digits.data import pixels_for_test
from hpbandster_lite.workers.digits.training import refit
from hpbandster_lite.workers.images.device_images import DeviceImages
from hpbandster_lite.workers.images.error_interval import ErrorRate, error_rate
from hpbandster_lite.workers.images.trained_classifier import DIGITS, ImageClassifier, save_model
from hpbandster_lite.workers.training.faults import Diverged

FILE_NAME = "model.pt"


def train_and_save(config: Mapping[str, Any], epochs: int, trial: Trial) -> dict[str, Any]:
    """Train with all images outside the test set, and save: see :func:`hpbandster_lite.workers.digits.refit`."""
    network = refit(config, epochs, trial).cpu()
    pixels = pixels_for_test()
    names = tuple(str(digit) for digit in range(CLASSES))
    images = DeviceImages(x=pixels.x, y=pixels.y, mean=pixels.mean, std=pixels.std, class_names=names)
    error = _error(network, images)
    figures = {
        "test_error_percent": error.percent,
        "test_error_interval_percent": [error.low_percent, error.high_percent],
        "test_images": error.images,
        "parameters": Architecture.of(config).parameter_count,
    }
    file = trial.directory / FILE_NAME
    save_model(file, network, images, space=DIGITS, configuration=config, figures=figures)
    return {"model": FILE_NAME, **figures}


def _error(network: nn.Module, images: DeviceImages) -> ErrorRate:
    model = ImageClassifier(network, images.mean, images.std, images.shape, images.class_names, {}).eval()
    with torch.inference_mode():
        logits = model(images.x)
    if not logits.isfinite().all():
        raise Diverged(f"the outputs of the network on {len(images)} images are not finite")
    return error_rate(int((logits.argmax(dim=1) != images.y).sum()), len(images))
