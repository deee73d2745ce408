"""A search begins with the given options or refuses them, and continues only with its own definition."""

from __future__ import annotations

import dataclasses
import fcntl
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ConfigSpace import Beta, Categorical, ConfigurationSpace, Float, InCondition, Integer, Normal

from hpbandster_lite.engine.decision_types import Granted
from hpbandster_lite.engine.initial_proposals import first_proposals
from hpbandster_lite.errors import BudgetError, Held, JournalError, ResumeError, SpaceError, UsageError
from hpbandster_lite.journal import Journal, JournalReader
from hpbandster_lite.records import (
    FailureKind,
    Finished,
    FinishKind,
    Limits,
    Outcome,
    Paused,
    ProblemDescription,
    ProblemSource,
    Report,
    SourceChanged,
    SourceFile,
    Started,
)
from hpbandster_lite.results.journal_status import status_from_journal
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.initial_file import read_initial
from hpbandster_lite.settings.options import SearchOptions
from hpbandster_lite.settings.prepare import Prepared, prepare
from hpbandster_lite.space import SearchSpace, configspace_to_json
from tests.engine_room import engine_for, failed, space_that_forbids_its_default


def description(*hyperparameters: Any, **changed: Any) -> ProblemDescription:
    space = ConfigurationSpace(space=list(hyperparameters or (Float("x", (0.0, 1.0)), Integer("n", (1, 9)))))
    facts: dict[str, Any] = {
        "reference": "/here/net.py",
        "name": "net",
        "space_json": configspace_to_json(space),
        "space_tables": SearchSpace.from_configspace(space).to_json(),
        "unit": "epochs",
        "min_budget": 1.0,
        "max_budget": 9.0,
        "source_hash": "a",
    }
    return ProblemDescription(**(facts | changed))


def described(space: ConfigurationSpace) -> ProblemDescription:
    tables = SearchSpace.from_configspace(space).to_json()
    return replace(description(), space_json=configspace_to_json(space), space_tables=tables)


def asked(about: ProblemDescription | None = None, **options: Any) -> SearchOptions:
    return SearchOptions(problem="net.py", description=about or description(), **options)


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


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., RunDirectory]:
    """A function that makes the run directory of a search with these options."""

    def make(about: ProblemDescription | None = None, **options: Any) -> RunDirectory:
        directory = RunDirectory(tmp_path / "run")
        directory.create()
        prepared = prepare(asked(about, **options), directory)
        with Journal.open(directory.journal, create=prepared.settings) as journal:
            epoch = journal.begin_epoch()
            journal.commit([Started(epoch=epoch, limits=prepared.limits)], at=1.0)
        return directory

    return make


# ------------------------------------------------------------------------------------------------------ new searches


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
    ({"algorithm": "tpe"}, UsageError, "algorithm must be one of bohb, hyperband, sh, bo, random, got 'tpe'"),
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


# ------------------------------------------------------------------------------------------------------------ resume


def test_a_search_goes_on_as_it_was_begun_where_nothing_is_asked_for(stored: Callable[..., RunDirectory]) -> None:
    begun: dict[str, Any] = {
        "seed": 5,
        "algorithm": "hyperband",
        "bracket_rule": "ceil",
        "max_budget": 27,
        "eta": 3,
        "unit": "steps",
        "initial": ({"x": 0.5, "n": 3},),
        "skip_default": True,
        "limits": Limits(brackets=2),
        "lease_s": 20.0,
    }
    directory = stored(**begun)
    prepared = prepare(asked(), directory)
    assert prepared.resumed
    assert prepared.limits == Limits(brackets=2)
    with Journal.open(directory.journal) as journal:
        assert prepared.settings == journal.settings
    assert prepare(asked(**begun), directory).settings == prepared.settings


def test_whole_budgets_stay_whole(stored: Callable[..., RunDirectory]) -> None:
    directory = stored(integer_budgets=True)
    for again in (None, True):
        assert prepare(asked(integer_budgets=again), directory).settings.problem.integer_budgets
    assert prepare(asked(max_budget=9), directory).settings.budgets == (1.0, 3.0, 9.0)


