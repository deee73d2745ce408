"""The trainer as a real process: for everything that an objective does, the agent learns the outcome and continues."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from hpbandster_lite.process.environment import trainer_environment
from hpbandster_lite.records import ConfigId, EvaluationId, FailureKind
from hpbandster_lite.trainer.handle import TrainerHandle
from hpbandster_lite.trainer.messages import (
    TrainerDied,
    TrainerEnded,
    TrainerInterrupted,
    TrainerMessage,
    TrainerOrder,
    TrainerPoint,
    TrainerReady,
    TrainerRefused,
)
from hpbandster_lite.trainer.out_of_memory import MemoryWatch
from hpbandster_lite.trainer.process_tree import become_subreaper
from tests.service.local_search import until
from tests.service.worker_master import outcomes_of, wait_for_the_end_of
from tests.service.worker_objectives import DEEDS, REFERENCE

MessageKind = TypeVar("MessageKind")
Start = Callable[..., TrainerHandle]

CODE, MEMORY, INVALID = FailureKind.CODE, FailureKind.MEMORY, FailureKind.INVALID
BAD = {
    "raises": (CODE, "ValueError: learning rate too high"),
    "sys.exits": (CODE, "the objective called sys.exit(3)"),
    "exits": (CODE, "the objective ended its process with exit status 7 (os._exit, or a library's exit)"),
    "closes": (CODE, "the objective closed the pipe to the agent (os.closerange?)"),
    "children then crash": (CODE, "the objective crashed its process by SIGSEGV"),
    "SIGSEGV": (CODE, "the objective crashed its process by SIGSEGV"),
    "SIGBUS": (CODE, "the objective crashed its process by SIGBUS"),
    "SIGABRT": (CODE, "the objective crashed its process by SIGABRT"),
    "SIGFPE": (CODE, "the objective crashed its process by SIGFPE"),
    "SIGILL": (CODE, "the objective crashed its process by SIGILL"),
    "SIGKILL": (FailureKind.INFRASTRUCTURE, "the trainer was ended from outside by SIGKILL"),
    "SIGTERM": (FailureKind.INFRASTRUCTURE, "the trainer was ended from outside by SIGTERM"),
    "out of memory": (MEMORY, "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"),
    "memory limit": (MEMORY, "MemoryError"),
    "nan": (INVALID, "what evaluate returned is nan; return a finite number"),
    "text": (INVALID, "what evaluate returned is '0.5', a str; it must be one number, or a mapping with 'loss'"),
    "own object": (INVALID, "an Own; it must be one number"),
}
"""Deeds that fail, with the class and the words of the failure."""
GOOD = {
    *("ok", "environment", "trial", "curve", "floods", "children", "forks", "finishes and dies", "garbage"),
    *("own object inside", "20 MB", "reports from forks", "reports from a spawned child", "reports on kept trials"),
    *("leaves a child that reports", "forks and waits"),
}
"""Deeds that give a loss."""
STOPPED = {
    *("children then wait", "a second process, then waits", "saves until interrupted", "deaf", "spins"),
    *("swallows", "signals its group", "signals its worker", "asks until it must stop"),
}
"""Deeds that do not end by themselves; tests/service/test_agent_ends.py ends them."""


def test_every_deed_is_covered() -> None:
    assert {*BAD, *GOOD, *STOPPED, "infeasible"} == set(DEEDS)


# ----------------------------------------------------------------------------------------------------------- outcomes


@pytest.mark.parametrize("deed", BAD)
def test_a_misdeed_is_an_outcome_of_its_class_and_the_next_evaluation_is_run(deed: str, tmp_path: Path) -> None:
    bad, following = outcomes_of(tmp_path, deed, "ok")
    kind, reason = BAD[deed]
    assert bad.failure is not None
    assert bad.failure.kind is kind
    assert reason in bad.failure.reason
    assert bad.failure.log_tail[0] == f"begin {deed}"
    assert bad.duration_s is not None
    assert following.loss == 3.0


def test_an_exception_comes_with_its_traceback_from_the_user_s_first_line_on(tmp_path: Path) -> None:
    (outcome,) = outcomes_of(tmp_path, "raises")
    assert outcome.failure is not None
    traceback = outcome.failure.traceback or ""
    assert re.findall(r"in (\w+)", traceback) == ["evaluate", "_raises", "deeper"]
    assert traceback.endswith("ValueError: learning rate too high\n")


def test_a_crash_shows_where_it_was_in_its_last_lines(tmp_path: Path) -> None:
    (outcome,) = outcomes_of(tmp_path, "SIGSEGV")
    assert outcome.failure is not None
    tail = "\n".join(outcome.failure.log_tail)
    assert "Fatal Python error: Segmentation fault" in tail
    assert "in deed" in tail


def test_an_infeasible_configuration_is_not_begun(tmp_path: Path) -> None:
    refused, following = outcomes_of(tmp_path, "infeasible", "ok")
    assert refused.failure is not None
    assert (refused.failure.kind, refused.failure.reason) == (FailureKind.INFEASIBLE, "never mind")
    assert refused.failure.log_tail == ()
    assert following.info["evaluated"] == ["ok"]


def test_a_kill_with_evidence_that_memory_ran_out_is_the_objective_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryWatch, "evidence", lambda self: "the kernel's count has risen")
    (outcome,) = outcomes_of(tmp_path, "SIGKILL")
    assert outcome.failure is not None
    assert outcome.failure.kind is MEMORY
    assert outcome.failure.reason == "the trainer was ended by SIGKILL: the kernel's count has risen"


def test_an_error_because_a_process_beside_was_killed_for_memory_is_put_down_to_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryWatch, "has_killed", lambda self: True)
    failed, invalid = outcomes_of(tmp_path, "raises", "nan")
    assert [outcome.failure and outcome.failure.kind for outcome in (failed, invalid)] == [MEMORY, INVALID]


@pytest.mark.parametrize(
    ("deed", "key", "note"),
    [
        ("own object inside", "model", "not kept: info['model'] is a worker_objectives.Own: return plain numbers"),
        ("20 MB", "weights", "not kept: info['weights'] is 20,000,002 bytes long; the limit is"),
    ],
)
def test_information_that_cannot_be_kept_leaves_a_note_and_the_loss(
    deed: str, key: str, note: str, tmp_path: Path
) -> None:
    (outcome,) = outcomes_of(tmp_path, deed)
    assert (outcome.loss, outcome.failure) == (1.0, None)
    assert note in str(outcome.info[key])


def test_bytes_of_others_in_the_pipe_are_set_aside_and_the_loss_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (outcome,) = outcomes_of(tmp_path, "garbage")
    assert (outcome.loss, [point.step for point in outcome.curve]) == (0.5, [1.0])
    assert caplog.text.count("wrote to the pipe between trainer and agent: 7,000 bytes") == 1


def test_reports_of_many_processes_at_once_stay_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (outcome,) = outcomes_of(tmp_path, "reports from forks")
    assert outcome.loss == 0.5
    # The agent thins a curve of more than 4 MiB; it drops no whole report.
    assert all(point.metrics["text"] == "x" * 20_000 for point in outcome.curve)
    assert len({point.metrics["pid"] for point in outcome.curve}) == 8
    assert "set aside" not in caplog.text


def test_a_spawned_child_reports_to_the_trial_of_its_parent(tmp_path: Path) -> None:
    (outcome,) = outcomes_of(tmp_path, "reports from a spawned child")
    assert (outcome.loss, [point.step for point in outcome.curve]) == (0.0, [1.0, 2.0])


def test_a_trial_that_has_ended_adds_no_point_to_the_next_curve(tmp_path: Path) -> None:
    outcomes = outcomes_of(tmp_path, *["reports on kept trials"] * 3)
    for number, outcome in enumerate(outcomes, 1):
        assert [point.loss for point in outcome.curve] == [float(number)] * 3
    logs = [(tmp_path / f"evaluations/2-0-{number}/rung1/attempt1/log.txt").read_text() for number in range(3)]
    # One note for each trial.
    assert [text.count("which has ended; such points are dropped") for text in logs] == [0, 1, 1]
    assert "trial.report was called for 2-0-1 at rung 1" in logs[2]


@pytest.mark.parametrize("deed", ["children", "children then crash"])
def test_processes_that_the_objective_started_end_with_its_evaluation_detached_ones_too(
    deed: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outcome, following = outcomes_of(tmp_path, deed, "ok")
    wait_for_the_end_of(*outcome.curve[0].metrics["pids"])
    assert following.loss == 3.0
    if deed == "children":
        assert "the objective left processes running, which end with its trainer: sleep 600; sleep 600" in caplog.text


def test_an_objective_that_forks_by_hand_gives_one_result_and_leaves_no_second_trainer(tmp_path: Path) -> None:
    outcome, following = outcomes_of(tmp_path, "forks", "ok")
    assert outcome.loss == 0.0
    wait_for_the_end_of(outcome.info["child"])
    assert following.loss == 3.0


def test_forked_children_end_with_their_own_exit_codes_and_by_sigterm(tmp_path: Path) -> None:
    (outcome,) = outcomes_of(tmp_path, "forks and waits")
    assert outcome.info["codes"] == {"returns": 0, "sys.exit": 3, "raises": 1, "SIGTERM": -15}


def test_a_trainer_that_dies_between_two_evaluations_loses_neither(tmp_path: Path) -> None:
    outcomes = outcomes_of(tmp_path, "finishes and dies", "ok", "ok")
    assert [outcome.loss for outcome in outcomes] == [0.125, 3.0, 3.0]
    assert outcomes[1].info["pid"] == outcomes[2].info["pid"]


def test_a_flood_of_output_is_bounded_on_disk_and_keeps_its_last_hundred_lines(tmp_path: Path) -> None:
    (outcome,) = outcomes_of(tmp_path, "floods", max_log_bytes=10_000)
    assert outcome.loss == 0.5
    text = (tmp_path / "evaluations/2-0-0/rung1/attempt1/log.txt").read_text()
    lines = text.splitlines()
    assert len(text) < 10_000 + 100 * 80
    assert lines[:2] == ["begin floods", f"line 0 {'x' * 60}"]
    assert lines[-100:] == [f"line {number} {'x' * 60}" for number in range(199_900, 200_000)]
    assert outcome.directory is None


# ------------------------------------------------------------------------------------------------------- the process


def received_until(
    trainer: TrainerHandle, kind: type[MessageKind], within_s: float = 30.0
) -> tuple[MessageKind, list[TrainerMessage]]:
    """The first message of this kind, and the messages before it."""
    deadline = time.monotonic() + within_s
    before: list[TrainerMessage] = []
    while time.monotonic() < deadline:
        poll = select.poll()
        for descriptor in trainer.descriptors:
            poll.register(descriptor, select.POLLIN)
        poll.poll(1_000 * trainer.poll_every_s)
        for message in trainer.receive():
            if isinstance(message, kind):
                return message, before
            before.append(message)
    pytest.fail(f"no {kind.__name__} within {within_s} s, only {before}")


def order(deed: str, directory: Path, **changed: Any) -> TrainerOrder:
    fields = {"evaluation": EvaluationId(ConfigId(2, 0, 0), 1), "attempt": 1, "values": {"do": deed}, "budget": 3.0,
            "max_budget": 9.0, "unit": "steps", "seed": 11, "directory": str(directory), **changed}
    return TrainerOrder(**fields)


@pytest.fixture(autouse=True)
def buries_orphans(leaves_nothing_behind: None) -> None:
    """Make this process a reaper, like an agent: processes that detach from a trainer become its children."""
    become_subreaper()


@pytest.fixture
def start() -> Iterator[Start]:
    """A function that starts trainers; all are killed at the end."""
    started: list[TrainerHandle] = []

    def trainer(problem: str = REFERENCE, **environment: str) -> TrainerHandle:
        started.append(TrainerHandle(problem, trainer_environment({**os.environ, **environment}, None, None)))
        return started[-1]

    yield trainer
    for trainer_ in started:
        trainer_.kill()


@pytest.fixture
def ready(start: Start) -> TrainerHandle:
    trainer = start()
    received_until(trainer, TrainerReady)
    return trainer


def test_a_trainer_that_is_stopped_is_logged_once_with_the_command_that_continues_it(
    ready: TrainerHandle, caplog: pytest.LogCaptureFixture
) -> None:
    os.kill(ready.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, ready.pid, os.WSTOPPED | os.WNOWAIT)
    for _ in range(2):
        ready._sample_at = 0.0
        ready.sample()
    assert caplog.messages == [f"the trainer is stopped; to continue it: kill -CONT {ready.pid}"]


@pytest.mark.parametrize("is_sampled_first", [True, False], ids=["noticed before", "noticed by the order"])
def test_a_trainer_that_is_stopped_continues_when_its_evaluation_is_to_stop(
    ready: TrainerHandle, tmp_path: Path, caplog: pytest.LogCaptureFixture, is_sampled_first: bool
) -> None:
    ready.evaluate(order("saves until interrupted", tmp_path), None)
    received_until(ready, TrainerPoint)
    os.kill(ready.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, ready.pid, os.WSTOPPED | os.WNOWAIT)
    if is_sampled_first:
        ready._sample_at = 0.0
        ready.sample()
    ready.ask_to_stop()
    deadline = time.monotonic() + 20
    while not any(isinstance(each, TrainerInterrupted | TrainerEnded) for each in ready.receive()):
        assert time.monotonic() < deadline
        ready.sample()
        time.sleep(0.01)
    assert "continues so that its evaluation can save" in caplog.text


def test_a_trainer_reports_its_problem_when_it_is_imported(start: Start) -> None:
    trainer = start()
    assert not trainer.is_ready
    message, before = received_until(trainer, TrainerReady)
    assert (message.problem, len(message.source_hash), before) == ("worker_objectives", 64, [])
    assert trainer.is_ready


def test_a_trainer_is_warm_it_imports_the_problem_once(ready: TrainerHandle, tmp_path: Path) -> None:
    for evaluated in (["ok"], ["ok", "ok"]):
        ready.evaluate(order("ok", tmp_path), None)
        ended, before = received_until(ready, TrainerEnded)
        assert (ended.info, before) == ({"pid": ready.pid, "evaluated": evaluated}, [])
        assert not ended.has_children


def test_what_each_evaluation_prints_is_in_its_own_log(ready: TrainerHandle, tmp_path: Path) -> None:
    for deed in ("ok", "curve"):
        ready.evaluate(order(deed, tmp_path), tmp_path / deed / "log.txt")
        received_until(ready, TrainerEnded)
        assert ready.log_tail() == (f"begin {deed}",)
        assert (tmp_path / deed / "log.txt").read_text() == f"begin {deed}\n"


def test_the_points_of_the_curve_are_received_in_order_before_the_end(ready: TrainerHandle, tmp_path: Path) -> None:
    ready.evaluate(order("curve", tmp_path), None)
    ended, before = received_until(ready, TrainerEnded)
    assert ended.loss == 0.25
    assert [point.point.step for point in before if isinstance(point, TrainerPoint)] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_child_that_reports_after_its_evaluation_adds_nothing_to_the_next_one(
    ready: TrainerHandle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ready.evaluate(order("leaves a child that reports", tmp_path), None)
    received_until(ready, TrainerEnded)
    for _ in range(3):
        ready.evaluate(order("curve", tmp_path), None)
        _, before = received_until(ready, TrainerEnded)
        assert [point.point.step for point in before if isinstance(point, TrainerPoint)] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert caplog.text.count("still calls trial.report; its points are dropped") <= 4


def test_the_end_of_an_evaluation_reports_whether_it_left_children(ready: TrainerHandle, tmp_path: Path) -> None:
    ready.evaluate(order("children", tmp_path), None)
    ended, _ = received_until(ready, TrainerEnded)
    assert ended.has_children
    assert sorted(ready.leftover_processes(ended.has_children)) == ["sleep 600", "sleep 600"]
    ready.kill()
    wait_for_the_end_of(*ended.info["pids"])


@pytest.mark.parametrize("how", [TrainerHandle.ask_to_stop, TrainerHandle.terminate])
def test_once_grace_has_begun_the_next_report_interrupts_and_the_trainer_stays(
    how: Callable[[TrainerHandle], None], ready: TrainerHandle, tmp_path: Path
) -> None:
    ready.evaluate(order("saves until interrupted", tmp_path), None)
    received_until(ready, TrainerPoint)
    how(ready)
    interrupted, _ = received_until(ready, TrainerInterrupted)
    assert not interrupted.has_children
    ready.evaluate(order("curve", tmp_path), None)
    ended, before = received_until(ready, TrainerEnded)
    assert (ended.loss, len(before)) == (0.25, 5)


@pytest.mark.parametrize("how", [TrainerHandle.ask_to_stop, TrainerHandle.terminate])
def test_once_grace_has_begun_an_objective_that_asks_saves_and_ends(
    how: Callable[[TrainerHandle], None], ready: TrainerHandle, tmp_path: Path
) -> None:
    ready.evaluate(order("asks until it must stop", tmp_path), None)
    received_until(ready, TrainerPoint)
    until((tmp_path / "asks").exists, "the objective asks")
    how(ready)
    interrupted, _ = received_until(ready, TrainerInterrupted)
    assert not interrupted.was_cut_off
    assert (tmp_path / "saved").exists()
    ready.evaluate(order("curve", tmp_path), None)
    assert received_until(ready, TrainerEnded)[0].loss == 0.25


def test_an_except_exception_does_not_swallow_the_interruption(ready: TrainerHandle, tmp_path: Path) -> None:
    ready.evaluate(order("swallows", tmp_path), None)
    received_until(ready, TrainerPoint)
    ready.ask_to_stop()
    received_until(ready, TrainerInterrupted)


def test_a_signal_to_an_idle_trainer_does_not_interrupt_its_next_evaluation(
    ready: TrainerHandle, tmp_path: Path
) -> None:
    os.kill(ready.pid, signal.SIGTERM)
    ready.evaluate(order("curve", tmp_path), None)
    ended, before = received_until(ready, TrainerEnded)
    assert (ended.loss, len(before)) == (0.25, 5)


def test_test_figures_are_asked_for_by_the_same_trainer(ready: TrainerHandle, tmp_path: Path) -> None:
    ready.evaluate(order("ok", tmp_path, call="test", previous_directory="/saved"), None)
    ended, _ = received_until(ready, TrainerEnded)
    assert (ended.loss, ended.info) == (None, {"tested": "ok", "budget": 3.0, "previous": "/saved"})


def test_a_trainer_has_a_session_of_its_own_and_no_key(start: Start, tmp_path: Path) -> None:
    trainer = start(HPBANDSTER_LITE_KEY="k" * 32)
    received_until(trainer, TrainerReady)
    trainer.evaluate(order("environment", tmp_path), None)
    ended, _ = received_until(trainer, TrainerEnded)
    info = ended.info
    assert info["group"] == info["session"] == info["pid"] == trainer.pid != os.getpgrp()
    assert info["environment"]["HPBANDSTER_LITE_KEY"] is None


def test_a_torch_free_problem_costs_no_library(start: Start, tmp_path: Path) -> None:
    trainer = start()
    received_until(trainer, TrainerReady)
    trainer.evaluate(order("environment", tmp_path), None)
    ended, _ = received_until(trainer, TrainerEnded)
    assert ended.info["modules"] == []
    assert ended.info["device"] == "cpu"


def test_a_death_comes_last_and_once(ready: TrainerHandle, tmp_path: Path) -> None:
    ready.evaluate(order("SIGSEGV", tmp_path), tmp_path / "log.txt")
    died, before = received_until(ready, TrainerDied)
    assert (died.failure.kind, before) == (CODE, [])
    assert (ready.receive(), ready.descriptors) == ([], ())
    assert "Segmentation fault" in (tmp_path / "log.txt").read_text()


def test_an_order_to_a_trainer_that_has_died_is_no_error(ready: TrainerHandle, tmp_path: Path) -> None:
    os.kill(ready.pid, signal.SIGKILL)
    wait_for_the_end_of(ready.pid)
    ready.evaluate(order("ok", tmp_path), None)
    ready.ask_to_stop()
    died, _ = received_until(ready, TrainerDied)
    assert died.failure.kind is FailureKind.INFRASTRUCTURE


def test_a_problem_that_cannot_be_imported_is_refused_with_its_error(start: Start) -> None:
    trainer = start("no_such_problem")
    # On a busy machine both arrive at once.
    died, (refused,) = received_until(trainer, TrainerDied)
    assert isinstance(refused, TrainerRefused)
    assert "there is no problem 'no_such_problem'" in refused.message
    assert "exit status 2" in died.failure.reason


def test_a_problem_that_finds_no_room_when_it_is_imported_says_on_which_disk(start: Start, tmp_path: Path) -> None:
    problem = tmp_path / "caches.py"
    problem.write_text("raise OSError(28, 'No space left on device', '/data/cache/x')")
    _, (refused,) = received_until(start(str(problem)), TrainerDied)
    assert isinstance(refused, TrainerRefused)
    assert refused.no_room_in == "/data/cache"


def test_an_idle_trainer_that_is_closed_ends_by_itself(start: Start, tmp_path: Path) -> None:
    problem = tmp_path / "tidy.py"
    problem.write_text(
        "import atexit, pathlib\n"
        f"atexit.register(lambda: pathlib.Path({str(tmp_path / 'farewell')!r}).write_text('done'))\n"
        "def evaluate(config, budget, trial): return 0.5\n"
    )
    trainer = start(str(problem))
    received_until(trainer, TrainerReady)
    trainer.close()
    assert (tmp_path / "farewell").read_text() == "done"
    wait_for_the_end_of(trainer.pid)
    trainer.close()
    trainer.kill()


def test_an_idle_trainer_that_does_not_end_by_itself_is_killed(start: Start, tmp_path: Path) -> None:
    problem = tmp_path / "sticky.py"
    problem.write_text(
        "import atexit, time\natexit.register(time.sleep, 600)\ndef evaluate(config, budget, trial): return 0.5\n"
    )
    trainer = start(str(problem))
    received_until(trainer, TrainerReady)
    trainer.close()
    wait_for_the_end_of(trainer.pid)


def test_a_closed_output_does_not_wake_the_agent_for_ever(start: Start, tmp_path: Path) -> None:
    problem = tmp_path / "silent.py"
    # The second range contains the copies with which a trainer restores its output.
    closing = "os.closerange(0, 3), os.closerange(512, 520)"
    problem.write_text(f"import os\ndef evaluate(config, budget, trial):\n    {closing}\n    return 0.5\n")
    trainer = start(str(problem))
    received_until(trainer, TrainerReady)
    watched = len(trainer.descriptors)
    trainer.evaluate(order("", tmp_path), None)
    ended, _ = received_until(trainer, TrainerEnded)
    assert ended.loss == 0.5
    assert "cannot be restored: the standard streams" in str(ended.renewal)
    trainer.receive()
    assert len(trainer.descriptors) == watched - 1


def test_a_trainer_ends_when_its_agent_has_closed_the_pipe(ready: TrainerHandle, tmp_path: Path) -> None:
    ready.evaluate(order("saves until interrupted", tmp_path), None)
    received_until(ready, TrainerPoint)
    ready._pipes.close_orders()
    died, _ = received_until(ready, TrainerDied)
    assert died.failure.kind is FailureKind.INFRASTRUCTURE


def test_a_trainer_ends_when_the_lifeline_is_cut_though_the_objective_holds_the_interpreter(
    ready: TrainerHandle, tmp_path: Path
) -> None:
    ready.evaluate(order("spins", tmp_path), None)
    received_until(ready, TrainerPoint)
    os.close(ready._pipes.lifeline)
    ready._pipes.lifeline = -1
    died, _ = received_until(ready, TrainerDied)
    assert died.failure.reason == "the trainer was ended from outside by SIGKILL"


def test_a_trainer_that_a_user_starts_prints_what_to_start_instead() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hpbandster_lite.trainer"], stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "an agent starts hpbandster_lite.trainer; start a worker with: hpbandster-lite worker\n"


def test_a_describing_process_without_a_question_ends_silently() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hpbandster_lite.trainer", "--describe", "1"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")


def test_a_description_can_be_read_from_standard_output() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hpbandster_lite.trainer", "--describe", "1"],
        input=json.dumps({"reference": "no_such_problem", "arguments": [], "is_source_alone": False}) + "\n",
        stdout=subprocess.PIPE, text=True, check=True,
    )
    assert done.stdout.startswith('{"refused":"ProblemError","message":"there is no problem')
