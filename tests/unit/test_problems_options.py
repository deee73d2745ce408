"""Options of problems: declarations, values after a name, and refused values."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.errors import ProblemError, SpaceError, UnknownOption
from hpbandster_lite.journal import option_difference
from hpbandster_lite.problems import (
    configured,
    describe_in_child,
    described_options,
    given_in,
    load,
    name_of,
    shared_values,
    value_difference,
    with_options,
)
from hpbandster_lite.problems.description import _record, refusal_for
from hpbandster_lite.problems.options import canonical
from hpbandster_lite.records import ProblemDescription, ProblemOption
from hpbandster_lite.rundir import default_run_directory

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)

SOURCE = """
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ConfigSpace import ConfigurationSpace


@dataclass(frozen=True)
class Options:
    data: Path | None = field(default=None, metadata={"local": True, "help": "where the data lies"})
    kind: Literal["flat", "steep"] = "flat"
    scale: float = 1.0


class Quadratic:
    def __init__(self, options):
        self.options = options
        self.max_budget = 9 * options.scale

    min_budget = 1
    configured = classmethod(lambda cls, options: cls(options))

    def space(self):
        return ConfigurationSpace(space={"x": (0.0, 1.0)})

    def evaluate(self, config, budget, trial):
        return config["x"]


options = Options
configured = Quadratic.configured
twice = Quadratic(Options(scale=2.0))
"""


@dataclass(frozen=True)
class Options:
    data: Path | None = field(default=None, metadata={"local": True, "help": "where the data lies"})
    kind: Literal["flat", "steep"] = "flat"
    scale: float = 1.0
    epochs: int = 3
    level: Literal[1, 2] = 1
    augment: bool = True
    label: str = "a"
    most: int | None = 100

    def __post_init__(self) -> None:
        if self.epochs > 1_000:
            raise ValueError("more than 1,000 epochs are too many")


class Problem:
    """A problem with an option of every type."""

    def __init__(self, options: Any = Options) -> None:
        self.options = options

    def configured(self, options: Options) -> Problem:
        return Problem(options)

    def evaluate(self, config: dict[str, Any], budget: float, trial: Any) -> float:
        return 0.0


def values(query: str) -> Options:
    found: Options = configured(Problem(), f"p?{query}").options
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A module with options, and an object in it whose options differ from the defaults of their class."""
    path = tmp_path / "quadratic_with_options.py"
    path.write_text(SOURCE)
    return path


# ---------------------------------------------------------------------------------------------------------- references


@given(options=st.dictionaries(st.from_regex(r"[a-z][a-z_]{0,9}", fullmatch=True), TEXT))
def test_a_reference_carries_any_text(options: dict[str, str]) -> None:
    assert given_in(with_options("net.py:problem", options)) == options


def test_what_is_added_goes_before_what_is_carried_and_comes_last() -> None:
    reference = with_options("p?scale=1&data=x&data.from=/here", {"data": "y", "big-one": True})
    assert list(given_in(reference).items()) == [("scale", "1"), ("data", "y"), ("big_one", "true")]


def test_no_options_leave_a_reference_as_it_is() -> None:
    assert with_options("digits", {}) == "digits"


def test_a_path_is_legible_in_a_reference() -> None:
    assert with_options("p", {"data": "/data/cifar-10"}) == "p?data=/data/cifar-10"


def test_names_and_run_directories_know_nothing_of_options() -> None:
    assert name_of("a/net.py:problem?data=/x/y.py:z") == name_of("a/net.py:problem") == "net-problem"
    assert default_run_directory("cifar10?data=/x/y") == Path("runs/cifar10")


# -------------------------------------------------------------------------------------------------------------- values


def test_values_are_converted_by_the_types_of_the_fields() -> None:
    found = values("kind=steep&scale=1e-3&epochs=5&level=2&augment=false&label=none&most=7&data=/a/../b")
    assert found == Options(Path("/b"), "steep", 1e-3, 5, 2, False, "none", 7)


@pytest.mark.parametrize("text", ["1e1", "10.0", "1E1"])
def test_a_whole_number_may_be_written_as_a_float(text: str) -> None:
    found = values(f"epochs={text}&most={text}")
    assert repr((found.epochs, found.most)) == "(10, 10)"


