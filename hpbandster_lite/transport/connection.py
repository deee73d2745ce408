"""One peer of a server: bytes gathered until a message is complete, answers kept until they may leave.

Law of this file: it never waits and never trusts. A message is looked at when its header is there, and handed on only
when it is complete, of a kind that may be sent, and within its size. The socket is touched under "the network"
alone; :mod:`~hpbandster_lite.transport.tls` puts TLS there.
"""

from __future__ import annotations

import contextlib
import math
import socket
from dataclasses import dataclass
from typing import Any

from Pyro4.message import Message

from hpbandster_lite import wire
from hpbandster_lite.errors import UsageError
from hpbandster_lite.records import Plain
from hpbandster_lite.transport.daemon import CALL_FLAGS, GREETING_FLAGS, MALFORMED
from hpbandster_lite.transport.message import HEADER_BYTES
from hpbandster_lite.transport.protocol import MAX_GREETING_BYTES

READ_BYTES = 65_536
"""One read: what a socket usually holds at most, so that a small message costs one system call."""
TLS_HELLO = b"\x16\x03"
"""What a client that speaks TLS says first."""
NO_TLS_HERE = b"PYRO, without TLS\n"
"""Whatever it is, so long as it is none: the client is told at once that no TLS is spoken here."""
READS_A_TURN = 16
"""One peer gets at most this many reads in a turn of the loop (1 MiB), then the others have theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How long and how much a server bears.

    Parameters
    ----------
    greeting_s
        A connection that has not completed its handshake by then is closed.
    message_s
        A message must be complete this long after its first byte, and an answer be taken this long after it was ready.
    message_bytes
        Largest message after the handshake. Twice the text plus room for the envelope: a quotation mark of the text is
        escaped once more inside the call.
    unread_bytes
        Most bytes kept for a peer that does not read its answers.
    connections
        Most connections at a time; more wait in the kernel's queue.
    busy_s
        What a client is told to wait while nothing can be committed.
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


class Unwelcome(Exception):
    """A peer whose connection is to be closed; ``kind`` sorts the log lines."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class Connection:
    """One peer.

    Parameters
    ----------
    sock
        Its socket, already non-blocking.
    address
        The peer's address, as ``socket.accept`` gave it.
    peer
        Name of the connection, never used again by this server.
    bounds
        What is borne.
    now
        Seconds on the server's clock.
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
        """Whether the first steps are those of TLS, and not over yet."""
        self.refusal: str | None = None
        self.refusal_kind = "handshake"
        self.has_ended = False
        self.owes_commit = False
        self.is_watched_for_room = False
        self.read_by = now + bounds.greeting_s
        self.write_by = math.inf

    # ------------------------------------------------------------------------------------------------ the network

    def fileno(self) -> int:
        """For the selector."""
        return self._socket.fileno()

    def fill(self) -> None:
        """Read what the socket holds; ``has_ended`` when the peer will send no more."""
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
        """Send what the socket takes of the answers that may leave; ``has_ended`` when the peer is gone."""
        if not self._outbox:
            return
        try:
            del self._outbox[: self._socket.send(self._outbox)]
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._outbox.clear()
            self.has_ended = True

    def _tell(self, last: bytes) -> None:
        """A last word to somebody whose connection is about to be closed, if there is room for it."""
        with contextlib.suppress(OSError):
            self._socket.send(last)

    def hang_up(self) -> None:
        """Close the socket."""
        self._socket.close()

    # --------------------------------------------------------------------------------------------------- messages

    def has_message(self) -> bool:
        """Whether a complete message lies at the front of what was read.

        Raises
        ------
        Unwelcome
            As soon as the header shows that the message may not be handled, however much of it is still to come.
        """
        if self._complete_bytes is None:
            if len(self._inbox) < HEADER_BYTES:
                return False
            self._complete_bytes = self._judged_size()
        return len(self._inbox) >= self._complete_bytes

    def _judged_size(self) -> int:
        try:
            header = Message.from_header(bytes(self._inbox[:HEADER_BYTES]))
        except MALFORMED as error:
            if self._inbox.startswith(TLS_HELLO):
                self._tell(NO_TLS_HERE)
                raise Unwelcome("TLS", "it speaks TLS, and we do not; start this one with --tls DIR too") from error
            raise Unwelcome("garbage", f"it does not speak Pyro4 ({error})") from error
        size = int(header.data_size + header.annotations_size)
        limit = self._bounds.message_bytes if self.is_introduced else MAX_GREETING_BYTES
        if not 0 <= header.data_size <= size <= limit:
            raise Unwelcome("size", f"its message of {size:,} bytes is over the limit of {limit:,}")
        allowed = CALL_FLAGS if self.is_introduced else GREETING_FLAGS
        if (header.type, header.flags) not in allowed:
            raise Unwelcome("flags", f"messages of type {header.type} with flags {header.flags:#x} are not taken")
        return HEADER_BYTES + size

    def message(self) -> bytes:
        """The complete message at the front."""
        return bytes(self._inbox[: self._complete_bytes])

    def next_message(self) -> None:
        """Forget the message that has been handled."""
        del self._inbox[: self._complete_bytes]
        self._complete_bytes = None
        self._position = 0

    def note_reading(self, *, has_progressed: bool, now: float) -> None:
        """Set the deadline of the message that is being read; only a complete message buys the next one its time."""
        if not self.is_introduced:
            return
        if not self._inbox:
            self.read_by = math.inf
        elif has_progressed or self.read_by == math.inf:
            self.read_by = now + self._bounds.message_s

    # ---------------------------------------------------------------------------------------------------- answers

    def release(self) -> None:
        """Let the answers so far leave with the next flush."""
        self.owes_commit = False
        for answer in self._answers:
            self._outbox += answer
        self._answers.clear()

    def forget_answers(self) -> None:
        """Nothing more is said to this peer."""
        self._answers.clear()
        self._outbox.clear()

    def note_writing(self, now: float) -> None:
        """Set the deadline of answers that the peer does not take."""
        if not self._outbox:
            self.write_by = math.inf
        elif self.write_by == math.inf:
            self.write_by = now + self._bounds.message_s

    @property
    def is_unread(self) -> bool:
        """Whether answers that may leave are still here."""
        return bool(self._outbox)

    def check_room(self) -> None:
        """Bound what is kept for a peer.

        Raises
        ------
        Unwelcome
            If it asks on and on and does not read.
        """
        kept = len(self._outbox) + sum(map(len, self._answers))
        if kept > self._bounds.unread_bytes:
            raise Unwelcome("unread", f"it does not read: {kept:,} bytes of answers are over the limit")

    # -------------------------------------------------------------- what Pyro4 asks of its own connection object

    def recv(self, size: int) -> bytes:
        """The next part of the complete message."""
        start = self._position
        self._position = start + size
        return bytes(self._inbox[start : self._position])

    def send(self, data: bytes) -> None:
        """Keep an answer until it may leave."""
        self._answers.append(data)

    def close(self) -> None:
        """Pyro4 asks for it where it gives up on a peer; the server hangs up when it sees ``has_ended``."""
        self.has_ended = True

    @property
    def sock(self) -> Connection:
        """Pyro4 asks it for ``getpeername`` at each call."""
        return self

    def getpeername(self) -> Any:
        """The peer's address, without the system call."""
        return self._address
