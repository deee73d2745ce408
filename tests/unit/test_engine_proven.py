"""Leases of agents that are proven dead or stopped: when they end, what that costs, and what a stopped one may do."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hpbandster_lite.engine.decision_types import Done, Grant, Granted
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.protocol.messages import Keep, Stop, Wait
from hpbandster_lite.protocol.slots import slot_name
from hpbandster_lite.records import (
    AgentJoined,
    Entry,
    Expired,
    ExpiryKind,
    Failure,
    FailureKind,
    Leased,
    Limits,
    ProcessIdentity,
    Recorded,
)
from tests.engine_room import (
    engine_for,
    granted,
    loss,
    replayed,
    settings_for,
    snapshot,
    space_of,
    verified,
)

PROCESS = ProcessIdentity(host="node1", pid=12, boot_id="b", pid_namespace="pid:[1]", started_ticks=99)
ONE_RUNG = (1.0,)


def begun(*, evaluations: int = 2, max_attempts: int = 3, limits: Limits | None = None) -> Engine:
    """A search whose last evaluations run: agents ``a``, ``b``, ... hold one each."""
    engine = engine_for(settings_for(space_of(), budgets=ONE_RUNG, max_attempts=max_attempts), space_of())
    engine.start(1, limits or Limits(evaluations=evaluations), now=0.0)
    return engine


def ended(engine: Engine, *, dead: str = "", stopped: str = "", now: float = 1.0) -> list[Entry]:
    return list(engine.end_proven(list(dead), list(stopped), now=now).entries)


# --------------------------------------------------------------------------------------------------------- a dead one


def test_the_lease_of_a_dead_agent_ends_at_once_and_counts_as_lost() -> None:
    engine = begun()
    grant = granted(engine, "a")
    (entry,) = ended(engine, dead="a")
    assert entry == Expired(
        evaluation=grant.evaluation,
        attempt=1,
        agent="a",
        reason="the process of its agent is gone",
        kind=ExpiryKind.DEAD,
    )
    again = granted(engine, "b", now=1.0)
    assert (again.evaluation, again.attempt) == (grant.evaluation, 2)
    assert engine.state.evaluations[grant.evaluation].lost == 1
    assert ended(engine, dead="a") == []


def test_an_evaluation_whose_agents_all_died_fails_after_its_last_attempt() -> None:
    engine = begun(evaluations=1, max_attempts=2)
    granted(engine, "a")
    ended(engine, dead="a")
    granted(engine, "b", now=1.0)
    expired, recorded = ended(engine, dead="b")
    assert isinstance(expired, Expired)
    assert isinstance(recorded, Recorded)
    assert recorded.outcome.failure == Failure(
        kind=FailureKind.INFRASTRUCTURE,
        reason="lost 2 times, the last time because of: the process of its agent is gone",
    )


def test_a_later_master_learns_from_the_journal_which_process_holds_a_lease() -> None:
    engine = begun()
    engine.introduce("a", PROCESS)
    turn = engine.exchange(slot_name("a", 1), 1, now=0.0, worker="w")
    joined, leased = turn.entries[-2:]
    assert (joined, type(leased)) == (AgentJoined(agent="a", process=PROCESS), Leased)
    again = engine.exchange("a", 1, now=0.0, worker="w")
    assert not any(isinstance(entry, AgentJoined) for entry in again.entries), "once for all slots"
    later = begun()
    later.replay((*turn.entries, *again.entries))
    assert later.process_of("a") == PROCESS
    assert later.process_of("b") is None
    (expired,) = (entry for entry in ended_named(later, "a+1") if isinstance(entry, Expired))
    assert expired.reason == "the process of its agent is gone (pid 12 on host node1)"


def ended_named(engine: Engine, agent: str) -> tuple[Entry, ...]:
    return engine.end_proven([agent], [], now=1.0).entries


# ------------------------------------------------------------------------------------------------------- a stopped one


def test_the_lease_of_a_stopped_agent_is_waited_for_while_there_is_other_work() -> None:
    engine = begun(evaluations=3)
    granted(engine, "a")
    granted(engine, "b")
    assert engine.holders_in_doubt({"a", "b"}, now=1.0) == []
    assert ended(engine, stopped="a") == []
    granted(engine, "c")
    assert engine.holders_in_doubt({"a", "b", "c"}, now=1.0) == ["a", "b", "c"]
    assert len(ended(engine, stopped="a")) == 1


def test_the_evaluation_of_a_stopped_agent_is_run_again_and_uses_no_attempt() -> None:
    engine = begun(evaluations=1, max_attempts=1)
    grant = granted(engine, "a")
    assert isinstance(engine.lease("b", 0, now=1.0).answer, Wait)
    (entry,) = ended(engine, stopped="a")
    assert entry == Expired(
        evaluation=grant.evaluation,
        attempt=1,
        agent="a",
        reason="the process of its agent is stopped, and nothing else was left to do",
        kind=ExpiryKind.STOPPED,
    )
    again = granted(engine, "b", 1, now=1.0)
    assert (again.evaluation, again.attempt) == (grant.evaluation, 2)
    assert engine.state.evaluations[grant.evaluation].lost == 0
    assert engine.exchange("b", 2, now=2.0, report=loss(again, 0.5)).answer.report_is == "recorded"
    assert isinstance(engine.lease("b", 3, now=2.0).answer, Done)
    engine.validate()


@pytest.mark.parametrize("is_taken", [False, True])
def test_a_stopped_agent_that_continues_keeps_its_attempt_unless_another_one_has_it(is_taken: bool) -> None:
    engine = begun(evaluations=1, max_attempts=1)
    grant = granted(engine, "a")
    ended(engine, stopped="a")
    if is_taken:
        granted(engine, "b", now=1.0)
    answer = engine.renew("a", grant.evaluation, 1, now=5.0).answer
    assert isinstance(answer, Stop) if is_taken else answer == Keep()
    assert engine.state.evaluations[grant.evaluation].lost == 0
    # Its late result is the first one, so it counts.
    assert engine.exchange("a", 1, now=6.0, report=loss(grant, 0.5)).answer.report_is == "recorded"
    engine.validate()


def test_all_stopped_agents_lose_their_leases_together() -> None:
    engine = begun()
    granted(engine, "a")
    granted(engine, "b")
    assert [entry.agent for entry in ended(engine, stopped="ab") if isinstance(entry, Expired)] == ["a", "b"]


def test_after_a_dead_agent_there_is_work_so_a_stopped_one_is_waited_for() -> None:
    engine = begun()
    granted(engine, "a")
    granted(engine, "b")
    (entry,) = ended(engine, dead="a", stopped="b")
    assert isinstance(entry, Expired)
    assert entry.agent == "a"


def test_nothing_is_run_again_while_the_search_is_paused() -> None:
    engine = begun(evaluations=1)
    granted(engine, "a")
    engine.pause()
    assert ended(engine, stopped="a") == []
    engine.resume()
    assert len(ended(engine, stopped="a")) == 1


def test_a_stopped_agent_that_takes_the_last_permitted_place_makes_room() -> None:
    engine = begun(evaluations=5, limits=Limits(evaluations=5, max_concurrent=1))
    grant = granted(engine, "a")
    assert isinstance(engine.lease("b", 0, now=1.0).answer, Wait)
    ended(engine, stopped="a")
    assert granted(engine, "b", 1, now=1.0).evaluation == grant.evaluation


def test_the_status_names_a_stopped_worker_until_it_sends_a_message() -> None:
    engine = begun(evaluations=9)
    grant = granted(engine, "a")
    ended(engine, stopped="a", now=40.0)
    (wait,) = (each for each in engine.waits(40.0) if each.kind == "rung")
    assert "worker a is stopped (SIGCONT continues it), silent for 40 s, its lease ends in 20 s" in wait.reason
    engine.renew("a", grant.evaluation, 1, now=41.0)
    assert not any("stopped" in each.reason for each in engine.waits(56.0))


# ------------------------------------------------------------------------------------------------------------- doubt


def test_agents_without_a_connection_and_silent_ones_are_in_doubt() -> None:
    engine = begun(evaluations=9)
    grants: dict[str, Grant] = {agent: granted(engine, agent) for agent in "abc"}
    assert engine.holders_in_doubt({"a", "b", "c"}, now=1.0) == []
    assert engine.holders_in_doubt({"b", "c"}, now=1.0) == ["a"]
    engine.renew("b", grants["b"].evaluation, 1, now=40.0)
    assert engine.holders_in_doubt({"a", "b", "c"}, now=45.0) == ["a", "c"]


# ------------------------------------------------------------------------------------------------- replay and verify


def test_the_journal_of_proven_ends_is_replayed_and_verified() -> None:
    settings, space = settings_for(space_of(), budgets=ONE_RUNG, max_attempts=2), space_of()
    engine = engine_for(settings, space)
    entries = list(engine.start(1, Limits(evaluations=2), now=0.0).entries)
    request = 0

    def ask(agent: str, now: float) -> Grant:
        nonlocal request
        request += 1
        engine.introduce(agent, replace(PROCESS, pid=ord(agent)))
        turn = engine.exchange(agent, request, now=now, worker=agent)
        entries.extend(turn.entries)
        assert isinstance(turn.answer.answer, Granted)
        return turn.answer.answer.grant

    first, second = ask("a", 0.0), ask("b", 0.0)
    entries += ended(engine, stopped="a")
    entries += engine.renew("a", first.evaluation, 1, now=3.0).entries
    entries += ended(engine, stopped="ab", now=4.0)
    entries += engine.report("c", loss(ask("c", 5.0), 0.5), now=5.0).entries
    ask("d", 5.0)
    entries += ended(engine, dead="d", now=6.0)
    entries += engine.report("b", loss(second, 0.25), now=7.0).entries
    entries += engine.expire(now=7.0).entries
    kinds = [entry.kind for entry in entries if isinstance(entry, Expired)]
    assert kinds == [ExpiryKind.STOPPED, ExpiryKind.STOPPED, ExpiryKind.STOPPED, ExpiryKind.DEAD]
    assert engine.finished is not None
    assert snapshot(replayed(settings, entries, space=space)) == snapshot(engine)
    verification = verified(settings, entries, space=space)
    assert verification.holds, verification.summary
