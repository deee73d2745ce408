"""What the judgements at the ends of rungs cost beside the training, as a note before a search.

Law of this file: arithmetic on options and known numbers of images; nothing is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hpbandster_lite.workers.images.catalogue import CATALOGUE
from hpbandster_lite.workers.images.options import ImageOptions
from hpbandster_lite.workers.images.splits import validation_count
from hpbandster_lite.workers.training.points import share_of_ends

NOTED_SHARE = 0.08
"""A larger share of an evaluation is noted."""


def image_counts(options: ImageOptions) -> tuple[int, int] | None:
    """Numbers of training and of validation images; None if they are not known before the images are read."""
    given = options.train_images, options.valid_images
    if None not in given:
        return given  # type: ignore[return-value] # both are numbers
    if options.data_set not in CATALOGUE:
        return None
    published = CATALOGUE[options.data_set].training_images
    share = options.valid_share if options.folds == 1 else 1 / options.folds
    validation = validation_count(published, share)
    training = published - validation
    return min(given[0] or training, training), min(given[1] or validation, validation)


def judging_notes(options: ImageOptions, ladder: Sequence[float], *, continues: bool) -> list[str]:
    """A note for the rungs of which the judgement at the end takes a large share; none for budgets in seconds.

    Parameters
    ----------
    options
        The options of the problem.
    ladder
        The budgets, increasing.
    continues
        Whether a rung continues the training of the rung below.
    """
    counts = image_counts(options)
    if options.budget_unit != "epochs" or counts is None:
        return []
    training, validation = counts
    trained = [(high - low if continues else high, high) for low, high in pairwise((0.0, *ladder))]
    shares = [(rung, share_of_ends(epochs, training, validation)) for epochs, rung in trained]
    large = [f"{share:.0%} at {rung:g}" for rung, share in shares if share > NOTED_SHARE]
    if not large:
        return []
    return [
        f"judging {validation:,} validation images at the end of a rung takes {', '.join(large)} epochs, of the time "
        f"of an evaluation with {training:,} training images; a lower --valid-images makes it shorter"
    ]
