"""The rules of the name server: which master may register under a name, and for how long.

Law of this file: a table in memory, on the caller's clock; no sockets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hpbandster_lite.errors import MasterUnreachable, UsageError
from hpbandster_lite.process.host_port import format_host_port
from hpbandster_lite.records import Plain
from hpbandster_lite.records.decorator import record
from hpbandster_lite.transport.payloads import NameTaken

RUN_PREFIX = "hpbandster_lite.run."
STALE_AFTER_S = 30.0
"""Another master may replace an entry that was not renewed for this long; masters renew theirs every 5 s."""
MAX_NAMES = 10_000
MOST_OFFERED = 16
"""Most addresses that clients receive; a machine with more usually has unreachable bridges of containers."""
MOST_ADDRESSES = 2 * MOST_OFFERED
MAX_NAME_CHARACTERS = 255


class Endpoint(NamedTuple):
    """Where an object listens; ``addresses`` are all hosts to try, or empty if there is only ``host``."""

    host: str
    port: int
    object_id: str
    addresses: tuple[str, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """All hosts to try, in order."""
        return self.addresses or (self.host,)

    @property
    def plain(self) -> list[Plain]:
        """The endpoint as it is sent; :func:`endpoint_from_plain` reads it."""
        return [self.host, self.port, self.object_id, *([list(self.addresses)] if self.addresses else [])]

    @property
    def uri(self) -> str:
        """The endpoint as a Pyro4 URI."""
        return f"PYRO:{self.object_id}@{format_host_port(self.host, self.port)}"


def endpoint_from_plain(plain: Sequence[Plain]) -> Endpoint:
    """The endpoint that :attr:`Endpoint.plain` wrote."""
    host, port, object_id, *addresses = plain
    return Endpoint(host, port, object_id, tuple(addresses[0]) if addresses else ())


def endpoint_from_registration(message: Mapping[str, Plain]) -> Endpoint:
    """Check and read the endpoint in a master's registration.

    Raises
    ------
    UsageError
        If a field is missing or invalid.
    """
    match message:
        case {"host": str(host), "port": int(port), "object": str(object_id)} if (
            host and object_id and not any(map(str.isspace, host + object_id)) and 0 < port < 65_536
        ):
            return Endpoint(host, port, object_id, _addresses(message))
        case _:
            raise UsageError(f"an endpoint must have host, port, object and epoch, got {dict(message)!r:.300}")


def _addresses(message: Mapping[str, Plain]) -> tuple[str, ...]:
    given = message.get("addresses") or ()
    is_list = isinstance(given, list | tuple) and len(given) <= MOST_ADDRESSES
    if not is_list or not all(isinstance(each, str) and each.split() == [each] for each in given):
        raise UsageError(f"addresses must be a list of at most {MOST_ADDRESSES} hosts, got {given!r:.300}")
    return tuple(given)


@record(frozen=True, slots=True)
class Entry:
    """One registered master; ``seen_at`` is on the name server's clock."""

    endpoint: Endpoint
    epoch: int
    seen_at: float


def run_name(run_id: str) -> str:
    """Name of a run's master at the name server."""
    return f"{RUN_PREFIX}{run_id}"


class NameRegistry:
    """The registered masters.

    The master that listens at the registered endpoint may renew its entry. A later start of the same run has a higher
    epoch and replaces the entry. Any master may replace an entry that was not renewed for ``stale_after_s``. Every
    other registration is refused.
    """

    def __init__(self, stale_after_s: float = STALE_AFTER_S) -> None:
        self._stale_after_s = stale_after_s
        self._entries: dict[str, Entry] = {}

    def register(self, name: str, endpoint: Endpoint, epoch: int, *, now: float) -> list[str]:
        """Register a master or renew its entry; ``now`` in seconds on the caller's clock.

        Returns
        -------
        list of str
            Stale names that were removed to make room.

        Raises
        ------
        NameTaken
            If another living master has the name.
        UsageError
            If the name is invalid, or the table is full.
        """
        if not name.startswith(RUN_PREFIX) or len(name) > MAX_NAME_CHARACTERS or any(map(str.isspace, name)):
            raise UsageError(
                f"a name must be {RUN_PREFIX!r} and a run id without white space, at most {MAX_NAME_CHARACTERS} "
                f"characters in all; got {name!r:.300}, choose another run id"
            )
        known = self._entries.get(name)
        removed = self._make_room(now) if known is None else []
        if known is not None and not self._may_replace(known, endpoint, epoch, now):
            raise NameTaken(
                f"{name} is registered for the master at {format_host_port(known.endpoint.host, known.endpoint.port)} "
                f"(epoch {known.epoch}); stop that master, or choose another run id"
            )
        self._entries[name] = Entry(endpoint, epoch, now)
        return removed

    def _make_room(self, now: float) -> list[str]:
        """Remove stale entries if the table is full; the removed names."""
        if len(self._entries) < MAX_NAMES:
            return []
        stale = [name for name, entry in self._entries.items() if now - entry.seen_at > self._stale_after_s]
        for name in stale:
            del self._entries[name]
        if not stale:
            raise UsageError(f"this name server is full ({MAX_NAMES:,} names); start another one for this run")
        return stale

    def _may_replace(self, known: Entry, endpoint: Endpoint, epoch: int, now: float) -> bool:
        # Only one process can listen at an endpoint: a registration for it comes from the living master.
        return endpoint == known.endpoint or epoch > known.epoch or now - known.seen_at > self._stale_after_s

    def unregister(self, name: str, endpoint: Endpoint, epoch: int) -> bool:
        """Remove an entry if it is still this master's; whether it was."""
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
            If no master has this name at present.
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
