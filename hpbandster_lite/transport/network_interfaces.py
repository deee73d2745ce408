"""The addresses of this machine: those of an interface, and those at which clients can reach a server.

Law of this file: it queries the operating system and sends nothing to the network. Loopback addresses, which are valid
only on this machine, are offered to clients only if there is no other address; link-local addresses are never offered.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Sequence

import psutil

from hpbandster_lite.errors import UsageError
from hpbandster_lite.transport.name_registry import MOST_OFFERED

_FAR = {socket.AF_INET: ("192.0.2.1", 9), socket.AF_INET6: ("2001:db8::1", 9)}
"""Addresses reserved for documentation, used to find a route; nothing is sent to them."""


def interface_addresses(name: str) -> list[str]:
    """Addresses of a network interface, IPv4 first.

    Raises
    ------
    UsageError
        If the interface does not exist, for which the message lists the existing ones, or has no address.
    """
    found = psutil.net_if_addrs()
    if name not in found:
        known = ", ".join(f"{each} ({' '.join(_of(each)) or 'no address'})" for each in found)
        raise UsageError(f"--interface {name}: this machine has no such network interface; it has {known}")
    usable = _of(name)
    if not usable:
        raise UsageError(f"--interface {name}: the interface has no address; bring it up, give another one, or --host")
    return usable


def _of(name: str) -> list[str]:
    found = [
        address.address
        for family in (socket.AF_INET, socket.AF_INET6)
        for address in psutil.net_if_addrs().get(name, [])
        if address.family == family
    ]
    # A link-local address is only usable together with the name of the client's interface.
    return [each for each in found if not _ip(each).is_link_local]


def reachable_addresses(listening: Sequence[str]) -> list[str]:
    """Addresses at which clients may reach a server, the most likely first.

    Parameters
    ----------
    listening
        The addresses of the server's listening sockets; ``0.0.0.0`` means all IPv4 addresses, ``::`` all addresses.
    """
    offered: dict[str, None] = {}
    for bound in listening:
        if _ip(bound).is_unspecified:
            is_dual = _ip(bound).version == 6
            families = (socket.AF_INET, socket.AF_INET6) if is_dual else (socket.AF_INET,)
            offered.update(dict.fromkeys(_own(families)))
        else:
            offered[bound] = None
    return list(offered)[:MOST_OFFERED]


def _own(families: Sequence[socket.AddressFamily]) -> list[str]:
    """Addresses of this machine, the one of the default route first."""
    first = [address for family in families if (address := _towards(family)) is not None]
    status = psutil.net_if_stats()
    others = [address for name in status if status[name].isup for address in _of(name)]
    versions = {4 if family == socket.AF_INET else 6 for family in families}
    return [each for each in dict.fromkeys([*first, *others]) if _ip(each).version in versions]


def _towards(family: socket.AddressFamily) -> str | None:
    """The source address of the default route; None without a route."""
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(_FAR[family])
        address: str = probe.getsockname()[0]
        return None if _ip(address).is_link_local else address
    return None


def offered_addresses(reachable: Sequence[str], hosts: Sequence[str], certified: Sequence[str] | None) -> list[str]:
    """The addresses of a server that clients receive.

    Parameters
    ----------
    reachable
        From :func:`reachable_addresses`.
    hosts
        The hosts that the server was configured to listen on, which may be names.
    certified
        Names and addresses in its certificate; None if it has no certificate.

    Returns
    -------
    list of str
        Without a certificate, all reachable addresses. With a certificate, the reachable addresses that it contains and
        the names in it that may mean this machine. Loopback addresses only if there are no others. Empty if no client
        could connect.
    """
    here = [address for address in reachable if _ip(address).is_loopback]
    away = [address for address in reachable if not _ip(address).is_loopback]
    if certified is None:
        return away or here
    known = {_normal(host) for host in certified}
    named = [host for host in hosts if _is_name(host) and _normal(host) in known]
    away_named = [host for host in certified if away and _is_name(host) and host != "localhost"]
    away = [address for address in away if _normal(address) in known]
    here = [address for address in here if _normal(address) in known]
    # A name may not resolve on this machine: then workers on this machine use loopback.
    return list(dict.fromkeys([*named, *away, *away_named, *([] if away else here)]))


def _is_name(host: str) -> bool:
    try:
        _ip(host)
    except ValueError:
        return True
    return False


def _normal(host: str) -> str:
    return host.lower() if _is_name(host) else str(_ip(host))


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(address.partition("%")[0])
