"""How well a network classifies: error, balanced error, macro F1 and AUROC, each with an interval, and the loss.

Law of this file: arithmetic on labels and outputs only. Every metric counts image i ``weights[i]`` times, so that the
bootstrap computes the same formula as the value itself. AUROC is the mean over the classes, one against the rest, with
half a point for two equal outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from hpbandster_lite.workers.images.error_interval import CONFIDENCE
from hpbandster_lite.workers.images.metric_names import ARE_LARGE_IF_GOOD, Metric

Numbers: TypeAlias = npt.NDArray[np.float64]
Labels: TypeAlias = npt.NDArray[np.int64]

TIE_BREAKER = 0.9
"""Upper bound of the cross-entropy's part of the loss, as a share of the least that one image changes. So a network
with fewer errors always wins; among networks with equal errors the lower cross-entropy wins."""
RESAMPLES = 1_000
"""Resamples of a bootstrap: the ends of an interval vary by about a twentieth of its width."""
AT_ONCE = 2_000_000
"""Weights that a bootstrap holds in memory at once."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What a network answers for n images.

    Attributes
    ----------
    labels
        The right classes, shape (n,).
    outputs
        Logarithms of the probabilities of the classes, shape (n, classes).
    groups
        A number for each image's group, shape (n,), whose images are resampled together; None if each image is alone.
    """

    labels: Labels
    outputs: Numbers
    groups: Labels | None = None

    @property
    def class_counts(self) -> Labels:
        """Number of images of each class."""
        return np.bincount(self.labels, minlength=self.outputs.shape[1])


class Interval(NamedTuple):
    """A value and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scoring:
    """What the loss of an evaluation is.

    Attributes
    ----------
    metric
        The metric. Default: the error.
    breaks_ties
        Whether a small share of the cross-entropy decides between equal values of the metric. Default: False.
    """

    metric: Metric = "error"
    breaks_ties: bool = False

    def loss_percent(self, value: float, cross_entropy: float, class_counts: Labels, *, trainings: int = 1) -> float:
        """The loss that belongs to a value of the metric.

        Parameters
        ----------
        value, cross_entropy
            Of the network.
        class_counts
            Number of images of each class that judged it.
        trainings
            Number of trainings whose losses are averaged. Default: 1.
        """
        loss = 100 * (1 - value) if self.metric in ARE_LARGE_IF_GOOD else 100 * value
        if not self.breaks_ties:
            return loss
        step = 100 * smallest_step(self.metric, class_counts) / trainings
        return loss + TIE_BREAKER * step * cross_entropy / (1 + cross_entropy)


def smallest_step(metric: Metric, class_counts: Labels) -> float:
    """The least by which one image, or one pair of images for AUROC, changes a metric."""
    counts = class_counts[class_counts > 0]
    n, classes = int(counts.sum()), len(counts)
    match metric:
        case "error":
            return 1 / n
        case "balanced_error":
            return float(1 / (classes * counts.max()))
        case "macro_f1":
            # F1 is 2 t / (t + f): one right answer more changes it by at least 1 / (t + f), which is below 2 n.
            return 1 / (2 * classes * n)
        case "auroc":
            return float(1 / (2 * classes * (counts * np.maximum(n - counts, 1)).max()))


def value_of(metric: Metric, answers: Answers) -> float:
    """The value of a metric, from 0 to 1."""
    return float(_FORMULAS[metric](answers, np.ones((1, len(answers.labels))))[0])


