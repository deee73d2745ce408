"""Augmentation of whole batches on the device: crop, mirror, normalise, CutOut, MixUp.

Law of this file: a batch depends on the images, the augmentation, the seed, the epoch and the step, but not on earlier
draws. So a training that continues from a checkpoint at any step has bitwise the same batches as an uninterrupted one,
and no state of a random generator is kept. All draws of an epoch are made at once on the CPU and sent to the device in
one transfer. After that, nothing here waits for the device. A batch takes 13 kernels with crop and mirror, and 23 with
CutOut and MixUp, half of them on vectors of one number per image. Constants are made once: places by shape and device,
and the factors of the normalisation by :class:`Scaling`, which a training keeps.

A training step reads::

    draws = EpochDraws.of(seed, epoch, len(images), batch_size, images.shape, augmentation, device)
    for batch in draws.from_step(step):
        pixels, targets = images.batch(batch.rows)
        x = augmented(pixels, batch, images.mean, images.std, augmentation)
        logits = network(mixed(x, batch))
        loss = mixup_loss(logits, targets, batch)

Images are (b, c, h, w) tensors in the memory format ``channels_last``; other formats are accepted and copied first.
Validation images are only :func:`normalised`.

The order is that of the released code of arXiv:1807.06906: crop and mirror, normalise, CutOut, MixUp.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional

from hpbandster_lite.workers.images.image_data import ImageDataError
from hpbandster_lite.workers.networks.image_shape import ImageShape
from hpbandster_lite.workers.training.recipe import steps_per_epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """How training images are varied; the defaults are the usual ones for CIFAR-10, without CutOut and MixUp.

    Attributes
    ----------
    pad
        Pixels of black around an image before a window of the image's size is cropped from it; 0 for no crop. Default:
        4.
    mirror
        Whether each image is mirrored left to right with probability 1/2. Default: True.
    cutout
        Side in pixels of the square that is set to the mean (CutOut, arXiv:1708.04552); 0 (the default) for none.
    mixup
        The alpha of MixUp's Beta(alpha, alpha) (arXiv:1710.09412); 0 (the default) for no MixUp.

    Raises
    ------
    ImageDataError
        If a number is negative or not finite.
    """

    pad: int = 4
    mirror: bool = True
    cutout: int = 0
    mixup: float = 0.0

    def __post_init__(self) -> None:
        for name in ("pad", "cutout", "mixup"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ImageDataError(f"{name} must be 0 (for none) or more and finite, got {name}={value!r}")


# ------------------------------------------------------------------------------------------------------------ draws


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDraws:
    """The random numbers of one batch of b images; tensors of shape (b,), int64, on the device.

    Attributes
    ----------
    rows
        The training images of the batch.
    down, right
        Corner of the crop in the padded image, uniform on 0 ... 2 pad.
    mirrored
        1 if the image is mirrored, which has probability 1/2; else 0.
    cut_row, cut_column
        Centre of CutOut's square, uniform over all pixels of the image.
    partner
        A permutation of 0 ... b - 1: the images with which MixUp mixes the images.
    share
        MixUp's lambda for the whole batch, a number on the host: the share of each image in its mixture; 1 without
        MixUp.
    """

    rows: torch.Tensor
    down: torch.Tensor
    right: torch.Tensor
    mirrored: torch.Tensor
    cut_row: torch.Tensor
    cut_column: torch.Tensor
    partner: torch.Tensor
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class EpochDraws:
    """The random numbers of one epoch: a new order of the images, in batches of the same size.

    All batches are full, so that the statistics of batch normalisation come from as many images everywhere, and a
    compiled network has one shape. What does not fill a batch is left out, or filled up with the first images of the
    order, which then are in the epoch twice.

    Attributes
    ----------
    table
        int64, shape (7, steps, b), on the device; its rows are the tensors of BatchDraws in their order.
    shares
        MixUp's lambda of each batch.
    """

    table: torch.Tensor
    shares: tuple[float, ...]

    @classmethod
    def of(
        cls,
        seed: int,
        epoch: int,
        n_images: int,
        batch_size: int,
        shape: ImageShape,
        augmentation: Augmentation,
        device: str | torch.device = "cpu",
        *,
        fills_last_batch: bool = False,
    ) -> EpochDraws:
        """The draws of this seed and this epoch.

        Parameters
        ----------
        seed, epoch
            The seed and the number of the epoch; not negative.
        n_images
            Number of training images.
        batch_size
            Images in a batch; at most ``n_images``.
        shape
            Shape of the images.
        augmentation
            The augmentation that uses the draws. All kinds of draws are made, so that each kind depends only on its own
            option.
        device
            Device of the tensors. Default: the CPU.
        fills_last_batch
            Whether the last batch is filled up, so that every image is in the epoch, or left out (the default).

        Raises
        ------
        ImageDataError
            If the images do not fill one batch.
        """
        steps = steps_per_epoch(n_images, batch_size, fills_last_batch=fills_last_batch) if batch_size > 0 else 0
        if steps == 0:
            raise ImageDataError(
                f"{n_images} training images do not fill a batch of batch_size={batch_size}; use a batch_size from 1 "
                "to the number of training images"
            )
        size = (steps, batch_size)
        order, crop, mirror, cut, partner, mixup = _generators(seed, epoch)
        table = np.empty((7, *size), dtype=np.int64)
        table[0] = np.resize(order.permutation(n_images), size)
        table[1:3] = crop.integers(0, 2 * augmentation.pad, (2, *size), endpoint=True)
        table[3] = mirror.integers(0, 1, size, endpoint=True) if augmentation.mirror else 0
        table[4] = cut.integers(0, shape.height, size)
        table[5] = cut.integers(0, shape.width, size)
        table[6] = partner.permuted(np.broadcast_to(np.arange(batch_size), size), axis=1)
        alpha = augmentation.mixup
        shares = mixup.beta(alpha, alpha, steps) if alpha > 0 else np.ones(steps)
        return cls(_to_device(table, torch.device(device)), tuple(shares.tolist()))

    def __len__(self) -> int:
        """Number of steps."""
        return len(self.shares)

    def at(self, step: int) -> BatchDraws:
        """The draws of one step, from 0."""
        rows, down, right, mirrored, cut_row, cut_column, partner = self.table[:, step].unbind()
        return BatchDraws(
            rows=rows, down=down, right=right, mirrored=mirrored, cut_row=cut_row, cut_column=cut_column,
            partner=partner, share=self.shares[step],
        )  # fmt: skip

    def from_step(self, first: int = 0) -> Iterator[BatchDraws]:
        """The draws of step ``first`` and all later steps."""
        return (self.at(step) for step in range(first, len(self)))


def _generators(seed: int, epoch: int) -> list[np.random.Generator]:
    """One generator for each kind of draw, so that the kinds are independent."""
    children = np.random.SeedSequence(seed, spawn_key=(epoch,)).spawn(6)
    return [np.random.default_rng(child) for child in children]


def _to_device(table: np.ndarray, device: torch.device) -> torch.Tensor:
    draws = torch.from_numpy(table)
    if device.type == "cpu":
        return draws
    # A transfer from pinned memory is asynchronous; other transfers block the host until the device is idle.
    return draws.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else draws.to(device)


# --------------------------------------------------------------------------------------------------- on whole batches


def augmented(
    pixels: torch.Tensor,
    draws: BatchDraws,
    mean: torch.Tensor,
    std: torch.Tensor,
    augmentation: Augmentation,
    *,
    scaling: Scaling | None = None,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Crop, mirror, normalise, CutOut: the training images before MixUp (:func:`mixed`).

    Parameters
    ----------
    pixels
        Images, uint8, shape (b, c, h, w).
    draws
        The draws of this batch.
    mean, std
        Mean and standard deviation of each channel, shape (c,), in units of a pixel's value.
    augmentation
        The augmentation to apply.
    scaling
        That of ``mean``, ``std`` and the images' width. Default: it is made.
    dtype
        Type of the result; the arithmetic is in float32. Default: float32.

    Returns
    -------
    torch.Tensor
        Shape (b, c, h, w), ``channels_last``.
    """
    if augmentation.pad > 0 or augmentation.mirror:
        pixels = cropped(pixels, draws.down, draws.right, draws.mirrored, augmentation.pad)
    lines = _normalised_lines(pixels, scaling or Scaling.of(mean, std, pixels.shape[3]))
    if augmentation.cutout > 0:
        lines *= _kept(pixels.shape, draws.cut_row, draws.cut_column, augmentation.cutout)
    return _images(lines, pixels.shape).to(dtype)