def searched(directory: RunDirectory, prepared: Prepared, evaluations: int) -> None:
    """Serve the search as a new master does, until so many evaluations have ended or the search is over."""
    space = SearchSpace.from_json(prepared.settings.problem.space_tables)
    engine = engine_for(prepared.settings, space)
    with Journal.open(directory.journal, create=prepared.settings) as journal:
        engine.replay([entry for _, _, entry in journal.entries()])
        epoch = journal.begin_epoch()
        journal.commit(engine.start(epoch, prepared.limits, now=0.0).entries, at=0.0)
        first = engine.state.request_of.get("a", 0) + 1
        for request in range(first, first + evaluations + 1):
            turn = engine.lease("a", request, now=0.0)
            journal.commit(turn.entries, at=0.0)
            if not isinstance(turn.answer, Granted) or request == first + evaluations:
                return
            grant = turn.answer.grant
            outcome = Outcome(loss=float(grant.values["x"]))  # type: ignore[arg-type]  # x is a number
            report = Report(evaluation=grant.evaluation, attempt=grant.attempt, outcome=outcome)
            journal.commit(engine.report("a", report, now=0.0).entries, at=0.0)


def test_so_many_more_is_journalled_so_that_the_same_command_keeps_it_after_a_kill(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    for more, killed_after, expected in [
        ({"evaluations": 5}, 2, 5),
        ({"evaluations": 5}, 1, 5),
        ({"evaluations": 5}, 99, 5),
        ({"evaluations": 5}, 2, 10),
        ({"evaluations": 5}, 99, 10),
        ({"evaluations": 50}, 3, 60),
        ({}, 99, 60),
    ]:
        prepared = prepare(asked(seed=1, more=more), directory)
        assert prepared.limits == Limits(evaluations=expected)
        searched(directory, prepared, killed_after)
    assert JournalReader(directory.journal).limits() == Limits(evaluations=60)
    assert JournalReader(directory.journal).finished() is not None


def test_so_many_more_replaces_what_ended_the_search_and_keeps_other_given_limits(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    begun = prepare(asked(seed=1, limits=Limits(brackets=1, max_concurrent=2)), directory)
    searched(directory, begun, 99)
    further = prepare(asked(more={"evaluations": 5}), directory)
    assert further.limits == Limits(evaluations=18, max_concurrent=2)
    assert further.notes[-1] == "the search goes on to 18 evaluations, 5 more than the 13 so far"
    searched(directory, further, 1)
    kept = prepare(asked(more={"evaluations": 5}), directory)
    assert kept.limits == further.limits
    assert kept.notes[-1].startswith("+5 changes nothing: the search has not reached its limit of 18 evaluations")
    both = prepare(asked(limits=Limits(target_loss=0.1), more={"evaluations": 5, "brackets": 1}), directory)
    assert both.limits == Limits(evaluations=18, brackets=3, target_loss=0.1, max_concurrent=2)


def test_a_search_keeps_its_direction_and_the_journal_has_a_loss_as_target(stored: Callable[..., RunDirectory]) -> None:
    directory = stored(maximize=True, limits=Limits(target_loss=0.9))
    for again in (None, True):
        prepared = prepare(asked(maximize=again), directory)
        assert prepared.settings.maximize
        assert (prepared.limits, prepared.users_limits) == (Limits(target_loss=-0.9), Limits(target_loss=0.9))
        note = "the search goes on as it began: it maximizes what the objective returns"
        assert (note in prepared.notes) == (again is None)
    assert prepare(asked(limits=Limits(target_loss=0.95)), directory).limits == Limits(target_loss=-0.95)
    for other in (asked(maximize=False), asked(description(maximize=True), maximize=False)):
        with pytest.raises(ResumeError, match="direction: maximize in the journal, minimize requested"):
            prepare(other, directory)


@pytest.mark.parametrize(
    ("declared", "given", "maximize"),
    [(False, None, False), (True, None, True), (False, True, True), (True, False, False)],
)
def test_a_problem_may_declare_the_direction(declared: bool, given: bool | None, maximize: bool) -> None:
    assert prepare(asked(description(maximize=declared), maximize=given)).settings.maximize is maximize


def test_a_problem_that_declares_another_direction_than_before_is_refused(
    stored: Callable[..., RunDirectory],
) -> None:
    directory = stored()
    refusal = r"direction: minimize in the journal, maximize requested\. Restore what the problem says of maximize"
    with pytest.raises(ResumeError, match=refusal):
        prepare(asked(description(maximize=True)), directory)


def test_limits_and_leases_may_change(stored: Callable[..., RunDirectory]) -> None:
    directory = stored(seed=5)
    options = asked(limits=Limits(evaluations=99, max_concurrent=4), lease_s=30.0, heartbeat_s=2.0)
    prepared = prepare(options, directory)
    assert prepared.limits == Limits(evaluations=99, max_concurrent=4)
    assert (prepared.settings.lease_s, prepared.settings.heartbeat_s) == (30.0, 2.0)


def test_part_of_the_ladder_may_be_repeated(stored: Callable[..., RunDirectory]) -> None:
    directory = stored(seed=5, max_budget=81, eta=9)
    assert prepare(asked(max_budget=81), directory).settings.budgets == (1, 9, 81)
    assert prepare(asked(eta=9), directory).settings.budgets == (1, 9, 81)


def test_a_ladder_that_the_user_listed_may_be_listed_again(stored: Callable[..., RunDirectory]) -> None:
    directory = stored(seed=5, budgets=(1.0, 2.0, 7.0))
    assert prepare(asked(), directory).settings.budgets == (1, 2, 7)
    assert prepare(asked(budgets=(1.0, 2.0, 7.0)), directory).settings.budgets == (1, 2, 7)


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"seed": 6}, "seed: 5 in the journal, 6 requested"),
        ({"eta": 9}, "eta: 3.0 in the journal, 9.0 requested"),
        ({"max_budget": 27}, "budgets: 1, 3, 9 in the journal, 1, 3, 9, 27 requested"),
        ({"budgets": (1.0, 3.0, 10.0)}, "budgets: 1, 3, 9 in the journal, 1, 3, 10 requested"),
        ({"unit": "steps"}, "unit: epochs in the journal, steps requested"),
        ({"algorithm": "random"}, "algorithm: bohb in the journal, random requested"),
        ({"bracket_rule": "ceil"}, "bracket rule: floor in the journal, ceil requested"),
        ({"max_attempts": 4}, "max_attempts: 3 in the journal, 4 requested"),
        ({"skip_default": True}, "skip_default: False in the journal, True requested"),
        ({"maximize": True}, "direction: minimize in the journal, maximize requested"),
        ({"integer_budgets": True}, "integer_budgets: False in the journal, True requested"),
        ({"sampler": {"num_samples": 8}}, "sampler parameter 'num_samples': the default in the journal, 8 requested"),
        ({"initial": ({"x": 0.1, "n": 2},)}, "initial configurations: 0 in the journal, 1 others requested"),
    ],
)
def test_what_defines_the_search_may_not_change_and_the_refusal_names_it(
    options: dict[str, Any], difference: str, stored: Callable[..., RunDirectory]
) -> None:
    directory = stored(seed=5)
    before = directory.journal.read_bytes()
    with pytest.raises(ResumeError) as caught:
        prepare(asked(**options), directory)
    assert difference in str(caught.value)
    assert "--new" in str(caught.value)
    assert directory.journal.read_bytes() == before


