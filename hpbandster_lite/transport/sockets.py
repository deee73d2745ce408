"""Listening sockets and the number of files that a process may open.

Law of this file: what the operating system is asked for once, when a server starts; every refusal names the remedy.
"""

from __future__ import annotations

import errno
import ipaddress
import resource
import socket
from typing import Any

from hpbandster_lite.errors import UsageError

BACKLOG = 1_024
"""Connections that the kernel keeps for one turn: all agents of a cluster come back at once after a restart."""
SPARE_FILES = 128
"""Beside the connections: the journal, logs, pipes of children."""


def addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    """Socket addresses of a host, IPv4 first: a name such as localhost then means the same to both sides.

    Raises
    ------
    OSError
        If the name means nothing here, or the port is none.
    """
    if not 0 <= port <= 65_535:
        # The C library would take it modulo 65,536 without a word.
        raise OSError(errno.EINVAL, f"{port} is no port")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(errno.EINVAL, f"{host!r} is no host name") from error
    return sorted(((family, address) for family, _, _, _, address in found), key=lambda one: one[0] != socket.AF_INET)


def listen(host: str, port: int, key: bytes | None) -> socket.socket:
    """A non-blocking socket that listens on ``host``; port 0 takes a free one.

    Raises
    ------
    UsageError
        If the address cannot be had, or would be open to other machines without a key.
    """
    if key is not None and not key:
        raise UsageError("the key is empty; use the run directory's key file, or None on loopback only")
    try:
        family, address = addresses(host, port)[0]
    except OSError as error:
        raise UsageError(f"cannot listen on {host}:{port}: {error}; {_remedy(error)}") from error
    if key is None and not ipaddress.ip_address(address[0].partition("%")[0]).is_loopback:
        raise UsageError(
            f"listening on {host} without a key would let anybody on the network in; give a key file or use 127.0.0.1"
        )
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A restarted master gets its port back at once; two servers cannot share one this way on Linux.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise UsageError(f"cannot listen on {host}:{port}: {error}; {_remedy(error)}") from error
    return listener


def _remedy(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program has this port: choose another one, or 0 for any that is free"
    return "use an address of this machine and a port from 1024 to 65535, or port 0 for any that is free"


def raise_file_limit(connections: int) -> int:
    """Raise the soft limit of open files so that ``connections`` fit, if the hard limit lets us; gives the new one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    return raised


def keep_alive(sock: socket.socket) -> None:
    """Send small answers at once, and have the kernel find out within two minutes that a machine is gone."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
