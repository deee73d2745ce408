"""Kill any part of a running search, or all of it: no acknowledged result is lost or repeated, and it continues."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from hpbandster_lite.records import Expired, Leased, Sampled, Started
from tests.service.local_search import LocalSearchProcess, until

pytestmark = pytest.mark.timeout(150)


PATIENT = {"lease_s": 60.0, "heartbeat_s": 0.5}
"""Leases that do not expire on a busy machine."""


@pytest.fixture
def search(tmp_path: Path) -> LocalSearchProcess:
    return LocalSearchProcess(tmp_path)


def check_curves(search: LocalSearchProcess) -> None:
    """Check that evaluations that began without a checkpoint of a lower rung have a point for each step, in order."""
    for evaluation, outcome in search.results().items():
        if evaluation.rung == evaluation.config_id.rung:
            steps = [point.step for point in outcome.curve]
            assert steps == sorted(steps)
            last = max(steps)
            assert set(steps) == set(range(1, int(last) + 1)), evaluation
            assert last >= outcome.info["began"]


# -------------------------------------------------------------------------------------------------- a part is killed


@pytest.mark.parametrize(
    ("victim", "words"),
    [
        ("agent", "worker-0 died of SIGKILL; started again"),
        ("trainer", ""),
        ("master", "the master died of SIGKILL; started again"),
        ("nameserver", "the name server died; started again"),
    ],
)
def test_a_search_survives_the_death_of_any_of_its_processes_in_mid_evaluation(
    victim: str, words: str, search: LocalSearchProcess
) -> None:
    with search.held(recorded=2) as process:
        acknowledged = search.results()
        killed = search.kill(victim)
        search.hold(False)
        output = search.end_of(process, 0)
    assert words in output
    assert all(each.pid != killed for each in search.processes())
    search.check(acknowledged)
    check_curves(search)


def test_workers_keep_their_evaluations_while_the_master_is_away(tmp_path: Path) -> None:
    search = LocalSearchProcess(tmp_path, **PATIENT)
    with search.held() as process:
        trainers = {each.pid for each in search.processes("trainer")}
        (killed,) = search.processes("master")
        killed.kill()
        until(lambda: [each.pid for each in search.processes("master")] not in ([], [killed.pid]), "a new master is up")
        search.hold(False)
        search.end_of(process, 0)
    search.check()
    assert not search.of(Expired)
    assert {entry.attempt for entry in search.of(Leased)} == {1}
    assert {int(path.name.partition("-")[2]) for path in search.place.glob("inside-*")} == trainers


def test_an_evaluation_whose_trainer_was_killed_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    search = LocalSearchProcess(tmp_path, algorithm="random", limits={"evaluations": 1})
    with search.running(workers=1) as process:
        search.hold()
        search.wait_inside(1)
        search.kill("trainer")
        search.hold(False)
        search.end_of(process, 0)
    search.check()
    (outcome,) = search.results().values()
    assert outcome.info["began"] == 1
    check_curves(search)
    assert [entry.attempt for entry in search.of(Leased)] == [1, 2]


# ------------------------------------------------------------------------------------------------ everything is killed


def test_the_same_command_goes_on_after_everything_was_killed(search: LocalSearchProcess) -> None:
    with search.held(recorded=4) as process:
        acknowledged = search.results()
        search.kill_all(process)
        assert not search.processes()
    assert len(acknowledged) >= 4
    assert "going on" in search.run()
    search.check(acknowledged)
    check_curves(search)


def test_nothing_outlives_a_launcher_that_was_killed(search: LocalSearchProcess) -> None:
    with search.held(recorded=1) as process:
        process.kill()
        until(lambda: not search.processes(), "everything that the launcher started has ended by itself")
    search.hold(False)
    search.run()
    search.check()


def test_one_worker_s_search_decides_the_same_with_and_without_interruptions(tmp_path: Path) -> None:
    (tmp_path / "straight").mkdir()
    (tmp_path / "disturbed").mkdir()
    straight = LocalSearchProcess(tmp_path / "straight", seed=5, **PATIENT)
    disturbed = LocalSearchProcess(tmp_path / "disturbed", seed=5, **PATIENT)
    straight.run(workers=1)
    with disturbed.running(workers=1) as process:
        disturbed.wait_recorded(3)
        disturbed.hold()
        disturbed.wait_inside(1)
        disturbed.kill("master")
        disturbed.hold(False)
        disturbed.wait_recorded(7)
        disturbed.hold()
        disturbed.wait_inside(1)
        process.send_signal(signal.SIGTERM)
        disturbed.end_of(process, 130)
    disturbed.run(workers=1)
    straight.check()
    disturbed.check()
    assert any(entry.proposal.model_budget is not None for entry in straight.of(Sampled))
    assert disturbed.decisions() == straight.decisions()
    assert len(disturbed.of(Leased)) == len(straight.of(Leased)) + len(disturbed.handed_back())
    assert len(disturbed.of(Started)) == 3


def test_a_search_that_was_killed_evaluates_what_an_undisturbed_one_evaluates(tmp_path: Path) -> None:
    # Interrupted evaluations run again when their leases have expired, after others: only the order differs.
    (tmp_path / "straight").mkdir()
    (tmp_path / "disturbed").mkdir()
    straight = LocalSearchProcess(tmp_path / "straight", seed=5, algorithm="hyperband")
    disturbed = LocalSearchProcess(tmp_path / "disturbed", seed=5, algorithm="hyperband")
    straight.run()
    with disturbed.running() as process:
        disturbed.wait_recorded(3)
        disturbed.hold()
        disturbed.wait_inside()
        disturbed.kill_all(process)
    disturbed.hold(False)
    disturbed.run()
    disturbed.check()
    assert len(disturbed.of(Leased)) > len(straight.of(Leased))
    proposals = [{entry.config_id: entry.proposal for entry in each.of(Sampled)} for each in (straight, disturbed)]
    assert proposals[0] == proposals[1]
    losses = [{name: each.loss for name, each in search.results().items()} for search in (straight, disturbed)]
    assert losses[0] == losses[1]


# ----------------------------------------------------------------------------------------------------- asked to end


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_hands_the_running_evaluations_back_with_their_checkpoints(
    number: signal.Signals, search: LocalSearchProcess
) -> None:
    with search.held() as process:
        process.send_signal(number)
        output = search.end_of(process, 130)
    assert "running evaluations are handed back" in output
    handed_back = search.handed_back()
    assert len(handed_back) == 2
    assert all(entry.directory is not None for entry in handed_back)
    assert not search.results()
    search.run()
    search.check()
    assert [search.results()[entry.evaluation].info["began"] for entry in handed_back] == [1, 1]
    assert all(entry.curve for entry in handed_back)
    check_curves(search)


def test_a_second_signal_ends_at_once_whatever_the_objective_does(search: LocalSearchProcess) -> None:
    with search.running() as process:
        search.deafen()
        search.wait_inside()
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        # A pipe is open.
        until(lambda: "stopping" in process.stdout.readline(), "the launcher has received the first signal")  # type: ignore[union-attr]
        process.send_signal(signal.SIGINT)
        # Otherwise the end takes the objective's grace period of 20 s.
        output, _ = process.communicate(timeout=15)
        assert process.returncode == 130, output
        until(lambda: not search.processes(), "every process of the search has ended")
    assert not search.handed_back()


def test_a_signal_before_anything_runs_ends_everything(search: LocalSearchProcess) -> None:
    with search.running() as process:
        until(lambda: search.processes("agent"), "the first processes were started")
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
        assert process.returncode in (130, -signal.SIGTERM)
        until(lambda: not search.processes(), "every process of the search has ended")


# ---------------------------------------------------------------------------------------- faults that end a search


def test_a_child_that_dies_again_and_again_ends_the_search_with_its_last_words(search: LocalSearchProcess) -> None:
    with search.running(workers=1) as process:
        search.hold()
        search.wait_inside(1)
        dead: set[int] = set()

        def is_up_or_given_up() -> bool:
            return process.poll() is not None or bool({each.pid for each in search.processes("nameserver")} - dead)

        for _ in range(5):
            dead.add(search.kill("nameserver"))
            until(is_up_or_given_up, "the name server was started again")
        output = search.end_of(process, 4)
    assert "the name server died, 5 times within a minute" in output
    assert "run the same command again" in output
    search.hold(False)
    search.run(workers=1)
    search.check()


def test_a_search_whose_workers_have_all_gone_says_so_instead_of_waiting(search: LocalSearchProcess) -> None:
    with search.running(workers=1) as process:
        search.hold()
        search.wait_inside(1)
        search.processes("agent")[0].terminate()
        # With the worker's code.
        output = search.end_of(process, 130)
    assert "no worker is left: worker-0 ended with exit code 130" in output
    assert search.handed_back()
    search.hold(False)
    search.run(workers=1)
    search.check()


# ------------------------------------------------------------------------------------------------------- the end


def test_a_finished_search_is_one_file_and_is_not_run_again_and_more_brackets_extend_it(tmp_path: Path) -> None:
    search = LocalSearchProcess(tmp_path, limits={"brackets": 1})
    search.run()
    search.check()
    assert {path.name for path in search.directory.path.glob("journal*")} == {"journal.sqlite"}
    first = search.results()
    leased = len(search.of(Leased))
    search.run()
    assert len(search.of(Leased)) == leased
    search.extend(brackets=2)
    search.run()
    search.check(first)
    assert len(search.results()) > len(first)
