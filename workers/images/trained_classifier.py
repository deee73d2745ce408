"""A trained classifier in one file: saved, loaded and applied without the search that found it, and exported.

Law of this file: what is saved suffices. The file holds the configuration, the shape of the images, what normalises
them, the names of the classes and the weights, and nothing that runs (``weights_only=True`` reads it); what is loaded
takes pixels as they are, uint8, and an export is believed only after it gave the same outputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from hpbandster_lite.errors import UsageError
from hpbandster_lite.workers.images.augmentation import normalised
from hpbandster_lite.workers.images.device_images import DeviceImages
from hpbandster_lite.workers.images.search_spaces import space_named
from hpbandster_lite.workers.networks.image_shape import ImageShape
from hpbandster_lite.workers.training.checkpointing import write_torch

FORMAT = 1
"""Of the file; another one is refused."""
LARGEST_DIFFERENCE = 1e-4
"""Between logits of a model and of its export, which may add up in another order: in parts of the largest logit, and of
1 where that is less. About a hundred times the precision of float32 after a few dozen layers."""
CHECKED_IMAGES = 32
EXPORT_SUFFIX = ".pt2"


class Classified(NamedTuple):
    """What a model says of images: the most likely class of each, and the probabilities of all, shape (n, classes)."""

    names: list[str]
    probabilities: torch.Tensor


class ImageClassifier(nn.Module):
    """A network with all that it needs to be applied to pixels.

    Parameters
    ----------
    network
        Normalised images to logits.
    mean, std
        Of each channel, shape (c,), in units of a pixel's value.
    shape
        Of the images.
    class_names
        One a class.
    about
        What else the file says: ``space``, ``configuration``, and the figures of the training.
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
    ) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.shape, self.class_names, self.about = shape, class_names, about

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (n, c, h, w), uint8, to logits (n, classes)."""
        logits: torch.Tensor = self.network(normalised(pixels, self.mean, self.std))
        return logits

    def classify(self, pixels: torch.Tensor | npt.NDArray[np.uint8]) -> Classified:
        """Classes of images.

        Parameters
        ----------
        pixels
            uint8, of the shape (n, channels, height, width) that the model was trained on, or without the n for one
            image; a tensor on any device, or an array.

        Raises
        ------
        UsageError
            For another type or shape.
        """
        given = torch.as_tensor(pixels)
        batch = given[None] if given.ndim == len(self.shape) - 1 else given
        if batch.dtype != torch.uint8 or tuple(batch.shape[1:]) != self.shape[:3]:
            raise UsageError(
                f"the model takes uint8 images of the shape (n, {', '.join(map(str, self.shape[:3]))}), got "
                f"{batch.dtype} of the shape {tuple(given.shape)}"
            )
        with torch.inference_mode():
            probabilities = self(batch.to(self.mean.device)).softmax(dim=1)
        return Classified([self.class_names[i] for i in probabilities.argmax(dim=1).tolist()], probabilities)


def save_model(
    file: Path,
    network: nn.Module,
    images: DeviceImages,
    *,
    space: str,
    configuration: Mapping[str, Any],
    figures: Mapping[str, Any],
) -> None:
    """Write a model, whole or not at all.

    Parameters
    ----------
    file
        Where to.
    network
        Trained.
    images
        What it was trained on: shape, normalisation and class names are taken.
    space, configuration
        What the network is: a name of :data:`~.search_spaces.SPACES` and a configuration of it.
    figures
        What is known of it, plain values.
    """
    # The dict as torch made it: it carries the versions of the layers, without which it is read as one of years ago.
    weights = network.state_dict()
    for name, value in weights.items():
        weights[name] = value.detach().cpu().contiguous()
    told = {
        "format": FORMAT,
        "space": space,
        "configuration": dict(configuration),
        "shape": list(images.shape),
        "mean": images.mean.cpu(),
        "std": images.std.cpu(),
        "class_names": list(images.class_names),
        "weights": weights,
        "figures": dict(figures),
    }
    write_torch(file, told)


def load_model(file: Path | str, device: str | torch.device = "cpu") -> ImageClassifier:
    """The model of a file that a refit has written, ready to be applied.

    Parameters
    ----------
    file
        ``model.pt`` of a refit.
    device
        Where it is to run.

    Raises
    ------
    UsageError
        If the file holds something else.
    """
    told = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(told, dict) or told.get("format") != FORMAT:
        raise UsageError(f"{file} is no model of a refit of this version; give the model.pt that a refit has written")
    shape = ImageShape(*told["shape"])
    network = space_named(told["space"]).network(told["configuration"], shape)
    network.load_state_dict(told["weights"])
    about = {name: told[name] for name in ("space", "configuration", "figures")}
    model = ImageClassifier(network, told["mean"], told["std"], shape, tuple(told["class_names"]), about)
    return model.eval().to(device)


def export_model(model: ImageClassifier, file: Path) -> dict[str, Any]:
    """Write a model for programs that have torch and not this package, and check that it does the same.

    The file is what :func:`torch.export.load` reads; its module takes uint8 images of any number to logits.

    Returns
    -------
    dict
        ``largest_difference`` of the logits of random images, as :data:`LARGEST_DIFFERENCE` counts it, the
        ``tolerance``, and the number of ``images``.

    Raises
    ------
    UsageError
        If the file is not named as torch wants it.
    ArithmeticError
        If the outputs differ by more than the tolerance; the file is then removed.
    """
    if file.suffix != EXPORT_SUFFIX:
        raise UsageError(f"an export of torch ends in {EXPORT_SUFFIX}; give --export {file.with_suffix(EXPORT_SUFFIX)}")
    model = model.cpu().eval()
    pixels = torch.randint(
        0, 256, (CHECKED_IMAGES, *model.shape[:3]), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    with warnings.catch_warnings():
        # torch's own, about its own file format and tracing.
        warnings.simplefilter("ignore")
        program = torch.export.export(model, (pixels[:2],), dynamic_shapes=({0: torch.export.Dim("n")},))
        torch.export.save(program, file)
        exported = torch.export.load(file).module()
    difference = 0.0
    with torch.inference_mode():
        # Of all at once and of one: a file that has learned the number of images by heart is none.
        for part in (pixels, pixels[:1]):
            ours = model(part)
            scale = max(1.0, float(ours.abs().max()))
            difference = max(difference, float((exported(part) - ours).abs().max()) / scale)
    if not difference <= LARGEST_DIFFERENCE:
        file.unlink()
        raise ArithmeticError(
            f"the exported model gives other outputs: {difference:.3g} apart, more than {LARGEST_DIFFERENCE:g}"
        )
    return {"largest_difference": difference, "tolerance": LARGEST_DIFFERENCE, "images": CHECKED_IMAGES}