def cropped(
    pixels: torch.Tensor, down: torch.Tensor, right: torch.Tensor, mirrored: torch.Tensor, pad: int
) -> torch.Tensor:
    """Mirror some images, surround all with ``pad`` zeros, and crop a window of the original size at the given corner.

    Parameters
    ----------
    pixels
        Images of any type, shape (b, c, h, w).
    down, right
        First row and column of the window, int64, shape (b,), from 0 to ``2 * pad``; ``pad`` does not move the image.
    mirrored
        int64, shape (b,): 1 mirrors the image left to right, 0 does not.
    pad
        Number of pixels, not negative.

    Returns
    -------
    torch.Tensor
        Type and shape of ``pixels``, ``channels_last``.
    """
    b, c, h, w = pixels.shape
    high, wide = h + 2 * pad, w + 2 * pad
    both = pixels.new_zeros(2, b, high, wide, c)  # each image without and with mirroring
    inner = both[:, :, pad : pad + h, pad : pad + w]
    inner[0] = pixels.permute(0, 2, 3, 1)
    inner[1] = pixels.flip(3).permute(0, 2, 3, 1)
    # A line of the result is w neighbouring pixels of the padded images. Copying b * h whole lines takes 0.5 us for an
    # image of 32x32x3 on one core; indexing its 1,024 pixels one by one takes 37 us.
    windows = both.view(-1).unfold(0, w * c, c)
    image = torch.add(_places(b, pixels.device), mirrored, alpha=b)
    corner = torch.add(right, torch.add(down, image, alpha=high), alpha=wide)
    first = corner[:, None] + _places(h, pixels.device, step=wide)  # (b, h), among all padded pixels
    return _images(windows.index_select(0, first.view(-1)).view(b, h, w * c), pixels.shape)


