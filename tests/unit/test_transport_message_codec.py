"""Calls and answers that bypass Pyro4: written and read as Pyro4 does; Pyro4 handles all others."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from Pyro4 import errors
from Pyro4.message import FLAGS_ONEWAY, MSG_INVOKE, MSG_PING, MSG_RESULT, Message

from hpbandster_lite.transport.message_codec import (
    HEADER_BYTES,
    bytes_behind,
    read_call,
    read_result,
    write_call,
    write_result,
)

KEY = b"a key"
PARAMS = ["nonce", 1, "exchange", "text"]
LENGTH_OF_CHUNK = (28, 29)
HEADER = struct.calcsize(Message.header_format)


class DeadlineSocket:
    """A socket from which Pyro4 reads a message."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def recv(self, size: int) -> bytes:
        part, self._data = self._data[:size], self._data[size:]
        return part


def sent(
    payload: Any = None,
    *,
    kind: int = MSG_INVOKE,
    serializer: int = 2,
    flags: int = 0,
    sequence: int = 7,
    key: bytes | None = KEY,
    annotations: dict[str, bytes] | None = None,
) -> bytes:
    call = {"object": "master", "method": "call", "params": PARAMS, "kwargs": {}} if payload is None else payload
    data = json.dumps(call, separators=(",", ":")).encode("ascii")
    message: bytes = Message(kind, data, serializer, flags, sequence, annotations, hmac_key=key).to_bytes()
    return message


@given(nonce=st.text(), counter=st.integers(), text=st.text(), sequence=st.integers(0, 0xFFFF))
@pytest.mark.parametrize("key", [KEY, None])
def test_our_clients_call_is_read(nonce: str, counter: int, text: str, sequence: int, key: bytes | None) -> None:
    params = [nonce, counter, "exchange", text]
    call = {"object": "master", "method": "call", "params": params, "kwargs": {}}
    assert read_call(sent(call, sequence=sequence, key=key), "master", key) == (sequence, params)


@given(answer=st.dictionaries(st.text(), st.text() | st.integers()), sequence=st.integers(0, 0xFFFF))
@pytest.mark.parametrize("key", [KEY, None])
def test_an_answer_is_what_pyro4_writes_and_reads(answer: dict[str, Any], sequence: int, key: bytes | None) -> None:
    written = write_result(sequence, answer, key)
    read = Message.recv(DeadlineSocket(written), [MSG_RESULT], hmac_key=key)
    assert (json.loads(read.data), read.seq, read.flags, read.serializer_id) == (answer, sequence, 0, 2)
    payload = json.dumps(answer, separators=(",", ":")).encode()
    assert written == Message(MSG_RESULT, payload, 2, 0, sequence, hmac_key=key).to_bytes()


@given(text=st.text(), sequence=st.integers(0, 0xFFFF))
@pytest.mark.parametrize("key", [KEY, None])
def test_a_call_is_what_pyro4_writes(text: str, sequence: int, key: bytes | None) -> None:
    call = {"object": "master", "method": "call", "params": [text], "kwargs": {}}
    assert write_call(sequence, "master", [text], key) == sent(call, sequence=sequence, key=key)


@given(answer=st.dictionaries(st.text(), st.text() | st.integers()), sequence=st.integers(0, 0xFFFF))
@pytest.mark.parametrize("key", [KEY, None])
def test_our_servers_answer_is_read(answer: dict[str, Any], sequence: int, key: bytes | None) -> None:
    written = write_result(sequence, answer, key)
    assert bytes_behind(written[:HEADER_BYTES]) == len(written) - HEADER_BYTES
    assert read_result(written, key) == (answer,)


@pytest.mark.parametrize("at", range(HEADER, len(write_result(7, {"nonce": "n"}, KEY))))
def test_an_answer_with_any_byte_of_its_signature_or_payload_changed_is_not_believed(at: int) -> None:
    forged = bytearray(write_result(7, {"nonce": "n"}, KEY))
    forged[at] ^= 1
    assert read_result(bytes(forged), KEY) is None


@pytest.mark.parametrize("at", [*range(12), *range(14, 20), 22, 23])
def test_an_answer_with_another_header_is_left_to_pyro4(at: int) -> None:
    forged = bytearray(write_result(7, {"nonce": "n"}, KEY))
    forged[at] ^= 1
    assert bytes_behind(bytes(forged[:HEADER_BYTES])) is None


@pytest.mark.parametrize(
    "other", [{"kind": MSG_PING}, {"kind": MSG_RESULT, "flags": 1}, {"kind": MSG_RESULT, "serializer": 1}]
)
def test_an_answer_of_another_kind_is_left_to_pyro4(other: dict[str, Any]) -> None:
    assert bytes_behind(sent(**other)[:HEADER_BYTES]) is None


@pytest.mark.parametrize("key", [b"another key", None])
def test_a_call_with_another_signature_or_none_is_not_taken(key: bytes | None) -> None:
    assert read_call(sent(key=key), "master", KEY) is None
    assert read_call(sent(key=KEY), "master", None) is None


@pytest.mark.parametrize("at", range(HEADER, len(sent())))
def test_a_call_with_any_byte_of_its_signature_or_payload_changed_is_not_taken(at: int) -> None:
    forged = bytearray(sent())
    forged[at] ^= 1
    assert read_call(bytes(forged), "master", KEY) is None
    if at in LENGTH_OF_CHUNK:
        # In Pyro4 a chunk ends at the end of the annotations; its length field does not count.
        return
    with pytest.raises((errors.PyroError, UnicodeDecodeError, struct.error)):
        # Pyro4 decides in the same way.
        Message.recv(DeadlineSocket(bytes(forged)), [MSG_INVOKE], hmac_key=KEY)


@pytest.mark.parametrize("at", [*range(12), *range(16, 20), 22, 23])
def test_a_call_with_another_header_is_not_taken_as_it_was(at: int) -> None:
    forged = bytearray(sent())
    forged[at] ^= 1
    assert read_call(bytes(forged), "master", KEY) is None


@pytest.mark.parametrize(
    "other",
    [
        {"kind": MSG_PING},
        {"flags": FLAGS_ONEWAY},
        {"serializer": 1},
        {"annotations": {"CORR": b"0123456789abcdef"}},
        {"payload": {"object": "another", "method": "call", "params": PARAMS, "kwargs": {}}},
        {"payload": {"object": "master", "method": "_carried_out", "params": PARAMS, "kwargs": {}}},
        {"payload": {"object": "master", "method": "call", "params": PARAMS[:3], "kwargs": {}}},
        {"payload": {"object": "master", "method": "call", "params": PARAMS, "kwargs": {"text": "x"}}},
        {"payload": {"object": "master", "method": "call", "params": PARAMS, "kwargs": {}, "more": 1}},
        {"payload": ["master", "call", PARAMS]},
    ],
)
def test_what_is_not_that_call_is_left_to_pyro4(other: dict[str, Any]) -> None:
    assert read_call(sent(**other), "master", KEY) is None


def test_a_payload_that_is_no_json_is_left_to_pyro4() -> None:
    for data in (b"{", b"[" * 100_000, b"\xff"):
        message = Message(MSG_INVOKE, data, 2, 0, 7, hmac_key=KEY).to_bytes()
        assert read_call(message, "master", KEY) is None
