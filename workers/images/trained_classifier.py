"""A trained classifier in one file: saved, loaded, applied and exported without its search.

Law of this file: the model's file is sufficient. It has the configuration, the shape and the normalisation of the
images, the names of the classes and the weights, but no code (``weights_only=True`` reads it). A loaded model
classifies pictures exactly as they were in training (:mod:`~.picture`), or unprocessed pixels, uint8. An export is
reported only after a check that its outputs are the same.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from hpbandster_lite.errors import UsageError
from hpbandster_lite.problems.checkpoints import write_torch
from hpbandster_lite.workers.images.augmentation import normalised
from hpbandster_lite.workers.images.device_images import DeviceImages
from hpbandster_lite.workers.images.image_data import ImageDataError
from hpbandster_lite.workers.images.picture import Aspect, Preparation, picture_pixels, read_picture, with_channels
from hpbandster_lite.workers.images.search_spaces import space_named
from hpbandster_lite.workers.networks.image_shape import ImageShape
from hpbandster_lite.workers.training.faults import Diverged

FORMAT = 2
"""Version of the file's format; versions that are not in :data:`READ_FORMATS` are refused. Version 1 had no
``pictures``."""
READ_FORMATS = (1, FORMAT)
LARGEST_DIFFERENCE = 1e-4
"""Largest difference between the logits of a model and of its export, which may sum in another order: relative to the
largest logit, or to 1 if that is larger. It is about a hundred times the precision of float32 after a few dozen
layers."""
CHECKED_IMAGES = 32
BATCH = 100
"""Images that :meth:`ImageClassifier.classify` computes at once."""
MOST_NAMED = 10
"""Pictures that cannot be read that an error names."""
COLOURS = (3, 4)
"""Channels of an array of a picture in colour, with and without alpha."""
EXPORT_SUFFIX = ".pt2"
DIGITS = "digits"
"""The space of the problem ``digits`` in a model's file, beside the names of :data:`~.search_spaces.SPACES`."""

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

ABOUT = "pictures.json"
"""The file in an export that says what its input and its outputs are."""

AnyImage: TypeAlias = "str | Path | Picture | torch.Tensor | npt.NDArray[np.uint8]"
"""A file, an image of PIL, the array of a picture, or pixels of the training images' shape."""


class SeenAs(NamedTuple):
    """How the training saw pictures: their aspect, and whether more than 8 bits per channel were scaled to 8."""

    aspect: Aspect = "squeeze"
    scales_deep: bool = False


SQUEEZED = SeenAs()


class Classified(NamedTuple):
    """Classes of images: the name of the most likely class, and the probabilities of all classes, (n, classes)."""

    names: list[str]
    probabilities: torch.Tensor


