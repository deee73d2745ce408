"""The agent with a real trainer and a scripted master: it loses no evaluation, whichever process dies."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpbandster_lite import wire
from hpbandster_lite.agent.loop import Agent, run_agent
from hpbandster_lite.errors import MasterUnreachable, NotAuthorised, ProtocolMismatch, UsageError
from hpbandster_lite.protocol.messages import Done, ExchangeRequest, Grant, Hello, Leave, LeftReport
from hpbandster_lite.records import FailureKind
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.transport import PROTOCOL, Client
from tests.grants import grant
from tests.service.transport_peer import KEY, OBJECT, running, server
from tests.service.worker_master import (
    ATTEMPT,
    Answer,
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
)

# ------------------------------------------------------------------------------------------------------- evaluations


def test_an_agent_works_until_the_search_is_over(tmp_path: Path) -> None:
    master = ScriptedMaster(deeds("ok", "curve"))
    assert run_agent(options(tmp_path), connect=master.connect) == 0
    assert [outcome.loss for outcome in master.outcomes] == [3.0, 0.25]
    assert [point.step for point in master.outcomes[1].curve] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert master.closed == 1


def test_a_report_and_the_next_request_are_one_call(tmp_path: Path) -> None:
    master = ScriptedMaster(deeds("ok", "ok", "ok"))
    run_agent(options(tmp_path), connect=master.connect)
    exchanges = [(each.request, each.slots[0].wants_lease, has_report(each)) for each in master.exchanges]
    assert exchanges == [
        (1, True, False), (2, True, True), (3, True, True), (4, True, True)
    ]


def test_an_agent_introduces_itself_with_what_it_runs(tmp_path: Path) -> None:
    master = ScriptedMaster()
    run_agent(options(tmp_path, index=3, device=""), connect=master.connect)
    (hello,) = master.hellos
    assert (hello.problem, len(hello.source_hash), hello.pid) == ("worker_objectives", 64, os.getpid())
    assert hello.worker == f"{hello.host}-3"
    assert hello.agent.startswith(f"{hello.host}-{os.getpid()}-")


def test_heartbeats_carry_each_point_of_the_curve_once(tmp_path: Path) -> None:
    steps: list[float] = []

    def stop(message: Any) -> str | None:
        steps.extend(step for step, _, _ in message.curve)
        return "enough" if len(steps) > 20 else None

    master = ScriptedMaster(deeds("saves until interrupted"), stop=stop)
    assert run_agent(options(tmp_path), connect=master.connect) == 0
    assert steps == [float(step) for step in range(len(steps))]
    assert len(master.renewals) > 1


def test_an_objective_receives_the_content_of_the_grant(tmp_path: Path) -> None:
    for name in ("evaluations/2-0-0/rung0/attempt1", "evaluations/2-0-0/rung1/attempt1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "checkpoint").write_text("1")
    granted = grant({"do": "trial"}, attempt=2, previous_directory="evaluations/2-0-0/rung0/attempt1",
                 resume_directories=("evaluations/2-0-0/rung1/attempt1",))
    master = ScriptedMaster([granted])
    run_agent(options(tmp_path), connect=master.connect)
    (outcome,) = master.outcomes
    assert outcome.info == {
        "budget": 3.0, "max_budget": 9.0, "unit": "steps", "seed": 11, "config_id": [2, 0, 0], "rung": 1, "attempt": 2,
        "directory": str(tmp_path / "evaluations/2-0-0/rung1/attempt2"),
        "previous": str(tmp_path / "evaluations/2-0-0/rung0/attempt1"),
        "resume": str(tmp_path / "evaluations/2-0-0/rung1/attempt1"),
    }
    assert outcome.directory == "evaluations/2-0-0/rung1/attempt2"


def test_without_a_run_directory_checkpoints_are_reported_as_paths_of_this_host(tmp_path: Path) -> None:
    master = ScriptedMaster(deeds("trial"))
    alone = options(None, nameserver=("localhost", 1), run_id="r1", scratch=str(tmp_path))
    assert run_agent(alone, connect=master.connect) == 0
    (place,) = tmp_path.glob("r1-*")
    assert master.outcomes[0].directory == str(place / ATTEMPT)


def test_without_a_run_directory_nothing_is_left_but_checkpoints(tmp_path: Path) -> None:
    far = options(None, nameserver=("127.0.0.1", 1), run_id="far", scratch=str(tmp_path))
    assert run_agent(far, connect=ScriptedMaster(deeds("ok", "curve")).connect) == 0
    assert list(tmp_path.iterdir()) == []


def test_the_trainer_s_environment_is_set_before_the_problem_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPBANDSTER_LITE_KEY", "k" * 32)
    problem = tmp_path / "early.py"
    problem.write_text(
        "import os\nSEEN = {n: os.environ.get(n) for n in ('CUDA_VISIBLE_DEVICES', 'OMP_NUM_THREADS', "
        "'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'HPBANDSTER_LITE_KEY')}\n"
        "def evaluate(config, budget, trial): return {'loss': 0, **SEEN}\n"
    )
    (outcome,) = outcomes_of(tmp_path, "", problem=str(problem), device="GPU-1a2b", threads=2)
    assert outcome.info == {
        "CUDA_VISIBLE_DEVICES": "GPU-1a2b", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2",
        "OPENBLAS_NUM_THREADS": "2", "HPBANDSTER_LITE_KEY": None,
    }


def test_an_agent_imports_neither_the_problem_nor_what_only_problems_and_masters_need(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom tests.service.worker_master import *\n"
        "outcomes_of(Path(sys.argv[1]), 'ok', 'raises', problem=sys.argv[2])\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))\n"
    )
    problem = tmp_path / "objectives_under_another_name.py"
    problem.write_text("from worker_objectives import evaluate, feasible, space\n")
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path, problem], stdout=subprocess.PIPE, text=True, check=True,
        cwd=Path(__file__).parents[2], env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    loaded = set(done.stdout.split())
    assert "hpbandster_lite" in loaded
    assert not loaded & {"ConfigSpace", "numpy", "pandas", "rich", "scipy", "statsmodels", "torch", problem.stem}


# ------------------------------------------------------------------------------------------------- lost and repeated


def lose(*numbers: int) -> Callable[[str, Any, int], None]:
    """A hook that loses these exchanges; a heartbeat, which a slow machine makes in between, is no exchange."""
    counted = itertools.count(1)

    def hook(method: str, message: Any, number: int) -> None:
        if method == "exchange" and next(counted) in numbers:
            unreachable()

    return hook


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_lost_call_or_answer_is_repeated_word_for_word_and_runs_nothing_twice(where: str, tmp_path: Path) -> None:
    hook = lose(1, 2, 4, 7)
    master = ScriptedMaster(deeds("ok", "ok"), **{where: hook})  # type: ignore[arg-type] # one of the two hooks
    assert run_agent(options(tmp_path), connect=master.connect) == 0
    exchanges = [wire.to_message(message) for method, message in master.calls if method == "exchange"]
    assert [each["request"] for each in exchanges] == [1, 1, 1, 2, 2, 3, 3][: len(exchanges)]
    assert len(set(map(json.dumps, exchanges))) == 3
    assert [outcome.info["evaluated"] for outcome in master.outcomes] == [["ok"], ["ok", "ok"]]


def test_a_result_is_delivered_to_the_master_that_takes_over(tmp_path: Path) -> None:
    master = ScriptedMaster(deeds("ok", "ok"))

    def another_master(method: str, message: Any, number: int) -> None:
        if number == 2:
            master.epoch = 2
            unreachable()

    master.before = another_master
    assert run_agent(options(tmp_path), connect=master.connect) == 0
    assert master.epochs_asked == [0, 1]
    assert [outcome.loss for outcome in master.outcomes] == [3.0, 3.0]


def test_a_master_that_was_replaced_is_not_believed(tmp_path: Path) -> None:
    master = ScriptedMaster(deeds("ok", "ok"), epoch=5)

    counted = itertools.count(1)

    def revive_the_old_one(method: str, message: Any, number: int) -> None:
        # Of exchanges alone: a slow machine makes a heartbeat in between.
        is_old = method == "exchange" and next(counted) in (2, 3)
        master.epoch = 4 if is_old else 5

    master.before = revive_the_old_one
    assert run_agent(options(tmp_path), connect=master.connect) == 0
    reported = [each.request for each in master.exchanges if has_report(each)]
    assert reported == [2, 2, 2, 3]
    assert master.epochs_asked == [0, 5, 5]


def test_an_evaluation_goes_on_while_the_master_is_away(tmp_path: Path) -> None:
    steps: list[float] = []

    def hook(method: str, message: Any, number: int) -> None:
        if method == "renew" and len(steps) < 3:
            steps.append(message.curve[-1][0] if message.curve else -1)
            unreachable()

    master = ScriptedMaster(deeds("saves until interrupted"), before=hook, stop=lambda message: "enough")
    assert run_agent(options(tmp_path), connect=master.connect) == 0
    assert steps == sorted(set(steps))
    assert master.renewals[0].curve[0][0] == 0.0


def test_an_answer_that_is_no_grant_ends_the_agent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class NoGrant(ScriptedMaster):
        def call(self, method: str, message: Any) -> Any:
            answer = super().call(method, message)
            if method == "exchange":
                answer["slots"][0]["answer"] = {"type": "grant", "evaluation": None}
            return answer

    assert run_agent(options(tmp_path), connect=NoGrant().connect) == ProtocolMismatch.exit_code
    assert "a grant without" in caplog.text


@pytest.mark.parametrize("error", [NotAuthorised("wrong key"), UsageError("no such problem")])
def test_what_the_master_refuses_for_good_ends_the_agent_with_its_exit_code(
    error: NotAuthorised | UsageError, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise error

    assert run_agent(options(tmp_path), connect=ScriptedMaster(before=refuse).connect) == error.exit_code
    assert str(error) in caplog.text


# -------------------------------------------------------------------------------------------------- without a master


def test_a_result_that_no_master_takes_is_left_in_the_run_directory(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    master = ScriptedMaster(deeds("ok"), before=lambda method, message, number: unreachable() if number > 1 else None)
    assert run_agent(options(tmp_path, master_timeout_s=0.3), connect=master.connect) == MasterUnreachable.exit_code
    (path,) = (tmp_path / "reports").iterdir()
    left = wire.from_message(wire.decode(path.read_text()), LeftReport)
    assert (str(left.report.evaluation), left.report.attempt, left.report.outcome.loss) == ("2-0-0@1", 1, 3.0)
    assert left.agent == master.hellos[0].agent
    assert f"waits for the next master in {path}" in caplog.text


@pytest.mark.parametrize("deed", ["ok", "saves until interrupted"])
def test_an_agent_whose_master_comes_back_with_another_version_leaves_what_it_holds(
    deed: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The second master is a real server that refuses the greeting of an agent of an older protocol."""
    before = ScriptedMaster(deeds(deed))

    def restart(method: str, message: Any, number: int) -> None:
        if has_report(message) or has_reported(method, message):
            unreachable()

    before.before = restart
    masters: list[object] = []
    with server() as newer, running(newer):

        def connect(hello: Hello, epoch: int) -> Any:
            client = Client(*newer.endpoint, OBJECT, KEY, timeout_s=5.0, protocol=PROTOCOL - 1)
            masters.append(client if masters else before.connect(hello, epoch))
            return masters[-1]

        assert run_agent(options(tmp_path), connect=connect) == ProtocolMismatch.exit_code
    assert len(masters) == 2, "the agent called a master of another version again"
    assert f"has protocol {PROTOCOL} of hpbandster_lite, and this side has {PROTOCOL - 1}" in caplog.text
    assert "install the same version of hpbandster_lite on both sides" in caplog.text
    (path,) = (tmp_path / "reports").iterdir()
    left = wire.from_message(wire.decode(path.read_text()))
    if deed == "ok":
        assert left.report.outcome.loss == 3.0
    else:
        # It had its grace period, and saved.
        assert left.reason == "the master has another protocol version"
        assert (left.agent, left.directory) == (before.hellos[0].agent, ATTEMPT)


