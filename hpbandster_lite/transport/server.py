"""The event loop in front of Pyro4's daemon: read all pending input, handle it in order, commit once, then answer.

Law of this file: no peer can block another. The loop handles only complete messages, never waits for one peer, and
limits the time and the bytes of each connection. It sends no answer before the commit of its turn has succeeded. One
thread runs it. Why not Pyro4's servers: docs/decisions/0002-own-loop-before-pyro4.md.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from hpbandster_lite import wire
from hpbandster_lite.errors import InvariantBroken, SearchError
from hpbandster_lite.records import Plain
from hpbandster_lite.transport import payloads
from hpbandster_lite.transport.connection import Bounds, Connection, PeerRejected
from hpbandster_lite.transport.message_codec import read_call, write_result
from hpbandster_lite.transport.network_interfaces import reachable_addresses
from hpbandster_lite.transport.payloads import Call
from hpbandster_lite.transport.pyro_daemon import MALFORMED, CallEntry, build_daemon, close_daemon, introduce
from hpbandster_lite.transport.rate_limited_log import RateLimitedLog
from hpbandster_lite.transport.sockets import keep_alive, listen, raise_file_limit
from hpbandster_lite.transport.tls import HANDSHAKES_A_TURN, SecureConnection

log = logging.getLogger(__name__)

PAUSE_S = 0.2
"""Pause before the next connection is accepted when there is no room; without it the loop would spin."""
_BUGS = frozenset({errno.EBADF, errno.EINVAL, errno.ENOTSOCK, errno.EFAULT})
_LISTENER, _WAKEUP = "listener", "wakeup"


class Server:
    """Serves one object, method by method, to clients that hold the key.

    Parameters
    ----------
    host, port
        Where to listen, at one address or several. Port 0 chooses a free port, see :attr:`endpoint`.
    key
        HMAC key of all messages; ``None`` for messages without a signature, only on loopback or with TLS.
    object_id
        Name of the object, which clients must give.
    handle
        Handles one call in memory and returns the text of its answer. A :class:`SearchError` is sent to the client,
        which raises it. :class:`InvariantBroken` and any other exception are bugs and propagate from :meth:`turn`.
    welcome
        Data for each client that connects; see :attr:`Client.welcome`. Default: empty.
    bounds
        Time limits and sizes. Default: those of :class:`Bounds`.
    wakeup_fd
        A file descriptor that ends the wait of a turn when it becomes readable (``signal.set_wakeup_fd``, a pipe). The
        server reads it and does not close it. Default: None.
    stock
        Further Pyro4 objects, by object id, for unmodified Pyro4 clients. Their calls have no nonce and can be
        replayed, so these objects must be read-only. Default: none.
    serializers
        The accepted serialisers, by Pyro4's names. Default: JSON.
    tls
        The TLS context, which also verifies clients. Default: None, for plain connections.
    reads
        Methods that change nothing: they are answered also while commits fail. Default: none.

    Raises
    ------
    UsageError
        If the address cannot be used, or would be open to other machines without a key or TLS.
    """

    def __init__(
        self,
        host: str | Sequence[str],
        port: int,
        key: bytes | None,
        *,
        object_id: str,
        handle: Callable[[Call], str],
        welcome: Mapping[str, Plain] | None = None,
        bounds: Bounds | None = None,
        wakeup_fd: int | None = None,
        stock: Mapping[str, object] | None = None,
        serializers: tuple[str, ...] = ("json",),
        tls: ssl.SSLContext | None = None,
        reads: Collection[str] = (),
    ) -> None:
        self._handle = handle
        self._reads = frozenset(reads)
        self._key = key
        # Direct decoding requires JSON; Pyro4 handles other serialisers.
        self._object_id = object_id if "json" in serializers else None
        self._bounds = bounds or Bounds()
        self._welcome = wire.encode(dict(welcome or {}))
        self._admits_stock = bool(stock)
        self._tls = tls
        self._listeners = listen([host] if isinstance(host, str) else host, port, key, is_secure=tls is not None)
        raise_file_limit(self._bounds.connections)
        objects = {**(stock or {}), object_id: CallEntry(self._called)}
        self._daemon = build_daemon(key=key, objects=objects, serializers=serializers, greet=self._greet)
        self._selector = selectors.DefaultSelector()
        self._listen()
        if wakeup_fd is not None:
            self._selector.register(wakeup_fd, selectors.EVENT_READ, _WAKEUP)
        # The shortest time limit is exceeded by at most an eighth, and a sweep takes almost no time.
        self._sweep_s = min(1.0, max(0.02, min(self._bounds.greeting_s, self._bounds.message_s) / 8))
        self._sweep_at = 0.0
        self._listen_again_at: float | None = None
        self._connections: dict[Connection, None] = {}
        self._accepted = 0
        self._current: Connection | None = None
        self._handled = 0
        self._raised: Exception | None = None
        self._is_behind = False
        self._held: dict[Connection, None] = {}
        self._closed: list[str] = []
        self._peer_log = RateLimitedLog(log)

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port on which it listens; the first of several hosts."""
        host, port = self._listeners[0].getsockname()[:2]
        return host, port

    @property
    def addresses(self) -> list[str]:
        """Addresses at which clients may reach this server, the most likely first."""
        return reachable_addresses([listener.getsockname()[0] for listener in self._listeners])

    def closed_peers(self) -> list[str]:
        """Names (:attr:`Call.peer`) of the connections that ended since the last call of this method."""
        closed, self._closed = self._closed, []
        return closed

    def close(self) -> None:
        """Close the listening sockets and all connections; unsent answers are lost, as in a crash."""
        for connection in list(self._connections):
            self._drop(connection)
        self._selector.close()
        for listener in self._listeners:
            listener.close()
        close_daemon(self._daemon)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------------------------------------ one turn

    def turn(self, timeout_s: float, *, commit: Callable[[], bool]) -> int:
        """Read all pending input, handle each complete request in order, commit once, then send the answers.

        Parameters
        ----------
        timeout_s
            Longest wait for input; a turn may end earlier without input.
        commit
            Called once if a request was handled, or if the last commit failed. If it returns False, the answers of this
            turn are kept until a later commit succeeds. Meanwhile, requests are not handled, other than those that
            change nothing; their answer is :class:`Busy`.

        Returns
        -------
        int
            Number of requests handled.
        """
        handled_before = self._handled
        ready = self._selector.select(self._wait_s(timeout_s))
        now = time.monotonic()
        touched: dict[Connection, None] = {}
        shaking = 0
        for key, events in ready:
            if key.data is _LISTENER:
                self._accept(key.fileobj, now)
            elif key.data is _WAKEUP:
                self._empty(key.fd)
            elif key.data.is_shaking and (shaking := shaking + 1) > HANDSHAKES_A_TURN:
                # The connection is still ready in the next turn; authenticated peers come first.
                continue
            else:
                touched[key.data] = None
                if events & selectors.EVENT_READ or key.data.is_shaking:
                    key.data.fill()
                    self._serve(key.data, now)
        if self._is_behind or self._handled != handled_before:
            self._is_behind = not commit()
        # Read the clock again: the time for handling and committing must not count for the peers that read answers.
        self._answer(touched, time.monotonic())
        self._sweep(now)
        return self._handled - handled_before

    def _wait_s(self, timeout_s: float) -> float:
        now = time.monotonic()
        if self._listen_again_at is not None:
            if now >= self._listen_again_at and len(self._connections) < self._bounds.connections:
                self._listen_again_at = None
                self._listen()
            else:
                timeout_s = min(timeout_s, PAUSE_S)
        return max(0.0, min(timeout_s, self._sweep_at - now) if self._connections else timeout_s)

    def _empty(self, wakeup_fd: int) -> None:
        if not os.read(wakeup_fd, 4_096):
            # The other end is closed, which the owner detects. The descriptor stays ready, so the loop would spin.
            self._selector.unregister(wakeup_fd)

    # -------------------------------------------------------------------------------------------- connections

    def _listen(self) -> None:
        for listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ, _LISTENER)

    def _accept(self, listener: Any, now: float) -> None:
        if self._listen_again_at is not None:
            # In this turn there was already no room for a connection to another address.
            return
        while len(self._connections) < self._bounds.connections:
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _BUGS:
                    raise
                # Usually too many open files (EMFILE): the peer stays in the kernel's queue; others are served.
                self._peer_log.warn("accept", f"cannot accept a connection at present: {error}", now=now)
                break
            self._add(sock, address, now)
        else:
            self._peer_log.warn("room", f"the limit of {len(self._connections)} connections is reached", now=now)
        for each in self._listeners:
            self._selector.unregister(each)
        self._listen_again_at = now + PAUSE_S

    def _add(self, sock: socket.socket, address: Any, now: float) -> None:
        sock.setblocking(False)
        keep_alive(sock)
        self._accepted += 1
        peer = f"{address[0]}:{address[1]}#{self._accepted}"
        connection = (
            Connection(sock, address, peer, self._bounds, now)
            if self._tls is None
            else SecureConnection(sock, address, peer, self._bounds, now, self._tls)
        )
        self._connections[connection] = None
        self._selector.register(sock, selectors.EVENT_READ, connection)

    def _drop(self, connection: Connection) -> None:
        del self._connections[connection]
        self._held.pop(connection, None)
        self._selector.unregister(connection)
        connection.close_socket()
        if connection.is_introduced:
            self._closed.append(connection.peer)

    def _log_closed(self, connection: Connection, kind: str, reason: str, now: float) -> None:
        self._peer_log.warn(kind, f"connection {connection.peer} closed: {reason}", now=now)

    # ------------------------------------------------------------------------------------------------ requests

    def _serve(self, connection: Connection, now: float) -> None:
        """Handle the complete messages of one connection."""
        n_messages = 0
        self._current = connection
        try:
            while connection.refusal is None and connection.has_message():
                n_messages += 1
                if connection.is_introduced:
                    self._dispatch(connection)
                else:
                    self._introduce(connection)
                connection.next_message()
                connection.check_room()
        except PeerRejected as error:
            self._log_closed(connection, error.kind, str(error), now)
            connection.forget_answers()
            connection.has_ended = True
        finally:
            self._current = None
        if connection.refusal is not None:
            # Send the reason for the refused handshake, then close the connection.
            connection.has_ended = True
            self._log_closed(connection, connection.refusal_kind, connection.refusal, now)
        connection.note_reading(has_progressed=n_messages > 0, now=now)

    def _introduce(self, connection: Connection) -> None:
        try:
            is_accepted = introduce(self._daemon, connection)
        except MALFORMED as error:
            raise PeerRejected("malformed", f"malformed greeting ({error})") from error
        if is_accepted:
            connection.is_introduced = True
        elif connection.refusal is None:
            connection.refusal = "it does not have our key, or is not hpbandster_lite"

    def _dispatch(self, connection: Connection) -> None:
        """Handle one complete message, or pass it to Pyro4; raises PeerRejected, or an exception that is a bug."""
        message = connection.message()
        call = None if self._object_id is None else read_call(message, self._object_id, self._key)
        if call is not None:
            connection.send(write_result(call.sequence, self._carried_out(*call.params), self._key))
            return
        try:
            self._daemon.handleRequest(connection)
        except MALFORMED as error:
            if self._raised is None:
                raise PeerRejected("malformed", f"malformed message ({error})") from error
        if self._raised is not None:
            raised, self._raised = self._raised, None
            raise raised

    def _greet(self, connection: Connection, handshake: object) -> Plain:
        """Pyro4's ``validateHandshake``: Pyro4 sends an exception to the peer."""
        if self._admits_stock and not isinstance(handshake, dict):
            # An unmodified Pyro4 client. It gets no nonce, so it cannot call the object of this server.
            return "hello"
        try:
            greeting = payloads.read_greeting(handshake, payloads.PROTOCOL)
        except SearchError as error:
            connection.refusal = str(error)
            raise
        connection.hello = greeting.hello
        connection.nonce = secrets.token_hex(16)
        return payloads.write_welcome(payloads.PROTOCOL, greeting, connection.nonce, self._welcome)

    def _called(self, nonce: object, counter: object, method: object, text: object) -> Plain:
        """Entry point for Pyro4's daemon, after it has checked the signature."""
        try:
            return self._carried_out(nonce, counter, method, text)
        except Exception as error:
            # Pyro4 would send the exception as an answer; _dispatch raises it again, so that a bug ends the process.
            self._raised = error
            raise

    def _carried_out(self, nonce: object, counter: object, method: object, text: object) -> Plain:
        connection = self._current
        if connection is None:
            raise InvariantBroken("a call arrived while no connection was served")
        if not connection.nonce or nonce != connection.nonce or counter != connection.counter + 1:
            raise PeerRejected("replay", "a call was replayed, reordered, or is for another connection")
        if type(method) is not str or type(text) is not str:
            raise PeerRejected("malformed", "the method and the text of a call must be strings")
        connection.counter += 1
        changes_nothing = method in self._reads
        if self._is_behind and not changes_nothing:
            return payloads.busy_payload(connection.nonce, connection.counter, self._bounds.busy_s)
        self._handled += 1
        if not changes_nothing:
            connection.owes_commit = True
        try:
            answer = self._handle(Call(method, text, connection.peer, connection.hello))
        except InvariantBroken:
            raise
        except SearchError as error:
            return payloads.error_payload(connection.nonce, connection.counter, error)
        return payloads.answer_payload(connection.nonce, connection.counter, answer)

    # ------------------------------------------------------------------------------------------------- answers

    def _answer(self, touched: dict[Connection, None], now: float) -> None:
        """Send answers: all of them after a commit; before it only those that require no commit."""
        if not self._is_behind and self._held:
            touched = {**self._held, **touched}
            self._held.clear()
        for connection in touched:
            if self._is_behind and connection.owes_commit:
                self._held[connection] = None
            else:
                connection.release()
            connection.flush()
            self._settle(connection, now)

    def _settle(self, connection: Connection, now: float) -> None:
        if connection.has_ended and not connection.is_unread:
            self._drop(connection)
            return
        connection.note_writing(now)
        # Do not read from a peer that does not read its answers, because further answers would need room.
        if connection.is_unread != connection.is_watched_for_room:
            connection.is_watched_for_room = connection.is_unread
            event = selectors.EVENT_WRITE if connection.is_unread else selectors.EVENT_READ
            self._selector.modify(connection, event, connection)

    def _sweep(self, now: float) -> None:
        """Close connections that missed one of their deadlines."""
        if now < self._sweep_at:
            return
        self._sweep_at = now + self._sweep_s
        for connection in [each for each in self._connections if now >= min(each.read_by, each.write_by)]:
            reason = "it does not read its answers" if now >= connection.write_by else "its message is not complete yet"
            reason = "its TLS handshake is not over yet" if connection.is_shaking else reason
            self._log_closed(connection, "slow", reason, now)
            self._drop(connection)
