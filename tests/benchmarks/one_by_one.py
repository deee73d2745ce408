"""The reference for batches: torchvision's transforms of single images."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from hpbandster_lite.workers.images.augmentation import Augmentation
from hpbandster_lite.workers.images.catalogue import CIFAR10_MEAN, CIFAR10_STD
from hpbandster_lite.workers.images.torchvision_import import data_sets


class OneByOne(Dataset[Any]):
    """A data set like torchvision's CIFAR10, with its transforms."""

    def __init__(self, pixels: np.ndarray[Any, np.dtype[np.uint8]], augmentation: Augmentation) -> None:
        data_sets()  # imports torchvision, also beside another build of torch
        from torchvision import transforms

        self._pixels = pixels
        self._transform = transforms.Compose([
            transforms.RandomCrop(32, padding=augmentation.pad),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize([m / 255 for m in CIFAR10_MEAN], [s / 255 for s in CIFAR10_STD]),
            partial(cut_one_out, length=augmentation.cutout),
        ])

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        return self._transform(Image.fromarray(self._pixels[row])), row % 10


def cut_one_out(image: torch.Tensor, length: int) -> torch.Tensor:
    """Cut one square out of one image, in place."""
    half = length // 2
    row, column = (int(torch.randint(side, ())) for side in image.shape[1:])
    image[:, max(0, row - half) : row + half, max(0, column - half) : column + half] = 0
    return image
