"""Listening sockets, sockets that connect, and the number of files that a process may open.

Law of this file: it queries the operating system once, when a server starts or a client connects. Every error names the
remedy, and nothing waits longer than the given deadline.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import math
import os
import resource
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from hpbandster_lite.errors import UsageError
from hpbandster_lite.process.host_port import format_host_port

log = logging.getLogger(__name__)

NEXT_AFTER_S = 0.25
"""After this time without an answer the next host is tried in parallel (the delay of RFC 8305)."""
TRIES = 5
"""Most attempts at a port that is free on all addresses: a port that is free on one and in use on another is rare."""
BACKLOG = 1_024
"""Connections that the kernel queues: all agents of a cluster reconnect at once after a restart."""
SPARE_FILES = 128
"""Files beside the connections: the journal, logs, pipes of child processes."""


def addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    """Socket addresses of a host, IPv4 first, so that a name such as localhost means the same to both sides.

    Raises
    ------
    OSError
        If the name cannot be resolved, or the port is out of range.
    """
    if not 0 <= port <= 65_535:
        # The C library would silently use it modulo 65,536.
        raise OSError(errno.EINVAL, f"{port} is not a port")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(errno.EINVAL, f"{host!r} is not a host name") from error
    return sorted(((family, address) for family, _, _, _, address in found), key=lambda one: one[0] != socket.AF_INET)


class Reached(NamedTuple):
    """A connected non-blocking socket, and the host that it is connected to."""

    sock: socket.socket
    host: str


def connect(hosts: Sequence[str], port: int, left_s: Callable[[], float]) -> Reached:
    """Connect to the first host that answers, in order; while one is slow, the next is tried in parallel.

    Parameters
    ----------
    hosts, port
        Names and addresses of the same server.
    left_s
        Returns the seconds until the deadline; raises after it.

    Raises
    ------
    OSError
        The error of the last host, if none answers.
    """
    with contextlib.closing(_Attempts(hosts, port)) as attempts:
        while True:
            reached = attempts.start_next() or attempts.wait(min(left_s(), NEXT_AFTER_S))
            if reached is not None:
                return reached


class _Attempts:
    """Attempts to connect, in parallel, to the hosts and addresses of one server."""

    def __init__(self, hosts: Sequence[str], port: int) -> None:
        self._errors = [OSError("the host has no address")]
        self._candidates = self._addresses(hosts, port)
        self._poll = select.poll()
        self._pending: dict[int, Reached] = {}

    def _addresses(self, hosts: Sequence[str], port: int) -> Iterator[tuple[str, socket.AddressFamily, Any]]:
        """Host, family and socket address of all candidates; a name is resolved only when its turn comes."""
        for host in hosts:
            try:
                found = addresses(host, port)
            except OSError as error:
                self._errors.append(error)
                continue
            for family, address in found:
                yield host, family, address

    def start_next(self) -> Reached | None:
        """Start the next attempt; return a socket if it connects at once. Raises the last error if none is left."""
        for host, family, address in self._candidates:
            sock = socket.socket(family, socket.SOCK_STREAM)
            self._pending[sock.fileno()] = Reached(sock, host)
            sock.setblocking(False)
            try:
                sock.connect(address)
            except BlockingIOError:
                self._poll.register(sock, select.POLLOUT)
                return None
            except OSError as error:
                self._errors.append(error)
                self._pending.pop(sock.fileno()).sock.close()
            else:
                return self._pending.pop(sock.fileno())
        if not self._pending:
            raise self._errors[-1]
        return None

    def wait(self, seconds: float) -> Reached | None:
        """The first socket that is connected within this time."""
        # Rounded up: poll does not wait for a fraction of a millisecond.
        for descriptor, _ in self._poll.poll(math.ceil(1_000 * seconds)):
            self._poll.unregister(descriptor)
            reached = self._pending.pop(descriptor)
            number = reached.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not number:
                return reached
            self._errors.append(OSError(number, os.strerror(number)))
            reached.sock.close()
        return None

    def close(self) -> None:
        """Close the sockets of the pending attempts."""
        for reached in self._pending.values():
            reached.sock.close()


def listen(hosts: Sequence[str], port: int, key: bytes | None, *, is_secure: bool = False) -> list[socket.socket]:
    """Open non-blocking listening sockets, one per host, all on the same port; port 0 chooses a free one.

    Parameters
    ----------
    hosts
        Addresses or names of this machine; ``0.0.0.0`` means all IPv4 addresses, ``::`` all addresses, also of IPv4.
    port, key
        The port, and the HMAC key that clients must have.
    is_secure
        Whether clients must have a certificate. Default: False.

    Raises
    ------
    UsageError
        If an address cannot be used, or would be open to other machines without a key or TLS.
    """
    if key is not None and not key:
        raise UsageError("the key is empty; use the run directory's key file, or None on loopback only")
    tries = TRIES if port == 0 and len(hosts) > 1 else 1
    for left in reversed(range(tries)):
        listeners: list[socket.socket] = []
        chosen = port
        try:
            for host in hosts:
                listeners.append(_listener(host, chosen, is_open=key is None and not is_secure))
                chosen = listeners[0].getsockname()[1]
        except UsageError:
            # The port may be free on one address and in use on the next.
            for listener in listeners:
                listener.close()
            if not left:
                raise
        else:
            return listeners
    raise UsageError("no host to listen on was given; give one with --host")


def _listener(host: str, port: int, *, is_open: bool) -> socket.socket:
    with _os_errors_as_ours(host, port):
        family, address = addresses(host, port)[0]
    bound = ipaddress.ip_address(address[0].partition("%")[0])
    if is_open and not bound.is_loopback:
        raise UsageError(
            f"listening on {host} requires a key or TLS, because other machines could connect; give a key file, "
            "certificates with --tls (see hpbandster-lite certs), or use 127.0.0.1"
        )
    with _os_errors_as_ours(host, port), contextlib.ExitStack() as on_failure:
        listener = on_failure.enter_context(socket.socket(family, socket.SOCK_STREAM))
        if family == socket.AF_INET6:
            # "::" means all addresses, also those of IPv4.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if bound.is_unspecified else 1)
        # A restarted master gets its port back at once. On Linux two servers still cannot share a port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
        listener.setblocking(False)
        on_failure.pop_all()
    _warn_if_only_local(host, bound)
    return listener


def _warn_if_only_local(host: str, bound: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Warn if a name resolves to loopback, because other machines probably use it."""
    if bound.is_loopback and host != "localhost" and host != str(bound) and not host.startswith(("127.", "::1")):
        log.warning(
            "%s resolves to %s here, which other machines cannot reach; give --interface or an address if they should",
            host,
            bound,
        )


@contextlib.contextmanager
def _os_errors_as_ours(host: str, port: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"cannot listen on {format_host_port(host, port)}: {error}; {_remedy(error)}") from error


def _remedy(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program uses this port: choose another one, or 0 for any free port"
    return "use an address of this machine and a port from 1024 to 65535, or port 0 for any free port"


def raise_file_limit(connections: int) -> int:
    """Raise the soft limit of open files for ``connections``, at most to the hard limit; return the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    return raised


def keep_alive(sock: socket.socket) -> None:
    """Send small messages at once, and let the kernel detect within two minutes that the other machine is gone."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
