"""TLS on non-blocking sockets: the handshake as steps of the server's loop, and a text for each reason of failure.

Law of this file: it never waits. A peer in a handshake is a connection with a deadline like any other. The given
:class:`ssl.SSLContext` determines versions, ciphers and accepted peers.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple

from hpbandster_lite.transport.connection import READ_BYTES, READS_A_TURN, Bounds, Connection

HANDSHAKES_A_TURN = 16
"""Most handshake steps in a turn: each takes up to a millisecond of CPU time, which delays the calls of that turn."""
WANTS_MORE = (ssl.SSLWantReadError, ssl.SSLWantWriteError)
NO_TLS = b"PYRO"
"""The first bytes of this package's messages: they identify a client of this package without TLS."""
ALERT = b"\x15\x03"
"""The first bytes of a TLS server's answer to a client without TLS."""


class TlsWanted(ssl.SSLError):
    """The other side uses TLS, and this side does not."""


class Refusal(NamedTuple):
    """Why a handshake failed; ``kind`` groups the log lines."""

    kind: str
    text: str


# By OpenSSL's stable numbers (X509_V_ERR_...); other numbers use OpenSSL's text.
_ABOUT_CERTIFICATE: Mapping[int, str] = {
    9: "is not valid yet (do the clocks agree?)",
    10: "has expired",
    18: "comes from another authority",
    19: "comes from another authority",
    20: "comes from another authority",
    21: "comes from another authority",
    7: "comes from another authority with the same name",
    26: "is for another purpose: the client's and the server's certificates are swapped",
    62: "is not for this host",
    64: "is not for this address",
}
_BY_PEER: Mapping[str, Refusal] = {
    "UNKNOWN_CA": Refusal("authority", "our certificate comes from an authority that it does not trust"),
    "DECRYPT_ERROR": Refusal("authority", "our certificate comes from an authority that it does not trust"),
    "CERTIFICATE_EXPIRED": Refusal("expired", "our certificate has expired"),
    "BAD_CERTIFICATE": Refusal("certificate", "our certificate was refused: not for this host, or not valid yet"),
    "UNSUPPORTED_CERTIFICATE": Refusal("purpose", "our certificate is for another purpose"),
    "CERTIFICATE_REQUIRED": Refusal("missing", "it requires a certificate, which we do not have"),
    "HANDSHAKE_FAILURE": Refusal("missing", "it requires a certificate, or a feature that we do not have"),
    "PROTOCOL_VERSION": Refusal("version", "it uses another version of TLS"),
}
_NOT_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "HTTPS_PROXY_REQUEST", "BAD_RECORD_TYPE",
            "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")  # fmt: skip


def why_refused(error: ssl.SSLError) -> Refusal:
    """Why a handshake or a connection failed; in the text, "it" is the peer and "our" means this side."""
    if isinstance(error, TlsWanted):
        return Refusal("plain", "it accepts only TLS")
    reason = str(error.reason or "")
    if isinstance(error, ssl.SSLCertVerificationError):
        problem = _ABOUT_CERTIFICATE.get(error.verify_code, f"was refused: {error.verify_message}")
        return Refusal(f"certificate {error.verify_code}", f"its certificate {problem}")
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return Refusal("missing", "it has no certificate")
    if reason in ("UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW"):
        return Refusal("version", "it does not support TLS 1.2 or newer")
    if reason in _NOT_TLS:
        return Refusal("plain", "it does not use TLS")
    for alert, refusal in _BY_PEER.items():
        if "ALERT" in reason and reason.endswith(alert):
            return refusal
    return Refusal("other", f"its TLS failed ({reason.lower().replace('_', ' ') or error})")


class SecureConnection(Connection):
    """One peer that must use TLS; its messages are read only after the handshake.

    Parameters are those of :class:`Connection`, and ``context``, the server's TLS context.
    """

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
        """Continue the handshake, then read the available bytes."""
        if self.is_shaking:
            self._shake()
        if self.is_shaking or self.has_ended or self._secure is None:
            return
        # Until no bytes are left, because a record that is already decrypted does not wake the selector. Each read
        # returns one record.
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
        """One step of the handshake; sets ``refusal`` when it fails."""
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
            # The peer closed the connection early, for example because it only probed the port.
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
        """Whether the first bytes come from a client of this package without TLS, or there are no bytes yet."""
        try:
            first = self._socket.recv(len(NO_TLS), socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return True
        if not first:
            self.has_ended = True
            return True
        if first == NO_TLS:
            # The alert is the reason for the client; OpenSSL sends the same alert to other programs.
            self._send_last(ALERT + b"\x03\x00\x02\x02\x46")
            self._refuse(Refusal("plain", "it does not use TLS; start it with --tls DIR"))
        return first == NO_TLS

    def _refuse(self, refusal: Refusal) -> None:
        self.refusal = f"TLS: {refusal.text}"
        self.refusal_kind = f"TLS {refusal.kind}"
        # Discard the received bytes first: closing a socket with unread bytes resets the connection, and the peer might
        # not receive the alert with the reason.
        with contextlib.suppress(OSError):
            while socket.socket.recv(self._socket, READ_BYTES):
                pass

    def flush(self) -> None:
        """Send as much of the answers as the socket accepts."""
        if not self._outbox or self._secure is None:
            return
        sent = 0
        try:
            # In pieces: after a partial send OpenSSL requires the same bytes again, and reports only complete sends.
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
        """Whether some released answers are not sent yet, or the handshake waits for room in the socket."""
        return bool(self._outbox) or self._wants_room
