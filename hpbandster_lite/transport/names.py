"""The name server: where a run's master is found, behind the same loop as the master itself.

Law of this file: what it holds is forgotten when it ends, so masters enter themselves again and again; it never calls
anybody. Unmodified Pyro4 clients with the key may read (``Pyro4.locateNS(host, port, hmac_key=key).lookup(name)``);
their calls can be replayed, so writing goes only through calls of ours, which cannot. There is no broadcast responder:
it would tell everybody on the network where we are.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import Pyro4
import Pyro4.constants
import Pyro4.errors
import Pyro4.naming

from hpbandster_lite import wire
from hpbandster_lite.errors import MasterUnreachable, NameServerUnreachable, ProtocolMismatch, UsageError
from hpbandster_lite.process.host_port import format_host_port
from hpbandster_lite.records import Plain
from hpbandster_lite.transport.client import Client, Whom
from hpbandster_lite.transport.connection import Bounds
from hpbandster_lite.transport.interfaces import MOST_OFFERED
from hpbandster_lite.transport.protocol import Call, NameTaken
from hpbandster_lite.transport.server import Server

OBJECT_ID = "hpbandster_lite.nameserver"
RUN_PREFIX = "hpbandster_lite.run."
FRESH_S = 30.0
"""An entry that its master has not renewed for this long may be replaced by another master; masters renew every 5 s."""
MAX_NAMES = 10_000
MOST_ADDRESSES = 2 * MOST_OFFERED
MAX_NAME_CHARACTERS = 255
TURN_S = 0.5
NAME_SERVER = Whom("name server", NameServerUnreachable, "use the key file that this name server was started with")
NAME_SERVER_BOUNDS = Bounds(message_bytes=65_536, unread_bytes=8 * 2**20)
"""Its messages are names and addresses; a list of 10,000 of them is about 1 MiB."""


class Endpoint(NamedTuple):
    """Where an object listens; ``addresses`` are all hosts to try, where there is more than ``host``."""

    host: str
    port: int
    object_id: str
    addresses: tuple[str, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """All hosts to try, in their order."""
        return self.addresses or (self.host,)

    @property
    def plain(self) -> list[Plain]:
        """The same as it travels; what earlier versions read, where there is one host."""
        return [self.host, self.port, self.object_id, *([list(self.addresses)] if self.addresses else [])]

    @property
    def uri(self) -> str:
        """The same in Pyro4's words."""
        return f"PYRO:{self.object_id}@{format_host_port(self.host, self.port)}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One master, as it entered itself; ``seen_at`` is on the name server's clock."""

    endpoint: Endpoint
    epoch: int
    seen_at: float


def run_name(run_id: str) -> str:
    """Name of a run's master at the name server."""
    return f"{RUN_PREFIX}{run_id}"


