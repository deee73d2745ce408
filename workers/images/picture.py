"""A picture as pixels: the same way for training, validation, test and a deployed model.

Law of this file: every picture is brought to 8 bits per channel, turned upright by its EXIF orientation, put on white
where it is transparent, converted to grey or RGB, and only then brought to its size, with a bilinear filter. Pictures
that are prepared in another way give other errors. What loses something on this way is a trait, and a caller may
refuse traits.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from hpbandster_lite.workers.images.image_data import ImageDataError, Pixels

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Aspect: TypeAlias = Literal["squeeze", "crop", "pad"]
"""How a picture gets another shape: squeezed or stretched; its middle alone; or whole, with black at two sides."""
Unusual: TypeAlias = Literal["auto", "refuse", "convert", "skip"]
"""What happens with pictures that lose something or cannot be read; see :mod:`.picture_findings`."""
Trait: TypeAlias = Literal["deep", "alpha", "frames"]
"""More than 8 bits per channel; parts that are not opaque; several frames or pages."""
TRAITS: Final[tuple[Trait, ...]] = get_args(Trait)

MOST_PIXELS = 178_956_970
"""A larger picture is refused: a small file may contain it and fill the memory. It is twice PIL's limit for warnings,
where PIL refuses, too."""
GREY_MODES = frozenset({"1", "L"})
DEEP_GREY_MODES = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
DEEP_FORMATS = frozenset({"PNG", "PPM"})
"""Formats whose mode ``I`` of PIL has 16 bits; that of others has 32."""
LOW_BYTES = {";16B": ";16L", ";16L": ";16B", ";16N": ";16B" if np.little_endian else ";16L"}
"""PIL keeps the high byte of channels of 16 bits. Read with the other byte order, they give the low byte."""
DICOM_MAGIC = b"DICM"
DICOM_PLACE = 128
"""Where a DICOM file has its magic."""
ORIENTATION = 0x0112
TURNED = 5
"""From this orientation on, height and width are exchanged."""
TRANSFORMS = {
    2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270", 7: "TRANSVERSE",
    8: "ROTATE_90",
}  # fmt: skip
"""PIL's transformations that turn a picture upright, by EXIF's orientation."""
LOSSES: dict[Trait, tuple[str, str]] = {
    "deep": (
        "more than 8 bits per channel",
        "--unusual convert scales 0 ... 65,535 to 0 ... 255; if the values fill only a part of this range, choose the "
        "range that matters, scale it to 0 ... 255 and save it with 8 bits",
    ),
    "alpha": ("transparent parts", "--unusual convert puts them on white"),
    "frames": ("several frames or pages", "--unusual convert takes the first one"),
}
"""What each trait is, and its remedy."""

Values = npt.NDArray[np.uint16]


class Preparation(NamedTuple):
    """How pictures become the pixels of a data set.

    Parameters
    ----------
    size
        Height and width. Default: ``None``, to keep each picture's size.
    aspect
        See :data:`Aspect`; it acts only with a size. Default: ``"squeeze"``.
    refused
        Traits that are errors. Default: all.
    """

    size: tuple[int, int] | None = None
    aspect: Aspect = "squeeze"
    refused: tuple[Trait, ...] = TRAITS


class Examined(NamedTuple):
    """What a picture is, without its pixels: PIL's mode, the upright size, 1 or 3 channels, and its traits.

    ``highest`` is the largest value of a deep picture, else 0.
    """

    mode: str
    height: int
    width: int
    channels: int
    traits: tuple[Trait, ...]
    highest: int


class _Plain(NamedTuple):
    """An upright picture of mode L or RGB, of 8 bits, without transparency."""

    picture: Picture
    traits: tuple[Trait, ...]
    highest: int


def read_picture(file: Path, preparation: Preparation | None = None) -> Pixels:
    """The pixels of a picture in a file; see :func:`picture_pixels`.

    Raises
    ------
    ImageDataError
        If the file cannot be read as a picture, or has a trait that is refused.
    """
    with _readable(str(file)), _opened(file.read_bytes()) as (picture, content):
        return _pixels(_plain(picture, content), preparation or Preparation(), str(file))


def picture_pixels(picture: Picture, preparation: Preparation | None = None) -> Pixels:
    """The pixels of a picture.

    Parameters
    ----------
    picture
        An image of PIL.
    preparation
        Its size, and what is refused. Default: ``None``, for its own size, and all traits.

    Returns
    -------
    Pixels
        uint8, shape (height, width) if it is grey, else (height, width, 3).

    Raises
    ------
    ImageDataError
        If it cannot be read, or has a trait that is refused.
    """
    with _readable("the picture"):
        return _pixels(_plain(picture, _content_of(picture)), preparation or Preparation(), "the picture")


def examine(content: bytes) -> Examined:
    """What a picture is; decodes all of it, so a damaged one is an error.

    Raises
    ------
    ImageDataError
        If it cannot be read. The message has no name of the file.
    """
    with _readable(""), _opened(content) as (picture, _):
        width, height = picture.size
        is_jpeg = picture.format == "JPEG"
        if is_jpeg:
            # An eighth of the size takes half of the time, and notices a cut-off file just as well.
            picture.draft(None, (max(width // 8, 1), max(height // 8, 1)))
        mode = picture.mode
        plain, traits, highest = _plain(picture, content)
        if not is_jpeg:
            width, height = plain.size
        elif _orientation(picture) >= TURNED:
            width, height = height, width
        return Examined(mode, height, width, 1 if plain.mode == "L" else 3, traits, highest)


def fitted(picture: Picture, size: tuple[int, int], aspect: Aspect) -> Picture:
    """A picture of another size: height and width."""
    from PIL import Image

    height, width = size
    if (picture.height, picture.width) == size:
        return picture
    if aspect == "squeeze":
        return picture.resize((width, height), Image.Resampling.BILINEAR)
    if aspect == "crop":
        scale = min(picture.width / width, picture.height / height)
        left, top = (picture.width - width * scale) / 2, (picture.height - height * scale) / 2
        box = (left, top, min(left + width * scale, picture.width), min(top + height * scale, picture.height))
        return picture.resize((width, height), Image.Resampling.BILINEAR, box=box)
    scale = min(width / picture.width, height / picture.height)
    whole = max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)
    padded = Image.new(picture.mode, (width, height))
    padded.paste(
        picture.resize(whole, Image.Resampling.BILINEAR), ((width - whole[0]) // 2, (height - whole[1]) // 2)
    )
    return padded


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


def _pixels(plain: _Plain, preparation: Preparation, name: str) -> Pixels:
    for trait in plain.traits:
        if trait in preparation.refused:
            what, remedy = LOSSES[trait]
            raise ImageDataError(f"{name} has {what}; {remedy}")
    picture = plain.picture
    return np.asarray(picture if preparation.size is None else fitted(picture, preparation.size, preparation.aspect))


# ------------------------------------------------------------------------------------------------------- opening files


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Makes every error of PIL an :class:`ImageDataError` that names the picture."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # This file has its own limit of pixels; other warnings are about metadata.
            warnings.simplefilter("ignore")
            yield
    except ImageDataError as error:
        if name and not str(error).startswith(name):
            raise ImageDataError(f"{name} {error}") from error
        raise
    except MemoryError as error:
        raise ImageDataError(f"{name} is too large for the memory of this host".strip()) from error
    # PIL raises SyntaxError, ValueError and others for some kinds of broken files.
    except (ArithmeticError, EOFError, LookupError, OSError, SyntaxError, TypeError, ValueError) as error:
        what = _one_line(error)
        raise ImageDataError(
            f"{name} is not a picture that can be read ({what}); repair or remove it" if name else what
        ) from error
    except Image.DecompressionBombError as error:
        raise ImageDataError(f"{name} has too many pixels ({_one_line(error)}); make it smaller".strip()) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _opened(content: bytes) -> Iterator[tuple[Picture, bytes]]:
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise OSError("it is empty")
    try:
        picture = Image.open(io.BytesIO(content))
    except UnidentifiedImageError as error:
        if content[DICOM_PLACE:].startswith(DICOM_MAGIC):
            raise OSError("it is a DICOM file, which has to be converted to PNG") from error
        raise OSError("it has no format that PIL knows") from error
    with picture:
        if picture.format == "PNG":
            # PIL compares the checksums only here.
            Image.open(io.BytesIO(content)).verify()
        yield picture, content


def _content_of(picture: Picture) -> bytes:
    """The file of a picture that is not decoded yet; empty if there is none."""
    stream = getattr(picture, "fp", None)
    if stream is None or not getattr(picture, "tile", None):
        return b""
    place = stream.tell()
    stream.seek(0)
    content: bytes = stream.read()
    stream.seek(place)
    return content


# ------------------------------------------------------------------------------------------------------- plain pictures


def _plain(picture: Picture, content: bytes) -> _Plain:
    """A picture upright, grey or RGB, with 8 bits, on white."""
    if picture.width * picture.height > MOST_PIXELS:
        raise ImageDataError(
            f"has {picture.width * picture.height:,} pixels, more than {MOST_PIXELS:,}; make it smaller"
        )
    traits: list[Trait] = []
    # A photo of the format MPO has previews as further frames.
    if getattr(picture, "n_frames", 1) > 1 and picture.format != "MPO":
        traits.append("frames")
    layout = _layout(picture)
    picture.load()
    highest = 0
    if _is_deep(picture, layout):
        values = _values(picture, content, layout)
        highest = int(values.max())
        made = _of_values(values, picture.info.get("transparency"))
        traits.append("deep")
    else:
        made = _with_alpha(picture)
    made, is_transparent = _on_white(made)
    if is_transparent:
        traits.append("alpha")
    if picture.mode in ("P", "PA") and _is_grey(made):
        made = made.getchannel(0)
    return _Plain(_upright(made, _orientation(picture)), tuple(traits), highest)


def _layout(picture: Picture) -> tuple[Any, ...]:
    """How the file stores the channels, in PIL's words: known until the picture is decoded."""
    tiles: list[Any] = getattr(picture, "tile", None) or []
    if not tiles:
        return ()
    arguments = tiles[0][3]
    return arguments if isinstance(arguments, tuple) else (arguments,)


