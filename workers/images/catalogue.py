"""The catalogue: every image data set with a name, one row each.

Law of this file: the row of a data set has everything that the package knows about it. A new row is a new value of
``--data-set``. For a problem with this name (``hpbandster-lite run NAME``), also add a line to ``problem.py`` and to
``setup.cfg``. This file imports neither torch nor torchvision.

torchvision has the addresses of the files; its import takes two seconds, so only a download uses it. For idx files
the rows have the sums of the content, because torchvision has only those of the packed files, which cannot check files
that are unpacked or packed again (as Debian does).
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
    class_names
        For ``idx``: the names of the classes; the files of ``cifar`` have them.
    folder, archive, files
        For ``cifar``: the folder and the archive below the given one, and the files in the folder with their MD5 sums.
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
    class_names: tuple[str, ...] = ()
    folder: str = ""
    archive: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
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
        files={
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
    ),
    "cifar100": DataSet(
        torchvision_class="CIFAR100",
        file_format="cifar",
        training_images=50_000,
        shape=CIFAR100,
        folder="cifar-100-python",
        archive="cifar-100-python.tar.gz",
        files={
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            "meta": "7973b15100ade9c7d40fb424638fde48",
        },
    ),
    "mnist": DataSet(
        torchvision_class="MNIST",
        file_format="idx",
        training_images=60_000,
        shape=ImageShape(1, 28, 28, 10),
        is_mirrored=False,
        class_names=(
            "0 - zero", "1 - one", "2 - two", "3 - three", "4 - four", "5 - five", "6 - six", "7 - seven", "8 - eight",
            "9 - nine",
        ),
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
        class_names=(
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ),
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
