"""TLS on non-blocking sockets: the handshake as steps of the server's loop, and why one failed, in words.

Law of this file: it never waits. A peer whose handshake is not over yet is one more connection with a deadline. What is
spoken, and whom it admits, is the business of the :class:`ssl.SSLContext` that is handed in.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple

from hpbandster_lite.transport.connection import READ_BYTES, READS_A_TURN, Bounds, Connection

HANDSHAKES_A_TURN = 16
"""A step of a handshake costs up to a millisecond of arithmetic, and who waits for a call waits for so many at most."""
WANTS_MORE = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
NO_TLS = b"PYRO"
"""What a message of ours begins with: a client of ours that speaks no TLS is told apart from a stranger."""
ALERT = b"\x15\x03"
"""What a server that speaks TLS answers to one that does not."""


class TlsWanted(ssl.SSLError):
    """The other side speaks TLS, and this one does not."""


class Refusal(NamedTuple):
    """Why a handshake failed; ``kind`` sorts the log lines."""

    kind: str
    words: str


# By the numbers that OpenSSL promises to keep (X509_V_ERR_...); the rest is told in its own words.
_ABOUT_CERTIFICATE: Mapping[int, str] = {
    9: "is not valid yet (do the clocks agree?)",
    10: "has expired",
    18: "is of another authority",
    19: "is of another authority",
    20: "is of another authority",
    21: "is of another authority",
    7: "is of another authority of the same name",
    26: "is for another purpose: a client's and a server's were swapped",
    62: "is not for this host",
    64: "is not for this address",
}
_BY_PEER: Mapping[str, Refusal] = {
    "UNKNOWN_CA": Refusal("authority", "our certificate is of another authority than it trusts"),
    "DECRYPT_ERROR": Refusal("authority", "our certificate is of another authority than it trusts"),
    "CERTIFICATE_EXPIRED": Refusal("expired", "our certificate has expired"),
    "BAD_CERTIFICATE": Refusal("certificate", "our certificate was refused: not for this host, or not valid yet"),
    "UNSUPPORTED_CERTIFICATE": Refusal("purpose", "our certificate is for another purpose"),
    "CERTIFICATE_REQUIRED": Refusal("missing", "it wants a certificate and we have none"),
    "HANDSHAKE_FAILURE": Refusal("missing", "it wants a certificate, or something else that we do not have"),
    "PROTOCOL_VERSION": Refusal("version", "it speaks another version of TLS"),
}
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "HTTPS_PROXY_REQUEST", "BAD_RECORD_TYPE",
            "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")  # fmt: skip


def why_refused(error: ssl.SSLError) -> Refusal:
    """Why a handshake or a connection failed, as seen from here: ``it`` is the peer."""
    if isinstance(error, TlsWanted):
        return Refusal("plain", "it speaks TLS only")
    reason = str(error.reason or "")
    if isinstance(error, ssl.SSLCertVerificationError):
        told = _ABOUT_CERTIFICATE.get(error.verify_code, f"was refused: {error.verify_message}")
        return Refusal(f"certificate {error.verify_code}", f"its certificate {told}")
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return Refusal("missing", "it has no certificate")
    if reason in ("UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW"):
        return Refusal("version", "it speaks no TLS from 1.2 on")
    if reason in _NOT_TLS:
        return Refusal("plain", "it speaks no TLS")
    for alert, refusal in _BY_PEER.items():
        if "ALERT" in reason and reason.endswith(alert):
            return refusal
    return Refusal("other", f"its TLS went wrong ({reason.lower().replace('_', ' ') or error})")


class SecureConnection(Connection):
    """One peer that must speak TLS; nothing is read of it before the handshake is over."""

    __slots__ = ("_context", "_secure", "_wants_room")

    def __init__(
        self, sock: socket.socket, address: Any, peer: str, bounds: Bounds, now: float, context: ssl.SSLContext
    ) -> None:
        super().__init__(sock, address, peer, bounds, now)
        self._context = context
        self._secure: ssl.SSLSocket | None = None
        self._wants_room = False
        self.is_shaking = True

    def fill(self) -> None:
        """Go on with the handshake, then read what the socket holds."""
        if self.is_shaking:
            self._shake()
        if self.is_shaking or self.has_ended or self._secure is None:
            return
        # Until it wants more: a record that is decrypted already wakes no selector. Each read takes a whole one.
        for _ in range(READS_A_TURN):
            try:
                data = self._secure.recv(READ_BYTES)
            except WANTS_MORE:
                return
            except OSError:
                data = b""
            if not data:
                self.has_ended = True
                return
            self._inbox += data

    def _shake(self) -> None:
        """One step of the handshake; ``refusal`` when it has failed."""
        self._wants_room = False
        try:
            if self._secure is None:
                if self._is_plain():
                    return
                self._secure = self._context.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
                self._socket = self._secure
            self._secure.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLWantWriteError:
            self._wants_room = True
            return
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            # It thought better of it, or looked whether somebody is here.
            self.has_ended = True
            return
        except ssl.SSLError as error:
            self._refuse(why_refused(error))
            return
        except OSError:
            self.has_ended = True
            return
        self.is_shaking = False

    def _is_plain(self) -> bool:
        """Whether the first bytes are those of a client of ours without TLS, or there are none yet."""
        try:
            first = self._socket.recv(len(NO_TLS), socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return True
        if not first:
            self.has_ended = True
            return True
        if first == NO_TLS:
            # So that it learns why; the same two bytes OpenSSL sends to a stranger.
            self._tell(ALERT + b"\x03\x00\x02\x02\x46")
            self._refuse(Refusal("plain", "it speaks no TLS; start it with --tls DIR"))
        return first == NO_TLS

    def _refuse(self, refusal: Refusal) -> None:
        self.refusal = f"TLS: {refusal.words}"
        self.refusal_kind = f"TLS {refusal.kind}"
        # What it sent is thrown away before the connection is closed: a socket that is closed with bytes in it resets
        # the connection, and the alert that tells the peer why might be lost.
        with contextlib.suppress(OSError):
            while socket.socket.recv(self._socket, READ_BYTES):
                pass

    def flush(self) -> None:
        """Send what the socket takes of the answers that may leave."""
        if not self._outbox or self._secure is None:
            return
        sent = 0
        try:
            # Piece by piece: OpenSSL wants what it could not send once more, and counts nothing before it is all gone.
            for _ in range(READS_A_TURN):
                piece = bytes(self._outbox[sent : sent + READ_BYTES])
                if not piece:
                    break
                sent += self._secure.send(piece)
        except WANTS_MORE:
            pass
        except OSError:
            sent = len(self._outbox)
            self.has_ended = True
        del self._outbox[:sent]

    @property
    def is_unread(self) -> bool:
        """Whether answers that may leave are still here, or the handshake waits for room."""
        return bool(self._outbox) or self._wants_room
