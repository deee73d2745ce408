"""The pure parts of the transport: payloads, retries, the registry of names, the rate of log lines."""

from __future__ import annotations

import logging
import random
from typing import Any

import numpy as np
import Pyro4.errors
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite import errors, wire
from hpbandster_lite.errors import (
    InvariantBroken,
    JournalError,
    MasterUnreachable,
    NameServerUnreachable,
    NotAuthorised,
    PeerError,
    ProtocolMismatch,
    SearchError,
    UsageError,
)
from hpbandster_lite.transport import PROTOCOL, Bounds, Busy, Endpoint, NameTaken, Retry, client, payloads, run_name
from hpbandster_lite.transport.client import MASTER, ServerKind, errors_as_ours
from hpbandster_lite.transport.name_registry import MAX_NAMES, STALE_AFTER_S, NameRegistry
from hpbandster_lite.transport.rate_limited_log import RateLimitedLog

# ---------------------------------------------------------------------------------------------------------- payloads


@given(hello=st.dictionaries(st.text(), st.integers() | st.text()), nonce=st.text())
def test_a_greeting_is_read_as_it_was_written(hello: dict[str, Any], nonce: str) -> None:
    greeting = payloads.read_greeting(payloads.write_greeting(PROTOCOL, nonce, hello), PROTOCOL)
    assert greeting == (PROTOCOL, nonce, hello)


@pytest.mark.parametrize(
    "handshake",
    [
        "hello",
        None,
        {},
        {"protocol": "1"},
        {"protocol": True},
        {"protocol": 1},
        {"protocol": 1, "nonce": 2, "hello": "{}"},
    ],
)
def test_a_greeting_that_is_none_is_refused_with_a_reason(handshake: object) -> None:
    with pytest.raises(ProtocolMismatch) as caught:
        payloads.read_greeting(handshake, PROTOCOL)
    assert "refused" in wire.decode(str(caught.value))


@pytest.mark.parametrize(("client", "server"), [(1, 2), (2, 1)])
def test_a_side_of_another_version_gets_both_versions_and_the_remedy(client: int, server: int) -> None:
    with pytest.raises(ProtocolMismatch) as refused:
        payloads.read_greeting(payloads.write_greeting(client, "n", {}), server)
    error = payloads.read_refusal(str(refused.value), client, "host:1")
    assert f"has protocol {server}" in str(error)
    assert f"this side has {client}" in str(error)
    assert "install the same version" in str(error)


def test_an_unexpected_refusal_is_shown() -> None:
    assert "boiling" in str(payloads.read_refusal("boiling", 1, "host:1"))
    assert "None" in str(payloads.read_refusal(None, 1, "host:1"))


def test_a_welcome_for_another_greeting_is_refused() -> None:
    """A recorded session cannot be played to a client: it chose its nonce itself."""
    greeting = payloads.Greeting(PROTOCOL, "mine", {})
    welcome = payloads.write_welcome(PROTOCOL, greeting, "theirs", "{}")
    assert payloads.read_welcome(welcome, "mine", "host:1") == ("theirs", "{}")
    with pytest.raises(ProtocolMismatch, match="did not answer our greeting"):
        payloads.read_welcome(welcome, "another", "host:1")


def test_an_answer_is_read_as_it_was_written() -> None:
    assert payloads.read_answer(payloads.answer_payload("n", 3, "text"), "n", 3, "host:1") == "text"


@pytest.mark.parametrize(
    "answer",
    [
        payloads.answer_payload("another connection", 3, "text"),
        payloads.answer_payload("n", 2, "the call before"),
        payloads.answer_payload("n", 4, "a call to come"),
        {"nonce": "n", "counter": 3},
        {"nonce": "n", "counter": 3, "answer": 1},
        {"nonce": "n", "counter": 3, "error": {"type": "UsageError"}},
        {"object": "master", "method": "call", "params": ["n", 3, "m", "t"]},
        ["n", 3],
        None,
    ],
)
def test_an_answer_that_is_not_to_this_call_is_refused(answer: Any) -> None:
    with pytest.raises(ProtocolMismatch):
        payloads.read_answer(answer, "n", 3, "host:1")


def travelling() -> list[type[SearchError]]:
    ours = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, SearchError)]
    return [cls for cls in [*ours, NameTaken] if cls is not InvariantBroken]


@pytest.mark.parametrize("cls", travelling())
def test_an_error_of_ours_arrives_as_its_own_class_with_its_message(cls: type[SearchError]) -> None:
    with pytest.raises(cls) as caught:
        payloads.read_answer(payloads.error_payload("n", 1, cls("what, which value, what to do")), "n", 1, "host:1")
    assert type(caught.value) is cls
    assert str(caught.value) == "what, which value, what to do"


def test_a_class_that_does_not_travel_arrives_as_its_nearest_base() -> None:
    class Fenced(JournalError):
        pass

    with pytest.raises(JournalError) as caught:
        payloads.read_answer(payloads.error_payload("n", 1, Fenced("epoch 3")), "n", 1, "host:1")
    assert type(caught.value) is JournalError


