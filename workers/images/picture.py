"""A picture as pixels: the same way for training, validation, test and a deployed model.

Law of this file: every picture is turned upright by its EXIF orientation, converted to grey or RGB, and only then
resized, with a bilinear filter. Pictures that are prepared in another way give other errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hpbandster_lite.workers.images.image_data import ImageDataError, Pixels

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

GREY_MODES = frozenset({"1", "L", "LA"})
DEEP_MODES = frozenset({"F", "I", "I;16", "I;16B", "I;16L", "I;16N"})
"""PIL's modes of pictures with more than 8 bits per channel."""


def read_picture(file: Path, size: tuple[int, int] | None = None) -> Pixels:
    """The pixels of a picture in a file; see :func:`picture_pixels`.

    Raises
    ------
    ImageDataError
        If the file cannot be read as a picture, or has more than 8 bits per channel.
    """
    from PIL import Image

    try:
        with Image.open(file) as opened:
            return picture_pixels(opened, size, name=str(file))
    # PIL raises SyntaxError and ValueError for some kinds of broken files, and has its own error for too many pixels.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, ImageDataError):
            raise
        raise ImageDataError(f"{file} is not a picture that can be read ({error}); repair or remove it") from error


def picture_pixels(picture: Picture, size: tuple[int, int] | None = None, *, name: str = "the picture") -> Pixels:
    """The pixels of a picture.

    Parameters
    ----------
    picture
        An image of PIL.
    size
        Height and width to which it is resized. Default: ``None``, to keep its size.
    name
        What messages call it. Default: ``"the picture"``.

    Returns
    -------
    Pixels
        uint8, shape (height, width) if it is grey, else (height, width, 3).

    Raises
    ------
    ImageDataError
        If it has more than 8 bits per channel.
    """
    from PIL import Image, ImageOps

    if picture.mode in DEEP_MODES:
        raise ImageDataError(
            f"{name} has more than 8 bits per channel (mode {picture.mode}); choose the range of values that "
            "matters, scale it to 0 ... 255 and save it with 8 bits"
        )
    upright = ImageOps.exif_transpose(picture).convert("L" if picture.mode in GREY_MODES else "RGB")
    if size is not None:
        height, width = size
        upright = upright.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(upright)


def with_channels(pixels: Pixels, channels: int) -> Pixels:
    """Pixels of :func:`picture_pixels` with the shape (channels, height, width), where ``channels`` is 1 or 3.

    A grey picture has the same values in all three channels. A picture in colour becomes grey as PIL converts it.
    """
    if pixels.ndim == 2:
        return np.broadcast_to(pixels, (channels, *pixels.shape))
    if channels == 1:
        from PIL import Image

        return np.asarray(Image.fromarray(pixels).convert("L"))[np.newaxis]
    return pixels.transpose(2, 0, 1)
