"""Errors with their intervals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from hpbandster_lite.workers.images.error_interval import error_rate


@given(images=st.integers(1, 10_000), share=st.floats(0, 1), confidence=st.floats(0.5, 0.999))
def test_the_interval_is_wilson_s(images: int, share: float, confidence: float) -> None:
    wrong = round(share * images)
    ours = error_rate(wrong, images, confidence=confidence)
    theirs = binomtest(wrong, images).proportion_ci(confidence, method="wilson")
    assert (ours.low_percent, ours.high_percent) == pytest.approx((100 * theirs.low, 100 * theirs.high), abs=1e-9)
    assert 0 <= ours.low_percent <= ours.percent <= ours.high_percent <= 100


def test_an_error_of_318_in_10_000_images_is_known_to_a_third_of_a_percent() -> None:
    found = error_rate(318, 10_000)
    assert (found.percent, round(found.low_percent, 2), round(found.high_percent, 2)) == (3.18, 2.85, 3.54)


@pytest.mark.parametrize(("wrong", "images", "confidence"), [(-1, 5, 0.9), (6, 5, 0.9), (0, 0, 0.9), (1, 5, 1.0)])
def test_impossible_counts_are_refused(wrong: int, images: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=f"got wrong={wrong}, images={images}, confidence={confidence}"):
        error_rate(wrong, images, confidence=confidence)
