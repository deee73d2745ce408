"""Statuses for tests: the status of a running search, with the changes of a test."""

from __future__ import annotations

from typing import Any

from hpbandster_lite.protocol.status import Agent, Bracket, Evaluations, Forecast, Incumbent, Rung, Status
from hpbandster_lite.records import ConfigId, Limits

INCUMBENT = Incumbent(
    config_id=ConfigId(0, 0, 3),
    rung=1,
    budget=3.0,
    loss=0.0625,
    values={"lr": 0.0123456789, "depth": 3, "optimizer": "adam"},
    info={"error_percent": 6.25, "curve": [1, 2], "weights": 12345},
    directory=None,
)


def a_rung(
    budget: float, places: int, done: int, running: int = 0, failed: int = 0, best: float | None = None
) -> Rung:
    return Rung(
        budget=budget,
        places=places,
        is_open=done + running > 0,
        done=done,
        running=running,
        failed=failed,
        best=best,
    )


def a_bracket(number: int, *rungs: Rung) -> Bracket:
    return Bracket(bracket=number, complete=rungs[-1].done >= rungs[-1].places, rungs=rungs)


def a_worker(worker: str, evaluation: str | None = None, **changed: Any) -> Agent:
    """A connected worker that is idle, or runs an evaluation such as ``0-0-5@1``."""
    fields: dict[str, Any] = {
        "agent": f"{worker}-4f",
        "worker": worker,
        "is_connected": True,
        "silent_s": 1.0,
        "is_silent": False,
    }
    if evaluation is not None:
        config_id, _, rung = evaluation.partition("@")
        fields |= {
            "evaluation": evaluation,
            "bracket": int(config_id.partition("-")[0]),
            "rung": int(rung),
            "budget": 3.0,
            "attempt": 1,
            "since_s": 83.4,
            "lease_ends_in_s": 55.0,
        }
    return Agent(**(fields | changed))


def counts(recorded: int, running: int = 0, recorded_here: int | None = None) -> Evaluations:
    return Evaluations(
        started=recorded + running,
        recorded=recorded,
        running=running,
        to_run_again=0,
        late=0,
        recorded_here=recorded_here,
    )


def a_status(**changed: Any) -> Status:
    fields: dict[str, Any] = {
        "answered_by": "master",
        "state": "running",
        "finish_kind": None,
        "reason": None,
        "paused": None,
        "paused_at": None,
        "problem": "digits",
        "algorithm": "bohb",
        "unit": "epochs",
        "seed": 7,
        "run_id": "digits-88b3",
        "epoch": 1,
        "uptime_s": 200.0,
        "brackets": (
            a_bracket(0, a_rung(1.0, 9, 9, 0, 1, 0.25), a_rung(3.0, 3, 1, 2, 0, 0.0625), a_rung(9.0, 1, 0)),
            a_bracket(1, a_rung(3.0, 3, 0, 1), a_rung(9.0, 1, 0)),
        ),
        "agents": (
            a_worker("node-0", "0-0-5@1", step=2.0, loss=0.125),
            a_worker("node-1", "0-0-7@1"),
            a_worker("node-2", "1-0-0@0"),
        ),
        "evaluations": counts(10, 3, recorded_here=10),
        "configurations": 10,
        "budget_started": 24.0,
        "failures": {"code": 1},
        "limits": Limits(brackets=3),
        "incumbent": INCUMBENT,
        "forecast": Forecast(evaluations=20, share=12 / 72, time_left_s=754.0),
    }
    return Status(**(fields | changed))
