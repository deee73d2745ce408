"""A Pyro4 daemon without a server: it takes one complete message at a time and has no socket of its own.

Law of this file: all of Pyro4's server side that is used is used here, private names included
(``tests/unit/test_pyro4_private_names.py`` holds each against release 4.82). What can be set on the daemon is set on
the daemon: ``Pyro4.config`` belongs to the user, who may use Pyro4 in this process for other things.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import Pyro4
import Pyro4.core
import Pyro4.errors
import Pyro4.util
from Pyro4.message import FLAGS_META_ON_CONNECT, MSG_CONNECT, MSG_INVOKE, MSG_PING

GREETING_FLAGS = frozenset({(MSG_CONNECT, 0), (MSG_CONNECT, FLAGS_META_ON_CONNECT)})
"""Type and flags of the one message that a stranger may send."""
CALL_FLAGS = frozenset({(MSG_INVOKE, 0), (MSG_PING, 0)})
"""Type and flags of what a client may send later. Flags are not signed, and each one is a way in: ONEWAY starts a
thread, BATCH runs many calls as one, COMPRESSED unpacks a bomb, KEEPSERIALIZED hands bytes to marshal."""
MALFORMED = (Pyro4.errors.PyroError, struct.error, UnicodeError, RecursionError)
"""What Pyro4 raises while it takes a message apart: refused signatures, headers and annotations that make no sense; and
while it says in its answer what was wrong: halves of characters in a name, which cannot be written."""


class Face:
    """What the daemon says of itself: enough for a stock proxy to bind, and no item streams."""

    def __init__(self, daemon: Any) -> None:
        self._full = Pyro4.core.DaemonObject(daemon)

    def get_metadata(self, objectId: str, as_lists: bool = False) -> Any:  # noqa: N803 (Pyro4's name)
        """Exposed methods of an object."""
        return self._full.get_metadata(objectId, as_lists)

    def ping(self) -> None:
        """Answer."""


class Entrance:
    """The one Pyro4 object of a server: ``call`` takes the signed nonce and counter with the text."""

    def __init__(self, called: Callable[[object, object, object, object], Any]) -> None:
        self._called = called

    def call(self, nonce: object, counter: object, method: object, text: object) -> Any:
        """Carry out one call; see :mod:`hpbandster_lite.transport.protocol` for the answer's shape."""
        return self._called(nonce, counter, method, text)


Pyro4.expose(Face)
Pyro4.expose(Entrance)


@contextlib.contextmanager
def _without_ssl() -> Iterator[None]:
    """Let a daemon be built on a plain socket pair, whatever the user has set for daemons of their own."""
    before = Pyro4.config.SSL
    Pyro4.config.SSL = False
    try:
        yield
    finally:
        Pyro4.config.SSL = before


def build_daemon(
    *,
    key: bytes | None,
    objects: Mapping[str, object],
    serializers: tuple[str, ...],
    greet: Callable[[Any, object], Any],
) -> Any:
    """A Pyro4 daemon that is driven through ``_handshake`` and ``handleRequest`` alone.

    Parameters
    ----------
    key
        HMAC key of every message in both directions; ``None`` for no signatures.
    objects
        What it serves, by object id.
    serializers
        The only serialisers that it accepts, by Pyro4's names.
    greet
        Called with the connection and the client's part of the handshake; gives the server's part or raises.
    """
    # A daemon for an existing connection opens no port and starts no thread; this connection is never used.
    ours, theirs = socket.socketpair()
    with theirs, _without_ssl():
        daemon = Pyro4.Daemon(connected_socket=ours, interface=Face)
    daemon._pyroHmacKey = key  # noqa: SLF001 (Pyro4's documented name for it)
    # Otherwise Pyro4.config.SERIALIZERS_ACCEPTED rules, which has marshal in it unless the user says otherwise.
    daemon._Daemon__serializer_ids = {  # noqa: SLF001 (there is no other way for one daemon)
        Pyro4.util.get_serializer(name).serializer_id for name in serializers
    }
    daemon.validateHandshake = greet
    for object_id, served in objects.items():
        daemon.register(served, object_id)
    return daemon


def introduce(daemon: Any, connection: object) -> bool:
    """Let Pyro4 do the handshake with the message that the connection holds; whether it was accepted."""
    return bool(daemon._handshake(connection))  # noqa: SLF001 (the step between the bytes and validateHandshake)


def close_daemon(daemon: Any) -> None:
    """Let go of what the daemon holds."""
    unused = daemon.sock
    daemon.close()
    unused.close()
