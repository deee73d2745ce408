"""Forged, replayed, flag-flipped and oversized messages to a name server of a search: none has an effect.

The tests of the transport cover each kind of message; here the messages reach the process of a name server, which has a
separate key and whose entries decide to which master workers connect.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from Pyro4 import message as pyro
from Pyro4.message import Message

from hpbandster_lite import wire
from hpbandster_lite.transport import PROTOCOL, NameServerClient, payloads, run_name
from hpbandster_lite.transport.name_server import NAME_SERVER_BOUNDS
from hpbandster_lite.transport.name_server_client import OBJECT_ID
from tests.service.served_search import Served, ServedSearch, served_search
from tests.service.transport_peer import header

pytestmark = pytest.mark.timeout(120)

KEY = b"the name server's own key"
PATIENT = {"lease_s": 60.0, "heartbeat_s": 2.0}
OFTEN = 200
"""Number of messages of each kind: with a line for each, the log would have a thousand lines."""
MOST_LINES = 20
ELSEWHERE = {"host": "203.0.113.1", "port": 666, "object": "master", "epoch": 1_000_000}
FLAGS = (
    *(pyro.FLAGS_ONEWAY, pyro.FLAGS_BATCH, pyro.FLAGS_COMPRESSED, pyro.FLAGS_KEEPSERIALIZED),
    *(pyro.FLAGS_ITEMSTREAMRESULT, 1 << 9, 1 << 15),
)


class Stranger:
    """A connection to a name server for hand-made messages; it waits for each answer."""

    def __init__(self, port: int, key: bytes = KEY) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20.0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._key = key
        self._nonce = ""
        self._counter = 0
        self.sent = b""

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _message(self, kind: int, content: Any, flags: int = 0) -> bytes:
        data = json.dumps(content).encode()
        made: bytes = Message(kind, data, 2, flags, 1, hmac_key=self._key).to_bytes()
        return made

    def request(self, method: str, message: Any, *, flags: int = 0) -> bytes:
        """A call, signed with the key of this client."""
        self._counter += 1
        params = [self._nonce, self._counter, method, wire.encode(message)]
        call = {"object": OBJECT_ID, "method": "call", "params": params, "kwargs": {}}
        return self._message(pyro.MSG_INVOKE, call, flags)

    def send(self, data: bytes) -> None:
        self.sent += data
        # A server that closes the connection during the send has refused it, too.
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(data)

    def introduce(self) -> Stranger:
        greeting = payloads.write_greeting(PROTOCOL, "client nonce", {})
        self.send(self._message(pyro.MSG_CONNECT, {"handshake": greeting, "object": OBJECT_ID}))
        self._nonce = self.answer()["nonce"]
        return self

    def answer(self) -> Any:
        first = Message.from_header(self._exactly(24))
        rest = self._exactly(first.annotations_size + first.data_size)
        return json.loads(rest[first.annotations_size :])

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            assert part, "the name server has closed the connection"
            data += part
        return data

    def is_hung_up_on(self) -> bool:
        """Wait for the end of the connection; only a refusal may come before it."""
        try:
            while part := self._socket.recv(65_536):
                assert b'"answer"' not in part, part
        except ConnectionError:
            pass
        except TimeoutError:
            return False
        return True


def registered(name: str) -> dict[str, Any]:
    return {"name": name, **ELSEWHERE}


def forged(port: int, name: str) -> None:
    """Send calls signed with an invented key, with and without an accepted greeting."""
    with Stranger(port, b"a key that was guessed") as stranger:
        stranger.send(stranger.request("register", registered(name)))
        assert stranger.is_hung_up_on()
    with Stranger(port) as stranger:
        stranger.introduce()
        stranger._key = b"a key that was guessed"
        stranger.send(stranger.request("register", registered(name)))
        assert stranger.is_hung_up_on()


def flag_flipped(port: int, name: str) -> None:
    """Send calls with changed flags: the header is not signed, so a machine on the way may change it."""
    for flags in FLAGS:
        with Stranger(port) as stranger:
            stranger.introduce()
            stranger.send(stranger.request("register", registered(name), flags=flags))
            assert stranger.is_hung_up_on()


def oversized(port: int, name: str) -> None:
    """Announce an oversized message in a header, without and with the key; and send an oversized message."""
    for is_introduced, size in ((False, payloads.MAX_GREETING_BYTES + 1), (True, NAME_SERVER_BOUNDS.message_bytes + 1)):
        with Stranger(port) as stranger:
            if is_introduced:
                stranger.introduce()
            stranger.send(header(pyro.MSG_INVOKE if is_introduced else pyro.MSG_CONNECT, size))
            assert stranger.is_hung_up_on()
    with Stranger(port) as stranger:
        stranger.introduce()
        stranger.send(stranger.request("register", {**registered(name), "object": "x" * 200_000}))
        assert stranger.is_hung_up_on()


def replayed(port: int, name: str) -> None:
    """Repeat everything that an honest client sent on a new connection, and its last call on another one."""
    honest = {**registered(run_name("replayed")), "epoch": 1}
    with Stranger(port) as client:
        client.introduce()
        before = len(client.sent)
        client.send(client.request("register", honest))
        assert "answer" in client.answer()
        session, call = client.sent, client.sent[before:]
        client.send(client.request("unregister", honest))
        assert "answer" in client.answer()
        client.send(call)
        assert client.is_hung_up_on()
    with Stranger(port) as thief:
        # The greeting is valid; the nonce of the call after it is not.
        thief.send(session)
        assert thief.is_hung_up_on()
    with Stranger(port) as thief:
        thief.introduce()
        thief.send(call)
        assert thief.is_hung_up_on()


@pytest.fixture
def search(tmp_path: Path) -> Iterator[tuple[ServedSearch, Served, int, dict[str, Any]]]:
    """A search that is registered, the name server, its port, and the options that lead to it."""
    key_file = tmp_path / "names.key"
    key_file.write_bytes(KEY)
    key_file.chmod(0o600)
    with served_search(tmp_path, **PATIENT) as made:
        names, port = made.start_nameserver(key_file=str(key_file))
        yield made, names, port, {"nameserver": ("127.0.0.1", port), "nameserver_key": str(key_file)}


@pytest.mark.parametrize("attack", [forged, flag_flipped, oversized, replayed])
def test_no_message_of_a_stranger_has_an_effect_on_a_name_server(
    attack: Callable[[int, str], None], search: tuple[ServedSearch, Served, int, dict[str, Any]], tmp_path: Path
) -> None:
    made, names, port, registered_at = search
    master = made.start_master(**registered_at)
    made.wait_registered(port, KEY)
    name = run_name(made.run_id)
    with NameServerClient("127.0.0.1", port, KEY) as client:
        entered = client.list()
        for _ in range(OFTEN // len(FLAGS) if attack is flag_flipped else OFTEN // 3):
            attack(port, name)
            assert client.lookup(name) == entered[name]
        assert client.list() == entered
    assert len(names.output().splitlines()) <= MOST_LINES, names.output()
    # The name server still returns the address of the true master.
    far = made.start_worker(
        0, **registered_at, run_id=made.run_id, key=str(made.directory.key_file), scratch=str(tmp_path / "scratch")
    )
    far.ends(0)
    master.ends(0)
    assert names.process.poll() is None
    made.check()
