"""Metrics of classifiers: equal to scikit-learn's, with intervals, and a loss in percent without ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from hpbandster_lite.workers.images.metric_names import Metric
from hpbandster_lite.workers.images.metrics import Answers, Scoring, smallest_step, value_of, with_interval

METRICS: tuple[Metric, ...] = ("error", "balanced_error", "macro_f1", "auroc")


def answers_of(n: int, classes: int, seed: int, *, skill: float = 1.0, decimals: int = 6) -> Answers:
    """Answers with ties; every class has images, the last one the fewest."""
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes) * rng.integers(0, 2)])
    logits = np.round(rng.normal(size=(n, classes)) + skill * np.eye(classes)[labels], decimals)
    return Answers(labels, log_softmax(logits, axis=1))


def of_class_answers(right: list[int], counts: list[int]) -> Answers:
    """Answers in which ``right`` images of each class are right, and the others are taken for the next class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    is_right = np.concatenate([np.arange(count) < good for good, count in zip(right, counts, strict=True)])
    answered = np.where(is_right, labels, (labels + 1) % len(counts))
    return Answers(labels, np.log(np.where(np.eye(len(counts))[answered] > 0, 0.9, 0.1 / (len(counts) - 1))))


@given(n=st.integers(12, 80), classes=st.integers(2, 5), seed=st.integers(0, 1_000), decimals=st.integers(0, 3))
def test_values_are_those_of_scikit_learn(n: int, classes: int, seed: int, decimals: int) -> None:
    answers = answers_of(n, classes, seed, decimals=decimals)
    y, answered, shares = answers.labels, answers.outputs.argmax(axis=1), np.exp(answers.outputs)
    of_classes = [roc_auc_score(y == each, shares[:, each].round(12)) for each in range(classes)]
    assert value_of("error", answers) == pytest.approx(np.mean(y != answered))
    assert value_of("balanced_error", answers) == pytest.approx(1 - balanced_accuracy_score(y, answered))
    assert value_of("macro_f1", answers) == pytest.approx(f1_score(y, answered, average="macro"))
    rounded = Answers(y, np.log(shares.round(12)))
    assert value_of("auroc", rounded) == pytest.approx(np.mean(of_classes))


def test_a_class_without_images_does_not_count() -> None:
    answers = of_class_answers([3, 1, 0], [4, 2, 0])
    assert value_of("balanced_error", answers) == pytest.approx(1 - (3 / 4 + 1 / 2) / 2)
    assert 0 <= value_of("auroc", answers) <= 1


def test_a_majority_alone_is_a_good_error_and_no_balanced_one() -> None:
    answers = of_class_answers([90, 0], [90, 10])
    found = {metric: Scoring(metric).loss_percent(value_of(metric, answers), 1.0, answers.class_counts)
             for metric in METRICS}  # fmt: skip
    assert found["error"] == pytest.approx(10)
    assert found["balanced_error"] == pytest.approx(50)
    assert found["macro_f1"] == pytest.approx(100 * (1 - (180 / 190) / 2))
    assert found["auroc"] == pytest.approx(50)


# ------------------------------------------------------------------------------------------------------------- ties


@pytest.mark.parametrize("metric", METRICS)
@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=5),
    entropies=st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)),
    data=st.data(),
)
def test_an_image_more_that_is_right_wins_whatever_the_cross_entropy(
    metric: Metric, counts: list[int], entropies: tuple[float, float], data: Any
) -> None:
    right = [data.draw(st.integers(0, count)) for count in counts]
    improved = data.draw(st.sampled_from(range(len(counts))))
    right[improved] = min(right[improved], counts[improved] - 1)
    better = [good + (i == improved) for i, good in enumerate(right)]
    scoring = Scoring(metric, breaks_ties=True)
    worse_loss, better_loss = (
        scoring.loss_percent(value_of(metric, found), entropy, found.class_counts)
        for found, entropy in zip((of_class_answers(each, counts) for each in (right, better)), entropies, strict=True)
    )
    assert better_loss < worse_loss


def test_with_equal_errors_the_lower_cross_entropy_wins_by_less_than_an_image() -> None:
    counts, scoring = np.array([225, 224]), Scoring("error", breaks_ties=True)
    low, high = (scoring.loss_percent(0.1, entropy, counts) for entropy in (0.5, 1.0))
    assert 10 < low < high < 10 + 100 / 449
    # The mean over trainings has smaller steps.
    assert scoring.loss_percent(0.1, 1.0, counts, trainings=5) == pytest.approx(10 + (high - 10) / 5)
    assert Scoring("error").loss_percent(0.1, 1.0, counts) == 10


def test_the_smallest_step_of_the_error_is_one_image() -> None:
    assert smallest_step("error", np.array([60, 40, 0])) == pytest.approx(0.01)
    assert smallest_step("balanced_error", np.array([60, 40, 0])) == pytest.approx(1 / 120)


# -------------------------------------------------------------------------------------------------------- intervals


@pytest.mark.parametrize("metric", METRICS)
def test_an_interval_contains_its_value_and_is_the_same_for_ever(metric: Metric) -> None:
    answers = answers_of(200, 3, 0)
    found = with_interval(metric, [answers])
    assert 0 <= found.low < found.value < found.high <= 1
    assert with_interval(metric, [answers]) == found
    assert found.value == value_of(metric, answers)


def test_the_bootstrap_of_an_error_is_as_wide_as_its_binomial_interval() -> None:
    answers = of_class_answers([180, 180], [200, 200])
    found = with_interval("error", [answers])
    width = 2 * 1.96 * np.sqrt(0.1 * 0.9 / 400)
    assert found.high - found.low == pytest.approx(width, rel=0.15)


def test_images_of_a_group_are_drawn_together_which_widens_the_interval() -> None:
    labels, patient = np.arange(200) % 2, np.arange(200) // 20
    answered = np.where(patient < 3, 1 - labels, labels)
    outputs = np.log(np.where(np.eye(2)[answered] > 0, 0.9, 0.1))
    alone, together = (with_interval("error", [Answers(labels, outputs, groups)]) for groups in (None, patient))
    assert alone.value == together.value == 0.3
    assert together.high - together.low > 3 * (alone.high - alone.low)


def test_a_resample_without_a_class_counts_the_others() -> None:
    answers = Answers(np.array([0, 0, 1]), np.log([[0.8, 0.2], [0.3, 0.7], [0.1, 0.9]]), np.array([0, 1, 2]))
    for metric in METRICS:
        assert 0 <= with_interval(metric, [answers]).low <= 1


def test_the_mean_of_networks_varies_less_than_one_of_them() -> None:
    several = [answers_of(100, 2, 0, skill=1.0)]
    rng = np.random.default_rng(1)
    for _ in range(4):
        several.append(Answers(several[0].labels, several[0].outputs + rng.normal(size=(100, 2))))
    for metric in METRICS:
        found = with_interval(metric, several)
        assert found.low < found.value < found.high
        assert found.value == pytest.approx(np.mean([value_of(metric, each) for each in several]))
    same, one = (with_interval("error", several[:1] * count) for count in (3, 1))
    assert tuple(same) == pytest.approx(tuple(one))
