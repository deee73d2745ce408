"""Whatever agents do, in whatever order, the invariants of the engine hold and a replay gives the same engine."""

from __future__ import annotations

from typing import Any

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hpbandster_lite.engine import Engine, Grant, Granted
from hpbandster_lite.records import Entry, FailureKind, Limits, Report
from tests.engine_room import engine_for, failed, loss, settings_for, snapshot, space_of

AGENTS = st.sampled_from([f"agent{number}" for number in range(5)])
LOSSES = st.sampled_from([0.0, 0.25, 0.25, 0.5, 1.0])
FAILURES = st.sampled_from([kind for kind in FailureKind if kind is not FailureKind.INFRASTRUCTURE])
SPACE = space_of()


class Search(RuleBasedStateMachine):
    """Agents that join, work, fail, die, come back, repeat themselves and are cut off; masters that die and restart."""

    @initialize(algorithm=st.sampled_from(["hyperband", "bohb", "random"]), brackets=st.integers(1, 4))
    def begin(self, algorithm: str, brackets: int) -> None:
        self.settings = settings_for(SPACE, algorithm=algorithm, budgets=(1.0, 3.0), max_attempts=2)
        self.limits = Limits(brackets=brackets)
        self.engine = engine_for(self.settings, SPACE)
        self.now = 0.0
        self.epoch = 1
        self.journal: list[Entry] = []
        self.requests: dict[str, int] = {}
        self.grants: dict[str, list[Grant]] = {}
        self.outcomes: dict[Any, Any] = {}
        self.keep(self.engine.start(1, self.limits, now=0.0).entries)

    def keep(self, entries: tuple[Entry, ...]) -> None:
        self.journal += entries

    @rule(agent=AGENTS)
    def ask_for_work(self, agent: str) -> None:
        self.requests[agent] = self.requests.get(agent, 0) + 1
        turn = self.engine.lease(agent, self.requests[agent], now=self.now)
        self.keep(turn.entries)
        if isinstance(turn.answer, Granted):
            self.grants.setdefault(agent, []).append(turn.answer.grant)

    @rule(agent=AGENTS)
    def repeat_the_last_request(self, agent: str) -> None:
        turn = self.engine.lease(agent, self.requests.get(agent, 0), now=self.now)
        if agent in self.engine.state.held_by and self.requests.get(agent) == self.engine.state.request_of.get(agent):
            assert isinstance(turn.answer, Granted)
        self.keep(turn.entries)
        if isinstance(turn.answer, Granted):
            self.grants.setdefault(agent, []).append(turn.answer.grant)

    @precondition(lambda self: any(self.grants.values()))
    @rule(data=st.data(), value=LOSSES, kind=st.none() | FAILURES)
    def report_any_attempt_ever_granted(self, data: st.DataObject, value: float, kind: FailureKind | None) -> None:
        agent = data.draw(st.sampled_from(sorted(agent for agent, grants in self.grants.items() if grants)))
        # Mostly the newest; an older one is a late report, or a repeated one.
        grants = self.grants[agent]
        grant = grants[-1] if data.draw(st.integers(0, 3)) else data.draw(st.sampled_from(grants))
        report: Report = loss(grant, value) if kind is None else failed(grant, kind)
        turn = self.engine.report(agent, report, now=self.now)
        self.keep(turn.entries)
        first = self.outcomes.setdefault(grant.evaluation, report.outcome)
        known = self.engine.state.evaluations[grant.evaluation].outcome
        if turn.answer == "recorded":
            assert known is report.outcome or known == report.outcome
            self.outcomes[grant.evaluation] = report.outcome
        elif known is not None and first == known:
            assert self.outcomes[grant.evaluation] == known, "a final outcome has changed"

    @precondition(lambda self: self.engine.state.held_by)
    @rule(data=st.data(), directory=st.none() | st.just("checkpoint"))
    def hand_back(self, data: st.DataObject, directory: str | None) -> None:
        agent = data.draw(st.sampled_from(sorted(self.engine.state.held_by)))
        held = self.engine.state.held_by[agent]
        attempt = self.engine.state.evaluations[held].attempts
        self.keep(self.engine.release(agent, held, attempt, "preempted", directory, now=self.now).entries)

    @rule(agent=AGENTS)
    def lose_a_connection(self, agent: str) -> None:
        self.engine.disconnected(agent, now=self.now)

    @precondition(lambda self: self.engine.state.held_by)
    @rule(data=st.data())
    def send_a_heartbeat(self, data: st.DataObject) -> None:
        agent = data.draw(st.sampled_from(sorted(self.engine.state.held_by)))
        held = self.engine.state.held_by[agent]
        self.engine.renew(agent, held, self.engine.state.evaluations[held].attempts, now=self.now)

    @rule(seconds=st.sampled_from([0.5, 11.0, 61.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.now += seconds
        self.keep(self.engine.expire(now=self.now).entries)

    @rule(more=st.integers(0, 1))
    def kill_the_master_and_start_another(self, more: int) -> None:
        self.epoch += 1
        self.limits = Limits(brackets=(self.limits.brackets or 0) + more)
        self.engine = self.rebuilt(len(self.journal))
        self.keep(self.engine.start(self.epoch, self.limits, now=self.now).entries)

    @rule(data=st.data())
    def any_prefix_of_the_journal_gives_one_and_the_same_next_decision(self, data: st.DataObject) -> None:
        length = data.draw(st.integers(1, len(self.journal)))
        one, other = self.rebuilt(length), self.rebuilt(length)
        one.validate()
        assert snapshot(one) == snapshot(other)
        assert one.lease("newcomer", 1, now=0.0) == other.lease("newcomer", 1, now=0.0)

    def rebuilt(self, length: int) -> Engine:
        engine = engine_for(self.settings, SPACE)
        engine.replay(self.journal[:length])
        return engine

    @invariant()
    def everything_holds(self) -> None:
        if hasattr(self, "engine"):
            self.engine.validate()
            assert self.engine.state.position == len(self.journal)

    @invariant()
    def replay_gives_the_same_state(self) -> None:
        if hasattr(self, "engine"):
            assert snapshot(self.rebuilt(len(self.journal))) == snapshot(self.engine)

    def teardown(self) -> None:
        """Liveness: once the faults stop, one agent alone brings every search to its end."""
        if not hasattr(self, "engine"):
            return
        self.now += 1_000.0
        self.keep(self.engine.expire(now=self.now).entries)
        request = self.requests.get("last", 0)
        for _ in range(2_000):
            request += 1
            turn = self.engine.lease("last", request, now=self.now)
            if not isinstance(turn.answer, Granted):
                break
            self.engine.report("last", loss(turn.answer.grant, 1.0), now=self.now)
        self.engine.validate()
        assert self.engine.finished is not None
        assert all(evaluation.outcome for evaluation in self.engine.state.evaluations.values())


TestSearch = Search.TestCase
TestSearch.settings = hypothesis_settings(max_examples=40, stateful_step_count=40)