class Names:
    """The rules by which masters are entered.

    Whoever listens at the entered endpoint may enter itself again. A later start of the same run, which has a higher
    epoch, replaces the earlier one; so does anybody once the entry has not been renewed for ``fresh_s``. Everybody else
    is refused.
    """

    def __init__(self, fresh_s: float = FRESH_S) -> None:
        self._fresh_s = fresh_s
        self._entries: dict[str, Entry] = {}

    def register(self, name: str, endpoint: Endpoint, epoch: int, *, now: float) -> list[str]:
        """Enter a master; ``now`` in seconds on the caller's clock.

        Returns
        -------
        list of str
            Names that were forgotten to make room: of masters that have not renewed their entries.

        Raises
        ------
        NameTaken
            If another living master has the name.
        UsageError
            If the name is none, or there are too many.
        """
        if not name.startswith(RUN_PREFIX) or len(name) > MAX_NAME_CHARACTERS or any(map(str.isspace, name)):
            raise UsageError(
                f"a name is {RUN_PREFIX!r} and a run id without white space, {MAX_NAME_CHARACTERS} characters at most; "
                f"got {name!r:.300}, choose another run id"
            )
        known = self._entries.get(name)
        forgotten = self._forget_stale(now) if known is None and len(self._entries) >= MAX_NAMES else []
        if known is None and len(self._entries) >= MAX_NAMES:
            raise UsageError(f"this name server holds {MAX_NAMES:,} names, no more fit; start another one for this run")
        if known is not None and not self._may_replace(known, endpoint, epoch, now):
            raise NameTaken(
                f"{name} is registered for the master at {format_host_port(known.endpoint.host, known.endpoint.port)} "
                f"(epoch {known.epoch}); stop that one, or choose another run id"
            )
        self._entries[name] = Entry(endpoint, epoch, now)
        return forgotten

    def _forget_stale(self, now: float) -> list[str]:
        stale = [name for name, entry in self._entries.items() if now - entry.seen_at > self._fresh_s]
        for name in stale:
            del self._entries[name]
        return stale

    def _may_replace(self, known: Entry, endpoint: Endpoint, epoch: int, now: float) -> bool:
        # One process listens at an endpoint: whoever speaks for it now is the living one.
        return endpoint == known.endpoint or epoch > known.epoch or now - known.seen_at > self._fresh_s

    def unregister(self, name: str, endpoint: Endpoint, epoch: int) -> bool:
        """Take an entry back, if it is still this master's; whether it was."""
        known = self._entries.get(name)
        if known is None or (known.endpoint, known.epoch) != (endpoint, epoch):
            return False
        del self._entries[name]
        return True

    def lookup(self, name: str) -> Endpoint:
        """Where the master of this name listens.

        Raises
        ------
        MasterUnreachable
            If there is none (any more, or not yet).
        """
        known = self._entries.get(name)
        if known is None:
            runs = ", ".join(sorted(each.removeprefix(RUN_PREFIX) for each in self._entries)[:10]) or "none"
            raise MasterUnreachable(
                f"the name server knows no run {name.removeprefix(RUN_PREFIX)!r} (it knows: {runs}); "
                "is its master running?"
            )
        return known.endpoint

    def list(self) -> dict[str, Endpoint]:
        """All masters, by name."""
        return {name: entry.endpoint for name, entry in sorted(self._entries.items())}


class StockNames:
    """Pyro4's own name server object, for reading: what its clients ask for, without what would change it.

    Regular expressions are refused, because a hostile one runs for hours and nobody else would be served.
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
            raise Pyro4.errors.NamingError("this name server takes no regular expressions; use prefix")
        return self._names.list(prefix, None, metadata_all, metadata_any, return_metadata)

    def register(self, *_: object, **__: object) -> NoReturn:
        """Refuse."""
        raise Pyro4.errors.NamingError("this name server is for reading; hpbandster_lite's masters register themselves")

    remove = set_metadata = register


Pyro4.expose(StockNames)


class _Answers:
    """Calls of ours, carried out on the names and mirrored into Pyro4's object."""

    def __init__(self, names: Names, stock: Any) -> None:
        self._names = names
        self._stock = stock

    def handle(self, call: Call) -> str:
        message = wire.decode(call.text)
        match call.method, message:
            case "register", {"name": str(name), "epoch": int(epoch)}:
                endpoint = _endpoint(message)
                for forgotten in self._names.register(name, endpoint, epoch, now=time.monotonic()):
                    self._stock.remove(forgotten)
                self._stock.register(name, endpoint.uri, metadata={f"epoch:{epoch}"})
                return wire.encode(None)
            case "unregister", {"name": str(name), "epoch": int(epoch)}:
                was_there = self._names.unregister(name, _endpoint(message), epoch)
                if was_there:
                    self._stock.remove(name)
                return wire.encode(was_there)
            case "lookup", {"name": str(name)}:
                return wire.encode(self._names.lookup(name).plain)
            case "list", _:
                return wire.encode({name: endpoint.plain for name, endpoint in self._names.list().items()})
            case method, _:
                raise ProtocolMismatch(f"this name server cannot {method!r} with {call.text!r:.200}")


def _endpoint(message: Mapping[str, Plain]) -> Endpoint:
    match message:
        case {"host": str(host), "port": int(port), "object": str(object_id)} if (
            host and object_id and not any(map(str.isspace, host + object_id)) and 0 < port < 65_536
        ):
            return Endpoint(host, port, object_id, _addresses(message))
        case _:
            raise UsageError(f"an endpoint has host, port, object and epoch, got {dict(message)!r:.300}")


def _addresses(message: Mapping[str, Plain]) -> tuple[str, ...]:
    told = message.get("addresses") or ()
    is_list = isinstance(told, list | tuple) and len(told) <= MOST_ADDRESSES
    if not is_list or not all(isinstance(each, str) and each.split() == [each] for each in told):
        raise UsageError(f"the addresses of an endpoint are a list of up to {MOST_ADDRESSES} hosts, got {told!r:.300}")
    return tuple(told)


