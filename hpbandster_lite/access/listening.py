"""Where a master or a name server listens, whether it uses TLS, and the addresses that clients receive.

Law of this file: a server to which no client could connect is refused when it starts, with the remedy.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from datetime import datetime, timezone

from hpbandster_lite.access.certificates import EXPIRES_SOON, Certificates
from hpbandster_lite.errors import RunDirectoryError, UsageError
from hpbandster_lite.process.host_port import format_host_port
from hpbandster_lite.records.decorator import record
from hpbandster_lite.transport.network_interfaces import interface_addresses, offered_addresses
from hpbandster_lite.transport.server import Server

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
"""Where a server listens by default."""


@record(frozen=True, slots=True)
class ListenSettings:
    """The result of :func:`listen_settings`; ``hosts`` and ``tls`` are parameters of :class:`transport.Server`."""

    hosts: tuple[str, ...]
    tls: ssl.SSLContext | None
    certificates: Certificates | None

    def offered(self, reachable: Sequence[str]) -> list[str]:
        """The addresses that clients receive, the most likely first.

        Parameters
        ----------
        reachable
            :attr:`transport.Server.addresses`.

        Raises
        ------
        UsageError
            If the certificate is valid for none of them.
        """
        if self.certificates is None:
            return offered_addresses(reachable, self.hosts, None)
        certified = self.certificates.hosts()
        offered = offered_addresses(reachable, self.hosts, certified)
        if not offered:
            wanted = " ".join(f"--host {address}" for address in reachable)
            raise UsageError(
                f"the certificate in {self.certificates.path} is for {', '.join(certified) or 'no host'}, but a server "
                f"on {', '.join(self.hosts)} has the addresses {', '.join(reachable)}; make a certificate for them: "
                f"hpbandster-lite certs {self.certificates.path} {wanted}"
            )
        return offered

    def describe(self, server: Server) -> str:
        """The server's addresses and the addresses for its clients, as text for the log."""
        port = server.endpoint[1]
        offered = ", ".join(self.offered(server.addresses))
        how = " with TLS" if self.tls is not None else ""
        hosts = " and ".join(format_host_port(host, port) for host in self.hosts)
        return f"{hosts}{how}" + ("" if [offered] == list(self.hosts) else f" (addresses for clients: {offered})")


def listen_settings(host: str, interface: str | None, certificates: Certificates | None) -> ListenSettings:
    """Determine where and how to listen.

    Parameters
    ----------
    host
        An address or name of this machine; ``0.0.0.0`` means all its IPv4 addresses, ``::`` all its addresses.
    interface
        A network interface; its addresses replace ``host``.
    certificates
        The certificates for TLS; None for plain connections.

    Raises
    ------
    UsageError
        If both a host and an interface are given, or the interface does not exist or has no address.
    RunDirectoryError
        If the certificates cannot be used, or have expired.
    """
    if interface is not None and host != LOOPBACK:
        raise UsageError(f"give either --host {host} or --interface {interface}, not both")
    hosts = (host,) if interface is None else tuple(interface_addresses(interface))
    if certificates is None:
        return ListenSettings(hosts, None, None)
    tls = certificates.server_context()
    _check_expiry(certificates)
    return ListenSettings(hosts, tls, certificates)


def _check_expiry(certificates: Certificates) -> None:
    for role in ("server", "client"):
        if not (certificates.path / f"{role}.pem").exists():
            continue
        expires_at = certificates.expires_at(role)
        left = expires_at - datetime.now(timezone.utc)
        remedy = f"make new ones with the same --host options: hpbandster-lite certs {certificates.path} --host ..."
        if left.total_seconds() <= 0:
            raise RunDirectoryError(
                f"the {role}'s certificate in {certificates.path} expired on {expires_at:%Y-%m-%d %H:%M} UTC; "
                f"{remedy}"
            )
        if left < EXPIRES_SOON:
            log.warning("the %s's certificate expires on %s UTC; %s", role, f"{expires_at:%Y-%m-%d %H:%M}", remedy)
