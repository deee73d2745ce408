"""Where a master or a name server listens, what it speaks there, and under which addresses others are to call it.

Law of this file: a server that no client could be satisfied by is refused when it starts, with what mends it.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from hpbandster_lite.access.certificates import EXPIRES_SOON, Certificates
from hpbandster_lite.errors import RunDirectoryError, UsageError
from hpbandster_lite.process.host_port import format_host_port
from hpbandster_lite.transport import Server, interface_addresses, offered_addresses

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
"""Where everybody listens who is told nothing else."""


@dataclass(frozen=True, slots=True)
class Listening:
    """What :func:`listening` found; ``hosts`` are to be listened on, ``tls`` is for :class:`transport.Server`."""

    hosts: tuple[str, ...]
    tls: ssl.SSLContext | None
    certificates: Certificates | None

    def offered(self, reachable: Sequence[str]) -> list[str]:
        """The addresses that clients are told to call, the likeliest first.

        Parameters
        ----------
        reachable
            :attr:`transport.Server.addresses`.

        Raises
        ------
        UsageError
            If the certificate is for none of them.
        """
        if self.certificates is None:
            return offered_addresses(reachable, self.hosts, None)
        certified = self.certificates.hosts()
        offered = offered_addresses(reachable, self.hosts, certified)
        if not offered:
            wanted = " ".join(f"--host {address}" for address in reachable)
            raise UsageError(
                f"the certificate in {self.certificates.path} is for {', '.join(certified) or 'nobody'}, and who "
                f"listens on {', '.join(self.hosts)} is called {', '.join(reachable)}; make one that fits: "
                f"hpbandster-lite certs {self.certificates.path} {wanted}"
            )
        return offered

    def told(self, server: Server) -> str:
        """Where a server listens and how it is called, for its log."""
        port = server.endpoint[1]
        called = ", ".join(self.offered(server.addresses))
        how = " with TLS" if self.tls is not None else ""
        hosts = " and ".join(format_host_port(host, port) for host in self.hosts)
        return f"{hosts}{how}" + ("" if [called] == list(self.hosts) else f" (called {called})")


def listening(host: str, interface: str | None, certificates: Certificates | None) -> Listening:
    """What to listen on.

    Parameters
    ----------
    host
        An address or name of this machine; ``0.0.0.0`` and ``::`` stand for all of its addresses.
    interface
        A network interface, whose addresses take the place of ``host``.
    certificates
        Those to speak TLS with; None for plain connections.

    Raises
    ------
    UsageError
        If both a host and an interface are told, or there is no such interface.
    RunDirectoryError
        If the certificates cannot be used, or have expired.
    """
    if interface is not None and host != LOOPBACK:
        raise UsageError(f"give either --host {host} or --interface {interface}, not both")
    hosts = (host,) if interface is None else tuple(interface_addresses(interface))
    if certificates is None:
        return Listening(hosts, None, None)
    tls = certificates.server_context()
    _look_at_dates(certificates)
    return Listening(hosts, tls, certificates)


def _look_at_dates(certificates: Certificates) -> None:
    for role in ("server", "client"):
        if not (certificates.path / f"{role}.pem").exists():
            continue
        expires_at = certificates.expires_at(role)
        left = expires_at - datetime.now(timezone.utc)
        remedy = f"make new ones: hpbandster-lite certs {certificates.path}, with the --host that it was made with"
        if left.total_seconds() <= 0:
            raise RunDirectoryError(
                f"the {role}'s certificate in {certificates.path} has expired on {expires_at:%Y-%m-%d %H:%M} UTC; "
                f"{remedy}"
            )
        if left < EXPIRES_SOON:
            log.warning("the %s's certificate expires on %s UTC; %s", role, f"{expires_at:%Y-%m-%d %H:%M}", remedy)