class ImageClassifier(nn.Module):
    """A network with its normalisation and its class names, applied to pixels.

    Parameters
    ----------
    network
        A network that maps normalised images to logits.
    mean, std
        Mean and standard deviation of each channel, shape (c,), in units of a pixel's value.
    shape
        Shape of the images.
    class_names
        One name for each class.
    about
        The rest of the file: ``space``, ``configuration``, and ``figures`` of the training.
    seen_as
        How the training saw pictures. Default: squeezed, and none with more than 8 bits per channel.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: torch.Tensor,
        std: torch.Tensor,
        shape: ImageShape,
        class_names: tuple[str, ...],
        about: Mapping[str, Any],
        seen_as: SeenAs = SQUEEZED,
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.shape, self.class_names, self.about = shape, class_names, about
        self.seen_as = seen_as

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Maps pixels (n, c, h, w), uint8, to logits (n, classes)."""
        logits: torch.Tensor = self.network(normalised(pixels, self.mean, self.std))
        return logits

    def classify(self, images: AnyImage | Sequence[AnyImage]) -> Classified:
        """Classes of images.

        Parameters
        ----------
        images
            One image or a sequence of them, each a file, an image of PIL, or an array of a picture of any size, uint8,
            (height, width), (height, width, 3) or, with alpha, (height, width, 4): they are turned upright, converted
            and resized exactly as the training images were. An array of several pictures is (n, height, width, 3 or
            4). Or the pixels of images of the training images' shape: a tensor on any device or an
            array, uint8, (n, channels, height, width), or without n for one image.

        Returns
        -------
        Classified
            The most likely class of each image, and the probabilities of all classes.

        Raises
        ------
        ImageDataError
            If pictures cannot be read, or have more than 8 bits per channel and the training converted none; with all
            of their names.
        UsageError
            If pixels have another type or shape, or there is no image.
        """
        with torch.inference_mode():
            parts = [self(batch.to(self.mean.device)).softmax(dim=1) for batch in self._batches(images)]
        if not parts:
            raise UsageError("images is empty; give at least one image")
        probabilities = torch.cat(parts)
        return Classified([self.class_names[i] for i in probabilities.argmax(dim=1).tolist()], probabilities)

    def _batches(self, images: AnyImage | Sequence[AnyImage]) -> Iterator[torch.Tensor]:
        if isinstance(images, np.ndarray) and self._has_several(images):
            images = list(images)
        if isinstance(images, (torch.Tensor, np.ndarray)) and not self._is_picture(images):
            yield from torch.split(self._pixels(images), BATCH)
            return
        several = images if isinstance(images, Sequence) and not isinstance(images, str) else [images]
        faults: list[str] = []
        for first in range(0, len(several), BATCH):
            found = [self._one_or_fault(image, faults) for image in several[first : first + BATCH]]
            # After a fault, the others are read only to name theirs, too.
            if not faults:
                yield torch.cat([pixels for pixels in found if pixels is not None])
        if faults:
            more = f"; and {len(faults) - MOST_NAMED:,} more" if len(faults) > MOST_NAMED else ""
            raise ImageDataError("; ".join(faults[:MOST_NAMED]) + more)

    def _one_or_fault(self, image: AnyImage, faults: list[str]) -> torch.Tensor | None:
        try:
            return self._one(image)
        except ImageDataError as error:
            faults.append(str(error))
            return None

    def _is_picture(self, image: torch.Tensor | npt.NDArray[np.uint8]) -> bool:
        """Whether this is the array of one picture, not pixels of the training images' shape."""
        if isinstance(image, torch.Tensor) or image.dtype != np.uint8 or image.shape == self.shape[:3]:
            return False
        return image.ndim == 2 or (image.ndim == 3 and image.shape[2] in COLOURS)

    def _has_several(self, images: npt.NDArray[np.uint8]) -> bool:
        """Whether this is the array of several pictures, not pixels of the training images' shape."""
        if images.dtype != np.uint8 or images.shape[1:] == self.shape[:3]:
            return False
        return images.ndim == 4 and images.shape[3] in COLOURS

    def _one(self, image: AnyImage) -> torch.Tensor:
        """The pixels of one image, (1, channels, height, width)."""
        if isinstance(image, (torch.Tensor, np.ndarray)) and not self._is_picture(image):
            return self._pixels(image)
        size = self.shape.height, self.shape.width
        how = Preparation(size, self.seen_as.aspect, () if self.seen_as.scales_deep else ("deep",))
        if isinstance(image, (str, Path)):
            pixels = read_picture(Path(image), how)
        else:
            pixels = picture_pixels(_picture_of(image), how)
        return torch.from_numpy(with_channels(pixels, self.shape.channels).copy())[None]

    def _pixels(self, pixels: torch.Tensor | npt.NDArray[np.uint8]) -> torch.Tensor:
        if isinstance(pixels, np.ndarray) and not pixels.flags.writeable:
            # torch has no tensors that cannot be written.
            pixels = pixels.copy()
        given = torch.as_tensor(pixels)
        batch = given[None] if given.ndim == len(self.shape) - 1 else given
        if batch.dtype != torch.uint8 or tuple(batch.shape[1:]) != self.shape[:3]:
            raise UsageError(
                f"the model requires uint8 images of the shape (n, {', '.join(map(str, self.shape[:3]))}), or uint8 "
                "pictures of any size, (height, width), (height, width, 3) or (n, height, width, 3) as arrays of numpy,"
                f" got {batch.dtype} of the shape {tuple(given.shape)}"
            )
        return batch


def _picture_of(image: Any) -> Picture:
    from PIL import Image

    return Image.fromarray(image) if isinstance(image, np.ndarray) else image


def save_model(
    file: Path,
    network: nn.Module,
    images: DeviceImages,
    *,
    space: str,
    configuration: Mapping[str, Any],
    figures: Mapping[str, Any],
    seen_as: SeenAs = SQUEEZED,
) -> None:
    """Write a model atomically.

    Parameters
    ----------
    file
        The file to write.
    network
        The trained network.
    images
        The training images: their shape, normalisation and class names are saved.
    space, configuration
        The architecture: a name in :data:`~.search_spaces.SPACES`, or :data:`DIGITS`, and a configuration of this
        space.
    figures
        Figures of the training, plain values.
    seen_as
        How the training saw pictures. Default: squeezed, and none with more than 8 bits per channel.
    """
    # torch's dict has the versions of the layers, without which torch reads it as a much older one.
    weights = network.state_dict()
    for name, value in weights.items():
        weights[name] = value.detach().cpu().contiguous()
    content = {
        "format": FORMAT,
        "space": space,
        "configuration": dict(configuration),
        "shape": list(images.shape),
        "mean": images.mean.cpu(),
        "std": images.std.cpu(),
        "class_names": list(images.class_names),
        "weights": weights,
        "figures": dict(figures),
        "pictures": seen_as._asdict(),
    }
    write_torch(file, content)


