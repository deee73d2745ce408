"""Reads and checks the certificates for TLS, and makes TLS contexts from them.

Law of this file: the rest of the program gets a finished :class:`ssl.SSLContext`. The context requires TLS 1.2 or newer
and, on both sides, a certificate from the same authority; the server's certificate must contain the host or address
that the client calls. A private key that other users can read is refused.
:mod:`~hpbandster_lite.access.certificate_authority` makes the files.
"""

from __future__ import annotations

import os
import ssl
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from hpbandster_lite.errors import RunDirectoryError
from hpbandster_lite.process.environment import TLS_VARIABLE
from hpbandster_lite.records.decorator import record
from hpbandster_lite.rundir import (
    RunDirectory,
    os_errors_as_ours,
    refuse_given_if_open,
    refuse_given_if_writable,
    write_atomically,
)

if TYPE_CHECKING:
    from cryptography import x509

EXPIRES_SOON = timedelta(days=7)
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""The accepted ciphers of TLS 1.2: its others lack forward secrecy or authenticated encryption."""


@record(frozen=True, slots=True)
class Certificates:
    """The folder with certificates, or a copy of a client's files.

    Parameters
    ----------
    path
        The folder. Clients need ``ca.pem``, ``client.pem`` and ``client.key``. A server also needs ``server.pem`` and
        ``server.key``. ``ca.key`` signs further certificates; do not copy it to other machines.
    """

    path: Path

    def server_context(self) -> ssl.SSLContext:
        """The TLS context of a server.

        Raises
        ------
        RunDirectoryError
            If a file is missing, unreadable, open to other users or invalid; the message has the remedy.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        # Renegotiation takes the server more time than the client, and a client could repeat it without end.
        context.options |= ssl.OP_NO_RENEGOTIATION
        # No session tickets: they only speed up new connections, and these connections last for days.
        context.num_tickets = 0
        return self._loaded(context, "server")

    def client_context(self) -> ssl.SSLContext:
        """The TLS context of a client; errors as for :meth:`server_context`."""
        # This protocol checks the host and requires a certificate.
        return self._loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "client")

    def hosts(self) -> tuple[str, ...]:
        """Names and addresses for which the server's certificate is valid; errors as for :meth:`server_context`."""
        from cryptography import x509

        try:
            names = self.read("server").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return ()
        addresses = names.get_values_for_type(x509.IPAddress)
        return (*names.get_values_for_type(x509.DNSName), *map(str, addresses))

    def expires_at(self, role: str) -> datetime:
        """When the certificate of the ``server`` or the ``client`` expires; errors as for :meth:`server_context`."""
        return self.read(role).not_valid_after_utc

    def install(self, directory: RunDirectory) -> None:
        """Copy the files that clients need into a run directory, where workers and commands look for them.

        Raises
        ------
        RunDirectoryError
            If a file cannot be read or written.
        """
        to = directory.tls
        if to.is_dir() and to.samefile(self.path):
            return
        with os_errors_as_ours(to, "copy the certificates"):
            to.mkdir(mode=0o700, exist_ok=True)
            authority = to / "ca.pem"
            if (to / "ca.key").exists() and authority.read_bytes() != (self.path / "ca.pem").read_bytes():
                raise RunDirectoryError(
                    f"{to} has another authority, which the certificates in {self.path} would replace; leave --tls "
                    f"out, or move {to} away"
                )
            for name in ("ca.pem", "client.pem", "client.key"):
                write_atomically(to / name, (self.path / name).read_text("ascii"))

    def read(self, role: str) -> x509.Certificate:
        """The certificate of ``ca``, ``server`` or ``client``; errors as for :meth:`server_context`."""
        # Imported here: it takes 50 ms to import, and only processes with TLS need it.
        from cryptography import x509

        file = self.path / f"{role}.pem"
        with os_errors_as_ours(file, "read the certificate"):
            try:
                return x509.load_pem_x509_certificate(file.read_bytes())
            except ValueError as error:
                raise RunDirectoryError(f"{file} is not a certificate ({error}); {_REMEDY}") from error

    def _loaded(self, context: ssl.SSLContext, role: str) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        authority, certificate, key = (self.path / name for name in ("ca.pem", f"{role}.pem", f"{role}.key"))
        for file in (authority, certificate, key):
            if not file.is_file():
                raise RunDirectoryError(f"TLS requires {file}, which does not exist; {_REMEDY}")
        with os_errors_as_ours(self.path, "read the certificates"):
            refuse_given_if_writable(self.path)
            refuse_given_if_open(key, "600")
            try:
                context.load_verify_locations(authority)
                context.load_cert_chain(certificate, key)
            except (ssl.SSLError, ValueError) as error:
                raise RunDirectoryError(
                    f"the certificates in {self.path} cannot be used ({_reason(error)}): {authority.name}, "
                    f"{certificate.name} and {key.name} do not belong together; {_REMEDY}"
                ) from error
        return context


_REMEDY = "make certificates with: hpbandster-lite certs DIR --host NAME, or give their folder with --tls DIR"


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or str(error)
    return str(reason).lower().replace("_", " ")


def certificates_for(
    directory: RunDirectory | None, given: str | os.PathLike[str] | None = None
) -> Certificates | None:
    """The certificates for a process of a run; None if it does not use TLS.

    Parameters
    ----------
    directory
        The run directory, if this process can access it. Its folder ``tls`` is used if nothing else gives certificates.
    given
        The folder that the user gave, which takes precedence over the environment variable HPBANDSTER_LITE_TLS and the
        run directory. Default: None.
    """
    folder = given or os.environ.get(TLS_VARIABLE, "").strip()
    if folder:
        return Certificates(Path(folder))
    # An existing folder enables TLS: you cannot disable it by leaving an option out.
    return Certificates(directory.tls) if directory is not None and directory.tls.is_dir() else None
