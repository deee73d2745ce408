"""A search continues only with its own definition; limits, workers and edits that the user accepts may change."""

from __future__ import annotations

import fcntl
import re
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ConfigSpace import Beta, Categorical, ConfigurationSpace, Float, InCondition, Integer, Normal

from hpbandster_lite.engine.decision_types import Granted
from hpbandster_lite.errors import Held, JournalError, ResumeError, UsageError
from hpbandster_lite.journal import Journal, JournalReader, lost_note
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
)
from hpbandster_lite.results.journal_status import status_from_journal
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.prepare import Prepared, prepare
from hpbandster_lite.space import SearchSpace
from tests.descriptions import asked, described, description, sources, stored_search
from tests.engine_room import engine_for, failed


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., RunDirectory]:
    """A function that makes the run directory of a search with these options."""
    return partial(stored_search, tmp_path)


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


@pytest.mark.parametrize("is_another", [False, True])
def test_a_copy_that_was_left_above_a_deleted_directory_is_named_if_it_is_of_the_problem(
    is_another: bool, stored: Callable[..., RunDirectory]
) -> None:
    directory = stored(seed=5)
    copy = directory.path.parent / "journal.lost-1.sqlite"
    JournalReader(directory.journal).copy_to(copy)
    assert str(copy) not in "".join(prepare(asked(), directory).notes)
    shutil.rmtree(directory.path)
    assert lost_note(directory.journal, is_ours=lambda _: not is_another) == (
        f"{copy} is a copy that a master saved when the journal was deleted or replaced, and may have results that "
        f"journal.sqlite lacks; to continue from there, move it to {directory.journal}; otherwise move it away"
    ) * (not is_another)
    of_another = replace(description(), name="another") if is_another else None
    assert (str(copy) in "".join(prepare(asked(of_another, seed=5), directory).notes)) != is_another
    with pytest.raises(JournalError, match=f"there is no journal {directory.journal}; {re.escape(str(copy))}"):
        JournalReader(directory.journal)


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_a_directory_in_the_place_of_one_of_sqlite_s_files_is_named(
    suffix: str, stored: Callable[..., RunDirectory]
) -> None:
    directory = stored(seed=5)
    folder = directory.journal.with_name(directory.journal.name + suffix)
    folder.mkdir()
    with pytest.raises(JournalError, match=rf"{folder} is a directory, and SQLite needs a file of this name: move it"):
        Journal.open(directory.journal).begin_epoch()


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
