"""A client of the name server.

Law of this file: it only sends the requests of :mod:`~hpbandster_lite.transport.name_server` with a
:class:`~hpbandster_lite.transport.client.Client`, and keeps the entries that this client registered.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from hpbandster_lite.errors import NameServerUnreachable
from hpbandster_lite.records import Plain
from hpbandster_lite.transport.client import Client, ServerKind
from hpbandster_lite.transport.name_registry import Endpoint, endpoint_from_plain

OBJECT_ID = "hpbandster_lite.nameserver"
KEY_REMEDY = "use the key file with which this name server was started"
NAME_SERVER = ServerKind("name server", NameServerUnreachable, KEY_REMEDY)


class NameServerClient:
    """Calls a name server; one client per thread, see :class:`Client`.

    Parameters
    ----------
    host, port, key
        The name server's address and its key, which differs from the keys of runs.
    timeout_s
        Time in seconds for a whole call. Default: 5.
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
        self._client = Client(host, port, OBJECT_ID, key, timeout_s=timeout_s, kind=NAME_SERVER, tls=tls)
        self._registered: dict[str, dict[str, Plain]] = {}

    def register(self, name: str, endpoint: Mapping[str, Plain]) -> None:
        """Register a master, or renew its entry.

        Parameters
        ----------
        name
            :func:`run_name` of its run.
        endpoint
            The master's ``host``, ``port``, ``object``, ``epoch`` and optionally ``addresses``, as in the endpoint file
            of the run directory; other keys are ignored.

        Raises
        ------
        NameTaken
            If another living master has the name; :class:`NameRegistry` has the rules.
        NameServerUnreachable
            If the name server does not answer.
        """
        entry = {"name": name, **{field: endpoint.get(field) for field in ("host", "port", "object", "epoch")}}
        if endpoint.get("addresses"):
            entry["addresses"] = list(endpoint["addresses"])
        self._client.call("register", entry)
        self._registered[name] = entry

    def unregister(self, name: str, *, timeout_s: float | None = None) -> bool:
        """Remove the entry that this client registered; return whether it still existed.

        If another master has replaced the entry since, it stays. ``timeout_s`` is for this call.
        """
        entry = self._registered.pop(name, None)
        return entry is not None and bool(self._client.call("unregister", entry, timeout_s=timeout_s))

    def lookup(self, name: str) -> Endpoint:
        """Where the master of this name listens: host, port and object id.

        Raises
        ------
        MasterUnreachable
            If no master has this name at present.
        NameServerUnreachable
            If the name server does not answer.
        """
        return endpoint_from_plain(self._client.call("lookup", {"name": name}))

    def list(self) -> dict[str, Endpoint]:
        """The endpoints of all masters, by name."""
        return {name: endpoint_from_plain(endpoint) for name, endpoint in self._client.call("list", None).items()}

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def __enter__(self) -> NameServerClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
