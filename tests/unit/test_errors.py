"""The end of an error about an unknown name."""

from __future__ import annotations

import pytest

from hpbandster_lite.errors import did_you_mean, nearest_names


@pytest.mark.parametrize(
    ("word", "known", "expected"),
    [
        ("etta", ["unit", "eta"], "; did you mean 'eta'?"),
        ("budgets", ["budget_s", "budget", "unit"], "; did you mean 'budget_s' or 'budget'?"),
        ("xyz", ["unit", "eta"], "; there is unit, eta"),
        ("xyz", [], "; there is none"),
    ],
)
def test_the_nearest_names_are_given_or_all_of_them(word: str, known: list[str], expected: str) -> None:
    assert did_you_mean(word, known) == expected


def test_the_list_of_all_names_has_the_introduction_of_the_caller() -> None:
    assert did_you_mean("xyz", ["a", "b"], otherwise="choose from") == "; choose from a, b"
    assert did_you_mean("xyz", ["a", "b"], otherwise="") == ""


def test_at_most_three_names_are_near_and_the_nearest_is_first() -> None:
    assert nearest_names("rate", ["rates", "rater", "rated", "rate_", "other"])[0].startswith("rate")
    assert len(nearest_names("rate", ["rates", "rater", "rated", "rate_", "other"])) == 3
    assert nearest_names("worker", ["works", "workers"]) == ["workers", "works"]


def test_a_word_that_is_no_text_is_compared_as_text() -> None:
    assert did_you_mean(1, ["11"]) == "; did you mean '11'?"
