"""A search begins with the given options or refuses them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, Float, Integer

from hpbandster_lite.engine.initial_proposals import first_proposals
from hpbandster_lite.errors import BudgetError, ResumeError, SpaceError, UsageError
from hpbandster_lite.journal import Journal, JournalReader
from hpbandster_lite.records import (
    Limits,
    ProblemDescription,
    ProblemSource,
    Started,
)
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.initial_file import read_initial
from hpbandster_lite.settings.options import SearchOptions
from hpbandster_lite.settings.prepare import Prepared, prepare
from hpbandster_lite.space import SearchSpace
from tests.descriptions import asked, described, description, stored_search
from tests.engine_room import space_that_forbids_its_default


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., RunDirectory]:
    """A function that makes the run directory of a search with these options."""
    return partial(stored_search, tmp_path)


def test_a_file_that_is_a_link_into_another_folder_is_named(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
    file, beside, elsewhere = tmp_path / "one/net.py", tmp_path / "one/same.py", tmp_path / "two/net.py"
    file.write_text("")
    for link in (beside, elsewhere):
        link.symlink_to(file)
    for reference, is_named in ((file, False), (beside, False), (f"{elsewhere}:problem", True)):
        notes = prepare(replace(asked(), problem=str(reference))).notes
        words = f"{elsewhere} is a link: {file} is the problem's file"
        assert any(note.startswith(words) for note in notes) is is_named


def test_a_search_begins_with_the_problem_s_ladder_bohb_and_one_hyperband_cycle() -> None:
    prepared = prepare(asked())
    settings = prepared.settings
    assert (settings.budgets, settings.eta, settings.unit) == ((1.0, 3.0, 9.0), 3.0, "epochs")
    assert (settings.algorithm, settings.bracket_rule, settings.initial) == ("bohb", "floor", ())
    assert (settings.max_attempts, settings.lease_s, settings.heartbeat_s) == (3, 60.0, 5.0)
    assert prepared.limits == Limits(brackets=3)
    assert not prepared.resumed
    assert [len(plan.rungs) for plan in prepared.plans] == [3, 2, 1]


def test_a_given_seed_is_kept_and_a_drawn_one_is_reported_with_what_it_repeats() -> None:
    given = prepare(asked(seed=3))
    assert (given.settings.seed, given.settings.seed_was_given, given.notes) == (3, True, ())
    first, second = prepare(asked()), prepare(asked())
    assert first.settings.seed != second.settings.seed
    assert not first.settings.seed_was_given
    seed = first.settings.seed
    assert first.notes == (
        f"seed {seed} was drawn; with one worker, --seed {seed} repeats this search (with more, proposals depend on "
        "the order in which evaluations end)",
    )


def test_a_default_that_the_space_forbids_is_reported_once_when_the_search_begins(
    stored: Callable[..., RunDirectory],
) -> None:
    note = "the space forbids its own default configuration (n == 5); a sampled one is evaluated in its place"
    about = described(space_that_forbids_its_default())
    begun = prepare(asked(about, seed=1))
    assert begun.notes == (note,)
    assert begun.settings.replaces_forbidden_default
    assert prepare(asked(about, seed=1, skip_default=True)).notes == ()
    again = prepare(asked(about), stored(about, seed=1))
    assert again.notes == ()
    assert again.settings.replaces_forbidden_default


def test_a_function_that_reads_other_values_is_refused_or_accepted_and_one_without_a_hash_goes_on(
    stored: Callable[..., RunDirectory],
) -> None:
    def of(k: str, why_not: str = "") -> ProblemDescription:
        parts = {} if why_not else {"its code": "a", "its variable 'k'": k}
        return description(source_hash="", source=ProblemSource(function=parts, not_comparable=why_not))

    directory = stored(of("1"), seed=1)
    assert prepare(asked(of("1")), directory).notes == ()
    with pytest.raises(ResumeError, match="its variable 'k' is another one"):
        prepare(asked(of("2")), directory)
    accepted = prepare(asked(of("2"), accept_edited_source=True), directory).edited
    assert accepted is not None
    assert accepted.differences == ("its variable 'k' is another one",)
    unreadable = prepare(asked(of("", "its global 'f' holds a lock")), directory)
    assert unreadable.edited is None
    assert unreadable.notes == (
        "whether the function is the one of the search could not be compared (its global 'f' holds a lock); the search "
        "goes on",
    )


def test_a_search_that_began_before_this_rule_keeps_its_forbidden_default(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    about = described(space_that_forbids_its_default())
    settings = replace(prepare(asked(about, seed=1)).settings, replaces_forbidden_default=False)
    with Journal.open(directory.journal, create=settings) as journal:
        journal.commit([Started(epoch=journal.begin_epoch(), limits=Limits(brackets=1))], at=1.0)
    assert not prepare(asked(about), directory).settings.replaces_forbidden_default


def test_two_searches_never_share_a_run_id() -> None:
    first, second = prepare(asked(seed=1)).settings, prepare(asked(seed=1)).settings
    assert first.run_id != second.run_id
    assert first.run_id.startswith("net-")


def test_a_run_id_that_is_given_is_the_run_s(stored: Callable[..., RunDirectory]) -> None:
    directory = stored(run_id="team.net_2")
    for again in (None, "team.net_2"):
        assert prepare(asked(run_id=again), directory).settings.run_id == "team.net_2"
    with pytest.raises(ResumeError, match=r"holds the run 'team\.net_2', not 'other'; leave --run-id out"):
        prepare(asked(run_id="other"), directory)


@pytest.mark.parametrize("run_id", ["", "..", "a b", "a/b", "-a", "é", "a\n", "x" * 101])
def test_a_run_id_that_is_no_name_of_a_folder_is_refused(run_id: str) -> None:
    with pytest.raises(UsageError, match=r"invalid run id .*: use up to 100 letters"):
        prepare(asked(run_id=run_id))


@pytest.mark.parametrize(
    ("facts", "options", "budgets"),
    [
        ({}, {"max_budget": 27}, (1, 3, 9, 27)),
        ({}, {"min_budget": 3}, (3, 9)),
        ({}, {"eta": 9}, (1, 9)),
        ({"eta": 2.0, "max_budget": 4.0}, {}, (1, 2, 4)),
        ({"eta": 2.0, "max_budget": 4.0}, {"eta": 4}, (1, 4)),
        ({}, {"budgets": (2.0, 5.0)}, (2, 5)),
        ({"budgets": (1.0, 4.0, 5.0)}, {}, (1, 4, 5)),
        ({"budgets": (1.0, 4.0, 5.0)}, {"budgets": (7.0, 8.0)}, (7, 8)),
        ({"budgets": (1.0, 4.0, 5.0)}, {"max_budget": 3}, (1, 3)),
        ({"max_budget": 10.0, "integer_budgets": True}, {}, (1, 3, 10)),
        ({"max_budget": 10.0}, {"integer_budgets": True}, (1, 3, 10)),
        ({"max_budget": 10.0, "integer_budgets": True}, {"integer_budgets": False}, (10 / 9, 10 / 3, 10)),
    ],
)
def test_the_ladder_is_the_user_s_before_the_problem_s(
    facts: dict[str, Any], options: dict[str, Any], budgets: tuple[float, ...]
) -> None:
    assert prepare(asked(description(**facts), **options)).settings.budgets == budgets


def test_a_ladder_that_starts_above_the_minimum_says_so() -> None:
    prepared = prepare(asked(min_budget=2, max_budget=9, seed=1))
    assert prepared.settings.budgets == (3.0, 9.0)
    assert "2" in prepared.notes[0]


def test_the_unit_of_the_user_is_before_the_problem_s() -> None:
    assert prepare(asked(unit="steps")).settings.unit == "steps"


def test_a_problem_may_name_how_many_brackets_it_wants() -> None:
    assert prepare(asked(description(brackets=7))).limits == Limits(brackets=7)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (Limits(evaluations=5), Limits(evaluations=5)),
        (Limits(wall_time_s=60.0), Limits(wall_time_s=60.0)),
        (Limits(max_concurrent=2), Limits(max_concurrent=2, brackets=3)),
        (Limits(brackets=1, target_loss=0.0), Limits(brackets=1, target_loss=0.0)),
    ],
)
def test_a_search_without_a_limit_that_ends_it_gets_one(limits: Limits, expected: Limits) -> None:
    assert prepare(asked(limits=limits)).limits == expected


def test_what_was_asked_for_is_what_defines_the_search() -> None:
    initial = ({"x": 0.5, "n": 3},)
    options: dict[str, Any] = {
        "algorithm": "bo",
        "bracket_rule": "ceil",
        "sampler": {"num_samples": 8},
        "initial": initial,
        "max_attempts": 2,
        "lease_s": 10.0,
        "heartbeat_s": 1.0,
    }
    settings = prepare(asked(**options)).settings
    assert {name: getattr(settings, name) for name in options} == options


def test_what_can_be_done_beside_reading_the_problem_is_done_once_it_is_being_read(tmp_path: Path) -> None:
    (tmp_path / "small.py").write_text(
        "from ConfigSpace import ConfigurationSpace, Float\n"
        "min_budget, max_budget = 1, 9\n"
        "def space():\n    return ConfigurationSpace(space=[Float('x', (0, 1))])\n"
        "def evaluate(config, budget, trial):\n    return 0.0\n"
    )
    called: list[str] = []
    options = SearchOptions(problem=str(tmp_path / "small.py"))
    prepared = prepare(options, meanwhile=lambda: called.append("once"))
    assert called == ["once"]
    assert prepared.settings.problem.reference == str(tmp_path / "small.py")


def test_a_prepared_search_travels() -> None:
    from hpbandster_lite import wire

    prepared = prepare(asked(initial=({"x": 0.5, "n": 3},), limits=Limits(target_loss=0.1)))
    text = wire.encode(wire.to_message(prepared))
    assert wire.from_message(wire.decode(text), Prepared) == prepared


WRONG: list[tuple[dict[str, Any], type[UsageError], str]] = [
    ({"min_budget": 9, "max_budget": 1}, BudgetError, "min_budget"),
    ({"eta": 1}, BudgetError, "eta"),
    ({"budgets": (1.0, 3.0), "max_budget": 9}, BudgetError, "either budgets or min_budget and max_budget"),
    ({"budgets": (3.0, 1.0)}, BudgetError, "budgets"),
    ({"budgets": (1.0, 2.5), "integer_budgets": True}, BudgetError,
     "budgets[1] must be a whole number of this unit, got 2.5; give 3"),
    ({"min_budget": 1.5, "integer_budgets": True}, BudgetError, "min_budget must be a whole number"),
    ({"algorithm": "tpe"}, UsageError, "algorithm must be one of bohb, mfbo, hyperband, sh, bo, random, got 'tpe'"),
    ({"bracket_rule": "round"}, UsageError, "bracket_rule must be one of floor, ceil, got 'round'"),
    ({"seed": -1}, UsageError, "seed must be in [0, 2**63), got -1"),
    ({"seed": 2**63}, UsageError, "seed must be in"),
    ({"sampler": {"num_sample": 3}}, UsageError, "did you mean 'num_samples'?"),
    ({"sampler": {"num_samples": 0}}, UsageError, "num_samples must be"),
    ({"algorithm": "hyperband", "sampler": {"num_samples": 3}}, UsageError, "no parameter num_samples"),
    ({"initial": ({"x": 0.5, "n": 10},)}, SpaceError, "10"),
    ({"initial": ({"x": 0.5, "n": None},)}, SpaceError, "n=None"),
    ({"initial": ({"x": 0.5, "n": 3, "depth": 2},)}, SpaceError, "depth"),
    ({"max_attempts": 0}, UsageError, "max_attempts must be at least 1, got 0"),
    ({"heartbeat_s": 40.0}, UsageError, "at most half of lease_s, got 40.0 and lease_s=60.0"),
    ({"heartbeat_s": 0.0}, UsageError, "heartbeat_s must be above 0"),
    ({"lease_s": 1.0}, UsageError, "got 5.0 and lease_s=1.0"),
]


@pytest.mark.parametrize(("options", "error", "words"), WRONG)
def test_what_cannot_be_is_refused_before_anything_is_written(
    options: dict[str, Any], error: type[UsageError], words: str, tmp_path: Path
) -> None:
    with pytest.raises(error) as caught:
        prepare(asked(**options), RunDirectory(tmp_path / "run"))
    assert words in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("options", "error", "words"), WRONG)
def test_what_cannot_be_is_refused_in_the_same_words_where_a_search_exists(
    options: dict[str, Any], error: type[UsageError], words: str, stored: Callable[..., RunDirectory]
) -> None:
    directory = stored(seed=5)
    with pytest.raises(error) as caught:
        prepare(asked(**options), directory)
    assert words in str(caught.value)
    assert not isinstance(caught.value, ResumeError)


@pytest.mark.parametrize("name", ["min_budget", "max_budget"])
def test_a_budget_that_neither_names_is_asked_for(name: str) -> None:
    with pytest.raises(BudgetError, match=f"'net' has no {name}; give one"):
        prepare(asked(description(**{name: None})))


# ---------------------------------------------------------------------------------------------------- initial points


def test_constants_may_be_left_out_of_an_initial_configuration() -> None:
    from ConfigSpace import Constant, EqualsCondition

    space = ConfigurationSpace(space=[Float("x", (0.0, 1.0)), Integer("n", (1, 9)), Constant("c", "a")])
    space.add(EqualsCondition(space["n"], space["c"], "a"))
    options = asked(described(space), initial=({"x": 0.5, "n": 3}, {"x": 0.25, "n": 2, "c": "a"}))
    settings = prepare(options).settings
    _, *given = first_proposals(SearchSpace.from_json(settings.problem.space_tables), settings)
    assert [dict(each.values) for each in given] == [{"x": 0.5, "n": 3, "c": "a"}, {"x": 0.25, "n": 2, "c": "a"}]


def test_a_partial_configuration_is_completed_with_a_note_and_in_the_same_way_when_it_goes_on(
    stored: Callable[..., RunDirectory],
) -> None:
    directory = stored(initial=({"x": 0.3}, {}))
    note = "left out in initial, and added: configuration 0: n=5 as in the default configuration. configuration 1: n=5"
    assert any(each.startswith(note) for each in prepare(asked(initial=({"x": 0.3}, {}))).notes)
    for initial in (({"x": 0.3}, {}), ({"x": 0.3, "n": 5.0}, {"n": 5})):
        prepared = prepare(asked(initial=initial), directory)
        assert [dict(each) for each in prepared.settings.initial] == [{"n": 5, "x": 0.3}, {"n": 5, "x": 0.5}]
    with pytest.raises(ResumeError, match="initial configurations: 2 in the journal, 1 others requested"):
        prepare(asked(initial=({"x": 0.3},)), directory)


def test_what_is_sampled_for_a_partial_configuration_is_the_same_with_the_same_seed(
    stored: Callable[..., RunDirectory],
) -> None:
    from ConfigSpace import EqualsCondition

    space = ConfigurationSpace(space=[Float("x", (0.0, 1.0)), Categorical("kind", ["a", "b"])])
    space.add(EqualsCondition(space["x"], space["kind"], "b"))
    about = described(space)
    directory = stored(about, initial=({"kind": "b"},))
    first = JournalReader(directory.journal).settings().initial
    assert prepare(asked(about, initial=({"kind": "b"},)), directory).settings.initial == first
    assert "sampled" in " ".join(prepare(asked(about, initial=({"kind": "b"},), seed=3)).notes)


LONG = 0.12345678901234566
"""A float with more digits than a value of the space keeps."""


def test_given_values_and_defaults_keep_every_bit_in_a_search_of_this_rule() -> None:
    about = description()
    for table in (about.space_tables["dimensions"][1], about.space_json["hyperparameters"][1]):
        # ConfigSpace rounds the defaults of its own hyperparameters.
        table["default" if "default" in table else "default_value"] = LONG
    given = ({"x": 1 - LONG, "n": 3}, {"x": np.nextafter(1 - LONG, 0), "n": 3.0})
    settings = prepare(asked(about, initial=given)).settings
    space = SearchSpace.from_json(settings.problem.space_tables)
    assert settings.keeps_given_values
    found = [repr(each.values) for each in first_proposals(space, settings)]
    after = float(np.nextafter(1 - LONG, 0))
    assert found == [f"{{'n': 5, 'x': {LONG!r}}}", f"{{'n': 3, 'x': {1 - LONG!r}}}", f"{{'n': 3, 'x': {after!r}}}"]
    before = first_proposals(space, replace(settings, keeps_given_values=False))
    assert [each.values["x"] for each in before] == [0.12345678901235, 0.87654321098765]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("initial.json", '[{"x": 0.5, "n": 3}, {"x": 1.0, "n": 1}]'),
        ("initial.jsonl", '{"x": 0.5, "n": 3}\n\n{"x": 1.0, "n": 1}\n'),
        ("initial.txt", '{"x": 0.5, "n": 3}\r\n{"x": 1.0, "n": 1}'),
        ("initial.csv", "x,n\n0.5,3\n1.0,1\n"),
        ("initial.CSV", "\ufeffx,n\r\n0.5,3\r\n1.0,1"),
        ("initial.tsv", 'n\t"x"\n3\t0.5\n1\t1\n'),
        ("table.csv", ",config_id,origin,config.x,config.n\n0,0-0-1,random,0.5,3\n1,0-0-2,model,1.0,1.0\n"),
        ("european.csv", "x;n\n0.5;3\n1.0;1\n"),
    ],
)
def test_initial_configurations_are_read_from_json_lines_of_json_and_tables(
    name: str, text: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_bytes(text.encode("utf-8"))
    settings = prepare(asked(initial=read_initial(file))).settings
    assert [dict(each) for each in settings.initial] == [{"n": 3, "x": 0.5}, {"n": 1, "x": 1.0}]
    assert {type(each["n"]) for each in settings.initial} == {int}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "", "the first line is '', without different names"),
        ("a.csv", "x,x\n1,2\n", "the first line is 'x,x', without different names"),
        ("a.csv", "x,n\n1,2,3\n", "line 2: 3 cells for 2 names"),
        ("a.csv", 'x,n\n1,"2\n', "unexpected end of data"),
        ("a.jsonl", '{"x": 1}\n{"x": \n', "line 2: Expecting value"),
        ("a.jsonl", '{"x": 1}\n[1]\n', "expected a list of objects such as"),
        ("a.csv", "x,n\n0.5,many\n", "initial: n='many' is a str; give a whole number from 1 to 9"),
        ("a.csv", "x,n\n", "has no line with values after the first"),
        ("a.json", "", "a.json is empty; give a JSON file"),
        ("a.jsonl", "\n \n", "a.jsonl is empty; give a JSON file"),
        ("a.json", '[{"x": 1, "x": 0}]', "the name 'x' has two values"),
        ("a.jsonl", '{"n": 1}\n{"x": 1, "x": 0}', "line 2: the name 'x' has two values"),
    ],
)
def test_a_faulty_file_of_configurations_is_refused_with_the_place(
    name: str, text: str, words: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        prepare(asked(initial=read_initial(file)))
    assert words in str(caught.value)


@pytest.mark.parametrize("content", ["[1]", "3", "null"])
def test_a_file_without_a_list_of_configurations_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "initial.json"
    file.write_text(content)
    with pytest.raises(UsageError, match="expected a list of objects such as"):
        read_initial(file)


def test_a_file_that_cannot_be_read_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.json.*give a JSON file"):
        read_initial(tmp_path / "missing.json")
    (tmp_path / "half.json").write_text("[{")
    with pytest.raises(UsageError, match=r"half\.json"):
        read_initial(tmp_path / "half.json")


def test_every_option_of_a_search_is_looked_at() -> None:
    looked_at = {
        *("problem", "description", "limits", "min_budget", "max_budget", "eta", "budgets", "unit", "algorithm"),
        *("bracket_rule", "seed", "sampler", "initial", "skip_default", "max_attempts", "lease_s", "heartbeat_s"),
        *("retry_failed", "accept_edited_source", "restored", "keep_going", "run_id", "arguments"),
        *("integer_budgets", "only_minimize", "more"),


        *("integer_budgets", "only_minimize", "maximize"),
    }
    # A new option needs a rule for searches that continue: add it in prepare, a test above, and its name here.
    assert {field.name for field in dataclasses.fields(SearchOptions)} == looked_at
