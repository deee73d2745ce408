"""A client of one server: one connection, one call at a time, a deadline for each.

Law of this file: a call ends within its time with an answer or with an error of ours, and after either the next call
works: it connects again where it must. Every answer is checked to be signed, fresh, and the answer to this call.
Pyro4's own proxy is not used: its time-out starts anew with every byte that arrives, it obeys the process-wide
``Pyro4.config`` (compression, SSL, serialiser), it sends along and clears the caller's call context, and it would
unpickle what a server without a key sends.
"""

from __future__ import annotations

import contextlib
import json
import math
import secrets
import select
import socket
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import Pyro4.errors
from Pyro4.message import (
    FLAGS_COMPRESSED,
    FLAGS_EXCEPTION,
    MSG_CONNECT,
    MSG_CONNECTFAIL,
    MSG_CONNECTOK,
    MSG_RESULT,
    Message,
)

from hpbandster_lite import wire
from hpbandster_lite.errors import MasterUnreachable, NotAuthorised, PeerError, ProtocolMismatch, UsageError
from hpbandster_lite.records import Plain
from hpbandster_lite.transport import protocol
from hpbandster_lite.transport.connection import READ_BYTES, Bounds
from hpbandster_lite.transport.message import HEADER_BYTES, bytes_behind, read_result, write_call
from hpbandster_lite.transport.protocol import JSON_ID, MAX_GREETING_BYTES, PROTOCOL, Welcome
from hpbandster_lite.transport.sockets import addresses, keep_alive


class Whom(NamedTuple):
    """What a client calls, for its errors."""

    what: str
    unreachable: type[PeerError]
    key_remedy: str


MASTER = Whom(
    "master", MasterUnreachable, "use the key file of the run directory that it serves, or set HPBANDSTER_LITE_KEY"
)

_MEANINGS: dict[type[BaseException], type[PeerError] | None] = {
    # None: nobody answers, which has a class of its own for each kind of server.
    Pyro4.errors.PyroError: ProtocolMismatch,
    Pyro4.errors.CommunicationError: None,
    Pyro4.errors.ConnectionClosedError: None,
    Pyro4.errors.TimeoutError: None,
    Pyro4.errors.ProtocolError: ProtocolMismatch,
    Pyro4.errors.MessageTooLargeError: ProtocolMismatch,
    Pyro4.errors.SerializeError: ProtocolMismatch,
    Pyro4.errors.NamingError: ProtocolMismatch,
    Pyro4.errors.DaemonError: ProtocolMismatch,
    Pyro4.errors.SecurityError: NotAuthorised,
    OSError: None,
    struct.error: ProtocolMismatch,
    UnicodeDecodeError: ProtocolMismatch,
    json.JSONDecodeError: ProtocolMismatch,
    RecursionError: ProtocolMismatch,
    zlib.error: ProtocolMismatch,
}


@contextlib.contextmanager
def errors_as_ours(address: str, whom: Whom = MASTER) -> Iterator[None]:
    """Turn what Pyro4, the network and a stranger's bytes raise into errors of ours; the door's one translation."""
    try:
        yield
    except PeerError:
        raise
    except tuple(_MEANINGS) as error:
        meaning = next(_MEANINGS[cls] for cls in type(error).__mro__ if cls in _MEANINGS)
        if meaning is None:
            raise whom.unreachable(f"no answer from the {whom.what} at {address} ({error}); is it running?") from error
        if meaning is NotAuthorised:
            story = f"the {whom.what} at {address} and we do not hold the same key ({error}); {whom.key_remedy}"
        else:
            story = f"what answers at {address} is no {whom.what} of this version of hpbandster_lite ({error})"
        raise meaning(story) from error


