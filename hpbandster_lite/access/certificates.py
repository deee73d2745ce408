"""Certificates for TLS: a private authority, one certificate for who listens, one for who calls; made, checked, used.

Law of this file: all that is known of certificates is known here, and the rest of the program gets a finished
:class:`ssl.SSLContext`. Nothing older than TLS 1.2, a certificate of the same authority on both sides, and the host or
address that is called must be in it. A private key is readable by its owner alone, or it is refused.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpbandster_lite.errors import RunDirectoryError, UsageError
from hpbandster_lite.process.environment import TLS_VARIABLE
from hpbandster_lite.rundir import (
    RunDirectory,
    os_errors_as_ours,
    refuse_given_if_open,
    refuse_if_open_to_others,
    write_atomically,
)

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

HERE = ("localhost", "127.0.0.1", "::1")
"""In every certificate of a server: workers beside their master call it there."""
DEFAULT_DAYS = 365
LONGEST_DAYS = 3_650
BACKDATED = timedelta(hours=1)
"""Valid since before it was made: clocks of a cluster differ, and a worker's may be behind."""
EXPIRES_SOON = timedelta(days=7)
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2 alone, whose other choices have no forward secrecy or no authenticated encryption."""


@dataclass(frozen=True, slots=True)
class Certificates:
    """The folder that :func:`make_certificates` makes, or a part of it.

    Parameters
    ----------
    path
        The folder. ``ca.pem``, ``client.pem`` and ``client.key`` are what callers need; who listens needs
        ``server.pem`` and ``server.key`` too; ``ca.key`` makes further certificates and belongs on no other machine.
    """

    path: Path

    def server_context(self) -> ssl.SSLContext:
        """What a listening process speaks TLS with.

        Raises
        ------
        RunDirectoryError
            If a file is missing, unreadable, open to others or something else, with the remedy.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        # The client could ask for handshake after handshake on one connection, each of which costs us more than it.
        context.options |= ssl.OP_NO_RENEGOTIATION
        # Tickets for a later connection: ours last for days.
        context.num_tickets = 0
        return self._loaded(context, "server")

    def client_context(self) -> ssl.SSLContext:
        """What a calling process speaks TLS with; errors as for :meth:`server_context`."""
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
        """Until when the certificate of the ``server`` or the ``client`` is valid; errors as there."""
        return self.read(role).not_valid_after_utc

    def install(self, directory: RunDirectory) -> None:
        """Put what callers need into a run directory, where workers and commands look for it; a copy, readable by us.

        Raises
        ------
        RunDirectoryError
            If it cannot be read or written.
        """
        to = directory.tls
        if to.is_dir() and to.samefile(self.path):
            return
        with os_errors_as_ours(to, "copy the certificates"):
            to.mkdir(mode=0o700, exist_ok=True)
            for name in ("ca.pem", "client.pem", "client.key"):
                write_atomically(to / name, (self.path / name).read_text("ascii"))

    def read(self, role: str) -> x509.Certificate:
        """The certificate of ``ca``, ``server`` or ``client``; errors as for :meth:`server_context`."""
        # Here: it takes 50 ms, and only who speaks TLS pays for it.
        from cryptography import x509

        file = self.path / f"{role}.pem"
        with os_errors_as_ours(file, "read the certificate"):
            try:
                return x509.load_pem_x509_certificate(file.read_bytes())
            except ValueError as error:
                raise RunDirectoryError(f"{file} is no certificate ({error}); {_REMEDY}") from error

    def _loaded(self, context: ssl.SSLContext, role: str) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        authority, certificate, key = (self.path / name for name in ("ca.pem", f"{role}.pem", f"{role}.key"))
        for file in (authority, certificate, key):
            if not file.is_file():
                raise RunDirectoryError(f"TLS needs {file}, which is not there; {_REMEDY}")
        with os_errors_as_ours(self.path, "read the certificates"):
            refuse_given_if_open(self.path, "700")
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


# ------------------------------------------------------------------------------------------------------------ making


def make_certificates(path: Path, hosts: Sequence[str], *, days: int = DEFAULT_DAYS, now: datetime) -> Certificates:
    """Make an authority, a server's and a client's certificate in a folder of their owner's alone.

    An authority that is there already is kept, and signs the new certificates: those of workers that have copies of the
    old ones stay good.

    Parameters
    ----------
    path
        The folder, which is made.
    hosts
        Names and addresses by which master and name server are called; loopback is always among them.
    days
        How long all of them are valid.
    now
        The time, with its zone.

    Raises
    ------
    UsageError
        If a host is none, or the number of days cannot be.
    RunDirectoryError
        If the folder cannot be made or is open to others.
    """
    if not 1 <= days <= LONGEST_DAYS:
        raise UsageError(f"--days {days}: certificates are valid for 1 to {LONGEST_DAYS} days")
    names = _names([*hosts, *HERE])
    with os_errors_as_ours(path, "make the certificates"):
        if not path.parent.exists():
            # It may be a run directory to be, which is its owner's alone; only the last folder gets the mode.
            path.parent.mkdir(mode=0o700, parents=True)
        path.mkdir(mode=0o700, exist_ok=True)
        refuse_if_open_to_others(path, "700")
        certificate, key = _authority(path, days, now)
        for role in ("server", "client"):
            _write_signed(path, role, names if role == "server" else [], certificate, key, days, now)
    return Certificates(path)