def _as_endpoint(told: Sequence[Plain]) -> Endpoint:
    host, port, object_id, *addresses = told
    return Endpoint(host, port, object_id, tuple(addresses[0]) if addresses else ())


def serve_nameserver(
    host: str | Sequence[str],
    port: int,
    key: bytes | None,
    *,
    is_over: Callable[[], bool] = lambda: False,
    started: Callable[[Server], None] = lambda server: None,
    wakeup_fd: int | None = None,
    fresh_s: float = FRESH_S,
    bounds: Bounds = NAME_SERVER_BOUNDS,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve names until it is over; the program is :func:`hpbandster_lite.nameserver.serve`.

    Parameters
    ----------
    host, port, key
        Where to listen, and the HMAC key; see :class:`Server`.
    is_over
        Asked after each turn.
    started
        Told the server, once, when clients can connect.
    wakeup_fd
        See :class:`Server`; ``is_over`` is asked at once when it is readable.
    fresh_s
        An entry that was not renewed for this long may be replaced.
    bounds
        Deadlines and sizes.
    tls
        See :class:`Server`.

    Raises
    ------
    UsageError
        If the address cannot be had, or would be open to other machines without a key.
    """
    stock = Pyro4.naming.NameServer()
    with Server(
        host,
        port,
        key,
        object_id=OBJECT_ID,
        handle=_Answers(Names(fresh_s), stock).handle,
        bounds=bounds,
        wakeup_fd=wakeup_fd,
        stock={Pyro4.constants.NAMESERVER_NAME: StockNames(stock)},
        # An unmodified Pyro4 client speaks serpent unless told otherwise.
        serializers=("json", "serpent"),
        tls=tls,
    ) as server:
        own = Endpoint(*server.endpoint, Pyro4.constants.NAMESERVER_NAME)
        stock.register(own.object_id, own.uri, metadata={"class:Pyro4.naming.NameServer"})
        started(server)
        while not is_over():
            server.turn(TURN_S, commit=lambda: True)


class NameServerClient:
    """Asks a name server; one client per thread, see :class:`Client`.

    Parameters
    ----------
    host, port, key
        The name server's address and its own key, which is not the key of any run.
    timeout_s
        Time for a call as a whole.
    tls
        See :class:`Client`.
    """

    def __init__(
        self,
        host: str,
        port: int,
        key: bytes | None,
        *,
        timeout_s: float = 5.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._client = Client(host, port, OBJECT_ID, key, timeout_s=timeout_s, whom=NAME_SERVER, tls=tls)
        self._entered: dict[str, dict[str, Plain]] = {}

    def register(self, name: str, endpoint: Mapping[str, Plain]) -> None:
        """Enter a master, or renew its entry.

        Parameters
        ----------
        name
            :func:`run_name` of its run.
        endpoint
            Its ``host``, ``port``, ``object``, ``epoch`` and, if there are, ``addresses``, as the run directory's
            endpoint file has them; more is left out.

        Raises
        ------
        NameTaken
            If another living master has the name, by the rules of :class:`Names`.
        NameServerUnreachable
            If the name server does not answer.
        """
        entry = {"name": name, **{field: endpoint.get(field) for field in ("host", "port", "object", "epoch")}}
        if endpoint.get("addresses"):
            entry["addresses"] = list(endpoint["addresses"])
        self._client.call("register", entry)
        self._entered[name] = entry

    def unregister(self, name: str) -> bool:
        """Take back what this client entered; whether it was still there.

        An entry that another master has replaced since is that master's, and stays.
        """
        entry = self._entered.pop(name, None)
        return entry is not None and bool(self._client.call("unregister", entry))

    def lookup(self, name: str) -> Endpoint:
        """Where the master of this name listens: host, port and object id.

        Raises
        ------
        MasterUnreachable
            If no master has this name at present.
        NameServerUnreachable
            If the name server does not answer.
        """
        return _as_endpoint(self._client.call("lookup", {"name": name}))

    def list(self) -> dict[str, Endpoint]:
        """Where all masters listen, by name."""
        return {name: _as_endpoint(endpoint) for name, endpoint in self._client.call("list", None).items()}

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def __enter__(self) -> NameServerClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
