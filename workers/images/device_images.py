"""Images on the device: sent once per process, as uint8, with parts for training, validation and test.

Law of this file: training and validation images are views of one tensor in the order of the fixed split, so parts take
no memory and further configurations no time. Only :func:`images_for_test` sends the test images to the device.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from hpbandster_lite.workers.images.catalogue import CATALOGUE, OWN_IMAGES
from hpbandster_lite.workers.images.image_data import ImageData, Labels, Pixels
from hpbandster_lite.workers.images.read_images import ImageSource, read_images
from hpbandster_lite.workers.images.splits import Split, checked_count, split_rows
from hpbandster_lite.workers.networks.image_shape import ImageShape

_one_at_a_time = threading.RLock()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceImages:
    """Images on a device.

    Attributes
    ----------
    x
        uint8, shape (n, c, h, w), ``channels_last``.
    y
        int64, shape (n,).
    mean, std
        Mean and standard deviation of each channel of the training images, float32, shape (c,), in units of a pixel's
        value, 0 ... 255; the same for every part. ``std`` is 1 for a constant channel.
    class_names
        One name for each class.
    """

    x: torch.Tensor
    y: torch.Tensor
    mean: torch.Tensor
    std: torch.Tensor
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.y)

    @property
    def shape(self) -> ImageShape:
        """The shape of the images, with the number of classes."""
        _, channels, height, width = self.x.shape
        return ImageShape(channels, height, width, len(self.class_names))

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and classes of these rows (int64, on the device); the images stay ``channels_last``."""
        # index_select instead of x[rows]: 0.2 us instead of 4.5 for an image of 32x32x3 on one core, and contiguous.
        pixels = self.x.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
        return pixels, self.y.index_select(0, rows)

    def part(self, first: int, last: int) -> DeviceImages:
        """The images from ``first`` to ``last``, without ``last``, in the same memory."""
        return replace(self, x=self.x[first:last], y=self.y[first:last])


def images_on(device: str | torch.device, source: ImageSource) -> tuple[DeviceImages, int]:
    """All training and validation images, in the order of the split, and the number of training images among them.

    The training images come first. The first call makes the tensors, which are kept until the process ends. Each class
    of your own images gives its share of validation images; the catalogue's images are shuffled as in arXiv:1807.06906.
    """
    place = torch.device(device)
    if place == torch.device("cuda"):  # the current device, whose number is part of the key
        place = torch.device("cuda", torch.cuda.current_device())
    with _one_at_a_time:
        return _images_on(place, source)


def training_and_validation(
    device: str | torch.device,
    source: ImageSource,
    *,
    train_images: int | None = None,
    valid_images: int | None = None,
) -> tuple[DeviceImages, DeviceImages]:
    """The images that a search may use.

    Parameters
    ----------
    device, source
        As for :func:`images_on`.
    train_images, valid_images
        Number of images, the first ones in the fixed order. Default: ``None``, for all.

    Raises
    ------
    ImageDataError
        If the images cannot be read, or there are fewer than requested.
    """
    images, n_training = images_on(device, source)
    n = checked_count("train_images", train_images, n_training)
    n_valid = checked_count("valid_images", valid_images, len(images) - n_training)
    return images.part(0, n), images.part(n_training, n_training + n_valid)


def all_for_refit(device: str | torch.device, source: ImageSource) -> DeviceImages:
    """Training and validation images together, for a refit, with the normalisation of the search."""
    images, _ = images_on(device, source)
    return images


def images_for_test(device: str | torch.device, source: ImageSource) -> DeviceImages:
    """The test images, which a search does not use, with the normalisation of the training images."""
    images, _ = images_on(device, source)
    with _one_at_a_time:
        x, y = _test_tensors(images.x.device, source)
    return replace(images, x=x, y=y)


# -------------------------------------------------------------------------------------------------------- made once


@functools.lru_cache(maxsize=4)
def _images_on(device: torch.device, source: ImageSource) -> tuple[DeviceImages, int]:
    images = read_images(*source)
    split = split_rows(images.train_y, stratified=source.data_set == OWN_IMAGES)
    mean, std = _normalisation(source.data_set, images, split)
    order = np.concatenate([split.training, split.validation])
    made = DeviceImages(
        x=_pixels_on(device, images.train_x[order]),
        y=torch.from_numpy(images.train_y[order]).to(device),
        mean=torch.tensor(mean, dtype=torch.float32, device=device),
        std=torch.tensor(std, dtype=torch.float32, device=device),
        class_names=images.class_names,
    )
    return made, len(split.training)


@functools.lru_cache(maxsize=4)
def _test_tensors(device: torch.device, source: ImageSource) -> tuple[torch.Tensor, torch.Tensor]:
    images = read_images(*source)
    labels: Labels = images.test_y.copy()
    return _pixels_on(device, images.test_x), torch.from_numpy(labels).to(device)


def _pixels_on(device: torch.device, x: Pixels) -> torch.Tensor:
    pixels_last = np.array(x.transpose(0, 2, 3, 1), order="C")
    return torch.from_numpy(pixels_last).to(device).permute(0, 3, 1, 2)


def _normalisation(data_set: str, images: ImageData, split: Split) -> tuple[npt.ArrayLike, npt.ArrayLike]:
    known = CATALOGUE.get(data_set)
    if known is not None and known.mean is not None and known.std is not None:
        return known.mean, known.std
    return channel_mean_and_std(images.train_x, split.training)


def channel_mean_and_std(
    x: Pixels, rows: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Exact mean and standard deviation of each channel over these images, shape (c,); a deviation of 0 becomes 1."""
    values = np.arange(256, dtype=np.float64)
    means, stds = [], []
    for channel in range(x.shape[1]):
        # The 256 counts are exact and need no copy of the images as floats, which would take 1.1 GB for CIFAR-10.
        counts = np.bincount(x[rows, channel].ravel(), minlength=256)
        mean = counts @ values / counts.sum()
        deviation = np.sqrt(counts @ (values - mean) ** 2 / counts.sum())
        means.append(mean)
        stds.append(deviation if deviation > 0 else 1.0)
    return np.array(means), np.array(stds)