def load_model(file: Path | str, device: str | torch.device = "cpu") -> ImageClassifier:
    """Load the model of a refit, in evaluation mode.

    Parameters
    ----------
    file
        ``model.pt`` of a refit.
    device
        Device of the model. Default: ``"cpu"``.

    Returns
    -------
    ImageClassifier
        The model; :meth:`ImageClassifier.classify` applies it.

    Raises
    ------
    UsageError
        If the file is not such a model.
    """
    given: object = file
    if not isinstance(given, str | os.PathLike):
        raise UsageError(f"file must be the path of a model, got {given!r:.100}; give the model.pt of a refit")
    try:
        place = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise UsageError(f"device must be a device of torch, got {device!r:.100}; give for example 'cpu'") from error
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # an unreadable file raises what torch's reader raises
        raise UsageError(f"{file} is not a model of a refit: {error}; give the model.pt of a refit") from error
    if not isinstance(content, dict) or content.get("format") not in READ_FORMATS:
        raise UsageError(f"{file} is not a model of a refit of this version; give the model.pt of a refit")
    shape = ImageShape(*content["shape"])
    network = _network(content["space"], content["configuration"], shape)
    network.load_state_dict(content["weights"])
    about = {name: content[name] for name in ("space", "configuration", "figures")}
    model = ImageClassifier(
        network,
        content["mean"],
        content["std"],
        shape,
        tuple(content["class_names"]),
        about,
        SeenAs(**content.get("pictures", {})),
    )
    return model.eval().to(place)


def _network(space: str, configuration: Mapping[str, Any], shape: ImageShape) -> nn.Module:
    if space == DIGITS:
        from hpbandster_lite.workers.digits.architecture import Architecture
        from hpbandster_lite.workers.digits.network import build_network

        return build_network(Architecture.of(configuration))
    return space_named(space).network(configuration, shape)


def _about_pictures(model: ImageClassifier) -> dict[str, Any]:
    return {
        "class_names": list(model.class_names),
        "shape": list(model.shape[:3]),
        **model.seen_as._asdict(),
    }


def export_model(model: ImageClassifier, file: Path) -> dict[str, Any]:
    """Write a model for programs that have torch but not this package, and check that its outputs are the same.

    :func:`torch.export.load` reads the file; its module maps any number of uint8 images to logits. Its extra file
    :data:`ABOUT` has the names of the classes, the shape of the images and how pictures become them.

    Returns
    -------
    dict
        ``largest_difference`` of the logits of random images, relative as in :data:`LARGEST_DIFFERENCE`, the
        ``tolerance``, and the number of ``images``.

    Raises
    ------
    UsageError
        If the file's name does not end in ``.pt2``.
    ArithmeticError
        If the outputs differ by more than the tolerance, or (:class:`~..training.faults.Diverged`) are not finite; then
        the file is removed.
    """
    if file.suffix != EXPORT_SUFFIX:
        right = file.with_suffix(EXPORT_SUFFIX)
        raise UsageError(f"the file of an export must end in {EXPORT_SUFFIX}; give --export {right}")
    model = model.cpu().eval()
    pixels = torch.randint(
        0, 256, (CHECKED_IMAGES, *model.shape[:3]), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    with warnings.catch_warnings():
        # torch warns about its file format and tracing.
        warnings.simplefilter("ignore")
        program = torch.export.export(model, (pixels[:2],), dynamic_shapes=({0: torch.export.Dim("n")},))
        torch.export.save(program, file, extra_files={ABOUT: json.dumps(_about_pictures(model))})
        exported = torch.export.load(file).module()
    difference = 0.0
    with torch.inference_mode():
        # Check all images at once and a single one, because the export must accept any number of images.
        for part in (pixels, pixels[:1]):
            ours = model(part)
            if not ours.isfinite().all():
                file.unlink()
                raise Diverged("the outputs of the model are not finite; refit another configuration")
            scale = max(1.0, float(ours.abs().max()))
            difference = max(difference, float((exported(part) - ours).abs().max()) / scale)
    if not difference <= LARGEST_DIFFERENCE:
        file.unlink()
        raise ArithmeticError(
            f"the outputs of the exported model differ by {difference:.3g}, more than {LARGEST_DIFFERENCE:g}"
        )
    return {"largest_difference": difference, "tolerance": LARGEST_DIFFERENCE, "images": CHECKED_IMAGES}