def _is_deep(picture: Picture, layout: tuple[Any, ...]) -> bool:
    if picture.mode == "F" or (picture.mode == "I" and picture.format not in DEEP_FORMATS):
        raise ImageDataError(
            f"has values of 32 bits (mode {picture.mode}), whose range is unknown; choose the range that matters, "
            "scale it to 0 ... 255 and save it with 8 bits"
        )
    is_scaled = picture.format == "PPM" and any(isinstance(each, int) and each > 255 for each in layout[-1:])
    stored = layout[0] if layout and isinstance(layout[0], str) else ""
    return picture.mode in (*DEEP_GREY_MODES, "I") or any(ending in stored for ending in LOW_BYTES) or is_scaled


def _values(picture: Picture, content: bytes, layout: tuple[Any, ...]) -> Values:
    """The values of all channels, (height, width, channels), scaled to 16 bits."""
    pixels = np.asarray(picture)
    if picture.mode in (*DEEP_GREY_MODES, "I"):
        most = 4095 if "I;12" in layout[:1] else 65535
        return (pixels.astype(np.uint32) * 65535 // most).astype(np.uint16)[..., np.newaxis]
    if picture.format == "PPM":
        return pixels.astype(np.uint16) * np.uint16(257)
    stored: str = layout[0]
    if stored.startswith("LA"):
        # Two channels of two bytes are read as four channels of one byte.
        four = _decoded(content, stored, "RGBA")
        return _joined(four[..., ::2], four[..., 1::2])
    ending = next(each for each in LOW_BYTES if each in stored)
    low = _decoded(content, stored, stored.replace(ending, LOW_BYTES[ending]))
    return _joined(pixels, low)


def _joined(high: npt.NDArray[Any], low: npt.NDArray[Any]) -> Values:
    """Values of 16 bits from their bytes."""
    return high.astype(np.uint16) * np.uint16(256) + low.astype(np.uint16)


def _decoded(content: bytes, stored: str, read_as: str) -> Pixels:
    """The bytes of a file, read as if it stored them in another way."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as again:
        tiles: list[Any] = []
        for tile in again.tile:
            *rest, arguments = tile
            changed = (read_as, *arguments[1:]) if isinstance(arguments, tuple) else read_as
            # Newer versions of PIL have a named tuple.
            make = getattr(type(tile), "_make", tuple)
            tiles.append(make([*rest, changed]))
        again.tile = tiles
        again.load()
        return np.asarray(again)


def _of_values(values: Values, transparent: Any) -> Picture:
    """A picture of 8 bits: each value scaled by 255 / 65,535 and rounded; a colour may be declared transparent."""
    from PIL import Image

    channels = values.shape[2]
    if channels in (1, 3) and isinstance(transparent, int | tuple):
        is_opaque = (values != np.array(transparent, dtype=np.uint16)).any(axis=2, keepdims=True)
        values = np.concatenate([values, is_opaque.astype(np.uint16) * np.uint16(65535)], axis=2)
    scaled = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return Image.fromarray(scaled[..., 0] if scaled.shape[2] == 1 else scaled)


def _with_alpha(picture: Picture) -> Picture:
    """The same picture as L, LA, RGB or RGBA; with alpha if it declares transparency in any way."""
    mode = picture.mode
    has_alpha = mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in picture.info
    if mode in GREY_MODES or mode in ("LA", "La"):
        return picture.convert("LA" if has_alpha else "L")
    return picture.convert("RGBA" if has_alpha else "RGB")


def _on_white(picture: Picture) -> tuple[Picture, bool]:
    """A picture without alpha, and whether it was not opaque."""
    from PIL import Image

    if picture.mode not in ("LA", "RGBA"):
        return picture, False
    without = picture.mode.removesuffix("A")
    if picture.getchannel("A").getextrema()[0] == 255:
        return picture.convert(without), False
    coloured = picture.convert("RGBA")
    composed = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), coloured)
    return composed.getchannel(0) if without == "L" else composed.convert("RGB"), True


def _is_grey(picture: Picture) -> bool:
    pixels = np.asarray(picture)
    return pixels.ndim == 3 and bool((pixels[..., :1] == pixels[..., 1:]).all())


def _orientation(picture: Picture) -> int:
    """EXIF's orientation; PIL turns some formats itself and then removes it."""
    found = picture.getexif().get(ORIENTATION, 1)
    return found if isinstance(found, int) else 1


def _upright(picture: Picture, orientation: int) -> Picture:
    from PIL import Image

    name = TRANSFORMS.get(orientation)
    return picture if name is None else picture.transpose(Image.Transpose[name])
