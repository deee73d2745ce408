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
from hpbandster_lite.transport import protocol
from hpbandster_lite.transport.connection import Bounds
from hpbandster_lite.transport.line import Heard, Line, SecureLine
from hpbandster_lite.transport.message import HEADER_BYTES, bytes_behind, read_result, write_call
from hpbandster_lite.transport.protocol import JSON_ID, MAX_GREETING_BYTES, PROTOCOL, Welcome
from hpbandster_lite.transport.tls import TlsWanted, why_refused


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
    # TLS refuses, or was refused; where it only ends, nobody answers.
    ssl.SSLError: NotAuthorised,
    ssl.SSLEOFError: None,
    ssl.SSLZeroReturnError: None,
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
        if isinstance(error, ssl.SSLError):
            story = _told_of_tls(error, address, whom)
        elif meaning is NotAuthorised:
            story = f"the {whom.what} at {address} and we do not hold the same key ({error}); {whom.key_remedy}"
        else:
            story = f"what answers at {address} is no {whom.what} of this version of hpbandster_lite ({error})"
        raise meaning(story) from error


def _told_of_tls(error: ssl.SSLError, address: str, whom: Whom) -> str:
    why = why_refused(error)
    remedy = f"give the certificates of the {whom.what} with --tls DIR, or in the folder tls of the run directory"
    if why.kind == "plain":
        told = "start it with --tls DIR, or take the folder tls out of the run directory here"
        remedy = remedy if isinstance(error, TlsWanted) else told
    elif isinstance(error, ssl.SSLCertVerificationError) and "for this" in why.words:
        remedy = "make one that is: hpbandster-lite certs DIR --host NAME_OR_ADDRESS, and start it again"
    elif why.kind.endswith(("expired", " 10", " 9")):
        remedy = "make new ones: hpbandster-lite certs DIR --host NAME, then start master and workers again"
    return f"no TLS with the {whom.what} at {address}: {why.words}; {remedy}"


class Client:
    """Calls the methods of one server's object; one client per thread.

    Nothing is sent before the first call, and a call that failed leaves a client that can be called again. A call whose
    answer did not come may have been carried out, so calls must bear being repeated.

    Parameters
    ----------
    host, port, object_id
        Where the server listens and what its object is called. Several hosts are tried in their order, each as soon as
        the one before it hesitates or refuses; the one that answered is the first from then on, see :attr:`host`.
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
    tls
        What TLS is spoken with; None for plain connections.
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
        whom: Whom = MASTER,
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
        self._whom = whom
        self._limit_bytes = Bounds().message_bytes
        self._line: Line | None = None
        self._welcome = Welcome("", "")
        self._counter = 0

    @property
    def host(self) -> str:
        """The host that is tried first: the one that answered last."""
        return self._hosts[0]

    @property
    def address(self) -> str:
        """Where the server is called, for people."""
        return _at(self._hosts, self._port)

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

    def _connected(self, deadline: float) -> Line:
        if self._line is not None and not self._line.is_cut():
            self._line.extend(deadline)
            return self._line
        self.close()
        left, refusals = list(self._hosts), list[PeerError]()
        while left:
            # Half of the time for who may be another's server at an address that two networks have.
            now = time.monotonic()
            until = deadline if len(left) == 1 else now + (deadline - now) / 2
            host = None
            try:
                with errors_as_ours(_at(left, self._port), self._whom):
                    line = self._opened(left, until)
                    host = line.host
                    line.agree()
                    self._introduce(line)
            except PeerError as error:
                refusals.append(error)
                self.close()
                left = [] if host is None else [each for each in left if each != host]
            else:
                line.extend(deadline)
                self._hosts.sort(key=lambda each: each != line.host)
                return line
        # What a refusal says is more than that somebody does not answer.
        raise next((error for error in refusals if isinstance(error, NotAuthorised)), refusals[-1])

    def _opened(self, hosts: Sequence[str], deadline: float) -> Line:
        # Kept at once, so that whatever goes wrong from here on closes it.
        if self._tls is None:
            self._line = Line(hosts, self._port, deadline, self._limit_bytes)
        else:
            self._line = SecureLine(hosts, self._port, deadline, self._limit_bytes, self._tls)
        return self._line

    def _introduce(self, line: Line) -> None:
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

    def _exchange(self, line: Line, method: str, text: str) -> Plain:
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
        content, message = self._judged(Heard(heard, line), (MSG_RESULT,))
        if message.flags & FLAGS_EXCEPTION:
            raise ProtocolMismatch(f"{self.address} could not take the call: {_reason(content)}")
        return content

    def _said(self, line: Line, kind: int, payload: bytes, expected: tuple[int, ...]) -> tuple[Plain, Any]:
        """Send one message and give what the other side answers."""
        line.send(Message(kind, payload, JSON_ID, 0, self._counter & 0xFFFF, hmac_key=self._key).to_bytes())
        return self._judged(line, expected)

    def _judged(self, line: Line | Heard, expected: tuple[int, ...]) -> tuple[Plain, Any]:
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


def _at(hosts: Sequence[str], port: int) -> str:
    """Hosts and port for people; an IPv6 address stands in brackets."""
    return " or ".join(format_host_port(host, port) for host in hosts)


def _reason(exception: Plain) -> str:
    """What Pyro4's daemon says in an exception, which is not built from what a peer sends."""
    match exception:
        case {"args": [str(reason), *_]}:
            return reason
        case _:
            return f"{exception!r:.300}"
