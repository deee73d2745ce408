"""Your own images from an ``.npz`` file.

Law of this file: the name, the type and the shape of an array determine its meaning; an ambiguous array is an error
that says how to name it.

Names: ``x`` or ``images`` with ``y`` or ``labels``; or ``x_train``, ``y_train``, ``x_test``, ``y_test``, also in the
form ``train_x``, and with ``images`` and ``labels`` for x and y. Without a test set, ``val`` is the test set; with
both, ``val`` belongs to the training images. Optional: ``class_names``, and ``layout`` ("NHWC", "NCHW" or "NHW").
"""

from __future__ import annotations

import logging
import re
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hpbandster_lite.workers.images.groups import joined, numbered
from hpbandster_lite.workers.images.image_data import Groups, ImageData, ImageDataError, Labels, Pixels
from hpbandster_lite.workers.images.picture import Aspect, fitted
from hpbandster_lite.workers.images.splits import with_test_set_apart

logger = logging.getLogger(__name__)

LAYOUTS = ("NHWC", "NCHW", "NHW")
MOST_CHANNELS = 4
"""An axis of length 1 to 4 counts as the channels; with a ``layout`` in the file, more channels are possible."""
IMAGE_NAMES = ("x", "images", "image", "data")
LABEL_NAMES = ("y", "labels", "label", "targets")
PARTS = {"train": "train", "training": "train", "test": "test", "val": "val", "valid": "val", "validation": "val"}
REMEDY = "np.savez(FILE, x_train=..., y_train=..., x_test=..., y_test=...), or only x=... and y=..."

Array = npt.NDArray[Any]


def read_npz(
    file: Path, size: tuple[int, int] | None = None, aspect: Aspect = "squeeze", group: str | None = None
) -> ImageData:
    """Read a file of arrays.

    Parameters
    ----------
    file
        A file that :func:`numpy.savez` or :func:`numpy.savez_compressed` wrote.
    size
        Height and width to which the images are resized. Default: ``None``, to keep their size.
    aspect
        How an image of another shape is brought to the size. Default: ``"squeeze"``.
    group
        Name of the arrays with the group of each image; the parts are named as for the labels. Default: ``None``.

    Raises
    ------
    ImageDataError
        If the file cannot be read, arrays are missing or ambiguous, or values are not pixels.
    """
    arrays = _arrays(file)
    images, labels = _by_part(file, arrays)
    layout = str(arrays["layout"]).upper() if "layout" in arrays else None
    pixels = _bytes(file, {part: _channels_first(file, part, x, layout) for part, x in images.items()})
    if size is not None:
        pixels = {part: _resized(x, size, aspect) for part, x in pixels.items()}
    for part, y in labels.items():
        if y.shape not in ((len(y),), (len(y), 1)):
            raise ImageDataError(
                f"{file}: the {part or 'only'} labels have shape {y.shape}; give one number or name for each image, "
                "for example np.argmax(y, axis=1) of one-hot rows"
            )
    classes, names = _classes(file, labels, arrays.get("class_names"))
    groups = {} if group is None else _groups(file, arrays, labels, group)
    if "" in pixels:
        matching = _matching(file, "", pixels, classes)
        return with_test_set_apart(str(file), pixels[""], matching, names, groups.get(""))
    test = ["test"] if "test" in pixels else ["val"]
    train = [part for part in ("train", "val") if part in pixels and part not in test]
    if not {*train, *test} <= set(pixels) or "train" not in train:
        raise ImageDataError(f"{file} has images for {sorted(pixels)}, but requires training and test images: {REMEDY}")
    of_parts = {part: _matching(file, part, pixels, classes) for part in train + test}
    return ImageData(
        source=str(file),
        train_x=np.concatenate([pixels[part] for part in train]) if len(train) > 1 else pixels[train[0]],
        train_y=np.concatenate([of_parts[part] for part in train]),
        test_x=pixels[test[0]],
        test_y=of_parts[test[0]],
        class_names=names,
        train_groups=joined([groups[part] for part in train]) if groups else None,
        test_groups=groups.get(test[0]),
    )


