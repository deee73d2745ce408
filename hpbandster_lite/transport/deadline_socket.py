"""The client's socket: sends and receives bytes within one deadline, plain or under TLS.

Law of this file: nothing waits longer than the deadline of the call, and unrequested bytes end the connection.
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


class DeadlineSocket:
    """A connected socket with one deadline for all operations; Pyro4 can use it as a connection.

    Parameters
    ----------
    hosts, port
        Addresses of the server, tried in this order, and its port.
    deadline
        When all operations must be complete, in seconds on the monotonic clock.
    limit_bytes
        Most bytes of one message.

    Attributes
    ----------
    host : str
        The address that was reached.
    """

    def __init__(self, hosts: Sequence[str], port: int, deadline: float, limit_bytes: int) -> None:
        self._deadline = deadline
        self._limit_bytes = limit_bytes
        self._inbox = bytearray()
        self._socket, self.host = connect(hosts, port, self._left_s)
        keep_alive(self._socket)
        # Non-blocking, with poll: a socket time-out takes two system calls for each read and write.
        self._readable, self._writable = select.poll(), select.poll()
        self._readable.register(self._socket, select.POLLIN)
        self._writable.register(self._socket, select.POLLOUT)

    def handshake(self) -> None:
        """Do nothing; :class:`TlsDeadlineSocket` does the handshake of TLS."""

    def extend(self, deadline: float) -> None:
        """Set the deadline of the next call."""
        self._deadline = deadline

    def is_closed(self) -> bool:
        """Whether the other side has closed the connection, or sent bytes that were not requested."""
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
        # Rounded up: poll does not wait for a fraction of a millisecond.
        if not ready.poll(math.ceil(1_000 * self._left_s())):
            raise TimeoutError("timed out")

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= self._limit_bytes:
            raise ProtocolMismatch(f"an answer of {size:,} bytes was refused; the limit is {self._limit_bytes:,}")

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
        """The next bytes; empty when the other side has closed the connection."""
        while True:
            self._wait_until(self._readable)
            try:
                # More than the requested header, because most answers arrive together with it.
                return self._socket.recv(max(READ_BYTES, missing))
            except (BlockingIOError, InterruptedError):
                continue

    def _raise_closed(self) -> NoReturn:
        if self._inbox.startswith(ALERT):
            raise TlsWanted("it accepts only TLS")
        raise ConnectionResetError("the connection was closed")

    def send(self, data: bytes) -> None:
        """Send all bytes."""
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


class TlsDeadlineSocket(DeadlineSocket):
    """A :class:`DeadlineSocket` under TLS; ``context`` is that of a client."""

    def __init__(
        self, hosts: Sequence[str], port: int, deadline: float, limit_bytes: int, context: ssl.SSLContext
    ) -> None:
        super().__init__(hosts, port, deadline, limit_bytes)
        self._context = context

    def handshake(self) -> None:
        """Do the handshake; the server must have a certificate for the host of this connection."""
        # Certificates contain addresses without the interface that follows "%".
        name = self.host.partition("%")[0]
        secure = self._context.wrap_socket(self._socket, do_handshake_on_connect=False, server_hostname=name)
        self._socket = secure
        self._until_done(secure.do_handshake)

    def _until_done(self, step: Callable[[], _Step]) -> _Step:
        """Repeat a step of TLS as soon as the socket is readable or writable, until it is done."""
        while True:
            self._left_s()
            try:
                return step()
            except ssl.SSLWantReadError:
                self._wait_until(self._readable)
            except ssl.SSLWantWriteError:
                self._wait_until(self._writable)

    def is_closed(self) -> bool:
        """Whether the other side has closed the connection, or sent bytes that were not requested."""
        if self._inbox:
            return True
        try:
            # No bytes are expected. If one arrives, this read loses it, so the connection must be closed.
            self._socket.recv(1)
        except WANTS_MORE:
            return False
        except OSError:
            return True
        return True

    def _part(self, missing: int) -> bytes:
        # Read before waiting: bytes that are already decrypted do not make the socket readable.
        return self._until_done(lambda: self._socket.recv(READ_BYTES))

    def send(self, data: bytes) -> None:
        """Send all bytes."""
        left = memoryview(data)
        try:
            while left:
                piece = left[:READ_BYTES]
                left = left[self._until_done(lambda: self._socket.send(piece)) :]  # noqa: B023 (called at once)
        except ConnectionError:
            # A server that refused the certificate sent an alert before it closed the connection: read it.
            self._until_done(lambda: self._socket.recv(1))
            raise


class PartlyReadSocket:
    """A socket from which some bytes have been read already; Pyro4 can use it as a connection.

    Parameters
    ----------
    received
        The bytes that were read.
    line
        The socket, which has the others.
    """

    def __init__(self, received: bytes, line: DeadlineSocket) -> None:
        self._received = received
        self._line = line
        self.close = line.close

    def recv(self, size: int) -> bytes:
        """Exactly ``size`` bytes."""
        part, self._received = self._received[:size], self._received[size:]
        return part if len(part) == size else part + self._line.recv(size - len(part))