def normalised(
    pixels: torch.Tensor,
    mean: torch.Tensor,
    std: torch.Tensor,
    *,
    scaling: Scaling | None = None,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """``(pixels - mean) / std``, channel by channel: the only change to validation and test images.

    Parameters
    ----------
    pixels
        Images, uint8, shape (b, c, h, w).
    mean, std
        Mean and standard deviation of each channel, shape (c,), in units of a pixel's value.
    scaling
        That of ``mean``, ``std`` and the images' width. Default: it is made.
    dtype
        Type of the result; the arithmetic is in float32. Default: float32.

    Returns
    -------
    torch.Tensor
        Shape (b, c, h, w), ``channels_last``.
    """
    lines = _normalised_lines(pixels, scaling or Scaling.of(mean, std, pixels.shape[3]))
    return _images(lines, pixels.shape).to(dtype)


class Scaling(NamedTuple):
    """The normalisation of a line of pixels: ``pixel * factor + term``, float32, shape (w * c,).

    One factor and one term for each number of a line: broadcasting along c = 3 is ten times slower on a CPU.
    """

    factor: torch.Tensor
    term: torch.Tensor

    @classmethod
    def of(cls, mean: torch.Tensor, std: torch.Tensor, width: int) -> Scaling:
        """The scaling of lines of this width."""
        return cls((1 / std.float()).repeat(width), (-mean.float() / std.float()).repeat(width))


def _normalised_lines(pixels: torch.Tensor, scaling: Scaling) -> torch.Tensor:
    """The normalised images as a new float32 tensor, shape (b, h, w * c), which may be changed in place."""
    return _lines(pixels).to(torch.float32, copy=True).mul_(scaling.factor).add_(scaling.term)


def _kept(size: torch.Size, row: torch.Tensor, column: torch.Tensor, length: int) -> torch.Tensor:
    """CutOut (arXiv:1708.04552): False in one square of each image and True outside, shape (b, h, w * c).

    ``row`` and ``column``, int64, shape (b,), are the centre of the square, at any pixel. The square's side is exactly
    ``length``, even if that is odd. As in the released code of arXiv:1807.06906, the square begins ``(length + 1) //
    2`` pixels above and to the left of the centre, and its part outside the image has no effect.
    """
    _, c, h, w = size
    return _outside(row, h, length)[:, :, None] | _outside(column, w, length, times=c)[:, None]


def _outside(centre: torch.Tensor, pixels: int, length: int, *, times: int = 1) -> torch.Tensor:
    """False for the ``length`` pixels of an axis around the centre, else True; each pixel ``times`` times."""
    places = _places(pixels, centre.device, first=(length + 1) // 2, times=times)
    offset = places - centre[:, None]
    return offset != offset.clamp(0, length - 1)


@functools.lru_cache(maxsize=64)
def _places(n: int, device: torch.device, *, first: int = 0, step: int = 1, times: int = 1) -> torch.Tensor:
    """``n`` numbers from ``first`` at distances of ``step``, each ``times`` times; made once, not to be changed."""
    with torch.inference_mode(mode=False):
        places = torch.arange(first, first + n * step, step, device=device)
        return places.repeat_interleave(times) if times > 1 else places


def mixed(x: torch.Tensor, draws: BatchDraws) -> torch.Tensor:
    """MixUp's images (arXiv:1710.09412): ``share * x + (1 - share) * x[partner]``; without MixUp it is ``x``."""
    if draws.share == 1.0:
        return x
    # On lines, because index_select on images returns another memory format.
    partners = _lines(x).index_select(0, draws.partner)
    return _images(partners.lerp_(_lines(x), draws.share), x.shape)


def mixup_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    draws: BatchDraws,
    *,
    label_smoothing: float = 0.0,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean loss of MixUp: ``share * CE(logits, targets) + (1 - share) * CE(logits, targets[partner])``.

    Parameters
    ----------
    logits
        Logits of the mixed images, shape (b, classes).
    targets
        Classes of the unmixed images, int64, shape (b,).
    draws
        The draws of :func:`mixed`; without MixUp the loss is the plain cross-entropy.
    label_smoothing
        Share of each target that is distributed over all classes, in [0, 1). Default: 0.
    weights
        A factor of the loss of an image for each class, shape (classes,). Default: None; then every image counts 1.
    """
    own = _cross_entropy(logits, targets, label_smoothing, weights)
    if draws.share == 1.0:
        return own
    other = _cross_entropy(logits, targets[draws.partner], label_smoothing, weights)
    return draws.share * own + (1 - draws.share) * other


def _cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float, weights: torch.Tensor | None
) -> torch.Tensor:
    if weights is None:
        return functional.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    # Not torch's own weights, which divide by the weights of the batch: a batch without a rare class would count more.
    losses = functional.cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="none")
    return (losses * weights[targets]).mean()


def _lines(x: torch.Tensor) -> torch.Tensor:
    """Images (b, c, h, w) as (b, h, w * c), with the channels of a pixel side by side; no copy if ``channels_last``."""
    return x.permute(0, 2, 3, 1).flatten(2)


def _images(lines: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """The inverse of :func:`_lines`, without a copy."""
    b, c, h, w = size
    return lines.view(b, h, w, c).permute(0, 3, 1, 2)