def test_another_space_is_refused_with_its_first_difference(stored: Callable[..., RunDirectory]) -> None:
    directory = stored(seed=5)
    wider = description(Float("x", (0.0, 2.0)), Integer("n", (1, 9)))
    with pytest.raises(ResumeError, match=r"search space: .*x"):
        prepare(asked(wider), directory)


def test_another_problem_s_run_directory_is_refused(stored: Callable[..., RunDirectory]) -> None:
    directory = stored(seed=5)
    with pytest.raises(ResumeError, match="belongs to the problem 'net', not to 'digits'; give another --run-dir"):
        prepare(asked(description(name="digits")), directory)


def sources(*hashes: str, **about: Any) -> ProblemSource:
    files = [SourceFile(path=f"{number}.py", hash=each) for number, each in enumerate(hashes)]
    return ProblemSource(files=tuple(files), **about)


def test_a_problem_whose_source_was_edited_is_refused_with_the_remedies(stored: Callable[..., RunDirectory]) -> None:
    directory = stored(description(source=sources("a", "b")), seed=5)
    assert prepare(asked(description(source=sources("a", "b"))), directory).notes == ()
    edited = description(source=sources("a", "c"))
    with pytest.raises(ResumeError, match=r"1\.py is another one\. .* --new; .* --accept-edited-source$"):
        prepare(asked(edited), directory)
    prepared = prepare(asked(edited, accept_edited_source=True), directory)
    assert prepared.edited == SourceChanged(source=sources("a", "c"), differences=("1.py is another one",))
    assert prepared.settings.problem.source == sources("a", "b")
    (note,) = prepared.notes
    assert note.startswith("the problem's source was edited (1.py is another one)")