def _names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    from cryptography import x509

    names: dict[x509.GeneralName, None] = {}
    for host in hosts:
        try:
            name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host.strip("[]").partition("%")[0]))
        except ValueError:
            if not host or not host.replace("-", "").replace(".", "").replace("_", "").isalnum() or not host.isascii():
                raise UsageError(
                    f"--host {host!r} is neither a host name nor an address; give what --host of the master is given, "
                    "for example --host head.cluster --host 10.0.0.1"
                ) from None
            name = x509.DNSName(host)
        names[name] = None
    return list(names)


def _authority(path: Path, days: int, now: datetime) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    """The authority of the folder, made if there is none."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    file, key_file = path / "ca.pem", path / "ca.key"
    if not file.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        # As long as any certificate may be, so that new ones need no new authority.
        certificate = _signed("authority", key, None, key, LONGEST_DAYS, now)
        _write_key(key_file, key)
        _write(file, certificate)
        return certificate, key
    if not key_file.exists():
        raise RunDirectoryError(
            f"{path} holds an authority without its key ({key_file.name}), so nothing can be signed; use the folder in "
            "which it was made, or a new one"
        )
    refuse_if_open_to_others(key_file, "600")
    certificate = Certificates(path).read("ca")
    try:
        loaded = load_pem_private_key(key_file.read_bytes(), None)
    except (TypeError, ValueError) as error:
        raise RunDirectoryError(f"{key_file} is no key without a password ({error}); use a new folder") from error
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise RunDirectoryError(f"{key_file} was not made by hpbandster-lite certs; use a new folder")
    if certificate.not_valid_after_utc < now + timedelta(days=days):
        raise UsageError(
            f"--days {days} is longer than the authority in {path} is valid (until "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}); give fewer days, or a new folder"
        )
    return certificate, loaded


def _write_signed(
    path: Path,
    role: str,
    names: list[x509.GeneralName],
    authority: x509.Certificate,
    authority_key: EllipticCurvePrivateKey,
    days: int,
    now: datetime,
) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    _write_key(path / f"{role}.key", key)
    _write(path / f"{role}.pem", _signed(role, key, authority, authority_key, days, now, names))


def _signed(
    role: str,
    key: EllipticCurvePrivateKey,
    authority: x509.Certificate | None,
    authority_key: EllipticCurvePrivateKey,
    days: int,
    now: datetime,
    names: Sequence[x509.GeneralName] = (),
) -> x509.Certificate:
    """A certificate for a key; of an authority where none signs it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    named = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"hpbandster_lite {role}")])
    is_authority = authority is None
    builder = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(named if authority is None else authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), critical=True)
        .add_extension(_usage(is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
        )
    )
    if not is_authority:
        # The client's cannot be used to stand in for the server, whoever has stolen it.
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if role == "server" else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(authority_key, hashes.SHA256())


def _usage(is_authority: bool) -> x509.KeyUsage:
    from cryptography import x509

    others: dict[str, Any] = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only",
         "decipher_only"), False
    )  # fmt: skip
    return x509.KeyUsage(
        digital_signature=not is_authority, key_cert_sign=is_authority, crl_sign=is_authority, **others
    )


def _write(file: Path, certificate: x509.Certificate) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    write_atomically(file, certificate.public_bytes(Encoding.PEM).decode("ascii"))


def _write_key(file: Path, key: EllipticCurvePrivateKey) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_atomically(file, pem.decode("ascii"))


# -------------------------------------------------------------------------------------------------- who has which


def certificates_for(
    directory: RunDirectory | None, given: str | os.PathLike[str] | None = None
) -> Certificates | None:
    """The certificates that a process of a run speaks TLS with; None if it does not.

    Parameters
    ----------
    directory
        The run directory, where it can be seen: the folder ``tls`` in it, if there is one.
    given
        The folder that the user named, which goes before that; so does the environment variable HPBANDSTER_LITE_TLS.
    """
    told = given or os.environ.get(TLS_VARIABLE, "").strip()
    if told:
        return Certificates(Path(told))
    # The folder decides, not a word somewhere: nobody is talked out of TLS by leaving that word out.
    return Certificates(directory.tls) if directory is not None and directory.tls.is_dir() else None
