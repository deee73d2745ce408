"""One peer of a server: collects bytes until a message is complete, and keeps answers until they may be sent.

Law of this file: it never waits and never trusts the peer. It checks a message as soon as its header has arrived, and
passes it on only if it is complete, of an allowed kind, and within the size limit. Only the section "the network" uses
the socket; :mod:`~hpbandster_lite.transport.tls` overrides it for TLS.
"""

from __future__ import annotations

import contextlib
import math
import socket
from typing import Any

from Pyro4.message import Message

from hpbandster_lite import wire
from hpbandster_lite.errors import UsageError
from hpbandster_lite.records import Plain
from hpbandster_lite.records.decorator import record
from hpbandster_lite.transport.message_codec import HEADER_BYTES
from hpbandster_lite.transport.payloads import MAX_GREETING_BYTES
from hpbandster_lite.transport.pyro_daemon import CALL_FLAGS, GREETING_FLAGS, MALFORMED

READ_BYTES = 65_536
"""Size of one read: usually everything that a socket holds, so that a small message costs one system call."""
TLS_HELLO = b"\x16\x03"
"""The first bytes that a TLS client sends."""
NO_TLS_HERE = b"PYRO, without TLS\n"
"""Not valid TLS, so a TLS client fails at once."""
READS_A_TURN = 16
"""Most reads from one peer in a turn of the loop (1 MiB); the rest waits, so that other peers are served."""


