"""Confidence interval of an error rate: the range of the true error, given the error on a sample of images.

Law of this file: arithmetic only. It uses Wilson's interval (1927). Unlike the normal approximation, this interval is
never empty and never outside 0 to 100 %, even if few images are wrong.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

CONFIDENCE = 0.95


class ErrorRate(NamedTuple):
    """An error in percent with its interval, and the number of images."""

    percent: float
    low_percent: float
    high_percent: float
    images: int


def error_rate(wrong: float, images: int, *, confidence: float = CONFIDENCE) -> ErrorRate:
    """Error and Wilson's interval.

    Parameters
    ----------
    wrong
        Number of images with a wrong class; the mean number, for several networks.
    images
        Number of all images; at least 1.
    confidence
        Share of such intervals that contain the true error, in (0, 1). Default: 0.95.

    Raises
    ------
    ValueError
        If the counts or the confidence are impossible.
    """
    if not 0 <= wrong <= images or images < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"expected 0 <= wrong <= images, images >= 1 and 0 < confidence < 1, got {wrong=}, {images=}, {confidence=}"
        )
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate = wrong / images
    centre = (rate + z * z / (2 * images)) / (1 + z * z / images)
    half = z / (1 + z * z / images) * math.sqrt(rate * (1 - rate) / images + z * z / (4 * images * images))
    # If no image or every image is wrong, one end equals the rate exactly, despite rounding.
    low, high = min(max(centre - half, 0.0), rate), max(min(centre + half, 1.0), rate)
    return ErrorRate(100 * rate, 100 * low, 100 * high, images)
