"""The payloads that two processes exchange: greeting, welcome, call, answer.

Law of this file: shapes and checks of plain values only; no sockets, no clock, no Pyro4. All input is checked before it
is used, and every accepted answer names the call that it answers.

The sequence on a connection, each payload signed with the HMAC key::

    client ── greeting: protocol, client nonce, hello ─────────────────► server
    client ◄─ welcome: protocol, client nonce again, server nonce ────── server      or a refusal, with the protocol
    client ── call: server nonce, 1, method, text ─────────────────────► server
    client ◄─ answer: server nonce, 1, text | error | busy ───────────── server
    client ── call: server nonce, 2, method, text ─────────────────────► server      and so on

Pyro4 signs a message's data and annotations, but neither its header nor its position in a sequence. So recorded calls
and answers could be replayed. Here the client's nonce makes the welcome fresh, the server's nonce binds every call and
answer to this connection, and the counter binds it to its position. :mod:`hpbandster_lite.wire` writes the strings
``hello`` and ``text``, because Pyro4's JSON changes integer keys and builds objects from ``__class__``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from hpbandster_lite import errors, wire
from hpbandster_lite.errors import MasterUnreachable, PeerError, ProtocolMismatch, SearchError
from hpbandster_lite.records import Plain
from hpbandster_lite.records.decorator import record

PROTOCOL = 2
"""Version of everything that is sent over a connection. Different versions refuse each other; the error names both."""
MAX_GREETING_BYTES = 4096
"""Largest message of a peer that has not yet proved that it has the key."""
JSON_ID = 2
"""Pyro4's number for its JSON serialiser, documented as fixed."""
CALL_METHOD = "call"
"""The only method that a server exposes to Pyro4."""


class Busy(MasterUnreachable):
    """The server cannot write its journal at present; call again after ``after_s`` seconds."""

    def __init__(self, message: str, after_s: float = 1.0) -> None:
        super().__init__(message)
        self.after_s = after_s


class OtherVersion(ProtocolMismatch):
    """The other side has another protocol version; install the same version of hpbandster_lite on both sides."""


class NameTaken(PeerError):
    """Another living master has this name at the name server; the message names its endpoint."""


_TRAVELLING_ERRORS: dict[str, type[SearchError]] = {
    cls.__name__: cls
    for cls in (
        *(cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, SearchError)),
        NameTaken,
    )
    # A bug ends its own process and is not raised in another one.
    if cls is not errors.InvariantBroken
}


@record(frozen=True, slots=True)
class Call:
    """One request for the server's ``handle``.

    ``peer`` names the connection, as in :meth:`Server.closed_peers`; ``hello`` is the client's information about
    itself, from its greeting.
    """

    method: str
    text: str
    peer: str
    hello: Plain = None


class Greeting(NamedTuple):
    """The first payload of a client."""

    protocol: int
    nonce: str
    hello: Plain


class Welcome(NamedTuple):
    """The server's answer to a greeting: its nonce, and its ``welcome`` as text."""

    nonce: str
    text: str


def write_greeting(protocol: int, nonce: str, hello: Plain) -> dict[str, Plain]:
    """The client's part of the handshake."""
    return {"protocol": protocol, "nonce": nonce, "hello": wire.encode(hello)}


def read_greeting(handshake: object, protocol: int) -> Greeting:
    """Check a client's greeting.

    Raises
    ------
    ProtocolMismatch
        If it has another protocol version, or is invalid; :func:`read_refusal` reads the message.
    """
    theirs = handshake.get("protocol") if isinstance(handshake, dict) else None
    if type(theirs) is not int:
        reason = "this is an hpbandster_lite server, and the greeting comes from another program"
        raise ProtocolMismatch(write_refusal(protocol, reason))
    if theirs != protocol:
        raise ProtocolMismatch(write_refusal(protocol, f"the client has protocol {theirs}, this server {protocol}"))
    match handshake:
        case {"nonce": str(nonce), "hello": str(hello)}:
            return Greeting(theirs, nonce, wire.decode(hello))
        case _:
            raise ProtocolMismatch(write_refusal(protocol, "the greeting lacks its nonce or its hello"))


