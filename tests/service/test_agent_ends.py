"""How an agent with a real trainer ends an evaluation, or itself: time limits, stops, signals, kills."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpbandster_lite import wire
from hpbandster_lite.agent.interrupts import END, END_OF_ALLOCATION
from hpbandster_lite.agent.loop import Agent, run_agent
from hpbandster_lite.protocol.messages import ReleaseRequest
from hpbandster_lite.records import ConfigId, EvaluationId, FailureKind, HandBackKind
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.trainer.process_tree import MARK
from tests.grants import grant
from tests.service.worker_master import (
    ATTEMPT,
    AgentProcess,
    ScriptedMaster,
    deeds,
    has_report,
    has_reported,
    is_trainer,
    once,
    options,
    outcomes_of,
    terminate_me,
    unreachable,
    wait_for_the_end_of,
)

# --------------------------------------------------------------------------------------------------------- time limit


@pytest.mark.parametrize("deed", ["deaf", "swallows", "saves until interrupted"])
def test_an_evaluation_over_its_time_limit_is_ended_and_the_next_one_is_run(deed: str, tmp_path: Path) -> None:
    late, following = outcomes_of(tmp_path, deed, "ok", timeout_s=0.3)
    assert late.failure is not None
    assert late.failure.kind is FailureKind.TIME_LIMIT
    assert late.failure.reason == "not done within the time limit of 0.3 s"
    assert late.failure.log_tail == (f"begin {deed}",)
    assert late.curve[0].step == 0.0
    assert late.duration_s is not None
    assert late.duration_s >= 0.3
    assert following.loss == 3.0


def test_a_hang_in_c_is_ended_with_the_processes_that_it_started(tmp_path: Path) -> None:
    late, following = outcomes_of(tmp_path, "spins", "ok", timeout_s=0.3)
    assert late.failure is not None
    assert late.failure.kind is FailureKind.TIME_LIMIT
    assert not group_of(late.curve[0].metrics["group"])
    assert following.loss == 3.0


def group_of(group: int) -> list[int]:
    """Running processes of a group."""
    def is_in(process: psutil.Process) -> bool:
        try:
            return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, ProcessLookupError):
            return False

    return [process.pid for process in psutil.process_iter() if is_in(process)]


# --------------------------------------------------------------------------------------------------- asked to hand back


def test_an_evaluation_that_the_master_stops_is_handed_back_with_its_checkpoint(tmp_path: Path) -> None:
    master = ScriptedMaster(
        deeds("saves until interrupted", "ok"), stop=lambda message: "its lease has expired" if message.curve else None
    )
    assert run_agent(options(tmp_path), connect=master.connect) == 0
    (release,) = master.releases
    assert release == ReleaseRequest(
        agent=master.hellos[0].agent, evaluation=EvaluationId(ConfigId(2, 0, 0), 1), attempt=1,
        reason="its lease has expired", directory=ATTEMPT, curve=release.curve,
    )
    assert [point.step for point in release.curve] == [float(step) for step in range(len(release.curve))]
    assert [outcome.loss for outcome in master.outcomes] == [3.0]
    resumed = grant({"do": "trial"}, attempt=2, resume_directories=(ATTEMPT,))
    again = ScriptedMaster([resumed])
    run_agent(options(tmp_path), connect=again.connect)
    assert again.outcomes[0].info["resume"] == str(tmp_path / ATTEMPT)


def test_an_objective_that_signals_its_own_process_group_is_handed_back_as_unordered(tmp_path: Path) -> None:
    master = ScriptedMaster(deeds("signals its group", "ok"))
    assert run_agent(options(tmp_path), connect=master.connect) == 0
    (release,) = master.releases
    assert release.kind is HandBackKind.UNORDERED
    assert "its worker received no order" in release.reason
    assert [outcome.loss for outcome in master.outcomes] == [3.0]


def test_an_objective_that_does_not_stop_within_grace_is_ended_and_handed_back(tmp_path: Path) -> None:
    master = ScriptedMaster(deeds("deaf", "ok"), stop=lambda message: "enough")
    assert run_agent(options(tmp_path, grace_s=0.3), connect=master.connect) == 0
    (release,) = master.releases
    assert (release.reason, release.directory) == ("enough; it did not stop within 0.3 s", None)
    assert [outcome.loss for outcome in master.outcomes] == [3.0]


def test_a_result_that_comes_within_grace_is_reported(tmp_path: Path) -> None:
    problem = tmp_path / "finishes.py"
    problem.write_text(
        "import time\ndef evaluate(config, budget, trial):\n"
        "    trial.report(0, 1.0)\n    time.sleep(0.3)\n    return 0.5\n"
    )
    master = ScriptedMaster(deeds(""), stop=lambda message: "enough")
    assert run_agent(options(tmp_path, problem=str(problem)), connect=master.connect) == 0
    assert (master.releases, [outcome.loss for outcome in master.outcomes]) == ([], [0.5])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_hands_the_lease_back_with_its_checkpoint_and_asks_for_nothing_more(
    number: signal.Signals, tmp_path: Path
) -> None:
    asked_to_end = once(has_reported, lambda: os.kill(os.getpid(), number))
    master = ScriptedMaster(deeds("saves until interrupted", "ok"), after=asked_to_end)
    assert run_agent(options(tmp_path), connect=master.connect) == 130
    (release,) = master.releases
    assert release.reason == f"its worker received {number.name}"
    assert release.directory == ATTEMPT
    assert int((tmp_path / ATTEMPT / "step").read_text()) > 0
    assert (len(master.granted), master.reports) == (1, [])


USR2, TERM = signal.SIGUSR2, signal.SIGTERM


@pytest.mark.parametrize(
    ("numbers", "code"), [((USR2,), 75), ((USR2, USR2), 75), ((USR2, TERM), 130), ((TERM, USR2), 130)]
)
def test_an_agent_whose_allocation_ends_hands_back_and_is_to_be_started_again(
    numbers: tuple[signal.Signals, ...], code: int, tmp_path: Path
) -> None:
    def send() -> None:
        for number in numbers:
            os.kill(os.getpid(), number)

    master = ScriptedMaster(deeds("saves until interrupted", "ok"), after=once(has_reported, send))
    assert run_agent(options(tmp_path), connect=master.connect) == code
    (release,) = master.releases
    assert release.directory == ATTEMPT
    assert (len(master.granted), master.reports) == (1, [])


def test_an_idle_agent_whose_allocation_ends_ends_at_once(tmp_path: Path) -> None:
    send_signal = once(lambda method, message: method == "exchange", lambda: os.kill(os.getpid(), USR2))
    master = ScriptedMaster(ends=False, after=send_signal)
    assert run_agent(options(tmp_path, grace_s=600.0), connect=master.connect) == 75
    assert master.releases == []


def test_what_is_handed_back_while_no_master_answers_waits_for_the_next_one(tmp_path: Path) -> None:
    def hook(method: str, message: Any, number: int) -> None:
        if method == "release":
            unreachable()
        send_signal(method, message, number)

    send_signal = once(has_reported, lambda: os.kill(os.getpid(), USR2))
    master = ScriptedMaster(deeds("saves until interrupted"), before=hook)
    assert run_agent(options(tmp_path), connect=master.connect) == 75
    (left,) = RunDirectory(tmp_path).left_releases()
    release = wire.from_message(wire.decode(left.read_text()), ReleaseRequest)
    assert release == ReleaseRequest(
        agent=master.hellos[0].agent, evaluation=EvaluationId(ConfigId(2, 0, 0), 1), attempt=1,
        reason="the allocation of its worker ends (SIGUSR2)", directory=ATTEMPT, curve=release.curve,
    )
    assert release.curve[0].step == 0.0


def test_a_lost_release_is_repeated(tmp_path: Path) -> None:
    def hook(method: str, message: Any, number: int) -> None:
        at_the_first(method, message, number)
        if method == "release" and len(master.releases) < 3:
            unreachable()

    at_the_first = once(has_reported, terminate_me)
    master = ScriptedMaster(deeds("saves until interrupted"), after=hook)
    assert run_agent(options(tmp_path), connect=master.connect) == 130
    assert len(master.releases) == 3
    assert all(release == master.releases[0] for release in master.releases)


def test_a_second_signal_while_the_agent_is_being_closed_ends_it_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closes: list[dict[str, bool]] = []
    close = Agent.close

    def interrupted(agent: Agent, **ends: bool) -> None:
        closes.append(ends)
        if len(closes) == 1:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
        close(agent, **ends)

    monkeypatch.setattr(Agent, "close", interrupted)
    master = ScriptedMaster(deeds("ok"))
    assert run_agent(options(tmp_path), connect=master.connect) == 130
    assert closes == [{}, {"at_once": True}]
    assert len(master.outcomes) == 1


def test_a_second_sigterm_ends_at_once_with_all_that_was_started(tmp_path: Path) -> None:
    def hook(method: str, message: Any, number: int) -> None:
        if has_reported(method, message):
            groups.append(message.curve[0][2]["group"])
        if groups:
            terminate_me()

    groups: list[int] = []
    master = ScriptedMaster(deeds("spins"), after=hook)
    assert run_agent(options(tmp_path, grace_s=600.0), connect=master.connect) == 130
    assert (master.releases, master.reports) == ([], [])
    assert not group_of(groups[0])


def test_an_idle_agent_ends_at_the_first_signal(tmp_path: Path) -> None:
    master = ScriptedMaster(ends=False, after=once(lambda method, message: method == "exchange", terminate_me))
    assert run_agent(options(tmp_path), connect=master.connect) == 130
    assert master.releases == []


def test_a_lease_that_arrives_when_the_agent_is_leaving_is_handed_back_untouched(tmp_path: Path) -> None:
    # The call with the report requests the next evaluation; its answer is lost, so the agent sends it again.
    def lose_the_answer(method: str, message: Any, number: int) -> None:
        if has_report(message) and not lost:
            lost.append(number)
            terminate_me()
            unreachable()

    lost: list[int] = []
    master = ScriptedMaster(deeds("ok", "trial"), after=lose_the_answer)
    assert run_agent(options(tmp_path), connect=master.connect) == 130
    assert [outcome.loss for outcome in master.outcomes] == [3.0]
    assert [release.evaluation for release in master.releases] == [EvaluationId(ConfigId(2, 0, 1), 1)]
    assert not (tmp_path / "evaluations" / "2-0-1").exists()


def test_an_agent_that_is_leaving_does_not_wait_for_an_answer_that_only_it_needs(tmp_path: Path) -> None:
    master = ScriptedMaster(deeds("trial"), after=asked_to_end_at_the_call(1))
    assert run_agent(options(tmp_path, grace_s=600.0), connect=master.connect) == 130
    assert [method for method, _ in master.calls] == ["exchange"]


def asked_to_end_at_the_call(wanted: int) -> Callable[[str, Any, int], None]:
    """A hook that loses the answer of this call and asks the agent to end at the same time."""

    def hook(method: str, message: Any, number: int) -> None:
        if number == wanted:
            terminate_me()
            unreachable()

    return hook


def test_signals_mean_what_they_did_before_when_the_agent_has_ended(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), signal.getsignal(USR2)
    run_agent(options(tmp_path), connect=ScriptedMaster().connect)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT), signal.getsignal(USR2)) == before
    assert signal.set_wakeup_fd(-1) == -1


@pytest.mark.parametrize(("word", "code"), [(END, 130), (END_OF_ALLOCATION, 75)])
def test_an_agent_accepts_repeated_orders_to_end_on_its_lifeline(
    word: bytes, code: int, tmp_path: Path
) -> None:
    reading, writing = os.pipe()
    master = ScriptedMaster(
        deeds("saves until interrupted"), after=lambda method, message, _: signal_agent(method, message)
    )

    def signal_agent(method: str, message: Any) -> None:
        if has_reported(method, message) or method == "release":
            os.write(writing, word)

    assert run_agent(options(tmp_path, lifeline=reading), connect=master.connect) == code
    assert [release.directory for release in master.releases] == [ATTEMPT]
    for descriptor in (reading, writing):
        os.close(descriptor)


def test_when_who_started_the_agent_is_gone_the_lease_is_handed_back(
    tmp_path: Path, lifeline: tuple[int, Callable[[], None]]
) -> None:
    reading, cut = lifeline
    master = ScriptedMaster(deeds("saves until interrupted"), after=once(has_reported, cut))
    assert run_agent(options(tmp_path, lifeline=reading), connect=master.connect) == 130
    (release,) = master.releases
    assert release.reason == "the process that started its worker is gone"


# ------------------------------------------------------------------------------------------- an agent that is killed


@pytest.mark.parametrize("deed", ["spins", "saves until interrupted"])
def test_an_agent_that_is_killed_takes_its_trainer_and_what_that_started_along(deed: str, tmp_path: Path) -> None:
    with AgentProcess(tmp_path, deed) as agent:
        agent.receives(has_reported)
        family = [process.pid for process in psutil.Process(agent.pid).children(recursive=True)]
        assert len(family) == (2 if deed == "spins" else 1)
        os.kill(agent.pid, signal.SIGKILL)
        wait_for_the_end_of(*family)


def orphan_guards(trainer: psutil.Process) -> list[psutil.Process]:
    """The processes that wait for the death of the agent of this trainer."""
    mark = f"{MARK}={trainer.environ()[MARK].rpartition('-')[0]}-"
    return [each for each in psutil.process_iter(["cmdline"]) if mark in (each.info["cmdline"] or ())]


def test_an_agent_that_is_killed_takes_along_what_had_left_its_trainer_s_group_and_session(tmp_path: Path) -> None:
    with AgentProcess(tmp_path, "children then wait") as agent:
        detached = agent.receives(has_reported).curve[0][2]["pids"][1]
        (trainer,) = (each for each in psutil.Process(agent.pid).children() if each.pid != detached)
        (orphan_guard,) = orphan_guards(trainer)
        assert os.getsid(detached) not in (trainer.pid, agent.pid)
        os.kill(agent.pid, signal.SIGKILL)
        wait_for_the_end_of(trainer.pid, detached, orphan_guard.pid)


def test_no_process_waits_for_the_death_of_an_agent_that_ends_in_order(tmp_path: Path) -> None:
    with AgentProcess(tmp_path, "saves until interrupted") as agent:
        agent.receives(has_reported)
        (trainer,) = psutil.Process(agent.pid).children()
        (orphan_guard,) = orphan_guards(trainer)
        # It also survives the end of the agent's job or terminal.
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(orphan_guard.pid, number)
        assert orphan_guards(trainer) == [orphan_guard]
        os.kill(agent.pid, signal.SIGTERM)
        assert agent.exit_code() == 130
        wait_for_the_end_of(orphan_guard.pid)


def test_a_process_that_is_terminated_hands_back_and_exits_with_130(tmp_path: Path) -> None:
    with AgentProcess(tmp_path, "saves until interrupted") as agent:
        agent.receives(has_reported)
        os.kill(agent.pid, signal.SIGTERM)
        assert agent.receives(lambda method, message: method == "release").directory == ATTEMPT
        assert agent.exit_code() == 130


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 130), (signal.SIGUSR2, 75)])
@pytest.mark.parametrize("deed", ["saves until interrupted", "a second process, then waits"])
def test_a_signal_to_all_processes_of_a_job_hands_back_just_the_same(
    deed: str, number: signal.Signals, code: int, tmp_path: Path
) -> None:
    with AgentProcess(tmp_path, deed) as agent:
        agent.receives(has_reported)
        family = psutil.Process(agent.pid).children(recursive=True)
        # Slurm does the same: a suspended process must run to receive a signal.
        for each in (signal.SIGCONT, number):
            for pid in (*(process.pid for process in family), agent.pid):
                os.kill(pid, each)
        assert agent.receives(lambda method, message: method == "release").directory == ATTEMPT
        assert agent.exit_code() == code
        wait_for_the_end_of(*(process.pid for process in family))


def test_a_program_of_an_objective_does_not_end_its_worker_and_costs_an_attempt(tmp_path: Path) -> None:
    with AgentProcess(tmp_path, "signals its worker", "ok", "saves until interrupted") as agent:
        release = agent.receives(lambda method, message: method == "release")
        assert release.kind is HandBackKind.UNORDERED
        assert re.fullmatch(
            r"process \d+ \(sh.*\) of its objective sent SIGTERM to its own worker \(to hand an evaluation back, .*\)",
            release.reason,
        )
        # The same worker goes on, and a signal from outside is an order as before.
        assert agent.receives(lambda method, message: has_report(message)).slots[0].report.outcome.loss == 3.0
        agent.receives(has_reported)
        os.kill(agent.pid, signal.SIGTERM)
        release = agent.receives(lambda method, message: method == "release")
        assert (release.kind, release.reason) == (HandBackKind.ORDERED, "its worker received SIGTERM")
        assert agent.exit_code() == 130


def test_processes_that_an_objective_starts_do_not_die_of_the_end_of_the_allocation(tmp_path: Path) -> None:
    with AgentProcess(tmp_path, "a second process, then waits") as agent:
        agent.receives(has_reported)
        (trainer,) = psutil.Process(agent.pid).children()
        os.killpg(trainer.pid, signal.SIGUSR2)
        # If its process had died, the objective would have failed by now.
        for _ in range(3):
            agent.receives(has_reported)
        os.kill(agent.pid, signal.SIGTERM)
        assert agent.exit_code() == 130


def test_a_trainer_that_has_just_been_started_does_not_die_of_the_end_of_the_allocation(tmp_path: Path) -> None:
    with AgentProcess(tmp_path, "saves until interrupted") as agent:
        deadline = time.monotonic() + 20
        while not (trainers := [each for each in psutil.Process(agent.pid).children() if is_trainer(each)]):
            assert time.monotonic() < deadline
        (trainer,) = trainers
        for _ in range(20):
            trainer.send_signal(signal.SIGUSR2)
            time.sleep(0.005)
        agent.receives(has_reported)
        assert [each.pid for each in psutil.Process(agent.pid).children()] == [trainer.pid]
