"""A cluster in one process: a thousand workers in simulated time, of which some die; every evaluation ends once."""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from hpbandster_lite.engine.decision_types import Grant, Granted
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.protocol.messages import Wait
from hpbandster_lite.records import Entry, Limits, Recorded
from tests.engine_room import loss, started


class Cluster:
    """Workers on an event queue; each requests work, takes a lognormal time of mean 10 s, and reports or dies."""

    def __init__(self, engine: Engine, workers: int, seed: int, *, dies: float = 0.0) -> None:
        self.engine = engine
        self.random = random.Random(seed)
        self.dies = dies
        self.entries: list[Entry] = []
        self.busy_s = 0.0
        self.first_wait_s = math.inf
        self.events: list[tuple[float, int, str, Grant | None]] = []
        self.number = 0
        self.requests: Counter[str] = Counter()
        self.workers = workers
        for index in range(workers):
            self.at(0.0, f"w{index}", None)

    def at(self, when: float, agent: str, grant: Grant | None) -> None:
        self.number += 1
        heapq.heappush(self.events, (when, self.number, agent, grant))

    def steps(self) -> Iterator[float]:
        next_expiry = 0.0
        while self.events:
            now, _, agent, grant = heapq.heappop(self.events)
            if now >= next_expiry:
                self.entries += self.engine.expire(now=now).entries
                next_expiry = now + 1.0
            self.step(now, agent, grant)
            yield now

    def step(self, now: float, agent: str, grant: Grant | None) -> None:
        if grant is not None and self.random.random() < self.dies:
            # It dies without a message; another worker replaces it after a while.
            self.at(now + 5.0, f"{agent}'", None)
            return
        self.requests[agent] += 1
        report = None if grant is None else loss(grant, self.random.random())
        turn = self.engine.exchange(agent, self.requests[agent], now=now, report=report)
        self.entries += turn.entries
        match turn.answer.answer:
            case Granted(granted):
                duration = self.random.lognormvariate(math.log(10.0) - 0.5, 1.0)
                self.busy_s += min(duration, max(0.0, self.first_wait_s - now))
                self.at(now + duration, agent, granted)
            case Wait(seconds=seconds):
                self.first_wait_s = min(self.first_wait_s, now)
                self.at(now + seconds, agent, None)
            case _:
                return


@pytest.mark.parametrize("dies", [0.0, 0.1])
def test_a_thousand_workers_finish_every_evaluation_once(dies: float) -> None:
    engine = started(Limits(evaluations=5_000), budgets=(1.0, 3.0, 9.0, 27.0))
    cluster = Cluster(engine, 1_000, seed=3, dies=dies)
    for _ in cluster.steps():
        pass
    engine.validate()
    recorded = Counter(entry.evaluation for entry in cluster.entries if isinstance(entry, Recorded))
    assert set(recorded.values()) == {1}
    assert len(recorded) == 5_000 == engine.state.recorded
    assert engine.finished is not None


def test_no_worker_waits_while_brackets_may_be_opened() -> None:
    engine = started(Limits(evaluations=5_000), budgets=(1.0, 3.0, 9.0, 27.0))
    cluster = Cluster(engine, 1_000, seed=4)
    for _ in cluster.steps():
        pass
    # Until the limit is reached the engine never answers Wait, so all workers are busy all the time.
    assert engine.state.started == 5_000
    waits_before_the_limit = [entry for entry in cluster.entries if isinstance(entry, Recorded)]
    assert cluster.first_wait_s > 10.0
    assert len(waits_before_the_limit) == 5_000