def with_interval(
    metric: Metric, answers: Sequence[Answers], *, seed: int = 0, resamples: int = RESAMPLES
) -> Interval:
    """The mean value of a metric over networks, with its bootstrap interval of 95 %.

    Parameters
    ----------
    metric
        The metric.
    answers
        The answers of each network for the same images.
    seed, resamples
        Seed and number of the resamples. Each draws as many images of each class as there are, or, if images have
        groups, whole groups.
    """
    rng, n = np.random.default_rng(seed), len(answers[0].labels)
    part = max(AT_ONCE // n, 1)
    found = []
    for done in range(0, resamples, part):
        weights = _resampled(answers[0], rng, min(part, resamples - done))
        found.append(np.mean([_FORMULAS[metric](each, weights) for each in answers], axis=0))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(np.concatenate(found), [tail, 1 - tail])
    value = fmean(value_of(metric, each) for each in answers)
    return Interval(value, min(float(low), value), max(float(high), value))


def _resampled(answers: Answers, rng: np.random.Generator, count: int) -> Numbers:
    """How often each image is drawn in ``count`` resamples, shape (count, n)."""
    if answers.groups is not None:
        names, group = np.unique(answers.groups, return_inverse=True)
        return rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=count)[:, group].astype(float)
    weights = np.zeros((count, len(answers.labels)))
    for name in np.unique(answers.labels):
        rows = np.flatnonzero(answers.labels == name)
        weights[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=count)
    return weights


def named(metric: Metric, part: str, value: float) -> dict[str, float]:
    """A value under the name that information has: an error is in percent."""
    return {f"{part}_{metric}": value} if metric in ARE_LARGE_IF_GOOD else {f"{part}_{metric}_percent": 100 * value}


# --------------------------------------------------------------------------------------------------------- formulas


def _error(answers: Answers, weights: Numbers) -> Numbers:
    is_wrong = answers.outputs.argmax(axis=1) != answers.labels
    share: Numbers = weights @ is_wrong / weights.sum(axis=1)
    return share


def _balanced_error(answers: Answers, weights: Numbers) -> Numbers:
    right, of_class, _ = _counted(answers, weights)
    return 1 - _mean(right, of_class, of_class > 0)


def _macro_f1(answers: Answers, weights: Numbers) -> Numbers:
    right, of_class, predicted = _counted(answers, weights)
    both = of_class + predicted
    return _mean(2 * right, both, both > 0)


def _counted(answers: Answers, weights: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Images that are rightly of a class, of this class, and predicted as this class; shape (resamples, classes)."""
    classes = np.arange(answers.outputs.shape[1])
    is_of_class = answers.labels[:, None] == classes
    is_predicted = answers.outputs.argmax(axis=1)[:, None] == classes
    return weights @ (is_of_class & is_predicted), weights @ is_of_class, weights @ is_predicted


def _mean(above: Numbers, below: Numbers, counts: npt.NDArray[np.bool_]) -> Numbers:
    """Mean of the ratios over the classes that count."""
    ratios = np.divide(above, below, out=np.zeros_like(above), where=counts)
    mean: Numbers = ratios.sum(axis=1) / counts.sum(axis=1)
    return mean


def _auroc(answers: Answers, weights: Numbers) -> Numbers:
    areas = [_area(answers, weights, each) for each in range(answers.outputs.shape[1])]
    above = np.array([np.where(counts, area, 0.0) for area, counts in areas]).sum(axis=0)
    below = np.array([counts for _, counts in areas]).sum(axis=0)
    mean: Numbers = np.divide(above, below, out=np.full(len(weights), np.nan), where=below > 0)
    return mean


def _area(answers: Answers, weights: Numbers, name: int) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """The area for one class against the rest, and whether there are both; shape (resamples,)."""
    outputs = answers.outputs[:, name]
    order = np.argsort(outputs, kind="stable")
    begins = np.flatnonzero(np.diff(outputs[order], prepend=-np.inf))  # of the runs of equal outputs
    begins = begins if len(begins) and begins[0] == 0 else np.insert(begins, 0, 0)
    is_of_class = answers.labels[order] == name
    in_order = weights[:, order]
    ours = np.add.reduceat(in_order * is_of_class, begins, axis=1)
    rest = np.add.reduceat(in_order * ~is_of_class, begins, axis=1)
    below = np.cumsum(rest, axis=1) - rest / 2
    pairs = ours.sum(axis=1) * rest.sum(axis=1)
    counts = pairs > 0
    return np.divide((ours * below).sum(axis=1), pairs, out=np.zeros(len(pairs)), where=counts), counts


_FORMULAS: Mapping[Metric, Callable[[Answers, Numbers], Numbers]] = {
    "error": _error, "balanced_error": _balanced_error, "macro_f1": _macro_f1, "auroc": _auroc,
}  # fmt: skip
