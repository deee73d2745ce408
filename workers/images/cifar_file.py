"""The content of one of CIFAR's files, which are pickles: read without running anything in them.

Law of this file: it reads the texts and numbers of a pickle one after the other, and makes no object that the pickle
describes. That suffices for files of one known layout, which the caller identifies by their MD5 sums; it needs neither
torchvision, whose import takes two seconds, nor trust in the file.
"""

from __future__ import annotations

import pickletools
from collections import defaultdict
from typing import NamedTuple

KEYS = frozenset(
    {
        "batch_label", "coarse_label_names", "coarse_labels", "data", "filenames", "fine_label_names", "fine_labels",
        "label_names", "labels", "num_cases_per_batch", "num_vis",
    }
)  # fmt: skip
"""The keys of the dictionaries in these files."""
WHOLE_NUMBERS = frozenset({"BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1"})
NO_TEXTS = frozenset({"GLOBAL"})
IMAGE_BYTES = 3 * 32 * 32


class CifarFile(NamedTuple):
    """What a file has: images, one after the other; their labels; names of the classes. Each may be empty."""

    images: bytes
    labels: list[int]
    class_names: list[str]


def read_cifar_file(content: bytes) -> CifarFile:
    """Read a file of CIFAR-10 or CIFAR-100, whose fine labels are the classes.

    Raises
    ------
    ValueError
        If it does not have this layout.
    """
    texts: dict[str, list[str]] = defaultdict(list)
    numbers: dict[str, list[int]] = defaultdict(list)
    key = ""
    for opcode, value, _ in pickletools.genops(content):
        if isinstance(value, str) and opcode.name not in NO_TEXTS:
            if value in KEYS:
                key = value
            else:
                texts[key].append(value)
        elif isinstance(value, int) and opcode.name in WHOLE_NUMBERS:
            numbers[key].append(value)
    # The pixels are the longest text beside the description of the array. A character is a byte.
    images = max(texts["data"], key=len, default="").encode("latin-1")
    labels = numbers["labels"] or numbers["fine_labels"]
    if len(images) != len(labels) * IMAGE_BYTES:
        raise ValueError(f"it has {len(images):,} bytes of images for {len(labels):,} labels")
    return CifarFile(images, labels, texts["label_names"] or texts["fine_label_names"])
