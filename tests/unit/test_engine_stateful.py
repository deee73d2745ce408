"""For any actions of agents in any order, the invariants of the engine hold and a replay gives the same engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hpbandster_lite.engine.decision_types import Grant, Granted
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.errors import UsageError
from hpbandster_lite.records import Entry, EvaluationId, FailureKind, HandBackKind, Limits, Outcome, Report, SetAside
from tests.engine_room import engine_for, failed, loss, settings_for, snapshot, space_of

AGENTS = st.sampled_from([f"agent{number}" for number in range(5)])
LOSSES = st.sampled_from([0.0, 0.25, 0.25, 0.5, 1.0])
FAILURES = st.sampled_from([kind for kind in FailureKind if kind is not FailureKind.CANCELLED])
SPACE = space_of()


class Search(RuleBasedStateMachine):
    """Agents that join, work, fail, die, return, repeat requests and are cut off; masters that die and restart."""

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
        self.outcomes: dict[EvaluationId, Outcome] = {}
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
        # Mostly the newest attempt; a report of an older one is late or repeated.
        grants = self.grants[agent]
        grant = grants[-1] if data.draw(st.integers(0, 3)) else data.draw(st.sampled_from(grants))
        report: Report = loss(grant, value) if kind is None else failed(grant, kind)
        report = replace(report, resumed_from=data.draw(st.sampled_from([None, *(n for n, _ in grant.earlier)])))
        turn = self.engine.report(agent, report, now=self.now)
        self.keep(turn.entries)
        is_aside = any(isinstance(entry, SetAside) for entry in turn.entries)
        assert not is_aside or kind is FailureKind.CODE
        if turn.answer == "recorded" and kind is not FailureKind.INFRASTRUCTURE and not is_aside:
            assert self.engine.state.evaluations[grant.evaluation].outcome == report.outcome

    @precondition(lambda self: self.engine.state.held_by)
    @rule(data=st.data(), directory=st.none() | st.just("checkpoint"), kind=st.sampled_from(HandBackKind))
    def hand_back(self, data: st.DataObject, directory: str | None, kind: HandBackKind) -> None:
        how: dict[str, Any] = {"kind": kind, "was_cut_off": data.draw(st.booleans())}
        agent = data.draw(st.sampled_from(sorted(self.engine.state.held_by)))
        held = self.engine.state.held_by[agent]
        attempt = self.engine.state.evaluations[held].attempts
        lost, unexplained = self.engine.state.evaluations[held].lost, self.engine.state.evaluations[held].unexplained
        turn = self.engine.release(agent, held, attempt, "preempted", directory, now=self.now, **how)
        self.keep(turn.entries)
        assert self.engine.state.evaluations[held].lost == lost + (
            kind is HandBackKind.UNORDERED or (kind is HandBackKind.UNEXPLAINED and unexplained >= 2)
        )

    @rule(agent=AGENTS)
    def lose_a_connection(self, agent: str) -> None:
        self.engine.disconnected(agent, now=self.now)

    @precondition(lambda self: self.engine.state.held_by)
    @rule(data=st.data())
    def send_a_heartbeat(self, data: st.DataObject) -> None:
        agent = data.draw(st.sampled_from(sorted(self.engine.state.held_by)))
        held = self.engine.state.held_by[agent]
        self.engine.renew(agent, held, self.engine.state.evaluations[held].attempts, now=self.now)

    @precondition(lambda self: self.engine.state.evaluations)
    @rule(data=st.data())
    def cancel_an_evaluation(self, data: st.DataObject) -> None:
        promoted = [
            EvaluationId(config_id, index)
            for bracket in self.engine.state.brackets
            for index, rung in enumerate(bracket.rungs)
            for config_id in rung.promoted
        ]
        identity = data.draw(st.sampled_from(sorted([*self.engine.state.evaluations, *promoted])))
        known = self.engine.state.evaluations.get(identity)
        before = None if known is None else known.outcome
        if before is not None and (before.failure is None or before.failure.kind is not FailureKind.CANCELLED):
            with pytest.raises(UsageError):
                self.engine.cancel(identity)
            return
        turn = self.engine.cancel(identity)
        self.keep(turn.entries)
        assert turn.answer.is_change == (before is None)
        outcome = self.engine.state.evaluations[identity].outcome
        assert outcome is not None
        assert outcome.failure is not None
        assert outcome.failure.kind is FailureKind.CANCELLED

    @precondition(lambda self: self.engine.finished is None)
    @rule()
    def pause(self) -> None:
        self.keep(self.engine.pause().entries)
        held = set(self.engine.state.held_by)
        turn = self.engine.lease("newcomer", self.requests.get("newcomer", 0), now=self.now)
        self.keep(turn.entries)
        assert not isinstance(turn.answer, Granted)
        assert set(self.engine.state.held_by) == held

    @rule()
    def resume(self) -> None:
        self.keep(self.engine.resume().entries)

    @rule()
    def stop(self) -> None:
        self.keep(self.engine.stop(reason="ordered to stop").entries)
        assert self.engine.finished is not None
        assert self.engine.waits(self.now) == ()

    @rule()
    def start_again_with_the_failures(self) -> None:
        self.epoch += 1
        turn = self.engine.start(self.epoch, self.limits, now=self.now, retry_failed=True)
        self.keep(turn.entries)
        for identity in turn.answer.put_back:
            assert self.outcomes.pop(identity).loss is None

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
    def an_outcome_is_final_unless_it_is_put_back(self) -> None:
        if hasattr(self, "engine"):
            evaluations = self.engine.state.evaluations.items()
            now = {identity: evaluation.outcome for identity, evaluation in evaluations if evaluation.outcome}
            assert all(now.get(identity) == outcome for identity, outcome in self.outcomes.items())
            self.outcomes = now

    @invariant()
    def every_wait_has_a_reason(self) -> None:
        if hasattr(self, "engine") and self.engine.finished is None:
            for waiting in self.engine.waits(self.now):
                assert waiting.reason
                assert waiting.ends_in_s is None or waiting.ends_in_s >= 0

    @invariant()
    def replay_gives_the_same_state(self) -> None:
        if hasattr(self, "engine"):
            assert snapshot(self.rebuilt(len(self.journal))) == snapshot(self.engine)

    def teardown(self) -> None:
        """Liveness: after the faults stop, a single agent completes every search."""
        if not hasattr(self, "engine"):
            return
        self.now += 1_000.0
        self.keep(self.engine.resume().entries)
        self.keep(self.engine.expire(now=self.now).entries)
        self.keep(self.engine.start(self.epoch + 1, self.limits, now=self.now).entries)
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
