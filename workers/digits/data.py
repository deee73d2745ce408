"""The images: 898 for training, 449 for validation and 450 for test, stratified by class; every search has this split.

Law of this file: the split depends only on a fixed seed, so all configurations of all searches are compared on the same
images. Only :func:`images_for_test` and :func:`pixels_for_test` return the test images.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

SPLIT_SEED = 0
BRIGHTEST = 16.0
"""Largest value of a pixel in scikit-learn's data."""
WHITE = 255
"""Largest value of a pixel of a picture."""


class Pixels(NamedTuple):
    """Images as a deployed model gets them, with the scaling of the search.

    Attributes
    ----------
    x
        uint8 from 0 to 255, shape (n, 1, 8, 8): scikit-learn's values times 255/16, rounded.
    y
        Classes, shape (n,).
    mean, std
        Mean and standard deviation of the training images in the unit of ``x``, shape (1,).
    """

    x: torch.Tensor
    y: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor


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


def all_for_refit(device: str) -> Images:
    """The training and the validation images together, with the scaling of the search."""
    train, validation, _ = _splits()
    return _on(device, Images(torch.cat([train.x, validation.x]), torch.cat([train.y, validation.y])))


def pixels_for_test() -> Pixels:
    """The test images for a deployed model."""
    pixels, classes, (train, _, test) = _read()
    return Pixels(
        x=torch.from_numpy(np.rint(pixels[test] * WHITE).astype(np.uint8)),
        y=torch.from_numpy(classes[test]),
        mean=torch.tensor([pixels[train].mean() * WHITE]),
        std=torch.tensor([pixels[train].std() * WHITE]),
    )


def _read() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], list[npt.NDArray[np.int64]]]:
    """All pixels, from 0 to 1, all classes, and the rows for training, validation and test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    pixels = (digits.images / BRIGHTEST).astype(np.float32)[:, np.newaxis]
    rows = np.arange(len(pixels))
    train, held_out = train_test_split(rows, test_size=0.5, random_state=SPLIT_SEED, stratify=digits.target)
    validation, test = train_test_split(
        held_out, test_size=0.5, random_state=SPLIT_SEED, stratify=digits.target[held_out]
    )
    return pixels, digits.target, [train, validation, test]


def _splits() -> tuple[Images, Images, Images]:
    pixels, classes, parts = _read()
    train = parts[0]
    scaled = (pixels - pixels[train].mean()) / pixels[train].std()
    training, validation, test = (Images(torch.from_numpy(scaled[p]), torch.from_numpy(classes[p])) for p in parts)
    return training, validation, test


def _on(device: str, images: Images) -> Images:
    return Images(images.x.to(device), images.y.to(device))