def test_an_edit_that_was_accepted_is_the_source_from_then_on(stored: Callable[..., RunDirectory]) -> None:
    directory = stored(description(source=sources("a")), seed=5)
    edited = SourceChanged(source=sources("b"), differences=("0.py is another one",))
    with Journal.open(directory.journal) as journal:
        journal.begin_epoch()
        journal.commit([edited], at=2.0)
    prepared = prepare(asked(description(source=sources("b"))), directory)
    assert (prepared.notes, prepared.edited, prepared.settings.problem.source) == ((), None, sources("b"))
    with pytest.raises(ResumeError, match="accept-edited-source"):
        prepare(asked(description(source=sources("a"))), directory)
    (edit,) = JournalReader(directory.journal).source_edits()
    assert (edit.position, edit.at, edit.recorded, edit.first, edit.change) == (2, 2.0, 0, None, edited)


def test_a_journal_of_the_first_method_is_compared_by_it(stored: Callable[..., RunDirectory]) -> None:
    directory = stored(seed=5)
    assert prepare(asked(description(source=sources("b"))), directory).edited is None
    edited = description(source_hash="b", source=sources("b", file="/there/net.py"))
    with pytest.raises(ResumeError, match=r"net\.py is another one"):
        prepare(asked(edited), directory)
    assert prepare(asked(edited, accept_edited_source=True), directory).edited is not None


def test_a_shipped_problem_is_compared_by_its_version_and_an_old_journal_has_the_first(
    stored: Callable[..., RunDirectory],
) -> None:
    directory = stored(seed=5)
    assert prepare(asked(description(source_hash="b", source=ProblemSource(version=1))), directory).edited is None
    with pytest.raises(ResumeError, match="its version was 1 and is 2"):
        prepare(asked(description(source=ProblemSource(version=2))), directory)


@pytest.mark.parametrize("source", [None, ProblemSource(version=1)], ids=["own", "shipped"])
def test_the_same_choices_in_another_order_go_on_in_the_journal_s_order(
    source: ProblemSource | None, stored: Callable[..., RunDirectory]
) -> None:
    def about(*choices: str) -> ProblemDescription:
        space = ConfigurationSpace(space=[Categorical("kind", choices), Float("x", (0.0, 1.0))])
        space.add(InCondition(space["x"], space["kind"], list(choices[:2])))
        return replace(described(space), source=source)

    directory = stored(about("a", "b", "c"), initial=({"x": 0.25},), seed=5)
    prepared = prepare(asked(about("b", "a", "c"), initial=({"x": 0.25},)), directory)
    assert prepared.notes == (
        "the space has its choices in another order (hyperparameter 'kind': choices was ['a', 'b', 'c'] and is "
        "['b', 'a', 'c']); the search goes on in the journal's order",
    )
    assert prepared.settings.problem.space_tables == about("a", "b", "c").space_tables
    for other in (about("b", "a", "d"), *([about("b", "c", "a")] if source is None else [])):
        with pytest.raises(ResumeError, match="search space: hyperparameter"):
            prepare(asked(other), directory)


