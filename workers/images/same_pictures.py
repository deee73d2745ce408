"""Whether your own pictures are still those with which a search began, so that its losses can be compared.

Law of this file: it notes a difference and ends nothing; what cannot be written or read is not compared.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from pathlib import Path

import numpy as np

from hpbandster_lite.process.environment import RUN_DIRECTORY_VARIABLE
from hpbandster_lite.workers.images.image_data import ImageData
from hpbandster_lite.workers.images.picture_cache import replace_file
from hpbandster_lite.workers.images.read_images import ImageSource, read_images

FILE = "pictures/of-this-search.json"
"""In the run directory: what the first evaluation on this host found."""
MOST_BYTES = 1 << 26
"""Pixels that are hashed; of a larger set these are pictures at equal distances."""


def other_pictures(source: ImageSource) -> str | None:
    """A sentence if the images are not those of the first evaluation of this run directory; None otherwise.

    Parameters
    ----------
    source
        Your own images.
    """
    run = os.environ.get(RUN_DIRECTORY_VARIABLE)
    if not run:
        return None
    file, now = Path(run, FILE), _fingerprint(source)
    try:
        first = json.loads(file.read_text("ascii"))
        if first == now:
            return None
        before = f"{first['training']:,} for training and validation and {first['test']:,} for test"
    except FileNotFoundError:
        _write(file, now)
        return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (
        f"the pictures are not those with which this search began (then {before}, now {now['training']:,} and "
        f"{now['test']:,}), so losses of before and after cannot be compared; restore them, or begin another search"
    )


def _write(file: Path, found: dict[str, str | int]) -> None:
    try:
        replace_file(file, json.dumps(found).encode("ascii"))
    except OSError:
        # A full or read-only disk: nothing is compared.
        return


@functools.lru_cache(maxsize=4)
def _fingerprint(source: ImageSource) -> dict[str, str | int]:
    images = read_images(*source)
    return {"hash": _hash(images), "training": len(images.train_y), "test": len(images.test_y)}


def _hash(images: ImageData) -> str:
    hashed = hashlib.sha256(json.dumps([images.class_names, images.shape]).encode("ascii"))
    for x, y in ((images.train_x, images.train_y), (images.test_x, images.test_y)):
        hashed.update(np.ascontiguousarray(y).tobytes())
        every = -(-x.nbytes // MOST_BYTES) or 1
        for row in range(0, len(x), every):
            hashed.update(np.ascontiguousarray(x[row]).tobytes())
    return hashed.hexdigest()