def write_welcome(protocol: int, greeting: Greeting, nonce: str, text: str) -> dict[str, Plain]:
    """The server's part of the handshake."""
    return {"protocol": protocol, "echo": greeting.nonce, "nonce": nonce, "welcome": text}


def read_welcome(handshake: object, nonce: str, address: str) -> Welcome:
    """Check the answer to the greeting with this ``nonce``.

    Raises
    ------
    ProtocolMismatch
        If it is invalid, or answers another greeting.
    """
    match handshake:
        case {"echo": str(echo), "nonce": str(server_nonce), "welcome": str(text)} if echo == nonce:
            return Welcome(server_nonce, text)
        case _:
            raise ProtocolMismatch(f"the server at {address} did not answer our greeting; is it hpbandster_lite?")


def write_refusal(protocol: int, reason: str) -> str:
    """The reason for a refused handshake, as a text that :func:`read_refusal` can parse."""
    return wire.encode({"protocol": protocol, "refused": reason})


def read_refusal(text: object, protocol: int, address: str) -> ProtocolMismatch:
    """The error to raise for a refused handshake."""
    refusal: Plain = None
    if isinstance(text, str) and text.startswith("{"):
        refusal = wire.decode(text)
    match refusal:
        case {"protocol": int(theirs)} if theirs != protocol:
            return OtherVersion(
                f"{address} has protocol {theirs} of hpbandster_lite, and this side has {protocol}; "
                "install the same version of hpbandster_lite on both sides"
            )
        case {"refused": str(reason)}:
            return ProtocolMismatch(f"{address} refused the handshake: {reason}")
        case _:
            return ProtocolMismatch(f"{address} refused the handshake ({text!r:.200}); is it hpbandster_lite?")


def answer_payload(nonce: str, counter: int, text: str) -> dict[str, Plain]:
    """The answer to a call that was handled."""
    return {"nonce": nonce, "counter": counter, "answer": text}


def error_payload(nonce: str, counter: int, error: SearchError) -> dict[str, Plain]:
    """The answer to a call that was refused, with the nearest base class of the error that may be sent."""
    name = next(cls.__name__ for cls in type(error).__mro__ if _TRAVELLING_ERRORS.get(cls.__name__) is cls)
    return {"nonce": nonce, "counter": counter, "error": {"type": name, "message": str(error)}}


def busy_payload(nonce: str, counter: int, after_s: float) -> dict[str, Plain]:
    """The answer to a call that was not handled: the client calls again after ``after_s`` seconds."""
    return {"nonce": nonce, "counter": counter, "busy": after_s}


def read_answer(answer: Any, nonce: str, counter: int, address: str) -> str:
    """The text of the answer to call number ``counter`` of the connection with this server ``nonce``.

    Raises
    ------
    SearchError
        The error that the server sent: one of :mod:`hpbandster_lite.errors`, never another class.
    Busy
        If the server cannot handle the call at present.
    ProtocolMismatch
        If it is invalid, or answers another call.
    """
    if type(answer) is not dict or answer.get("nonce") != nonce or answer.get("counter") != counter:
        raise ProtocolMismatch(f"the message from {address} does not answer this call: {answer!r:.200}")
    match answer:
        case {"answer": str(text)}:
            return text
        case {"busy": float() | int() as after_s}:
            why = "cannot write its journal at present (a full disk?)"
            raise Busy(f"{address} {why}; call again in {after_s:g} s", float(after_s))
        case {"error": {"type": str(name), "message": str(message)}}:
            cls = _TRAVELLING_ERRORS.get(name)
            if cls is None:
                raise ProtocolMismatch(f"{address} answered with the unknown error {name!r}: {message}")
            raise cls(message)
        case _:
            raise ProtocolMismatch(f"{address} sent an invalid answer: {answer!r:.200}")
