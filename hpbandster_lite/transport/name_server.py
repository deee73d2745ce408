"""Serves the name registry: where a run's master is found. It runs in the same event loop as a master's server.

Law of this file: the table is in memory only, so masters register again at intervals; the name server connects to no
one. Unmodified Pyro4 clients with the key can read (``Pyro4.locateNS(host, port, hmac_key=key).lookup(name)``). Their
calls can be replayed, so they cannot change the table; calls of this package cannot be replayed and can. There is no
broadcast responder, because it would announce the name server to the whole network.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import Pyro4
import Pyro4.constants
import Pyro4.errors
import Pyro4.naming

from hpbandster_lite import wire
from hpbandster_lite.errors import ProtocolMismatch
from hpbandster_lite.transport.connection import Bounds
from hpbandster_lite.transport.name_registry import (
    STALE_AFTER_S,
    Endpoint,
    NameRegistry,
    endpoint_from_registration,
)
from hpbandster_lite.transport.name_server_client import OBJECT_ID
from hpbandster_lite.transport.payloads import Call
from hpbandster_lite.transport.server import Server

TURN_S = 0.5
NAME_SERVER_BOUNDS = Bounds(message_bytes=65_536, unread_bytes=8 * 2**20)
"""The messages are names and addresses; a list of 10,000 of them takes about 1 MiB."""


class ReadOnlyPyroNames:
    """Pyro4's name server object without the methods that change it.

    It refuses regular expressions, because a hostile one runs for hours and blocks all other clients.
    """

    def __init__(self, names: Any) -> None:
        self._names = names

    def ping(self) -> None:
        """Answer."""

    def count(self) -> Any:
        """Number of names."""
        return self._names.count()

    def lookup(self, name: str, return_metadata: bool = False) -> Any:
        """The URI of a name."""
        return self._names.lookup(name, return_metadata)

    def list(
        self,
        prefix: str | None = None,
        regex: str | None = None,
        metadata_all: Any = None,
        metadata_any: Any = None,
        return_metadata: bool = False,
    ) -> Any:
        """URIs by name."""
        if regex is not None:
            raise Pyro4.errors.NamingError("this name server supports no regular expressions; use prefix")
        return self._names.list(prefix, None, metadata_all, metadata_any, return_metadata)

    def register(self, *_: object, **__: object) -> NoReturn:
        """Refuse."""
        raise Pyro4.errors.NamingError("this name server is read-only; hpbandster_lite's masters register themselves")

    remove = set_metadata = register


Pyro4.expose(ReadOnlyPyroNames)


class _CallHandler:
    """Applies calls to the registry and copies each change to Pyro4's object."""

    def __init__(self, registry: NameRegistry, pyro_names: Any) -> None:
        self._registry = registry
        self._pyro_names = pyro_names

    def handle(self, call: Call) -> str:
        message = wire.decode(call.text)
        match call.method, message:
            case "register", {"name": str(name), "epoch": int(epoch)}:
                endpoint = endpoint_from_registration(message)
                for removed in self._registry.register(name, endpoint, epoch, now=time.monotonic()):
                    self._pyro_names.remove(removed)
                self._pyro_names.register(name, endpoint.uri, metadata={f"epoch:{epoch}"})
                return wire.encode(None)
            case "unregister", {"name": str(name), "epoch": int(epoch)}:
                was_there = self._registry.unregister(name, endpoint_from_registration(message), epoch)
                if was_there:
                    self._pyro_names.remove(name)
                return wire.encode(was_there)
            case "lookup", {"name": str(name)}:
                return wire.encode(self._registry.lookup(name).plain)
            case "list", _:
                return wire.encode({name: endpoint.plain for name, endpoint in self._registry.list().items()})
            case method, _:
                raise ProtocolMismatch(f"this name server has no method {method!r} for {call.text!r:.200}")


def serve_nameserver(
    host: str | Sequence[str],
    port: int,
    key: bytes | None,
    *,
    is_over: Callable[[], bool] = lambda: False,
    started: Callable[[Server], None] = lambda _server: None,
    wakeup_fd: int | None = None,
    stale_after_s: float = STALE_AFTER_S,
    bounds: Bounds = NAME_SERVER_BOUNDS,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve names until ``is_over`` returns True; the program is :func:`hpbandster_lite.nameserver.serve`.

    Parameters
    ----------
    host, port, key
        Where to listen, and the HMAC key; see :class:`Server`.
    is_over
        Called after each turn of the loop. Default: serve without end.
    started
        Called once with the server, when clients can connect.
    wakeup_fd
        See :class:`Server`; when it becomes readable, ``is_over`` is called at once.
    stale_after_s
        Another master may replace an entry that was not renewed for this many seconds. Default: 30.
    bounds
        Time limits and sizes.
    tls
        See :class:`Server`.

    Raises
    ------
    UsageError
        If the address cannot be used, or would be open to other machines without a key.
    """
    pyro_names = Pyro4.naming.NameServer()
    with Server(
        host,
        port,
        key,
        object_id=OBJECT_ID,
        handle=_CallHandler(NameRegistry(stale_after_s), pyro_names).handle,
        bounds=bounds,
        wakeup_fd=wakeup_fd,
        stock={Pyro4.constants.NAMESERVER_NAME: ReadOnlyPyroNames(pyro_names)},
        # The default serialiser of an unmodified Pyro4 client is serpent.
        serializers=("json", "serpent"),
        tls=tls,
    ) as server:
        own = Endpoint(*server.endpoint, Pyro4.constants.NAMESERVER_NAME)
        pyro_names.register(own.object_id, own.uri, metadata={"class:Pyro4.naming.NameServer"})
        started(server)
        while not is_over():
            server.turn(TURN_S, commit=lambda: True)