def test_values_of_numpy_are_values_of_options() -> None:
    given = {"scale": np.float64(0.25), "epochs": np.int64(3), "augment": np.True_, "most": np.float32(7)}
    found = values(with_options("p", given).partition("?")[2])
    assert repr((found.scale, found.epochs, found.augment, found.most)) == "(0.25, 3, True, 7)"


def test_none_is_a_value_where_the_type_has_it() -> None:
    assert values("most=none&data=none") == replace(Options(), most=None)


def test_dashes_are_underscores() -> None:
    assert given_in("p?data-set=x-y") == {"data_set": "x-y"}


@pytest.mark.parametrize(
    ("query", "is_on"),
    [("augment", True), ("augment=true", True), ("no_augment", False), ("no-augment", False), ("augment=False", False),
     ("augment&no_augment", False), ("no_augment&augment", True)],
)  # fmt: skip
def test_a_flag_is_set_by_its_name_and_unset_by_its_negation_and_the_last_one_counts(query: str, is_on: bool) -> None:
    assert values(query).augment is is_on


def test_a_relative_path_counts_from_the_current_directory_or_from_where_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert values("data=sub/x").data == tmp_path / "sub" / "x"
    assert values("data=sub/x&data.from=/there").data == Path("/there/sub/x")
    assert values("data=/x&data.from=/there").data == Path("/x")
    assert values("label=sub/x&label.from=/there").label == "sub/x"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("kind=stepe", "the option kind of the problem 'p' is 'stepe'; it must be one of flat, steep; did you mean"),
        ("kind", "has no value; it must be one of flat, steep"),
        ("scale=much", "is 'much'; it must be a number"),
        ("scale=nan", "it must be a number"),
        ("epochs=2.5", "it must be a whole number"),
        ("level=3", "it must be one of 1, 2"),
        ("augment=perhaps", "it must be true or false"),
        ("most=many", "it must be a whole number or none"),
        ("label=", "has no value; it must be text"),
        ("epochs=1001", "the options of 'p' are not valid: more than 1,000 epochs are too many"),
    ],
)
def test_a_wrong_value_is_refused_with_option_value_and_what_is_possible(query: str, words: str) -> None:
    with pytest.raises(ProblemError) as caught:
        values(query)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("query", "option", "words"),
    [
        ("sclae=2", "sclae", "has no option 'sclae'; did you mean 'scale'"),
        ("xyz=2", "xyz", "has no option 'xyz'; there is augment, data, epochs,"),
        ("no_scale", "no_scale", "has no option 'no_scale'"),
        ("scale.from=/x", "scale.from", "has no option 'scale.from'"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest(query: str, option: str, words: str) -> None:
    with pytest.raises(UnknownOption) as caught:
        values(query)
    assert words in str(caught.value)
    assert caught.value.option == option


def test_a_problem_without_options_says_so() -> None:
    plain = SimpleNamespace(options="of its own", evaluate=None)
    assert configured(plain, "p") is plain
    with pytest.raises(UnknownOption, match="the problem 'p' takes no options, so it has no 'scale'"):
        configured(plain, "p?scale=1")


# --------------------------------------------------------------------------------------------------------- declarations


def test_options_are_described_with_value_default_type_help_and_whether_they_are_local() -> None:
    first, kind, *_ = described_options(configured(Problem(), "p?kind=steep&data=/x"), "p")
    assert first == ProblemOption(
        name="data", value="/x", default=None, kind="a path or none", help="where the data lies", is_local=True
    )
    assert kind == ProblemOption(name="kind", value="steep", default="flat", kind="one of flat, steep")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"scale": 1}, "must be a dataclass"),
        (make_dataclass("Needy", [("scale", float)]), "every option of 'p' must have a default"),
        (make_dataclass("Odd", [("sizes", list[int], field(default_factory=list))]), "the option sizes of 'p' has the"),
    ],
)
def test_an_invalid_declaration_is_refused(options: Any, words: str) -> None:
    with pytest.raises(ProblemError) as caught:
        configured(Problem(options), "p")
    assert words in str(caught.value)