# ----------------------------------------------------------------------------------------------------------- arrays


def _arrays(file: Path) -> dict[str, Array]:
    try:
        # Opened here, because numpy leaves a file open if it is not an archive.
        with file.open("rb") as stream:
            opened = np.load(stream, allow_pickle=False)
            if not isinstance(opened, np.lib.npyio.NpzFile):
                raise ImageDataError(f"{file} is one array without a name; write {REMEDY}")
            return {name: opened[name] for name in opened.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, ImageDataError):
            raise
        raise ImageDataError(f"{file} is not an .npz file that can be read ({error}); write {REMEDY}") from error


def _by_part(file: Path, arrays: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, Array]]:
    """Images and labels, by the part ("", "train", "val", "test") in their names."""
    images: dict[str, Array] = {}
    labels: dict[str, Array] = {}
    for name, array in arrays.items():
        tokens = re.split("[_-]", name.lower())
        stems = [token for token in tokens if token not in PARTS]
        parts = [PARTS[token] for token in tokens if token in PARTS] or [""]
        if len(stems) != 1 or len(parts) != 1:
            continue
        found = images if stems[0] in IMAGE_NAMES else labels if stems[0] in LABEL_NAMES else None
        if found is None:
            continue
        if parts[0] in found:
            raise ImageDataError(f"{file} has two arrays with the meaning of {name!r}; keep one: {REMEDY}")
        found[parts[0]] = array
    if not images or set(images) != set(labels) or ("" in images and len(images) > 1):
        raise ImageDataError(f"{file} has the arrays {sorted(arrays)}; name images and labels: {REMEDY}")
    return images, labels


def _groups(
    file: Path, arrays: Mapping[str, Array], labels: Mapping[str, Array], group: str
) -> dict[str, Groups]:
    """The groups of each part, with the same names."""
    found: dict[str, Array] = {}
    for name, array in arrays.items():
        for token, part in (("", ""), *PARTS.items()):
            if name in (group, f"{group}_{token}", f"{token}_{group}") and (part or name == group):
                found[part] = array.reshape(-1)
    for part, y in labels.items():
        wanted = f"{group}_{part}" if part else group
        if part not in found:
            raise ImageDataError(f"{file}: --group {group} needs the array {wanted}, one value for each image; add it")
        if len(found[part]) != len(y):
            raise ImageDataError(
                f"{file}: {len(found[part]):,} values of {wanted} for {len(y):,} images; give one for each"
            )
    every = numbered(value for part in labels for value in found[part].tolist())
    ends = np.cumsum([len(y) for y in labels.values()]).tolist()
    return {
        part: every.of(slice(end - len(y), end)) for (part, y), end in zip(labels.items(), ends, strict=True)
    }


# ----------------------------------------------------------------------------------------------------------- pixels


def _channels_first(file: Path, part: str, x: Array, layout: str | None) -> Array:
    """The same images as (n, channels, height, width)."""
    layout = layout or _layout(file, part, x)
    if layout not in LAYOUTS or x.ndim != len(layout):
        raise ImageDataError(
            f"{file}: layout={layout!r} does not fit {part} images of shape {x.shape}; choose from {list(LAYOUTS)}"
        )
    return x[:, np.newaxis] if layout == "NHW" else x.transpose(0, 3, 1, 2) if layout == "NHWC" else x


def _layout(file: Path, part: str, x: Array) -> str:
    subject = f"{file}: {f'{part} '.lstrip()}images of shape {x.shape}"
    if x.ndim == 3:
        return "NHW"
    if x.ndim != 4:
        raise ImageDataError(f"{subject} are not images; give (n, h, w), (n, h, w, channels) or (n, channels, h, w)")
    first, last = (1 <= x.shape[axis] <= MOST_CHANNELS for axis in (1, 3))
    if first == last:
        why = "more than one axis" if first else "no axis"
        raise ImageDataError(
            f"{subject} have {why} that may be the channels; add the layout to the file: np.savez(..., layout='NHWC') "
            "or layout='NCHW'"
        )
    return "NCHW" if first else "NHWC"


