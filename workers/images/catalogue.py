"""The catalogue: every image data set that is known by name, one row each.

Law of this file: all that the package knows of a data set stands in its row. A new row is at once a value of
``--data-set``; a problem of that name (``hpbandster-lite run NAME``) takes one more line in ``problem.py`` and one in
``setup.cfg``. No torch and no torchvision is imported here.

torchvision knows where the files are on the net, their MD5 sums and the names of the classes. Of MNIST's formats it
knows the sums of the packed files alone, which say nothing about files that are unpacked or were packed again (as
Debian does), so the rows hold the sums of their content.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hpbandster_lite.workers.networks.image_shape import CIFAR10, CIFAR100, ImageShape

OWN_IMAGES = "images"
"""The data set of a user's own images, which is in no row: its source and its shape come with the option ``--data``."""
CIFAR10_MEAN = (125.3, 123.0, 113.9)
CIFAR10_STD = (63.0, 62.1, 66.7)
"""Those of the released code of arXiv:1807.06906."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """One published data set.

    Attributes
    ----------
    torchvision_class
        Name of its class in ``torchvision.datasets``.
    file_format
        ``cifar``: pickles in a folder or an archive; ``idx``: the four files of MNIST's format, plain or ``.gz``.
    shape
        Of its images, so that a configuration can be judged before the images are read.
    training_file_images
        Number of images that are not for test; the validation images are split off them.
    is_mirrored
        Whether training images are mirrored by default; a mirrored 2 is no digit.
    mean, std
        What normalises each channel, in units of a pixel's value; ``None``: computed from the training images.
    content_md5
        For ``idx``: MD5 sums of the unpacked content of training images, training labels, test images, test labels.
    system_folder
        Where a package of the system puts the files.
    system_package
        How to install that package.
    """

    torchvision_class: str
    file_format: Literal["cifar", "idx"]
    shape: ImageShape
    training_file_images: int
    is_mirrored: bool = True
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    content_md5: Mapping[str, str] = field(default_factory=dict)
    system_folder: Path | None = None
    system_package: str = ""


CATALOGUE: dict[str, DataSet] = {
    "cifar10": DataSet(
        torchvision_class="CIFAR10",
        file_format="cifar",
        shape=CIFAR10,
        training_file_images=50_000,
        mean=CIFAR10_MEAN,
        std=CIFAR10_STD,
    ),
    "cifar100": DataSet(
        torchvision_class="CIFAR100",
        file_format="cifar",
        shape=CIFAR100,
        training_file_images=50_000,
    ),
    "mnist": DataSet(
        torchvision_class="MNIST",
        file_format="idx",
        shape=ImageShape(1, 28, 28, 10),
        training_file_images=60_000,
        is_mirrored=False,
        content_md5={
            "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
            "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
            "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
            "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
        },
    ),
    "fashion_mnist": DataSet(
        torchvision_class="FashionMNIST",
        file_format="idx",
        shape=ImageShape(1, 28, 28, 10),
        training_file_images=60_000,
        content_md5={
            "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
            "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
            "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
            "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
        },
        system_folder=Path("/usr/share/datasets/fashion-mnist"),
        system_package="on Debian and Ubuntu: apt-get install dataset-fashion-mnist",
    ),
}