def test_a_shipped_problem_whose_space_has_grown_continues_in_the_space_of_its_journal(
    stored: Callable[..., RunDirectory],
) -> None:
    shipped = ProblemSource(version=1)
    x, n = Float("x", (0.0, 1.0)), Integer("n", (1, 9))
    directory = stored(description(x, n, source=shipped), seed=5)
    larger = description(x, Integer("n", (1, 20)), source=shipped)
    prepared = prepare(asked(larger), directory)
    assert prepared.notes == (
        "the space of net has grown since (hyperparameter 'n': upper was 9 and is 20); the search continues in its own "
        "space",
    )
    assert prepared.settings.problem.space_tables == description(x, n).space_tables
    for smaller in (description(x, Integer("n", (2, 20)), source=shipped), description(x, source=shipped)):
        with pytest.raises(ResumeError, match="search space: hyperparameter 'n'"):
            prepare(asked(smaller), directory)
    with pytest.raises(ResumeError, match="search space: hyperparameter 'n'"):
        prepare(asked(replace(larger, source=sources("a"))), directory)


def test_the_file_of_another_problem_is_refused_as_another_problem(
    stored: Callable[..., RunDirectory], tmp_path: Path
) -> None:
    files = [tmp_path / name / "net.py" for name in "ab"]
    for file in files:
        file.parent.mkdir()
        file.write_text("")
    here = socket.gethostname()
    one, other = (description(source=sources(file.parent.name, file=str(file), host=here)) for file in files)
    directory = stored(one, seed=5)
    with pytest.raises(ResumeError, match=rf"belongs to the problem in {files[0]}, not to {files[1]}.* another --run-"):
        prepare(asked(other), directory)
    copy = replace(other, source=sources("a", file=str(files[1]), host=here))
    assert prepare(asked(copy), directory).edited is None
    files[0].unlink()
    with pytest.raises(ResumeError, match="source is not the one of the search"):
        prepare(asked(other), directory)


def test_paths_of_another_host_are_not_compared(stored: Callable[..., RunDirectory], tmp_path: Path) -> None:
    file, mine = tmp_path / "net.py", tmp_path / "mine.py"
    file.touch()
    mine.touch()
    directory = stored(description(source=sources("a", file=str(file), host="another")), seed=5)
    edited = description(source=sources("b", file=str(mine), host=socket.gethostname()))
    with pytest.raises(ResumeError, match="source is not the one of the search"):
        prepare(asked(edited), directory)


def with_failures(directory: RunDirectory, *kinds: FailureKind, finished: Finished | None = None) -> None:
    """Add failed evaluations of these kinds to the journal, and this end of the search."""
    settings = JournalReader(directory.journal).settings()
    space = SearchSpace.from_json(settings.problem.space_tables)
    with Journal.open(directory.journal) as journal:
        engine = engine_for(settings, space)
        engine.replay(entry for _, _, entry in journal.entries())
        entries = [*engine.start(journal.begin_epoch(), Limits(brackets=1), now=0.0).entries]
        for index, kind in enumerate(kinds):
            turn = engine.lease("a", index, now=0.0)
            assert isinstance(turn.answer, Granted)
            entries += turn.entries
            report = failed(turn.answer.grant, kind, f"Traceback of {chr(97 + index)}")
            entries += engine.report("a", report, now=0.0).entries
        entries += () if finished is None else (finished,)
        journal.commit(entries, at=2.0)


def test_what_is_run_again_is_reported_first_and_with_it_a_corrected_source(
    stored: Callable[..., RunDirectory],
) -> None:
    directory = stored(seed=5)
    with_failures(directory, FailureKind.CODE, FailureKind.CODE, FailureKind.MEMORY)
    about = description(source_hash="b", source=sources("b"))
    mended, words = prepare(asked(about, retry_failed=True), directory).notes
    assert mended.startswith("the problem's source was edited")
    assert words == "2 failed evaluations are run again; 1 is not, because memory is no fault of the code"
    prepared = prepare(asked(retry_failed=True), directory)
    assert prepared.notes[0] == words
    assert "what failed will fail again" in prepared.notes[1]
    assert prepared.retry_failed_after == 2
    assert prepare(asked(), directory).retry_failed_after is None


