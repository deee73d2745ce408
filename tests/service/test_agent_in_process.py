"""An agent that evaluates in its own process (isolation none), alone and beside others in threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite.agent.loop import run_agent
from hpbandster_lite.problems import FunctionProblem
from hpbandster_lite.problems.trial import Trial
from hpbandster_lite.records import FailureKind
from tests.service.worker_master import (
    ATTEMPT,
    ScriptedMaster,
    deeds,
    has_reported,
    once,
    options,
    outcomes_of,
    terminate_me,
)


def inline(run_dir: Path, **changed: Any) -> Any:
    return options(run_dir, isolation="none", **changed)


def test_a_cheap_function_runs_inside_the_agent(tmp_path: Path) -> None:
    ok, bad, curve, following = outcomes_of(tmp_path, "ok", "raises", "curve", "ok", isolation="none")
    assert (ok.info["pid"], ok.loss) == (os.getpid(), 3.0)
    assert bad.failure is not None
    assert (bad.failure.kind, bad.failure.reason) == (FailureKind.CODE, "ValueError: learning rate too high")
    assert (curve.loss, len(curve.curve)) == (0.25, 5)
    assert following.loss == 3.0


@pytest.mark.parametrize("deed", ["sys.exits", "infeasible", "nan", "out of memory"])
def test_inside_the_agent_failures_have_the_same_classes(deed: str, tmp_path: Path) -> None:
    apart, following = outcomes_of(tmp_path / "inline", deed, "ok", isolation="none")
    (in_a_trainer,) = outcomes_of(tmp_path / "trainer", deed)
    assert apart.failure is not None
    assert in_a_trainer.failure is not None
    assert (apart.failure.kind, apart.failure.reason) == (in_a_trainer.failure.kind, in_a_trainer.failure.reason)
    assert following.loss == 3.0


def test_a_problem_without_an_import_path_runs_inside_the_agent(tmp_path: Path) -> None:
    losses = iter([0.5, 0.25])
    problem = FunctionProblem(lambda config, budget, trial: {"loss": next(losses), "do": config["do"]})
    master = ScriptedMaster(deeds("a", "b"))
    assert run_agent(inline(tmp_path, problem="<lambda>"), connect=master.connect, problem=problem) == 0
    assert [(outcome.loss, outcome.info) for outcome in master.outcomes] == [(0.5, {"do": "a"}), (0.25, {"do": "b"})]
    assert master.hellos[0].problem == "lambda"


def test_a_problem_that_cannot_be_imported_inside_the_agent_ends_it_just_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run_agent(inline(tmp_path, problem="digitz"), connect=ScriptedMaster().connect) == 2
    assert "did you mean 'digits'?" in caplog.text


def test_inside_the_agent_an_objective_is_interrupted_at_its_next_report(tmp_path: Path) -> None:
    master = ScriptedMaster(deeds("saves until interrupted", "ok"), after=once(has_reported, terminate_me))
    assert run_agent(inline(tmp_path), connect=master.connect) == 130
    assert [release.directory for release in master.releases] == [ATTEMPT]


def in_a_thread(about: Any, master: ScriptedMaster, problem: Any = None) -> tuple[threading.Thread, list[int]]:
    codes: list[int] = []

    def work() -> None:
        codes.append(run_agent(about, connect=master.connect, problem=problem))

    thread = threading.Thread(target=work, name="an-agent")
    thread.start()
    return thread, codes


def test_agents_in_threads_work_side_by_side_until_their_search_is_over(tmp_path: Path) -> None:
    meet = threading.Barrier(3, timeout=20)

    def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> float:
        # All three run at the same time.
        meet.wait()
        return 0.5

    masters = [ScriptedMaster(deeds("", "")) for _ in range(3)]
    working = [in_a_thread(inline(tmp_path, index=index), master, FunctionProblem(evaluate))
               for index, master in enumerate(masters)]
    for thread, codes in working:
        thread.join(20)
        assert codes == [0]
    assert [[outcome.loss for outcome in master.outcomes] for master in masters] == [[0.5, 0.5]] * 3
    assert len({master.hellos[0].agent for master in masters}) == 3


def test_an_agent_in_a_thread_ends_when_its_lifeline_is_cut(
    tmp_path: Path, lifeline: tuple[int, Callable[[], None]]
) -> None:
    reading, cut = lifeline
    masters = [ScriptedMaster(deeds("saves until interrupted")), ScriptedMaster(ends=False)]
    is_under_way = threading.Event()
    masters[0].after = once(has_reported, is_under_way.set)
    working = [in_a_thread(inline(tmp_path, lifeline=reading), master) for master in masters]
    assert is_under_way.wait(20)
    cut()
    for thread, codes in working:
        thread.join(20)
        assert codes == [130]
    assert [release.reason for release in masters[0].releases] == ["the process that started its worker is gone"]
    assert masters[1].releases == []


def test_a_function_that_does_not_come_back_is_handed_back_and_left_alone(tmp_path: Path) -> None:
    may_end = threading.Event()

    def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> float:
        trial.report(0, 1.0)
        may_end.wait(30)
        trial.report(1, 1.0)
        return 0.5

    master = ScriptedMaster(deeds("", ), stop=lambda message: "enough" if message.curve else None)
    about = inline(tmp_path, grace_s=0.1)
    assert run_agent(about, connect=master.connect, problem=FunctionProblem(evaluate)) == 0
    assert [release.reason for release in master.releases] == ["enough; it did not stop within 0.1 s"]
    assert master.reports == []
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "inline-trainer"]
    may_end.set()
    thread.join(20)
    assert not thread.is_alive()
