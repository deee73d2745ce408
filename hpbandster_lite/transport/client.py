"""A client of one server: one connection, one call at a time, a deadline for each.

Law of this file: a call ends before its deadline with an answer or an error of this package, and the next call then
works: it reconnects if necessary. Every answer is checked to be signed, fresh, and the answer to this call. Pyro4's own
proxy is not used: its time-out restarts with every byte that arrives, it obeys the process-wide ``Pyro4.config``
(compression, SSL, serialiser), it sends and clears the caller's call context, and it unpickles what a server without a
key sends.
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
    """Which server a client calls: the words and the class of its errors."""

    name: str
    unreachable: type[PeerError]
    key_remedy: str


MASTER = ServerKind(
    "master", MasterUnreachable, "use the key file of the run directory that it serves, or set HPBANDSTER_LITE_KEY"
)

_MEANINGS: dict[type[BaseException], type[PeerError] | None] = {
    # None: no answer; each kind of server has its own class for that.
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
    # A TLS handshake failed on either side. A connection that only ended counts as no answer.
    ssl.SSLError: NotAuthorised,
    ssl.SSLEOFError: None,
    ssl.SSLZeroReturnError: None,
}


@contextlib.contextmanager
def errors_as_ours(address: str, kind: ServerKind = MASTER) -> Iterator[None]:
    """Translate the exceptions of Pyro4, the network and malformed input into errors of this package, in one place."""
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
        remedy = "make one that is: hpbandster-lite certs DIR --host NAME_OR_ADDRESS, and start it again"
    elif why.kind.endswith(("expired", " 10", " 9")):
        remedy = "make new ones: hpbandster-lite certs DIR --host NAME, then start master and workers again"
    return f"no TLS with the {kind.name} at {address}: {why.text}; {remedy}"


class Client:
    """Calls the methods of one server's object; one client per thread.

    Nothing is sent before the first call. After a failed call the client can be used again. A call without an answer
    may have been carried out, so calls must be idempotent.

    Parameters
    ----------
    host, port, object_id
        Where the server listens, and the name of its object. Several hosts are tried in order, each as soon as the one
        before it is slow or refuses; the host that answered is tried first from then on, see :attr:`host`.
    key
        HMAC key of all messages, the server's own.
    timeout_s
        Time for a call as a whole: connecting if necessary, sending, waiting, receiving.
    protocol
        The protocol version of this side.
    hello
        Information about this client that is sent with the greeting; see :attr:`Call.hello`.
    kind
        Which kind of server is called, for the errors.
    tls
        The TLS context; None for plain connections.
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
            raise UsageError("a client needs a host to call, got none; give the host of the server")
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
        """The host that is tried first: the last one that answered."""
        return self._hosts[0]

    @property
    def address(self) -> str:
        """Hosts and port, as text."""
        return _at(self._hosts, self._port)

    @property
    def welcome(self) -> Plain:
        """What the server sent when the connection was made; ``None`` before the first call."""
        return wire.decode(self._welcome.text) if self._welcome.text else None

    def call(self, method: str, message: Plain, *, timeout_s: float | None = None) -> Plain:
        """Call a method with a message and return its answer.

        Parameters
        ----------
        method
            Name of the method.
        message
            Anything that :func:`wire.encode` takes.
        timeout_s
            Time for this call; default: the client's.

        Raises
        ------
        NotPlain
            If the message cannot be encoded; nothing was sent.
        PeerError
            If no answer came: the class says whether the server was unreachable (:class:`Busy`: for now), refused the
            key, or has another protocol version.
        SearchError
            The error that the server's method raised.
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
                    # After Ctrl-C too: a late answer must never be taken for the answer of the next call.
                    self.close()
        try:
            return wire.decode(payloads.read_answer(answer, self._welcome.nonce, self._counter, self.address))
        except ProtocolMismatch:
            # It may be the answer of another call: nothing more on this connection can be trusted.
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
            # Half of the time at most: an address that exists in two networks may lead to a wrong server.
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
        # A refused key tells more than a host that does not answer.
        raise next((error for error in refusals if isinstance(error, NotAuthorised)), refusals[-1])

    def _opened(self, hosts: Sequence[str], deadline: float) -> DeadlineSocket:
        # Stored at once, so that any later failure closes it.
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
                f"the greeting is {len(payload):,} bytes long, over its limit of {MAX_GREETING_BYTES:,}; shorten hello"
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
        # Any other message: Pyro4 reads it and raises what is wrong with it.
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
        """Read a message by Pyro4: its content, and the message."""
        message = Message.recv(line, expected, hmac_key=self._key)
        if message.serializer_id != JSON_ID:
            # Refused before it is deserialised: it may be pickle.
            raise ProtocolMismatch(f"{self.address} did not answer in JSON; is it hpbandster_lite?")
        data: bytes = message.data
        if message.flags & FLAGS_COMPRESSED:
            # The server's process may have compression on in Pyro4.config; the limit bounds a decompression bomb.
            data = zlib.decompressobj().decompress(data, self._limit_bytes)
        return json.loads(data), message


def _at(hosts: Sequence[str], port: int) -> str:
    """Hosts and port, as text."""
    return " or ".join(format_host_port(host, port) for host in hosts)


def _reason(exception: Plain) -> str:
    """The message of an exception that Pyro4's daemon sent; the exception object itself is never built."""
    match exception:
        case {"args": [str(reason), *_]}:
            return reason
        case _:
            return f"{exception!r:.300}"
