"""The images: 898 for training, 449 for validation and 450 for test, stratified by class; every search has this split.

Law of this file: the split depends only on a fixed seed, so all configurations of all searches are compared on the same
images. Only :func:`images_for_test` returns the test images.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

SPLIT_SEED = 0
BRIGHTEST = 16.0
"""Largest value of a pixel."""


class Images(NamedTuple):
    """Images ``x``, shape (n, 1, 8, 8), and their classes ``y``, shape (n,).

    The images are scaled to mean 0 and standard deviation 1 over the training images.
    """

    x: torch.Tensor
    y: torch.Tensor


def training_and_validation(device: str) -> tuple[Images, Images]:
    """The training and the validation images, which a search may use."""
    train, validation, _ = _splits()
    return _on(device, train), _on(device, validation)


def images_for_test(device: str) -> Images:
    """The test images, which a search must not use."""
    return _on(device, _splits()[2])


def _splits() -> tuple[Images, Images, Images]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels = (digits.images / BRIGHTEST).astype(np.float32)[:, np.newaxis]
    rows = np.arange(len(pixels))
    train, held_out = train_test_split(rows, test_size=0.5, random_state=SPLIT_SEED, stratify=digits.target)
    validation, test = train_test_split(
        held_out, test_size=0.5, random_state=SPLIT_SEED, stratify=digits.target[held_out]
    )
    scaled = (pixels - pixels[train].mean()) / pixels[train].std()
    images, classes = torch.from_numpy(scaled), torch.from_numpy(digits.target)
    return (
        Images(images[train], classes[train]),
        Images(images[validation], classes[validation]),
        Images(images[test], classes[test]),
    )


def _on(device: str, images: Images) -> Images:
    return Images(images.x.to(device), images.y.to(device))
