"""The table of a search file that has the problem's own options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite.errors import UsageError
from hpbandster_lite.problems import given_in, target_of
from hpbandster_lite.records import Limits, ProblemDescription, ProblemOption, SearchSettings
from hpbandster_lite.settings.prepare import Prepared
from hpbandster_lite.settings.search_file import read_search_file, search_text


def problem_of(tmp_path: Path, text: str) -> str:
    file = tmp_path / "search.toml"
    file.write_text(text, "utf-8")
    return read_search_file(file).problem


def option(name: str, value: Any, default: Any) -> ProblemOption:
    return ProblemOption(name=name, value=value, default=default, kind="text")


def test_options_become_part_of_the_reference_and_texts_know_where_they_were_written(tmp_path: Path) -> None:
    reference = problem_of(tmp_path, 'problem = "cifar10"\n[options]\nscale = 0.5\nflag = true\ndata = "sub/x"\n')
    assert given_in(reference) == {"scale": "0.5", "flag": "true", "data": "sub/x", "data.from": str(tmp_path)}


def test_options_behind_the_problem_are_kept_and_those_of_the_table_go_before_them(tmp_path: Path) -> None:
    reference = problem_of(tmp_path, 'problem = "net.py:it?scale=1&kind=a/b.py"\n[options]\nscale = 2\n')
    assert target_of(reference) == f"{tmp_path / 'net.py'}:it"
    assert given_in(reference) == {"kind": "a/b.py", "scale": "2"}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sizes = [1, 2]", r"\[options\] sizes = \[1, 2\] is a list; it must be one number or string"),
        ("when = 2020-01-01", "is a date or time"),
    ],
)
def test_an_option_that_cannot_be_one_is_refused(line: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        problem_of(tmp_path, f'problem = "net"\n[options]\n{line}\n')


def test_a_slip_in_the_name_of_the_table_is_answered(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'options'"):
        problem_of(tmp_path, 'problem = "net"\n[option]\nscale = 2\n')


def test_what_is_written_has_the_values_and_names_the_defaults_and_is_read_back(tmp_path: Path) -> None:
    options = (
        option("data", "/a b/ü&?", None),
        option("scale", 2.0, 1.0),
        option("most", None, 9),
        option("kind", "x", "x"),
    )
    about = ProblemDescription(
        reference="net?data=/a%20b/&scale=2&most=none", name="net", space_json={}, space_tables={}, options=options
    )
    settings = SearchSettings(
        run_id="r", problem=about, budgets=(1.0,), eta=3.0, unit="epochs", algorithm="random", bracket_rule="floor",
        seed=1, seed_was_given=True,
    )  # fmt: skip
    text = search_text(Prepared(settings=settings, limits=Limits(), resumed=False), {})
    assert '[options]\ndata = "/a b/ü&?"\nscale = 2.0\nmost = "none"\n# kind = "x"\n' in text
    reference = problem_of(tmp_path, text)
    assert target_of(reference) == "net"
    assert {name: text for name, text in given_in(reference).items() if not name.endswith(".from")} == {
        "data": "/a b/ü&?", "scale": "2", "most": "none",
    }  # fmt: skip


def test_a_problem_without_options_has_no_table(tmp_path: Path) -> None:
    about = ProblemDescription(reference="net", name="net", space_json={}, space_tables={})
    settings = SearchSettings(
        run_id="r", problem=about, budgets=(1.0,), eta=3.0, unit="epochs", algorithm="random", bracket_rule="floor",
        seed=1, seed_was_given=True,
    )  # fmt: skip
    assert "[options]" not in search_text(Prepared(settings=settings, limits=Limits(), resumed=False), {})
