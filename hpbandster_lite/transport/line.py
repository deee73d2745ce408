"""A connection as a client has it: bytes there and back within one deadline, plain or under TLS.

Law of this file: nothing waits longer than the call that asked for it, and what comes unasked ends the connection.
"""

from __future__ import annotations

import math
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

from hpbandster_lite.errors import ProtocolMismatch
from hpbandster_lite.transport.connection import READ_BYTES
from hpbandster_lite.transport.sockets import connect, keep_alive
from hpbandster_lite.transport.tls import ALERT, WANTS_MORE, TlsWanted

_Step = TypeVar("_Step")


class Line:
    """A connected socket with one deadline for all that is asked of it; to Pyro4 it looks like its own connection."""

    def __init__(self, hosts: Sequence[str], port: int, deadline: float, limit_bytes: int) -> None:
        self._deadline = deadline
        self._limit_bytes = limit_bytes
        self._inbox = bytearray()
        self._socket, self.host = connect(hosts, port, self._left_s)
        keep_alive(self._socket)
        # It never waits by itself: with a time-out of its own Python asks the kernel twice around each read and write.
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(self._socket, select.POLLIN)
        self._writable.register(self._socket, select.POLLOUT)

    def agree(self) -> None:
        """What is to be said before the first message: nothing."""

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

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= self._limit_bytes:
            raise ProtocolMismatch(f"an answer of {size:,} bytes was refused, the limit is {self._limit_bytes:,}")

    def recv(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        self._check_size(size)
        while (missing := size - len(self._inbox)) > 0:
            part = self._part(missing)
            if not part:
                self._raise_closed()
            self._inbox += part
        data = bytes(self._inbox[:size])
        del self._inbox[:size]
        return data

    def _part(self, missing: int) -> bytes:
        """What comes next; nothing when the other side has closed the connection."""
        while True:
            self._wait_until(self._readable)
            try:
                # More than was asked for, which is a header first: most answers are here with it.
                return self._socket.recv(max(READ_BYTES, missing))
            except (BlockingIOError, InterruptedError):
                continue

    def _raise_closed(self) -> NoReturn:
        if self._inbox.startswith(ALERT):
            raise TlsWanted("it speaks TLS only")
        raise ConnectionResetError("the connection was closed")

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


class SecureLine(Line):
    """The same, under TLS."""

    def __init__(
        self, hosts: Sequence[str], port: int, deadline: float, limit_bytes: int, context: ssl.SSLContext
    ) -> None:
        super().__init__(hosts, port, deadline, limit_bytes)
        self._context = context

    def agree(self) -> None:
        """Make the handshake; who is there must have a certificate for the host that was called."""
        # An address is checked as it is written in certificates, which know no interfaces.
        name = self.host.partition("%")[0]
        secure = self._context.wrap_socket(self._socket, do_handshake_on_connect=False, server_hostname=name)
        self._socket = secure
        self._until_done(secure.do_handshake)

    def _until_done(self, step: Callable[[], _Step]) -> _Step:
        """Do what TLS may want to read and write for, within the time."""
        while True:
            self._left_s()
            try:
                return step()
            except ssl.SSLWantReadError:
                self._wait_until(self._readable)
            except ssl.SSLWantWriteError:
                self._wait_until(self._writable)

    def is_cut(self) -> bool:
        """Whether the other side has closed the connection, or sent what nobody asked for."""
        if self._inbox:
            return True
        try:
            # No byte of an answer is due: one that comes is taken away, and the line with it.
            self._socket.recv(1)
        except WANTS_MORE:
            return False
        except OSError:
            return True
        return True

    def _part(self, missing: int) -> bytes:
        # Read first and wait then: what is decrypted already wakes nobody.
        return self._until_done(lambda: self._socket.recv(READ_BYTES))

    def send(self, data: bytes) -> None:
        """All of it."""
        left = memoryview(data)
        try:
            while left:
                piece = left[:READ_BYTES]
                left = left[self._until_done(lambda: self._socket.send(piece)) :]  # noqa: B023 (called at once)
        except ConnectionError:
            # Whoever refused our certificate has said so before it hung up.
            self._until_done(lambda: self._socket.recv(1))
            raise


class Heard:
    """A line of which some bytes have been read already; to Pyro4 it looks like its own connection."""

    def __init__(self, heard: bytes, line: Line) -> None:
        self._heard = heard
        self._line = line
        self.close = line.close

    def recv(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        part, self._heard = self._heard[:size], self._heard[size:]
        return part if len(part) == size else part + self._line.recv(size - len(part))