class _Line:
    """A connected socket with one deadline for all that is asked of it; to Pyro4 it looks like its own connection."""

    def __init__(self, host: str, port: int, deadline: float, limit_bytes: int) -> None:
        self._deadline = deadline
        self._limit_bytes = limit_bytes
        self._inbox = bytearray()
        self._socket = self._connected(host, port)
        keep_alive(self._socket)
        # It never waits by itself: with a time-out of its own Python asks the kernel twice around each read and write.
        self._socket.setblocking(False)
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(self._socket, select.POLLIN)
        self._writable.register(self._socket, select.POLLOUT)

    def _connected(self, host: str, port: int) -> socket.socket:
        refused: OSError = OSError("the host has no address")
        for family, address in addresses(host, port):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.settimeout(self._left_s())
                sock.connect(address)
            except OSError as error:
                sock.close()
                refused = error
            else:
                return sock
        raise refused

    def extend(self, deadline: float) -> None:
        """Set the deadline of the next call."""
        self._deadline = deadline

    def is_cut(self) -> bool:
        """Whether the other side has closed the connection, or sent what nobody asked for."""
        if self._inbox:
            return True
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True
        return True

    def _left_s(self) -> float:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        return left_s

    def _wait_until(self, ready: select.poll) -> None:
        # Rounded up: less than a millisecond would be no wait at all.
        if not ready.poll(math.ceil(1_000 * self._left_s())):
            raise TimeoutError("timed out")

    def recv(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        if not 0 <= size <= self._limit_bytes:
            raise ProtocolMismatch(f"an answer of {size:,} bytes was refused, the limit is {self._limit_bytes:,}")
        while len(self._inbox) < size:
            self._wait_until(self._readable)
            try:
                # More than was asked for, which is a header first: most answers are here with it.
                part = self._socket.recv(max(READ_BYTES, size - len(self._inbox)))
            except (BlockingIOError, InterruptedError):
                continue
            if not part:
                raise ConnectionResetError("the connection was closed")
            self._inbox += part
        data = bytes(self._inbox[:size])
        del self._inbox[:size]
        return data

    def send(self, data: bytes) -> None:
        """All of it."""
        left = memoryview(data)
        while left:
            self._left_s()
            try:
                left = left[self._socket.send(left) :]
            except (BlockingIOError, InterruptedError):
                self._wait_until(self._writable)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class _Heard:
    """A line of which some bytes have been read already; to Pyro4 it looks like its own connection."""

    def __init__(self, heard: bytes, line: _Line) -> None:
        self._heard = heard
        self._line = line
        self.close = line.close

    def recv(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        part, self._heard = self._heard[:size], self._heard[size:]
        return part if len(part) == size else part + self._line.recv(size - len(part))


class Client:
    """Calls the methods of one server's object; one client per thread.

    Nothing is sent before the first call, and a call that failed leaves a client that can be called again. A call whose
    answer did not come may have been carried out, so calls must bear being repeated.

    Parameters
    ----------
    host, port, object_id
        Where the server listens and what its object is called.
    key
        HMAC key of all messages, the server's own.
    timeout_s
        Time for a call as a whole: to connect where it must, to send, to wait, to receive.
    protocol
        The version that this side speaks.
    hello
        What the server is to know of this client from the start; see :attr:`Call.hello`.
    whom
        What is called, for the errors.
    """

    def __init__(
        self,
        host: str,
        port: int,
        object_id: str,
        key: bytes | None,
        *,
        timeout_s: float = 10.0,
        protocol: int = PROTOCOL,
        hello: Mapping[str, Plain] | None = None,
        whom: Whom = MASTER,
    ) -> None:
        if not timeout_s > 0:
            raise UsageError(f"timeout_s must be above zero, got {timeout_s!r}")
        self.address = f"{host}:{port}"
        self._host, self._port, self._object_id = host, port, object_id
        self._key = key
        self._timeout_s = timeout_s
        self._protocol = protocol
        self._hello = dict(hello or {})
        self._whom = whom
        self._limit_bytes = Bounds().message_bytes
        self._line: _Line | None = None
        self._welcome = Welcome("", "")
        self._counter = 0

    @property
    def welcome(self) -> Plain:
        """What the server told when the connection was made; ``None`` before the first call."""
        return wire.decode(self._welcome.text) if self._welcome.text else None

    def call(self, method: str, message: Plain, *, timeout_s: float | None = None) -> Plain:
        """Call a method with a message and give its answer.

        Parameters
        ----------
        method
            Name of the method.
        message
            Anything that :func:`wire.encode` takes.
        timeout_s
            Time for this call, where it differs from the client's.

        Raises
        ------
        NotPlain
            If the message cannot be sent; nothing was.
        PeerError
            If no answer came: the class says whether the server could not be reached (:class:`Busy`: not now), refused
            the key, or speaks another protocol.
        SearchError
            What the server's method raised.
        """
        text = wire.encode(message)
        deadline = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        with errors_as_ours(self.address, self._whom):
            try:
                answer = self._exchange(self._connected(deadline), method, text)
            except BaseException:
                # Also for Ctrl-C: an answer that comes later must never be taken for that of the next call.
                self.close()
                raise
        try:
            return wire.decode(protocol.read_answer(answer, self._welcome.nonce, self._counter, self.address))
        except ProtocolMismatch:
            # Perhaps another call's answer: nothing that comes on this connection can be trusted any more.
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next call makes a new one."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connected(self, deadline: float) -> _Line:
        if self._line is not None and not self._line.is_cut():
            self._line.extend(deadline)
            return self._line
        self.close()
        # Kept at once, so that whatever goes wrong from here on closes it.
        self._line = line = _Line(self._host, self._port, deadline, self._limit_bytes)
        nonce = secrets.token_hex(16)
        greeting = protocol.write_greeting(self._protocol, nonce, self._hello)
        payload = json.dumps({"handshake": greeting, "object": self._object_id}).encode("ascii")
        if len(payload) > MAX_GREETING_BYTES - 100:
            raise UsageError(
                f"the greeting is {len(payload):,} bytes long, over its limit of {MAX_GREETING_BYTES:,}; shorten hello"
            )
        answer, message = self._said(line, MSG_CONNECT, payload, (MSG_CONNECTOK, MSG_CONNECTFAIL))
        if message.type == MSG_CONNECTFAIL:
            raise protocol.read_refusal(answer, self._protocol, self.address)
        self._welcome = protocol.read_welcome(answer, nonce, self.address)
        self._counter = 0
        return line

    def _exchange(self, line: _Line, method: str, text: str) -> Plain:
        self._counter += 1
        params: list[Plain] = [self._welcome.nonce, self._counter, method, text]
        line.send(write_call(self._counter & 0xFFFF, self._object_id, params, self._key))
        heard = line.recv(HEADER_BYTES)
        behind = bytes_behind(heard)
        if behind is not None:
            heard += line.recv(behind)
            answer = read_result(heard, self._key)
            if answer is not None:
                return answer.content
        # Whatever it is, Pyro4 says what is wrong with it.
        content, message = self._judged(_Heard(heard, line), (MSG_RESULT,))
        if message.flags & FLAGS_EXCEPTION:
            raise ProtocolMismatch(f"{self.address} could not take the call: {_reason(content)}")
        return content

    def _said(self, line: _Line, kind: int, payload: bytes, expected: tuple[int, ...]) -> tuple[Plain, Any]:
        """Send one message and give what the other side answers."""
        line.send(Message(kind, payload, JSON_ID, 0, self._counter & 0xFFFF, hmac_key=self._key).to_bytes())
        return self._judged(line, expected)

    def _judged(self, line: _Line | _Heard, expected: tuple[int, ...]) -> tuple[Plain, Any]:
        """What a message holds, as Pyro4 reads it, and the message."""
        message = Message.recv(line, expected, hmac_key=self._key)
        if message.serializer_id != JSON_ID:
            # Refused before anything is unpacked: it may be pickle.
            raise ProtocolMismatch(f"{self.address} refused the message, and not in JSON; is it hpbandster_lite?")
        data: bytes = message.data
        if message.flags & FLAGS_COMPRESSED:
            # A user may have switched compression on for all of Pyro4 at the server's side; a bomb stays bounded.
            data = zlib.decompressobj().decompress(data, self._limit_bytes)
        return json.loads(data), message


def _reason(exception: Plain) -> str:
    """What Pyro4's daemon says in an exception, which is not built from what a peer sends."""
    match exception:
        case {"args": [str(reason), *_]}:
            return reason
        case _:
            return f"{exception!r:.300}"
