"""Servers, clients and hand-made peers for the tests of the transport."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from Pyro4 import message as pyro
from Pyro4.message import Message

from hpbandster_lite.transport import PROTOCOL, Bounds, Call, Client, payloads
from hpbandster_lite.transport.server import Server

KEY = b"the key of this run"
OBJECT = "master"
DEADLINE_S = 5.0
QUICK = Bounds(greeting_s=0.2, message_s=0.2)
PATIENT = Bounds(greeting_s=60.0, message_s=60.0)
"""Longer than a test waits: a connection that the server closes was closed for another reason."""


def yes() -> bool:
    return True


def echo(call: Call) -> str:
    return call.text


@contextlib.contextmanager
def server(handle: Callable[[Call], str] = echo, *, key: bytes | None = KEY, **options: Any) -> Iterator[Server]:
    with Server("127.0.0.1", 0, key, object_id=OBJECT, handle=handle, **{"bounds": PATIENT, **options}) as serving:
        yield serving


def n_connections(serving: Server) -> int:
    """Number of open connections."""
    return len(serving._connections)


@contextlib.contextmanager
def running(serving: Server, commit: Callable[[], bool] = yes) -> Iterator[None]:
    """Run the loop in a thread; its exceptions are raised here."""
    is_over = threading.Event()

    def loop() -> None:
        while not is_over.is_set():
            serving.turn(0.02, commit=commit)

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(loop)
        try:
            yield
        finally:
            is_over.set()
        ended.result()


def client(serving: Server, key: bytes | None = KEY, **options: Any) -> Client:
    host, port = serving.endpoint
    return Client(host, port, OBJECT, key, **{"timeout_s": DEADLINE_S, **options})


def until(condition: Callable[[], object], serving: Server, commit: Callable[[], bool] = yes) -> None:
    """Run turns of the loop until the condition holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not hold in time"
        serving.turn(0.02, commit=commit)


class Peer:
    """A connection for hand-made messages; the test runs the loop that serves it."""

    def __init__(self, serving: Server, key: bytes | None = KEY) -> None:
        self.serving = serving
        self.key = key
        self.socket = socket.create_connection(serving.endpoint)
        # Without it a second request waits 40 ms in the kernel until the first one is acknowledged.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.nonce = ""
        self.counter = 0
        self.received = b""

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def message(self, kind: int, data: bytes, *, flags: int = 0, serializer: int = 2) -> bytes:
        sent: bytes = Message(kind, data, serializer, flags, 1, hmac_key=self.key).to_bytes()
        return sent

    def greeting(self, **extra: Any) -> bytes:
        handshake = {**payloads.write_greeting(PROTOCOL, "client nonce", {}), **extra}
        return self.message(pyro.MSG_CONNECT, json.dumps({"handshake": handshake, "object": OBJECT}).encode())

    def request(self, text: str = "{}", *, method: str = "report", counter: int | None = None, **header: Any) -> bytes:
        self.counter += 1
        params = [self.nonce, self.counter if counter is None else counter, method, text]
        data = json.dumps({"object": OBJECT, "method": "call", "params": params, "kwargs": {}}).encode()
        return self.message(pyro.MSG_INVOKE, data, **header)

    def send(self, data: bytes) -> None:
        """Send as much as the server accepts, while the loop runs."""
        deadline = time.monotonic() + DEADLINE_S
        while data:
            assert time.monotonic() < deadline, "the server does not read"
            with contextlib.suppress(BlockingIOError):
                data = data[self.socket.send(data) :]
            if data:
                self.serving.turn(0, commit=yes)

    def read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while part := self.socket.recv(65_536):
                self.received += part

    def answers(self) -> list[Any]:
        """The parsed answers since the last call."""
        self.read()
        taken = []
        while len(self.received) >= 24:
            header = Message.from_header(self.received[:24])
            size = 24 + header.annotations_size + header.data_size
            if len(self.received) < size:
                break
            parts, self.received = self.received[:size], self.received[size:]
            taken.append(json.loads(parts[24 + header.annotations_size :]))
        return taken

    def answer(self) -> Any:
        """The one expected answer; runs the loop until it arrives."""
        (found,) = self.answers_when_there(yes)
        return found

    def answers_when_there(self, commit: Callable[[], bool], count: int = 1) -> list[Any]:
        """The next answers; runs the loop until at least ``count`` arrive."""
        found: list[Any] = []

        def some_came() -> bool:
            found.extend(self.answers())
            return len(found) >= count

        until(some_came, self.serving, commit)
        return found

    def introduce(self) -> Peer:
        self.send(self.greeting())
        self.nonce = self.answer()["nonce"]
        return self

    def is_closed(self) -> bool:
        """Whether the server has closed the connection."""
        try:
            while part := self.socket.recv(65_536):
                self.received += part
        except BlockingIOError:
            return False
        except ConnectionResetError:
            return True
        return True


def header(kind: int, data_size: int, annotations_size: int = 0, flags: int = 0) -> bytes:
    checksum = (kind + 48 + data_size + annotations_size + 2 + flags + 1 + Message.checksum_magic) & 0xFFFF
    fields = (b"PYRO", 48, kind, flags, 1, data_size, 2, annotations_size, 0, checksum)
    packed: bytes = struct.pack(Message.header_format, *fields)
    return packed
