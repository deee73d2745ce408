"""Test figures of trained classifiers: the error and the metric of the search, each with its interval.

Law of this file: figures of several networks, such as those of the folds, are means over the networks; their intervals
are for the same test images.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from hpbandster_lite.workers.images.error_interval import error_rate
from hpbandster_lite.workers.images.metric_names import Metric
from hpbandster_lite.workers.images.metrics import named, with_interval
from hpbandster_lite.workers.images.training import Judged


def figures_of(found: Sequence[Judged], metric: Metric) -> dict[str, Any]:
    """The test figures of networks by their names.

    An error has Wilson's interval. The metric, and the error of images that have groups, have one of a bootstrap.
    """
    answers = [each.answers for each in found]
    error = error_rate(fmean(each.error.percent / 100 * each.error.images for each in found), found[0].error.images)
    low, high = error.low_percent, error.high_percent
    if answers[0].groups is not None:
        interval = with_interval("error", answers)
        low, high = 100 * interval.low, 100 * interval.high
    figures: dict[str, Any] = {
        "test_error_percent": error.percent,
        "test_error_interval_percent": [low, high],
        "test_images": error.images,
    }
    if len(found) > 1:
        figures["test_error_percent_of_folds"] = [each.error.percent for each in found]
    return figures if metric == "error" else {**_of_metric(metric, *with_interval(metric, answers)), **figures}


def _of_metric(metric: Metric, value: float, low: float, high: float) -> dict[str, Any]:
    (name,) = of_value = named(metric, "test", value)
    ends = [next(iter(named(metric, "test", end).values())) for end in (low, high)]
    plain = name.removesuffix("_percent")
    return {**of_value, f"{plain}_interval{name.removeprefix(plain)}": ends}
