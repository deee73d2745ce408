"""The catalogue: every image data set with a name, one row each.

Law of this file: the row of a data set has everything that the package knows about it. A new row is a new value of
``--data-set``. For a problem with this name (``hpbandster-lite run NAME``), also add a line to ``problem.py`` and to
``setup.cfg``. This file imports neither torch nor torchvision.

torchvision has the addresses of the files, their MD5 sums and the names of the classes. For MNIST's format it has only
the sums of the packed files, which cannot check files that are unpacked or packed again (as Debian does). So the rows
have the sums of their content.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from hpbandster_lite.workers.networks.image_shape import CIFAR10, CIFAR100, ImageShape

OWN_IMAGES = "images"
"""The name for a user's own images, which have no row: the option ``--data`` gives their source and shape."""
CIFAR10_MEAN = (125.3, 123.0, 113.9)
CIFAR10_STD = (63.0, 62.1, 66.7)
"""The values of the released code of arXiv:1807.06906."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSet:
    """One published data set.

    Attributes
    ----------
    torchvision_class
        Name of the class in ``torchvision.datasets``.
    file_format
        ``cifar``: pickles in a folder or an archive; ``idx``: the four files of MNIST's format, plain or ``.gz``.
    training_images
        Number of images in its training files.
    shape
        Shape of the images, so that a configuration can be refused before the images are read.
    is_mirrored
        Whether training images are mirrored by default (a mirrored 2 is not a digit). Default: True.
    mean, std
        Mean and standard deviation of each channel, in units of a pixel's value. Default: ``None``, to compute them
        from the training images.
    content_md5
        For ``idx``: MD5 sums of the unpacked content of training images, training labels, test images, test labels.
    folder, archive, files
        For ``cifar``: the folder and the archive below the given one, and the files in the folder.
    system_folder
        The folder in which a package of the system installs the files. Default: ``None``.
    system_package
        How to install that package. Default: empty.
    """

    torchvision_class: str
    file_format: Literal["cifar", "idx"]
    training_images: int
    shape: ImageShape
    is_mirrored: bool = True
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    content_md5: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""
    archive: str = ""
    files: tuple[str, ...] = ()
    system_folder: Path | None = None
    system_package: str = ""


CATALOGUE: dict[str, DataSet] = {
    "cifar10": DataSet(
        torchvision_class="CIFAR10",
        file_format="cifar",
        training_images=50_000,
        shape=CIFAR10,
        mean=CIFAR10_MEAN,
        std=CIFAR10_STD,
        folder="cifar-10-batches-py",
        archive="cifar-10-python.tar.gz",
        files=(*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
    ),
    "cifar100": DataSet(
        torchvision_class="CIFAR100",
        file_format="cifar",
        training_images=50_000,
        shape=CIFAR100,
        folder="cifar-100-python",
        archive="cifar-100-python.tar.gz",
        files=("train", "test", "meta"),
    ),
    "mnist": DataSet(
        torchvision_class="MNIST",
        file_format="idx",
        training_images=60_000,
        shape=ImageShape(1, 28, 28, 10),
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
        training_images=60_000,
        shape=ImageShape(1, 28, 28, 10),
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
