"""A client of one server: one connection, one call at a time, a deadline for each.

Law of this file: a call ends before its deadline with an answer or an error of this package. The next call then works:
it reconnects if necessary. The client checks that every answer is signed, fresh, and belongs to its call. It does not
use Pyro4's proxy, because that restarts its time-out with every byte that arrives, obeys the process-wide
``Pyro4.config`` (compression, SSL, serialiser), sends and clears the caller's call context, and unpickles data from a
server without a key.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import ssl
import struct
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
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
from hpbandster_lite.process.host_port import format_host_port
from hpbandster_lite.records import Plain
from hpbandster_lite.transport import payloads
from hpbandster_lite.transport.connection import Bounds
from hpbandster_lite.transport.deadline_socket import DeadlineSocket, PartlyReadSocket, TlsDeadlineSocket
from hpbandster_lite.transport.message_codec import HEADER_BYTES, bytes_behind, read_result, write_call
from hpbandster_lite.transport.payloads import JSON_ID, MAX_GREETING_BYTES, PROTOCOL, Welcome
from hpbandster_lite.transport.tls import TlsWanted, why_refused


class ServerKind(NamedTuple):
    """The kind of server that a client calls: its name, and the class and the remedy of errors."""

    name: str
    unreachable: type[PeerError]
    key_remedy: str


MASTER = ServerKind(
    "master", MasterUnreachable, "use the key file of the run directory that it serves, or set HPBANDSTER_LITE_KEY"
)

_MEANINGS: dict[type[BaseException], type[PeerError] | None] = {
    # None means no answer: ServerKind.unreachable is the class of that error.
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
    # A TLS handshake failed on one side. A connection that only ended counts as no answer.
    ssl.SSLError: NotAuthorised,
    ssl.SSLEOFError: None,
    ssl.SSLZeroReturnError: None,
}


@contextlib.contextmanager
def errors_as_ours(address: str, kind: ServerKind = MASTER) -> Iterator[None]:
    """Convert exceptions of Pyro4, of the network and of malformed input to errors of this package."""
    try:
        yield
    except PeerError:
        raise
    except tuple(_MEANINGS) as error:
        meaning = next(_MEANINGS[cls] for cls in type(error).__mro__ if cls in _MEANINGS)
        if meaning is None:
            raise kind.unreachable(f"no answer from the {kind.name} at {address} ({error}); is it running?") from error
        if isinstance(error, ssl.SSLError):
            text = _tls_error_text(error, address, kind)
        elif meaning is NotAuthorised:
            text = f"the {kind.name} at {address} has another key than this process ({error}); {kind.key_remedy}"
        else:
            text = f"the server at {address} is not a {kind.name} of this version of hpbandster_lite ({error})"
        raise meaning(text) from error


def _tls_error_text(error: ssl.SSLError, address: str, kind: ServerKind) -> str:
    why = why_refused(error)
    remedy = f"give the certificates of the {kind.name} with --tls DIR, or in the folder tls of the run directory"
    if why.kind == "plain":
        other = "start it with --tls DIR, or remove the folder tls from the run directory here"
        remedy = remedy if isinstance(error, TlsWanted) else other
    elif isinstance(error, ssl.SSLCertVerificationError) and "for this" in why.text:
        remedy = "make one that covers it: hpbandster-lite certs DIR --host NAME_OR_ADDRESS, and start the server again"
    elif why.kind.endswith(("expired", " 10", " 9")):
        remedy = "make new ones: hpbandster-lite certs DIR --host NAME, then start master and workers again"
    return f"no TLS with the {kind.name} at {address}: {why.text}; {remedy}"


class Client:
    """Calls the methods of one server's object; one client per thread.

    The client sends nothing before the first call, and can be used again after a failed call. The server may have
    handled a call without an answer, so calls must be idempotent.

    Parameters
    ----------
    host, port, object_id
        Where the server listens, and the name of its object. The client tries several hosts in order, each as soon as
        the one before it is slow or refuses. Later it tries the host that answered first, see :attr:`host`.
    key
        The server's HMAC key, which signs all messages; None for messages without a signature.
    timeout_s
        Time in seconds for a whole call: connecting if necessary, sending, waiting, receiving. Default: 10.
    protocol
        The protocol version of this side. Default: :data:`PROTOCOL`.
    hello
        Information about this client for the greeting; see :attr:`Call.hello`. Default: empty.
    kind
        The kind of server, for the errors. Default: a master.
    tls
        The TLS context. Default: None, for plain connections.

    Raises
    ------
    UsageError
        If ``timeout_s`` is not positive, or there is no host.
    """

    def __init__(
        self,
        host: str | Sequence[str],
        port: int,
        object_id: str,
        key: bytes | None,
        *,
        timeout_s: float = 10.0,
        protocol: int = PROTOCOL,
        hello: Mapping[str, Plain] | None = None,
        kind: ServerKind = MASTER,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if not timeout_s > 0:
            raise UsageError(f"timeout_s must be above zero, got {timeout_s!r}")
        self._hosts = [host] if isinstance(host, str) else list(dict.fromkeys(host))
        if not self._hosts:
            raise UsageError("host must name at least one host of the server, got an empty list")
        self._port, self._object_id = port, object_id
        self._tls = tls
        self._key = key
        self._timeout_s = timeout_s
        self._protocol = protocol
        self._hello = dict(hello or {})
        self._kind = kind
        self._limit_bytes = Bounds().message_bytes
        self._line: DeadlineSocket | None = None
        self._welcome = Welcome("", "")
        self._counter = 0

    @property
    def host(self) -> str:
        """The host that the client tries first: the last one that answered."""
        return self._hosts[0]

    @property
    def address(self) -> str:
        """Hosts and port, as text."""
        return _at(self._hosts, self._port)

    @property
    def welcome(self) -> Plain:
        """The data that the server sent with the handshake; ``None`` before the first call."""
        return wire.decode(self._welcome.text) if self._welcome.text else None

    def call(self, method: str, message: Plain, *, timeout_s: float | None = None) -> Plain:
        """Call a method with a message and return its answer.

        Parameters
        ----------
        method
            Name of the method.
        message
            A value that :func:`wire.encode` accepts.
        timeout_s
            Time in seconds for this call. Default: the client's.

        Raises
        ------
        NotPlain
            If the message cannot be encoded; nothing was sent.
        PeerError
            If there is no answer. The subclass says whether the server is unreachable (:class:`Busy`: temporarily),
            refused the key, or has another protocol version.
        SearchError
            Any error that the server's method raised.
        """
        text = wire.encode(message)
        deadline = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        with errors_as_ours(self.address, self._kind):
            is_answered = False
            try:
                answer = self._exchange(self._connected(deadline), method, text)
                is_answered = True
            finally:
                if not is_answered:
                    # After Ctrl-C too: a late answer must never count as the answer to the next call.
                    self.close()
        try:
            return wire.decode(payloads.read_answer(answer, self._welcome.nonce, self._counter, self.address))
        except ProtocolMismatch:
            # This may be the answer to another call, so the connection cannot be trusted any more.
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

    def _connected(self, deadline: float) -> DeadlineSocket:
        if self._line is not None and not self._line.is_closed():
            self._line.extend(deadline)
            return self._line
        self.close()
        left, refusals = list(self._hosts), list[PeerError]()
        while left:
            # At most half of the time: an address that exists in two networks may belong to another server.
            now = time.monotonic()
            until = deadline if len(left) == 1 else now + (deadline - now) / 2
            host = None
            try:
                with errors_as_ours(_at(left, self._port), self._kind):
                    line = self._opened(left, until)
                    host = line.host
                    line.handshake()
                    self._introduce(line)
            except PeerError as error:
                refusals.append(error)
                self.close()
                left = [] if host is None else [each for each in left if each != host]
            else:
                line.extend(deadline)
                self._hosts.sort(key=lambda each: each != line.host)
                return line
        # A refused key is more informative than a host that does not answer.
        raise next((error for error in refusals if isinstance(error, NotAuthorised)), refusals[-1])

    def _opened(self, hosts: Sequence[str], deadline: float) -> DeadlineSocket:
        # Stored at once, so that a later failure closes it.
        if self._tls is None:
            self._line = DeadlineSocket(hosts, self._port, deadline, self._limit_bytes)
        else:
            self._line = TlsDeadlineSocket(hosts, self._port, deadline, self._limit_bytes, self._tls)
        return self._line

    def _introduce(self, line: DeadlineSocket) -> None:
        nonce = secrets.token_hex(16)
        greeting = payloads.write_greeting(self._protocol, nonce, self._hello)
        payload = json.dumps({"handshake": greeting, "object": self._object_id}).encode("ascii")
        if len(payload) > MAX_GREETING_BYTES - 100:
            raise UsageError(
                f"the greeting is {len(payload):,} bytes long; the limit is {MAX_GREETING_BYTES - 100:,}; shorten hello"
            )
        answer, message = self._send_and_read(line, MSG_CONNECT, payload, (MSG_CONNECTOK, MSG_CONNECTFAIL))
        if message.type == MSG_CONNECTFAIL:
            raise payloads.read_refusal(answer, self._protocol, self.address)
        self._welcome = payloads.read_welcome(answer, nonce, self.address)
        self._counter = 0

    def _exchange(self, line: DeadlineSocket, method: str, text: str) -> Plain:
        self._counter += 1
        params: list[Plain] = [self._welcome.nonce, self._counter, method, text]
        line.send(write_call(self._counter & 0xFFFF, self._object_id, params, self._key))
        received = line.recv(HEADER_BYTES)
        behind = bytes_behind(received)
        if behind is not None:
            received += line.recv(behind)
            answer = read_result(received, self._key)
            if answer is not None:
                return answer.content
        # Any other message: Pyro4 reads it and raises its fault.
        content, message = self._read_message(PartlyReadSocket(received, line), (MSG_RESULT,))
        if message.flags & FLAGS_EXCEPTION:
            raise ProtocolMismatch(f"{self.address} could not read the call: {_reason(content)}")
        return content

    def _send_and_read(
        self, line: DeadlineSocket, kind: int, payload: bytes, expected: tuple[int, ...]
    ) -> tuple[Plain, Any]:
        """Send one message and read the answer."""
        line.send(Message(kind, payload, JSON_ID, 0, self._counter & 0xFFFF, hmac_key=self._key).to_bytes())
        return self._read_message(line, expected)

    def _read_message(self, line: DeadlineSocket | PartlyReadSocket, expected: tuple[int, ...]) -> tuple[Plain, Any]:
        """Read a message with Pyro4; return its content and the message."""
        message = Message.recv(line, expected, hmac_key=self._key)
        if message.serializer_id != JSON_ID:
            # Refused before it is deserialised, because it may be a pickle.
            raise ProtocolMismatch(f"{self.address} did not answer in JSON; is it hpbandster_lite?")
        data: bytes = message.data
        if message.flags & FLAGS_COMPRESSED:
            # The server's Pyro4.config may enable compression. The limit bounds a decompression bomb.
            data = zlib.decompressobj().decompress(data, self._limit_bytes)
        return json.loads(data), message


def _at(hosts: Sequence[str], port: int) -> str:
    """Hosts and port, as text."""
    return " or ".join(format_host_port(host, port) for host in hosts)


def _reason(exception: Plain) -> str:
    """The message of an exception that Pyro4's daemon sent; no exception object is built from it."""
    match exception:
        case {"args": [str(reason), *_]}:
            return reason
        case _:
            return f"{exception!r:.300}"
