"""A connection between processes that a test can cut: a forwarder in front of a server on loopback."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from typing import NamedTuple


class _Ends(NamedTuple):
    """The two sockets of one connection."""

    client: socket.socket
    server: socket.socket

    def reset(self) -> None:
        """End both with a reset, like a firewall that forgot the connection: data under way is lost."""
        for end in self:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()


class Wire:
    """Forwards connections to a port in a thread; a context manager.

    Parameters
    ----------
    port
        The port of the server.
    loses_every
        Reset a connection instead of passing on every n-th piece that the server sends: an answer is lost after the
        server has executed the request. 0: never.
    """

    def __init__(self, port: int, *, loses_every: int = 0) -> None:
        self._to = ("127.0.0.1", port)
        self._loses_every = loses_every
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._wakes, self._wake = socket.socketpair()
        self._selector.register(self._wakes, selectors.EVENT_READ)
        self._open: set[_Ends] = set()
        self._answers = 0
        self._is_to_reset = self._is_over = False
        self.lost = self.connected = 0
        self._thread = threading.Thread(target=self._forward, name="wire")

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def connections(self) -> int:
        return len(self._open)

    def __enter__(self) -> Wire:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._wake.send(b"x")
        self._thread.join()

    def reset(self) -> None:
        """Reset all connections at once."""
        self._is_to_reset = True
        self._wake.send(b"x")

    def _forward(self) -> None:
        with self._selector, self._listener, self._wakes, self._wake:
            while not self._is_over:
                for key, _ in self._selector.select():
                    if key.fileobj is self._listener:
                        self._connect()
                    elif key.fileobj is self._wakes:
                        self._wakes.recv(100)
                    elif key.data in self._open:
                        self._pass_on(key.data, key.fileobj)  # type: ignore[arg-type]  # a socket of ours
                if self._is_to_reset:
                    self._is_to_reset = False
                    self._drop_all()
            self._drop_all()

    def _connect(self) -> None:
        client, _ = self._listener.accept()
        try:
            ends = _Ends(client, socket.create_connection(self._to))
        except OSError:
            client.close()
            return
        self.connected += 1
        self._open.add(ends)
        for end in ends:
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(end, selectors.EVENT_READ, ends)

    def _pass_on(self, ends: _Ends, source: socket.socket) -> None:
        try:
            data = source.recv(65_536)
            if source is ends.server and data:
                self._answers += 1
                if self._loses_every and self._answers % self._loses_every == 0:
                    self.lost += 1
                    data = b""
            if data:
                (ends.server if source is ends.client else ends.client).sendall(data)
        except OSError:
            data = b""
        if not data:
            self._drop(ends)

    def _drop(self, ends: _Ends) -> None:
        for end in ends:
            self._selector.unregister(end)
        ends.reset()
        self._open.discard(ends)

    def _drop_all(self) -> None:
        for ends in list(self._open):
            self._drop(ends)