@pytest.mark.parametrize("name", ["InvariantBroken", "SystemExit", "KeyboardInterrupt", "__class__", "Fenced"])
def test_an_answer_can_raise_no_other_class(name: str) -> None:
    answer = {"nonce": "n", "counter": 1, "error": {"type": name, "message": "boo"}}
    with pytest.raises(ProtocolMismatch, match="boo"):
        payloads.read_answer(answer, "n", 1, "host:1")


def test_busy_has_a_delay_and_is_caught_as_unreachable() -> None:
    with pytest.raises(MasterUnreachable) as caught:
        payloads.read_answer(payloads.busy_payload("n", 1, 0.75), "n", 1, "host:1")
    assert isinstance(caught.value, Busy)
    assert caught.value.after_s == 0.75


# ------------------------------------------------------------------------------------------------- one translation


def pyro_errors() -> list[type[Exception]]:
    return [cls for cls in vars(Pyro4.errors).values() if isinstance(cls, type) and issubclass(cls, Exception)]


@pytest.mark.parametrize("cls", pyro_errors())
def test_no_error_of_pyro4_gets_through_the_door(cls: type[Exception]) -> None:
    with pytest.raises(PeerError) as caught, errors_as_ours("host:9"):
        raise cls("the reason")
    assert caught.value.__cause__ is not None
    assert "host:9" in str(caught.value)
    assert "the reason" in str(caught.value)


@pytest.mark.parametrize("cls", pyro_errors())
def test_each_error_of_pyro4_has_a_meaning_of_its_own(cls: type[Exception]) -> None:
    assert cls in client._MEANINGS


@pytest.mark.parametrize(
    ("raised", "meant"),
    [
        (Pyro4.errors.ConnectionClosedError, MasterUnreachable),
        (Pyro4.errors.TimeoutError, MasterUnreachable),
        (Pyro4.errors.SecurityError, NotAuthorised),
        (Pyro4.errors.ProtocolError, ProtocolMismatch),
        (ConnectionRefusedError, MasterUnreachable),
        (OSError, MasterUnreachable),
    ],
)
def test_an_error_is_sorted_by_what_a_caller_does_with_it(raised: type[Exception], meant: type[PeerError]) -> None:
    with pytest.raises(meant), errors_as_ours("host:9"):
        raise raised("the reason")


def test_a_server_that_does_not_answer_is_named() -> None:
    kind = ServerKind("name server", NameServerUnreachable, "look at its key file")
    with pytest.raises(NameServerUnreachable, match="no answer from the name server"), errors_as_ours("host:9", kind):
        raise ConnectionRefusedError
    with pytest.raises(NotAuthorised, match="look at its key file"), errors_as_ours("host:9", kind):
        raise Pyro4.errors.SecurityError("hmac")
    assert "HPBANDSTER_LITE_KEY" in MASTER.key_remedy


def test_a_bug_is_not_translated() -> None:
    with pytest.raises(ZeroDivisionError), errors_as_ours("host:9"):
        raise ZeroDivisionError


# ------------------------------------------------------------------------------------------------------ when to retry


@given(
    attempt=st.integers(0, 10**9),
    seed=st.integers(0, 2**32 - 1),
    first_s=st.floats(0.001, 10),
    factor=st.floats(1, 1e6),
    growth=st.floats(1, 1e6),
)
def test_a_delay_is_between_half_the_first_and_the_longest(
    attempt: int, seed: int, first_s: float, factor: float, growth: float
) -> None:
    retry = Retry(first_s=first_s, factor=factor, longest_s=first_s * growth)
    assert 0.5 * first_s <= retry.delay_s(attempt, np.random.default_rng(seed)) <= first_s * growth


class NoJitter:
    def random(self) -> float:
        return 0.0


def test_delays_double_up_to_the_longest() -> None:
    retry = Retry(first_s=0.1, factor=2, longest_s=1.0)
    assert [retry.delay_s(attempt, NoJitter()) for attempt in range(1, 7)] == pytest.approx(
        [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    )


def test_agents_that_lost_the_same_master_do_not_come_back_together() -> None:
    delays = {Retry().delay_s(3, random.Random(seed)) for seed in range(100)}
    assert len(delays) == 100


def test_what_the_other_side_asked_for_comes_on_top() -> None:
    assert Retry(first_s=0.1).delay_s(1, NoJitter(), at_least_s=5.0) == pytest.approx(5.1)


@pytest.mark.parametrize(
    "wrong", [{"first_s": 0.0}, {"first_s": 2.0, "longest_s": 1.0}, {"factor": 0.5}, {"factor": float("nan")}]
)
def test_delays_that_do_not_grow_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="first_s"):
        Retry(**wrong)


@pytest.mark.parametrize("name", ["greeting_s", "message_s", "message_bytes", "unread_bytes", "connections", "busy_s"])
def test_a_bound_of_zero_is_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        Bounds(**{name: 0})


# --------------------------------------------------------------------------------------------------------- log lines