@record(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Time limits and sizes of a server.

    Parameters
    ----------
    greeting_s
        Longest time in seconds for a handshake; then the connection is closed. Default: 5.
    message_s
        Longest time in seconds from the first byte of a message to its end, and for a peer to read a ready answer.
        Default: 30.
    message_bytes
        Largest message after the handshake. Default: twice the largest text plus the envelope, because quotation marks
        in the text are escaped a second time inside the call.
    unread_bytes
        Most bytes of answers kept for a peer that does not read them. Default: twice the largest text plus one read.
    connections
        Most connections at a time; more wait in the kernel's queue. Default: 4,000.
    busy_s
        Delay in seconds that clients receive while nothing can be committed. Default: 1.

    Raises
    ------
    UsageError
        If a value is not positive.
    """

    greeting_s: float = 5.0
    message_s: float = 30.0
    message_bytes: int = 2 * wire.MAX_MESSAGE_BYTES + MAX_GREETING_BYTES
    unread_bytes: int = 2 * wire.MAX_MESSAGE_BYTES + READ_BYTES
    connections: int = 4_000
    busy_s: float = 1.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be above zero, got {getattr(self, name)!r}")


class PeerRejected(Exception):
    """The connection to a peer must be closed; ``kind`` groups the log lines."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Connection:
    """One peer.

    Parameters
    ----------
    sock
        Its non-blocking socket.
    address
        The peer's address from ``socket.accept``.
    peer
        Name of the connection, unique for this server.
    bounds
        Time limits and sizes.
    now
        Seconds on the server's clock.

    Attributes
    ----------
    hello : Plain
        What the peer sent with its greeting.
    nonce, counter
        Number that this server gave to the connection, and the count of calls that were carried out.
    is_introduced, is_shaking, has_ended : bool
        Whether the greeting is complete, whether a TLS handshake is in progress, and whether the peer sends no more.
    refusal, refusal_kind
        Why the handshake failed, or None, and the kind of its log line.
    owes_commit, is_watched_for_room : bool
        Whether an answer waits for the commit of the turn, and whether the selector watches for room to write.
    read_by, write_by : float
        When the message that is being read must be complete, and the waiting answers sent; on the server's clock.
    """

    __slots__ = (
        "_address",
        "_answers",
        "_bounds",
        "_complete_bytes",
        "_inbox",
        "_outbox",
        "_position",
        "_socket",
        "counter",
        "has_ended",
        "hello",
        "is_introduced",
        "is_shaking",
        "is_watched_for_room",
        "nonce",
        "owes_commit",
        "peer",
        "read_by",
        "refusal",
        "refusal_kind",
        "write_by",
    )

    def __init__(self, sock: socket.socket, address: Any, peer: str, bounds: Bounds, now: float) -> None:
        self._socket = sock
        self._address = address
        self._bounds = bounds
        self._inbox = bytearray()
        self._complete_bytes: int | None = None
        self._position = 0
        self._answers: list[bytes] = []
        self._outbox = bytearray()
        self.peer = peer
        self.hello: Plain = None
        self.nonce = ""
        self.counter = 0
        self.is_introduced = False
        self.is_shaking = False
        self.refusal: str | None = None
        self.refusal_kind = "handshake"
        self.has_ended = False
        self.owes_commit = False
        self.is_watched_for_room = False
        self.read_by = now + bounds.greeting_s
        self.write_by = math.inf

    # ------------------------------------------------------------------------------------------------ the network

    def fileno(self) -> int:
        """The file descriptor, for the selector."""
        return self._socket.fileno()

    def fill(self) -> None:
        """Read the available bytes; sets ``has_ended`` when the peer will send no more."""
        for _ in range(READS_A_TURN):
            try:
                data = self._socket.recv(READ_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                self.has_ended = True
                return
            self._inbox += data
            if len(data) < READ_BYTES:
                return

    def flush(self) -> None:
        """Send as much of the answers as the socket accepts; sets ``has_ended`` when the peer is gone."""
        if not self._outbox:
            return
        try:
            del self._outbox[: self._socket.send(self._outbox)]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._outbox.clear()
            self.has_ended = True

    def _send_last(self, data: bytes) -> None:
        """Send the last bytes before the connection is closed, if the socket has room for them."""
        with contextlib.suppress(OSError):
            self._socket.send(data)

    def close_socket(self) -> None:
        """Close the socket."""
        self._socket.close()

    # --------------------------------------------------------------------------------------------------- messages

    def has_message(self) -> bool:
        """Whether the received bytes begin with a complete message.

        Raises
        ------
        PeerRejected
            As soon as the header shows that the message is not allowed, even if it is not complete yet.
        """
        if self._complete_bytes is None:
            if len(self._inbox) < HEADER_BYTES:
                return False
            self._complete_bytes = self._checked_size()
        return len(self._inbox) >= self._complete_bytes

    def _checked_size(self) -> int:
        try:
            header = Message.from_header(bytes(self._inbox[:HEADER_BYTES]))
        except MALFORMED as error:
            if self._inbox.startswith(TLS_HELLO):
                self._send_last(NO_TLS_HERE)
                raise PeerRejected(
                    "TLS", "it uses TLS, but this server does not; start the server with --tls DIR"
                ) from error
            raise PeerRejected("garbage", f"its bytes are not a Pyro4 message ({error})") from error
        size = int(header.data_size + header.annotations_size)
        limit = self._bounds.message_bytes if self.is_introduced else MAX_GREETING_BYTES
        if not 0 <= header.data_size <= size <= limit:
            raise PeerRejected("size", f"its message of {size:,} bytes is over the limit of {limit:,}")
        allowed = CALL_FLAGS if self.is_introduced else GREETING_FLAGS
        if (header.type, header.flags) not in allowed:
            raise PeerRejected("flags", f"messages of type {header.type} with flags {header.flags:#x} are not accepted")
        return HEADER_BYTES + size

    def message(self) -> bytes:
        """The complete message."""
        return bytes(self._inbox[: self._complete_bytes])

    def next_message(self) -> None:
        """Drop the message that has been handled."""
        del self._inbox[: self._complete_bytes]
        self._complete_bytes = None
        self._position = 0

    def note_reading(self, *, has_progressed: bool, now: float) -> None:
        """Set the deadline of the incoming message; only a complete message restarts the time."""
        if not self.is_introduced:
            return
        if not self._inbox:
            self.read_by = math.inf
        elif has_progressed or self.read_by == math.inf:
            self.read_by = now + self._bounds.message_s

    # ---------------------------------------------------------------------------------------------------- answers

    def release(self) -> None:
        """Let the next flush send the answers that are kept."""
        self.owes_commit = False
        for answer in self._answers:
            self._outbox += answer
        self._answers.clear()

    def forget_answers(self) -> None:
        """Send nothing more to this peer."""
        self._answers.clear()
        self._outbox.clear()

    def note_writing(self, now: float) -> None:
        """Set the deadline of answers that the peer does not read."""
        if not self._outbox:
            self.write_by = math.inf
        elif self.write_by == math.inf:
            self.write_by = now + self._bounds.message_s

    @property
    def is_unread(self) -> bool:
        """Whether some released answers are not sent yet."""
        return bool(self._outbox)

    def check_room(self) -> None:
        """Check the size of the answers kept for the peer.

        Raises
        ------
        PeerRejected
            If it sends calls and does not read the answers.
        """
        kept = len(self._outbox) + sum(map(len, self._answers))
        if kept > self._bounds.unread_bytes:
            raise PeerRejected(
                "unread", f"it does not read its answers: {kept:,} bytes, the limit is {self._bounds.unread_bytes:,}"
            )

    # ------------------------------------------------------------ the methods that Pyro4 calls on a connection

    def recv(self, size: int) -> bytes:
        """The next bytes of the complete message."""
        start = self._position
        self._position = start + size
        return bytes(self._inbox[start : self._position])

    def send(self, data: bytes) -> None:
        """Keep an answer until it may be sent."""
        self._answers.append(data)

    def close(self) -> None:
        """Pyro4 calls this when it rejects a peer; the server closes the socket when ``has_ended`` is set."""
        self.has_ended = True

    @property
    def sock(self) -> Connection:
        """Pyro4 calls ``getpeername`` on this in each call."""
        return self

    def getpeername(self) -> Any:
        """The peer's address, without the system call."""
        return self._address
