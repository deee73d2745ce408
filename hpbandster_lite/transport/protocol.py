"""What two processes say to each other: greeting, welcome, call, answer.

Law of this file: shapes and checks of plain values only; no sockets, no clock, no Pyro4. Whatever a peer sends is
checked before it is believed, and every answer that is believed names the one call that it answers.

The way of a connection, each payload signed with the HMAC key::

    client ── greeting: protocol, client nonce, hello ─────────────────► server
    client ◄─ welcome: protocol, client nonce again, server nonce ────── server      or a refusal, with the protocol
    client ── call: server nonce, 1, method, text ─────────────────────► server
    client ◄─ answer: server nonce, 1, text | error | busy ───────────── server
    client ── call: server nonce, 2, method, text ─────────────────────► server      and so on

Pyro4 signs a message's data and annotations, not its header, and it signs no place in a sequence. So a recorded call
could be run again, and a recorded answer be given again. Here the client's nonce makes the welcome fresh, the server's
nonce ties every call and answer to this connection, and the counter to its place in it. ``hello`` and ``text`` are
strings written by :mod:`hpbandster_lite.wire`: Pyro4's JSON mangles integer keys and builds objects from ``__class__``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from hpbandster_lite import errors, wire
from hpbandster_lite.errors import MasterUnreachable, PeerError, ProtocolMismatch, SearchError
from hpbandster_lite.records import Plain

PROTOCOL = 1
"""Version of everything that crosses a connection; two sides of different versions refuse each other by name."""
MAX_GREETING_BYTES = 4096
"""Largest message of a peer that has not shown yet that it holds the key."""
JSON_ID = 2
"""Pyro4's number of its JSON serialiser, which it promises never to change."""
CALL_METHOD = "call"
"""The one method that a server exposes to Pyro4."""


class Busy(MasterUnreachable):
    """The other side is alive and cannot make anything durable at present; ask again after ``after_s`` seconds."""

    def __init__(self, message: str, after_s: float = 1.0) -> None:
        super().__init__(message)
        self.after_s = after_s


class NameTaken(PeerError):
    """A name at the name server belongs to another living master; the message names its endpoint."""


_TRAVELLING_ERRORS: dict[str, type[SearchError]] = {
    cls.__name__: cls
    for cls in (
        *(cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, SearchError)),
        NameTaken,
    )
    # A bug of the other side is not ours: it ends the process that has it.
    if cls is not errors.InvariantBroken
}


@dataclass(frozen=True, slots=True)
class Call:
    """One request, as the server's ``handle`` gets it.

    ``peer`` names the connection, as in :meth:`Server.closed_peers`; ``hello`` is what the client said of itself when
    it connected.
    """

    method: str
    text: str
    peer: str
    hello: Plain = None


class Greeting(NamedTuple):
    """What a client says first."""

    protocol: int
    nonce: str
    hello: Plain


class Welcome(NamedTuple):
    """What a server says to a greeting: its nonce, and what its owner wants every client to know."""

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
        If it is of another protocol, or none; the message is what :func:`read_refusal` reads.
    """
    theirs = handshake.get("protocol") if isinstance(handshake, dict) else None
    if type(theirs) is not int:
        raise ProtocolMismatch(write_refusal(protocol, "this is an hpbandster_lite server, the greeting was another's"))
    if theirs != protocol:
        raise ProtocolMismatch(write_refusal(protocol, f"the client speaks protocol {theirs}, this server {protocol}"))
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
        If it is none, or the answer to another greeting.
    """
    match handshake:
        case {"echo": str(echo), "nonce": str(server_nonce), "welcome": str(text)} if echo == nonce:
            return Welcome(server_nonce, text)
        case _:
            raise ProtocolMismatch(f"what listens at {address} did not answer our greeting; is it hpbandster_lite?")


def write_refusal(protocol: int, reason: str) -> str:
    """Why a handshake was refused, as text that people can read and :func:`read_refusal` too."""
    return wire.encode({"protocol": protocol, "refused": reason})


def read_refusal(text: object, protocol: int, address: str) -> ProtocolMismatch:
    """The error to raise for a refused handshake."""
    refusal: Plain = None
    if isinstance(text, str) and text.startswith("{"):
        refusal = wire.decode(text)
    match refusal:
        case {"protocol": int(theirs)} if theirs != protocol:
            return ProtocolMismatch(
                f"{address} speaks protocol {theirs} of hpbandster_lite, this side speaks {protocol}; "
                "install the same version of hpbandster_lite on both sides"
            )
        case {"refused": str(reason)}:
            return ProtocolMismatch(f"{address} refused the handshake: {reason}")
        case _:
            return ProtocolMismatch(f"{address} refused the handshake ({text!r:.200}); is it hpbandster_lite?")


def answered(nonce: str, counter: int, text: str) -> dict[str, Plain]:
    """The answer of a call that was carried out."""
    return {"nonce": nonce, "counter": counter, "answer": text}


def failed(nonce: str, counter: int, error: SearchError) -> dict[str, Plain]:
    """The answer of a call that was refused; the nearest class that may travel stands for the error's own."""
    name = next(cls.__name__ for cls in type(error).__mro__ if _TRAVELLING_ERRORS.get(cls.__name__) is cls)
    return {"nonce": nonce, "counter": counter, "error": {"type": name, "message": str(error)}}


def busy(nonce: str, counter: int, after_s: float) -> dict[str, Plain]:
    """The answer of a call that was not looked at: the client is to ask again."""
    return {"nonce": nonce, "counter": counter, "busy": after_s}


def read_answer(answer: Any, nonce: str, counter: int, address: str) -> str:
    """The text of the answer to call number ``counter`` of the connection with this server ``nonce``.

    Raises
    ------
    SearchError
        The error that the other side answered with: one of :mod:`hpbandster_lite.errors`, never another class.
    Busy
        If the other side cannot take the call at present.
    ProtocolMismatch
        If it is no answer, or the answer of another call.
    """
    if type(answer) is not dict or answer.get("nonce") != nonce or answer.get("counter") != counter:
        raise ProtocolMismatch(f"what came from {address} does not answer this call: {answer!r:.200}")
    match answer:
        case {"answer": str(text)}:
            return text
        case {"busy": float() | int() as after_s}:
            raise Busy(f"{address} cannot write its journal at present and asks to be called again", float(after_s))
        case {"error": {"type": str(name), "message": str(message)}}:
            cls = _TRAVELLING_ERRORS.get(name)
            if cls is None:
                raise ProtocolMismatch(f"{address} answered with the unknown error {name!r}: {message}")
            raise cls(message)
        case _:
            raise ProtocolMismatch(f"{address} gave an answer that is none: {answer!r:.200}")