def test_a_restored_journal_is_one_that_exists_and_no_master_serves(stored: Callable[..., RunDirectory]) -> None:
    directory = stored(seed=5)
    assert prepare(asked(), directory).restored_after is None
    assert prepare(asked(restored=True), directory).restored_after == 1
    with directory.lock_file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Held, match=r"is served by a master; .*end that master, and restore the copy again"):
            prepare(asked(restored=True), directory)
    directory.journal.unlink()
    for where in (directory, None):
        with pytest.raises(UsageError, match=r"there is no journal.* that was restored; put the copy there, or leave"):
            prepare(asked(restored=True), where)


def test_a_copy_of_a_lost_journal_is_named_before_the_search_goes_on_without_it(
    stored: Callable[..., RunDirectory],
) -> None:
    directory = stored(seed=5)
    copy = directory.path / "journal.lost-1.sqlite"
    copy.touch()
    words = (
        f"{copy} is a copy that a master saved when the journal was deleted or replaced, and may have results that "
        f"journal.sqlite lacks; to continue from there, move it to {directory.journal}; otherwise move it away"
    )
    assert prepare(asked(), directory).notes[0] == words
    state = status_from_journal(JournalReader(directory.journal)).reason
    assert state is not None
    assert state.startswith(f"no master answers; {words}; then run the command that began it again")
    directory.journal.write_bytes(b"")
    with pytest.raises(JournalError, match=f"the journal {directory.journal} is empty: {re.escape(words)}"):
        JournalReader(directory.journal)
    directory.journal.unlink()
    with pytest.raises(JournalError, match=f"there is no journal {directory.journal}; {re.escape(words)}"):
        JournalReader(directory.journal)
    assert prepare(asked(seed=5), directory).notes[0] == words
    (directory.path / "journal.lost-2.sqlite").touch()
    assert "are copies that masters saved" in prepare(asked(seed=5), directory).notes[0]
    assert "move one of them to" in prepare(asked(seed=5), directory).notes[0]


def test_a_search_without_failures_has_nothing_to_retry(stored: Callable[..., RunDirectory]) -> None:
    (note,) = prepare(asked(retry_failed=True, seed=1)).notes
    assert note.startswith("nothing has failed yet")
    (note,) = prepare(asked(retry_failed=True), stored(seed=5)).notes
    assert note == "0 failed evaluations are run again"


def test_a_search_that_was_stopped_says_that_it_goes_on_and_what_becomes_of_its_failures(
    stored: Callable[..., RunDirectory],
) -> None:
    directory = stored(seed=5)
    with_failures(directory, finished=Finished(kind=FinishKind.STOPPED, reason="stopped by its user: enough"))
    stopped = "the search was stopped by its user: enough; a new start continues it"
    assert prepare(asked(), directory).notes == (stopped,)
    same_fault = Finished(kind=FinishKind.SAME_FAULT, reason="stopped, mend the code:\nTraceback\n")
    with_failures(directory, FailureKind.CODE, finished=same_fault)
    first, second = prepare(asked(), directory).notes
    assert first.startswith("the search was stopped, mend the code; ")
    assert "--retry-failed" in second
    assert not any("--retry-failed" in note for note in prepare(asked(retry_failed=True), directory).notes)


def a_function(code: str) -> ProblemDescription:
    """A function, whose source no child process reads."""
    return description(source_hash="", source=ProblemSource(function={"its code": code}))


def test_failures_that_no_edit_undoes_are_not_offered_to_run_again(stored: Callable[..., RunDirectory]) -> None:
    directory = stored(a_function("a"), seed=5)
    same_fault = Finished(kind=FinishKind.STOPPED, reason="stopped by its user")
    with_failures(directory, FailureKind.MEMORY, finished=same_fault)
    assert len(prepare(asked(a_function("a")), directory).notes) == 1
    edited = asked(a_function("b"))
    with pytest.raises(ResumeError) as caught:
        prepare(edited, directory)
    assert "--retry-failed" not in str(caught.value)


