"""A Pyro4 daemon without a server: it handles one complete message at a time and has no socket.

Law of this file: only this file uses Pyro4's server side, with its private names
(``tests/unit/test_pyro4_private_names.py`` checks each against release 4.82). It sets everything on the daemon, not in
``Pyro4.config``, because your program may use Pyro4 in the same process.
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
"""Type and flags of messages that a peer may send before the handshake."""
CALL_FLAGS = frozenset({(MSG_INVOKE, 0), (MSG_PING, 0)})
"""Type and flags of the messages after the handshake. Flags are not signed, and each one allows an attack: ONEWAY
starts a thread, BATCH runs many calls as one, COMPRESSED unpacks a bomb, KEEPSERIALIZED passes bytes to marshal."""
MALFORMED = (Pyro4.errors.PyroError, struct.error, UnicodeError, RecursionError)
"""The exceptions of Pyro4 while it decodes a message (refused signatures, invalid headers and annotations), and while
it writes an error answer that contains half of a surrogate pair."""


class DaemonMetadata:
    """The daemon's metadata object: enough for an unmodified proxy to bind, without item streams."""

    def __init__(self, daemon: Any) -> None:
        self._full = Pyro4.core.DaemonObject(daemon)

    def get_metadata(self, objectId: str, as_lists: bool = False) -> Any:  # noqa: N803 (Pyro4 named it)
        """Exposed methods of an object."""
        return self._full.get_metadata(objectId, as_lists)

    def ping(self) -> None:
        """Answer."""


class CallEntry:
    """The Pyro4 object of a server; ``call`` takes the signed nonce and counter with the text."""

    def __init__(self, called: Callable[[object, object, object, object], Any]) -> None:
        self._called = called

    def call(self, nonce: object, counter: object, method: object, text: object) -> Any:
        """Handle one call; :mod:`hpbandster_lite.transport.payloads` describes the answer."""
        return self._called(nonce, counter, method, text)


Pyro4.expose(DaemonMetadata)
Pyro4.expose(CallEntry)


@contextlib.contextmanager
def _without_ssl() -> Iterator[None]:
    """Allow a daemon on a plain socket pair, even if the user has enabled SSL for other daemons."""
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
    """A Pyro4 daemon for calls of ``_handshake`` and ``handleRequest`` only.

    Parameters
    ----------
    key
        HMAC key of every message in both directions; ``None`` for no signatures.
    objects
        The served objects, by id.
    serializers
        The accepted serialisers, by Pyro4's names.
    greet
        Called with the connection and the client's handshake data; returns the server's handshake data, or raises.
    """
    # A daemon for an existing connection opens no port and starts no thread; the connection is never used.
    ours, theirs = socket.socketpair()
    with theirs, _without_ssl():
        daemon = Pyro4.Daemon(connected_socket=ours, interface=DaemonMetadata)
    daemon._pyroHmacKey = key  # noqa: SLF001 (Pyro4's documented name for it)
    # The default is Pyro4.config.SERIALIZERS_ACCEPTED, which includes marshal unless the user changes it.
    daemon._Daemon__serializer_ids = {  # noqa: SLF001 (the only way for one daemon)
        Pyro4.util.get_serializer(name).serializer_id for name in serializers
    }
    daemon.validateHandshake = greet
    for object_id, served in objects.items():
        daemon.register(served, object_id)
    return daemon


def introduce(daemon: Any, connection: object) -> bool:
    """Let Pyro4 do the handshake with the connection's current message; return whether it accepted."""
    return bool(daemon._handshake(connection))  # noqa: SLF001 (the step between the bytes and validateHandshake)


def close_daemon(daemon: Any) -> None:
    """Release the daemon's resources."""
    unused = daemon.sock
    daemon.close()
    unused.close()
