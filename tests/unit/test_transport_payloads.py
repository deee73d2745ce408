"""Payloads: a payload reads back as written; any other one is refused with a reason."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite import errors, wire
from hpbandster_lite.errors import (
    InvariantBroken,
    JournalError,
    MasterUnreachable,
    ProtocolMismatch,
    SearchError,
)
from hpbandster_lite.transport import PROTOCOL, Busy, NameTaken, payloads


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
    """A client refuses the replay of a recorded session, because it chose its nonce itself."""
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