def test_a_call_gets_the_words_of_python_and_a_command_those_of_the_command_line(
    stored: Callable[..., RunDirectory],
) -> None:
    (note,) = prepare(asked(arguments=())).notes
    assert "with one worker, seed=" in note
    directory = stored(a_function("a"), seed=5)
    with_failures(directory, FailureKind.CODE, finished=Finished(kind=FinishKind.STOPPED, reason="stopped by its user"))
    assert "; retry_failed=True runs it again" in prepare(asked(a_function("a"), arguments=()), directory).notes[1]
    for options, words in [
        ({"about": a_function("a"), "seed": 6}, "Give the journal's value (or leave the option out), or start"),
        ({"about": description(Float("y", (0.0, 1.0)))}, "Restore the space, or start another search with {new}"),
        ({"about": description(name="other")}, "give another {run_dir}, or {new}"),
        ({"about": a_function("b")}, "Begin another search with {new}; or, if the losses before"),
        ({"about": a_function("b")}, "with {retry}, which also runs again what failed, or with {accept}"),
    ]:
        for more, names in (({}, FLAGS), ({"arguments": ()}, PARAMETERS)):
            with pytest.raises(ResumeError) as caught:
                prepare(asked(**options, **more), directory)  # type: ignore[arg-type]  # keyword arguments of any type
            assert words.format(**names) in str(caught.value)


FLAGS = {"new": "--new", "run_dir": "--run-dir", "retry": "--retry-failed", "accept": "--accept-edited-source"}
PARAMETERS = {
    "new": "new=True", "run_dir": "run_dir", "retry": "retry_failed=True", "accept": "accept_edited_source=True",
}  # fmt: skip


def test_a_paused_search_says_so_and_how_it_goes_on(stored: Callable[..., RunDirectory]) -> None:
    directory = stored(seed=5)
    with Journal.open(directory.journal) as journal:
        journal.begin_epoch()
        journal.commit([Paused(reason="maintenance")], at=2.0)
    (note,) = prepare(asked(), directory).notes
    assert note == (f"the search is paused (maintenance); to evaluate again: hpbandster-lite resume {directory.path}")


def test_an_empty_file_that_a_start_left_when_it_was_killed_is_no_journal(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.create()
    directory.journal.touch()
    assert not prepare(asked(), directory).resumed


def test_a_problem_whose_file_has_moved_is_imported_from_where_it_is_now(stored: Callable[..., RunDirectory]) -> None:
    directory = stored(seed=5)
    prepared = prepare(asked(description(reference="/there/net.py")), directory)
    assert prepared.settings.problem.reference == "/there/net.py"


def test_defaults_of_the_problem_that_changed_do_not_touch_a_search_that_goes_on(
    stored: Callable[..., RunDirectory],
) -> None:
    directory = stored(seed=5)
    prepared = prepare(asked(description(max_budget=27.0, unit="steps", eta=2.0)), directory)
    assert (prepared.settings.budgets, prepared.settings.unit, prepared.settings.eta) == ((1, 3, 9), "epochs", 3.0)


@pytest.mark.parametrize("options", [{"lease_s": 4.0}, {"heartbeat_s": 31.0}])
def test_lease_times_that_cannot_be_are_refused_when_a_search_goes_on(
    options: dict[str, Any], stored: Callable[..., RunDirectory]
) -> None:
    directory = stored(seed=5)
    with pytest.raises(UsageError, match="heartbeat_s must be above 0 and at most half of lease_s"):
        prepare(asked(**options), directory)


def test_the_distributions_of_a_space_are_reported_with_what_they_steer() -> None:
    about = description(
        *(Float("x", (0.0, 1.0), distribution=Normal(0.5, 0.2)), Integer("n", (1, 9), distribution=Beta(2, 3))),
        *(Categorical("kind", ["a", "b"], weights=[1, 2]), Categorical("act", ["c", "d"], weights=[0, 1])),
        *(Categorical("even", ["a", "b"], weights=[1, 1]), Float("y", (0.0, 1.0))),
    )
    assert (
        "the beta distribution of n; the normal distribution of x; the weights of act, kind: they steer random draws, "
        "and the model of bohb and bo does not use them" in prepare(asked(about)).notes
    )
    assert not any("steer" in note for note in prepare(asked()).notes)


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
    from ConfigSpace import Categorical, EqualsCondition

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