def test_strangers_get_one_line_per_kind_and_interval(caplog: pytest.LogCaptureFixture) -> None:
    peer_log = RateLimitedLog(logging.getLogger("hpbandster_lite.test"), every_s=10.0)
    for hundredth in range(1_000):
        peer_log.warn("garbage", "it sends garbage", now=hundredth / 100)
    peer_log.warn("slow", "it is slow", now=9.0)
    assert caplog.messages == ["it sends garbage", "it is slow"]
    peer_log.warn("garbage", "it sends garbage", now=10.0)
    assert caplog.messages[2:] == ["it sends garbage (and 999 more like this before)"]
    peer_log.warn("garbage", "it sends garbage", now=20.0)
    assert caplog.messages[3:] == ["it sends garbage"]


# ------------------------------------------------------------------------------------------------- registry of names

RUN = run_name("cifar")
HERE, THERE = Endpoint("10.0.0.1", 4_000, "m"), Endpoint("10.0.0.2", 4_000, "m")


def test_a_master_that_enters_itself_again_changes_nothing() -> None:
    names = NameRegistry()
    names.register(RUN, HERE, 1, now=0.0)
    names.register(RUN, HERE, 1, now=5.0)
    assert names.list() == {RUN: HERE}


def test_two_runs_share_a_name_server() -> None:
    names = NameRegistry()
    names.register(RUN, HERE, 1, now=0.0)
    names.register(run_name("digits"), THERE, 1, now=0.0)
    assert names.lookup(RUN) == HERE
    assert names.lookup(run_name("digits")) == THERE


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_living_master_keeps_its_name_and_is_named(epoch: int) -> None:
    names = NameRegistry()
    names.register(RUN, HERE, 1, now=0.0)
    names.register(RUN, HERE, 1, now=20.0)
    with pytest.raises(NameTaken, match=r"10\.0\.0\.1:4000 \(epoch 1\).*choose another run id"):
        names.register(RUN, THERE, epoch, now=20.0 + STALE_AFTER_S)
    assert names.lookup(RUN) == HERE


def test_a_later_start_of_the_run_replaces_the_earlier_one_at_once_and_for_good() -> None:
    names = NameRegistry()
    names.register(RUN, HERE, 1, now=0.0)
    names.register(RUN, THERE, 2, now=0.1)
    with pytest.raises(NameTaken):
        names.register(RUN, HERE, 1, now=0.2)
    assert names.lookup(RUN) == THERE


def test_a_master_at_the_registered_endpoint_may_renew_with_any_epoch() -> None:
    names = NameRegistry()
    names.register(RUN, HERE, 7, now=0.0)
    names.register(RUN, HERE, 1, now=0.1)
    assert not names.unregister(RUN, HERE, 7)
    assert names.unregister(RUN, HERE, 1)


def test_any_master_may_replace_a_stale_entry() -> None:
    names = NameRegistry()
    names.register(RUN, HERE, 7, now=0.0)
    names.register(RUN, THERE, 1, now=STALE_AFTER_S + 0.1)
    assert names.lookup(RUN) == THERE


def test_a_master_takes_back_its_own_entry_and_no_other() -> None:
    names = NameRegistry()
    names.register(RUN, HERE, 1, now=0.0)
    names.register(RUN, THERE, 2, now=0.0)
    assert not names.unregister(RUN, HERE, 1)
    assert not names.unregister(RUN, THERE, 1)
    assert names.lookup(RUN) == THERE
    assert names.unregister(RUN, THERE, 2)
    assert not names.unregister(RUN, THERE, 2)


def test_an_unknown_run_is_answered_with_those_that_are_known() -> None:
    names = NameRegistry()
    with pytest.raises(MasterUnreachable, match=r"'cifar'.*none.*is its master running"):
        names.lookup(RUN)
    names.register(run_name("digits"), HERE, 1, now=0.0)
    with pytest.raises(MasterUnreachable, match="it knows: digits"):
        names.lookup(RUN)


@pytest.mark.parametrize("name", ["Pyro.NameServer", "cifar", run_name("a b"), run_name("a\n"), run_name("x" * 300)])
def test_a_name_that_is_none_of_a_run_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="run id"):
        NameRegistry().register(name, HERE, 1, now=0.0)


def test_names_of_the_dead_make_room_when_there_is_none() -> None:
    names = NameRegistry()
    for index in range(MAX_NAMES - 1):
        names.register(run_name(f"dead-{index}"), HERE, 1, now=0.0)
    names.register(run_name("alive"), HERE, 1, now=STALE_AFTER_S)
    assert len(names.register(run_name("new"), HERE, 1, now=STALE_AFTER_S + 1)) == MAX_NAMES - 1
    assert names.list().keys() == {run_name("alive"), run_name("new")}


def test_names_are_bounded() -> None:
    names = NameRegistry()
    for index in range(MAX_NAMES):
        names.register(run_name(str(index)), HERE, 1, now=0.0)
    with pytest.raises(UsageError, match="10,000 names"):
        names.register(RUN, HERE, 1, now=0.0)
    names.register(run_name("0"), HERE, 1, now=0.0)


def test_an_address_with_colons_is_put_in_brackets() -> None:
    assert Endpoint("::1", 1, "m").uri == "PYRO:m@[::1]:1"
    assert Endpoint("host", 1, "m").uri == "PYRO:m@host:1"