def test_an_agent_that_never_finds_a_master_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run_agent(options(tmp_path, master_timeout_s=0.2)) == MasterUnreachable.exit_code
    assert f"no master serves {tmp_path}; start one: hpbandster-lite master" in caplog.text
    assert "start a worker again when there is one" in caplog.text
    assert not (tmp_path / "reports").exists()


def test_a_result_that_cannot_be_left_is_reported_as_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "reports").write_text("no directory")
    master = ScriptedMaster(deeds("ok"), before=lambda method, message, number: unreachable() if number > 1 else None)
    assert run_agent(options(tmp_path, master_timeout_s=0.3), connect=master.connect) == MasterUnreachable.exit_code
    assert "the result of evaluation 2-0-0@1 is lost" in caplog.text


def test_a_result_is_left_when_the_agent_is_killed_at_once(tmp_path: Path) -> None:
    def hook(method: str, message: Any, number: int) -> None:
        if has_report(message):
            terminate_me()
            unreachable()

    master = ScriptedMaster(deeds("ok"), before=hook)
    assert run_agent(options(tmp_path), connect=master.connect) == 130
    assert [path.name for path in (tmp_path / "reports").iterdir()] == ["2-0-0@1-1.json"]


def test_a_result_is_left_when_no_trainer_can_be_started_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_process(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    def hook(method: str, message: Any, number: int) -> None:
        if method == "exchange" and not has_report(message):
            monkeypatch.setattr("subprocess.Popen", no_process)
        if has_report(message):
            unreachable()

    # The agent replaces the trainer, because the old one may not release its memory.
    master = ScriptedMaster(deeds("out of memory"), before=hook)
    with pytest.raises(BlockingIOError):
        run_agent(options(tmp_path), connect=master.connect)
    assert [path.name for path in (tmp_path / "reports").iterdir()] == ["2-0-0@1-1.json"]


def test_an_agent_that_waits_for_its_master_does_not_turn_in_vain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[None] = []
    turn = Agent.turn

    def counted(self: Agent, readable: set[int]) -> None:
        turns.append(None)
        turn(self, readable)

    monkeypatch.setattr(Agent, "turn", counted)
    # Its idle timeout has passed, but it still has a report: it does not end, and only the next try is due.
    master = ScriptedMaster(deeds("ok"), before=lambda method, message, number: unreachable() if number > 1 else None)
    about = options(tmp_path, idle_timeout_s=0.05, master_timeout_s=1.0)
    assert run_agent(about, connect=master.connect) == MasterUnreachable.exit_code
    assert len(turns) < 40 + 3 * len(master.calls)


# ------------------------------------------------------------------------------------------------------- idle agents


def test_an_agent_with_nothing_to_do_ends_after_its_idle_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    master = ScriptedMaster(deeds("ok"), ends=False)
    with caplog.at_level("INFO"):
        assert run_agent(options(tmp_path, idle_timeout_s=0.2), connect=master.connect) == 0
    assert [outcome.loss for outcome in master.outcomes] == [3.0]


def test_an_agent_leaves_after_its_number_of_evaluations_when_the_last_one_is_acknowledged(tmp_path: Path) -> None:
    master = ScriptedMaster(deeds("ok", "infeasible", "ok", "ok"))
    # Refused configurations do not count as evaluations.
    assert run_agent(options(tmp_path, max_evaluations=2), connect=master.connect) == 0
    assert len(master.outcomes) == 3
    assert len(master.granted) == 3
    assert not RunDirectory(tmp_path).left_reports()


def test_the_last_of_its_evaluations_is_delivered_though_the_master_is_away_for_a_while(tmp_path: Path) -> None:
    def hook(method: str, message: Any, number: int) -> None:
        if has_report(message) and len(lost) < 4:
            lost.append(number)
            unreachable()

    lost: list[int] = []
    master = ScriptedMaster(deeds("ok", "ok"), before=hook)
    assert run_agent(options(tmp_path, max_evaluations=1), connect=master.connect) == 0
    assert (len(lost), len(master.outcomes)) == (4, 1)


def test_an_agent_of_limited_time_says_with_each_question_what_is_left(tmp_path: Path) -> None:
    master = ScriptedMaster(deeds("ok", "ok"))
    ends_at = time.monotonic() + 1_000.0
    assert run_agent(options(tmp_path, time_ends_at=ends_at), connect=master.connect) == 0
    left_s = [each.time_left_s or 0.0 for each in master.exchanges]
    assert 0 < left_s[-1] < left_s[0] < 1_000.0


def test_an_agent_without_a_limit_says_nothing_of_one(tmp_path: Path) -> None:
    master = ScriptedMaster(deeds("ok"))
    run_agent(options(tmp_path), connect=master.connect)
    assert {each.time_left_s for each in master.exchanges} == {None}


def test_an_agent_for_which_everything_is_too_long_leaves_and_is_to_be_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class TooLong(ScriptedMaster):
        def _next(self, request: ExchangeRequest) -> Answer:
            answer = super()._next(request)
            return Leave(reason="it takes 100 s") if isinstance(answer, Done) else answer

    master = TooLong(deeds("ok"))
    with caplog.at_level("INFO"):
        assert run_agent(options(tmp_path, time_ends_at=time.monotonic() + 50.0), connect=master.connect) == 75
    assert "its time is too short for what is left to do: it takes 100 s" in caplog.text
    assert len(master.outcomes) == 1


def test_an_agent_with_nothing_to_do_ends_with_its_time(tmp_path: Path) -> None:
    master = ScriptedMaster(ends=False)
    ends_at = time.monotonic() + 1.5
    assert run_agent(options(tmp_path, time_ends_at=ends_at), connect=master.connect) == 75
    assert 0 <= time.monotonic() - ends_at < 5


def test_the_time_that_an_import_takes_is_no_idle_time(tmp_path: Path) -> None:
    problem = tmp_path / "slow_to_import.py"
    problem.write_text("import time\ntime.sleep(0.5)\ndef evaluate(config, budget, trial): return 0.5\n")
    # The first answer is a wait, later ones are grants.
    master = ScriptedMaster([None, grant({})], ends=False)
    assert run_agent(options(tmp_path, problem=str(problem), idle_timeout_s=0.4), connect=master.connect) == 0
    assert [outcome.loss for outcome in master.outcomes] == [0.5]


def test_a_trainer_that_dies_while_it_waits_is_replaced(tmp_path: Path) -> None:
    def granted() -> Iterator[Grant | None]:
        yield grant({"do": "ok"}, 0)
        os.kill(master.outcomes[0].info["pid"], signal.SIGKILL)
        # A wait, until the agent has detected the death of its trainer.
        while psutil.pid_exists(master.outcomes[0].info["pid"]):
            yield None
        master.ends = True
        yield grant({"do": "ok"}, 1)

    master = ScriptedMaster(granted(), ends=False)
    assert run_agent(options(tmp_path), connect=master.connect) == 0
    first, second = master.outcomes
    assert (first.loss, second.loss) == (3.0, 3.0)
    assert first.info["pid"] != second.info["pid"]


def test_a_trainer_that_is_killed_under_an_evaluation_is_no_fault_of_the_objective(tmp_path: Path) -> None:
    def kill_the_trainer() -> None:
        # Another test may have left a child of this process, such as multiprocessing's tracker.
        (trainer,) = filter(is_trainer, psutil.Process().children())
        trainer.kill()

    master = ScriptedMaster(deeds("saves until interrupted", "ok"), after=once(has_reported, kill_the_trainer))
    assert run_agent(options(tmp_path), connect=master.connect) == 0
    killed, following = master.outcomes
    assert killed.failure is not None
    assert killed.failure.kind is FailureKind.INFRASTRUCTURE
    assert killed.failure.reason == "the trainer was ended from outside by SIGKILL"
    assert killed.directory == ATTEMPT
    assert following.loss == 3.0


# ---------------------------------------------------------------------------------------- problems that fail to start


def exit_of(tmp_path: Path, text: str, **changed: Any) -> int:
    problem = tmp_path / "made_up.py"
    problem.write_text(text)
    master = ScriptedMaster()
    code = run_agent(options(tmp_path, problem=str(problem), **changed), connect=master.connect)
    assert master.calls == []
    return code


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n1 / 0", "failed at {file}:2: ZeroDivisionError: division by zero"),
        ("def evaluate(config): pass", "has the signature (config), but must accept (config, budget, trial)"),
        ("print('so far')\nimport os\nos._exit(7)", "cannot be run here: the objective ended its process with exit"),
        ("import os\nos.kill(os.getpid(), 11)", "Segmentation fault"),
        ("import sys\nsys.exit('no GPU')", "called sys.exit('no GPU')"),
    ],
)
def test_a_problem_that_cannot_be_imported_ends_the_agent_with_a_clear_message(
    text: str, words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert exit_of(tmp_path, text) == 2
    assert words.format(file=tmp_path / "made_up.py") in caplog.text


def test_an_agent_that_is_started_as_a_process_ends_with_the_same_exit_code_and_message(tmp_path: Path) -> None:
    briefing = wire.encode(wire.to_message(options(tmp_path, problem="digitz")))
    done = subprocess.run(
        [sys.executable, "-m", "hpbandster_lite.agent", briefing], stderr=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == 2
    assert "did you mean 'digits'?" in done.stderr


def test_an_import_that_hangs_ends_the_agent_at_its_limit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert exit_of(tmp_path, "import time\ntime.sleep(600)", load_timeout_s=0.3) == 2
    assert "was not imported within 0.3 s" in caplog.text


def test_a_problem_whose_trainers_die_before_they_evaluate_anything_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    problem = tmp_path / "dies_soon.py"
    problem.write_text(
        "import os, threading\nthreading.Timer(0.05, os._exit, [7]).start()\n"
        "def evaluate(config, budget, trial): return 0.5\n"
    )
    master = ScriptedMaster(ends=False)
    assert run_agent(options(tmp_path, problem=str(problem)), connect=master.connect) == 2
    assert caplog.text.count("while it had no evaluation; started again") == 4
    assert "cannot be run here: the objective ended its process with exit status 7" in caplog.text
