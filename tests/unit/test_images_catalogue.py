"""A data set needs one row of the catalogue to become an option, and two more lines to become a problem."""

from __future__ import annotations

import configparser
from pathlib import Path

from hpbandster_lite.problems import described_options, load
from hpbandster_lite.workers.images import problem
from hpbandster_lite.workers.images.catalogue import CATALOGUE, OWN_IMAGES
from hpbandster_lite.workers.images.problem import ImageProblem

SETUP = Path(__file__).parents[2] / "setup.cfg"


def test_every_row_is_a_value_of_the_option_data_set() -> None:
    (option, *_) = described_options(load("cifar10"), "cifar10")
    assert option.name == "data_set"
    assert option.kind == f"one of {', '.join((*CATALOGUE, OWN_IMAGES))}"


def test_every_row_is_a_problem_of_its_name() -> None:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(SETUP, encoding="utf-8")
    entries = parser["options.entry_points"]["hpbandster_lite.problems"]
    for name in (*CATALOGUE, OWN_IMAGES):
        assert f"\n{name} = {problem.__name__}:{name}\n" in f"{entries}\n", f"setup.cfg has no entry point {name}"
        found = getattr(problem, name, None)
        assert isinstance(found, ImageProblem), f"problem.py has no {name} = ImageProblem(options_for({name!r}))"
        assert found.options.data_set == name


def test_the_sums_of_an_idx_data_set_are_those_of_its_four_files() -> None:
    for name, known in CATALOGUE.items():
        assert len(known.content_md5) == (4 if known.file_format == "idx" else 0), name