def test_what_is_configured_need_not_be_configurable_again() -> None:
    made = SimpleNamespace(evaluate=None, options=Options(scale=3.0))
    declared = SimpleNamespace(options=Options, configured=lambda options: made)
    found = described_options(configured(declared, "p?scale=3"), "p")
    assert shared_values(found)["scale"] == 3.0


@pytest.mark.parametrize("options", ["text", Options, make_dataclass("Odd", [("sizes", list[int])])([1]),
                                     make_dataclass("Unknown", [("x", "Nowhere")])(1)])  # fmt: skip
def test_what_is_called_options_and_is_something_else_is_left_alone(options: Any) -> None:
    problem: Any = SimpleNamespace(evaluate=None, options=options)
    assert described_options(problem, "p") == ()


def test_what_is_configured_must_keep_its_options() -> None:
    forgetful = SimpleNamespace(options=Options, configured=lambda options: SimpleNamespace(evaluate=None))
    with pytest.raises(ProblemError, match="must return a problem whose attribute options equals the"):
        configured(forgetful, "p?scale=2")


def test_the_canonical_reference_has_the_order_of_the_declaration_and_no_defaults() -> None:
    asked = "p?label=b&no_augment&kind=steep&epochs=7&data=/x"
    found = canonical(asked, described_options(configured(Problem(), asked), asked))
    assert unquote(found) == "p?data=/x&kind=steep&epochs=7&augment=false&label=b"
    assert configured(Problem(), found).options == configured(Problem(), asked).options
    assert canonical("p", described_options(configured(Problem(), "p"), "p")) == "p"


# -------------------------------------------------------------------------------------------------------------- loading


def test_a_module_may_be_configured(file: Path) -> None:
    problem: Any = load(f"{file}?scale=0.5")
    assert (problem.max_budget, problem.options.kind) == (4.5, "flat")


def test_an_object_s_own_options_are_its_defaults(file: Path) -> None:
    problem: Any = load(f"{file}:twice?kind=steep")
    assert (problem.options.scale, problem.options.kind) == (2.0, "steep")


def test_an_object_s_own_options_can_be_set_back(file: Path) -> None:
    asked = f"{file}:twice?scale=1"
    again: Any = load(canonical(asked, described_options(load(asked), asked)))
    assert again.options.scale == 1.0


def test_a_problem_is_described_as_it_was_configured(file: Path) -> None:
    found = describe_in_child(f"{file}?scale=3&kind=flat&data=/x")
    assert found.reference == f"{file}?data=/x&kind=flat&scale=3"
    assert found.max_budget == 27
    assert shared_values(found.options) == {"kind": "flat", "scale": 3.0}


def test_the_child_s_refusal_keeps_its_class_and_the_name_of_the_option() -> None:
    for error in (UnknownOption("no such option", "x"), SpaceError("no space"), ProblemError("no problem")):
        with pytest.raises(type(error)) as caught:
            _record(refusal_for(error).encode(), ProblemDescription)
        assert str(caught.value) == str(error)
        assert getattr(caught.value, "option", "") == getattr(error, "option", "")


# ----------------------------------------------------------------------------------------------------------- comparison


def option(name: str, value: Any, default: Any = 0, *, is_local: bool = False) -> ProblemOption:
    return ProblemOption(name=name, value=value, default=default, kind="a whole number", is_local=is_local)


def test_local_options_are_no_difference() -> None:
    assert option_difference([option("data", 1, is_local=True)], [option("data", 2, is_local=True)]) is None


def test_the_first_different_option_is_named_with_both_values() -> None:
    before = [option("a", 1), option("b", 2), option("c", 3)]
    after = [option("a", 1), option("b", 5), option("c", 6)]
    assert option_difference(before, after) == ("b", 2, 5)


def test_an_option_that_the_problem_gained_or_lost_has_its_default_on_the_other_side() -> None:
    assert option_difference([], [option("a", 0)]) is None
    assert option_difference([option("a", 0)], []) is None
    assert option_difference([], [option("a", 1)]) == ("a", 0, 1)
    assert option_difference([option("a", 1)], []) == ("a", 1, 0)


def test_values_of_a_worker_that_differ_are_named_as_they_are_typed() -> None:
    assert value_difference({"a": 1, "b": None}, {"a": 1, "b": True}) == ("b", "none", "true")
    assert value_difference({}, {"a": 1.0}) == ("a", "not there", "1")