def _bytes(file: Path, images: Mapping[str, Array]) -> dict[str, Pixels]:
    """All parts as uint8, converted by the same rule."""
    kinds = {x.dtype for x in images.values()}
    if kinds == {np.dtype(np.uint8)}:
        return {part: np.ascontiguousarray(x) for part, x in images.items()}
    if kinds == {np.dtype(np.bool_)}:
        return {part: np.ascontiguousarray(x, dtype=np.uint8) * np.uint8(255) for part, x in images.items()}
    subject = f"{file}: images of type {', '.join(sorted(map(str, kinds)))}"
    if any(kind.kind not in "buif" for kind in kinds):
        raise ImageDataError(f"{subject} are not pixels; give uint8")
    if not all(np.isfinite(x).all() for x in images.values()):
        raise ImageDataError(f"{subject} have values that are not finite (NaN or infinity); give uint8")
    low = min(float(x.min(initial=0)) for x in images.values())
    high = max(float(x.max(initial=0)) for x in images.values())
    if low < 0 or high > 255:
        raise ImageDataError(
            f"{subject} range from {low:g} to {high:g}, but pixels have 8 bits; choose the range of values that "
            "matters, scale it to 0 ... 255 and save it as uint8"
        )
    if high <= 1 and all(kind.kind == "f" for kind in kinds):
        logger.warning("%s from 0 to 1 are scaled to 0 ... 255 and rounded to 8 bits", subject)
        factor = 255.0
    else:
        logger.warning("%s from %g to %g are used as 0 ... 255 and rounded to 8 bits", subject, low, high)
        factor = 1.0
    return {part: np.ascontiguousarray(np.rint(x * factor).astype(np.uint8)) for part, x in images.items()}


def _resized(x: Pixels, size: tuple[int, int], aspect: Aspect) -> Pixels:
    from PIL import Image

    height, width = size
    if x.shape[2:] == (height, width):
        return x
    resized = np.empty((*x.shape[:2], height, width), dtype=np.uint8)
    for i, j in np.ndindex(*x.shape[:2]):
        plane = Image.fromarray(np.ascontiguousarray(x[i, j]))
        resized[i, j] = np.asarray(fitted(plane, size, aspect))
    return resized


# ----------------------------------------------------------------------------------------------------------- labels


def _classes(
    file: Path, labels: Mapping[str, Array], given_names: Array | None
) -> tuple[dict[str, Labels], tuple[str, ...]]:
    """Labels as classes from 0, in the order of their values, and the names of the classes."""
    flat = {part: y.reshape(-1) for part, y in labels.items()}
    every = np.concatenate(list(flat.values()))
    if every.dtype.kind == "f" and np.array_equal(every, np.rint(every)):
        every = every.astype(np.int64)
    if every.dtype.kind not in "biuUS":
        raise ImageDataError(f"{file}: labels of type {every.dtype} are not classes; give whole numbers or names")
    values, classes = np.unique(every, return_inverse=True)
    names = tuple(value.decode() if isinstance(value, bytes) else str(value) for value in values.tolist())
    if given_names is not None:
        if len(given_names) != len(values):
            raise ImageDataError(f"{file}: {len(given_names)} class_names for {len(values)} classes {list(names)}")
        names = tuple(str(name) for name in given_names.tolist())
    ends = np.cumsum([len(y) for y in flat.values()])[:-1]
    return dict(zip(flat, np.split(classes.astype(np.int64), ends), strict=True)), names


def _matching(file: Path, part: str, pixels: Mapping[str, Pixels], classes: Mapping[str, Labels]) -> Labels:
    if len(pixels[part]) != len(classes[part]):
        raise ImageDataError(
            f"{file}: {len(pixels[part]):,} {f'{part} '.lstrip()}images but {len(classes[part]):,} labels; "
            "give one for each"
        )
    return classes[part]
