"""Makes certificates for TLS: a private authority, and certificates for the server and its clients.

Law of this file: it writes the folder that :class:`~hpbandster_lite.access.certificates.Certificates` reads. Only their
owner can access the folder and its keys. An existing authority is kept.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpbandster_lite.access.certificates import Certificates
from hpbandster_lite.errors import RunDirectoryError, UsageError
from hpbandster_lite.rundir import (
    os_errors_as_ours,
    refuse_given_if_writable,
    refuse_if_open_to_others,
    refuse_to_replace,
    write_atomically,
)

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
"""Every server certificate has these names, because workers on the master's machine use them."""
DEFAULT_DAYS = 365
LONGEST_DAYS = 3_650
BACKDATED = timedelta(hours=1)
"""Certificates become valid this long before they are made, because a worker's clock may be behind."""


def make_certificates(
    path: Path, hosts: Sequence[str], *, days: int = DEFAULT_DAYS, now: datetime, force: bool = False
) -> Certificates:
    """Make an authority, a server certificate and a client certificate in a folder that only its owner can read.

    An existing authority is kept and signs the new certificates, so that workers with copies of the old ones can still
    connect.

    Parameters
    ----------
    path
        The folder, which is made if necessary.
    hosts
        Names and addresses at which clients call the master and the name server; loopback is always added.
    days
        Number of days for which the certificates are valid, from 1 to 3,650. Default: 365.
    now
        The current time, with its time zone.
    force
        Whether to replace certificates and keys that this authority has not signed. Default: False.

    Raises
    ------
    UsageError
        If a host or the number of days is invalid; if the folder has files with these names that this authority has not
        signed.
    RunDirectoryError
        If the folder cannot be made, or other users can write in it.
    """
    if not 1 <= days <= LONGEST_DAYS:
        raise UsageError(f"--days must be from 1 to {LONGEST_DAYS}, got {days}")
    names = _names([*hosts, *LOOPBACK_NAMES])
    with os_errors_as_ours(path, "make the certificates"):
        if not path.parent.exists():
            # It may become a run directory, which is private. With parents=True only the last folder gets the mode.
            path.parent.mkdir(mode=0o700, parents=True)
        path.mkdir(mode=0o700, exist_ok=True)
        refuse_given_if_writable(path)
        for foreign in [] if force else _not_made_here(path):
            refuse_to_replace(foreign, force=False, is_ours=lambda: False)
        certificate, key = _authority(path, days, now)
        for role in ("server", "client"):
            _write_signed(path, role, names if role == "server" else [], certificate, key, days, now)
    return Certificates(path)


def _not_made_here(path: Path) -> Iterator[Path]:
    """Files to replace that the folder's authority has not signed; a key counts like its certificate."""
    if not (path / "ca.pem").exists():
        yield path / "ca.key"
    for role in ("server", "client"):
        if not _is_signed_here(path, role):
            yield from (path / f"{role}.pem", path / f"{role}.key")


def _is_signed_here(path: Path, role: str) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        Certificates(path).read(role).verify_directly_issued_by(Certificates(path).read("ca"))
    # TypeError, ValueError: the certificate is of another kind, or the authority has another name.
    except (RunDirectoryError, InvalidSignature, TypeError, ValueError):
        return False
    return True


def _names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    from cryptography import x509

    names: dict[x509.GeneralName, None] = {}
    for host in hosts:
        try:
            name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host.strip("[]").partition("%")[0]))
        except ValueError:
            if not host or not host.replace("-", "").replace(".", "").replace("_", "").isalnum() or not host.isascii():
                raise UsageError(
                    f"--host {host!r} is neither a host name nor an address; use the --host of the master, "
                    "for example --host head.cluster --host 10.0.0.1"
                ) from None
            name = x509.DNSName(host)
        names[name] = None
    return list(names)


def _authority(path: Path, days: int, now: datetime) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
    """The certificate and key of the folder's authority, which is made if it does not exist."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    file, key_file = path / "ca.pem", path / "ca.key"
    if not file.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        # Valid as long as the longest certificate, so that new certificates need no new authority.
        certificate = _signed("authority", key, None, key, LONGEST_DAYS, now)
        _write_key(key_file, key)
        _write(file, certificate)
        return certificate, key
    if not key_file.exists():
        raise RunDirectoryError(
            f"the authority in {path} cannot sign without its key ({key_file.name}); use the folder in which it was "
            "made, or a new folder"
        )
    refuse_if_open_to_others(key_file, "600")
    certificate = Certificates(path).read("ca")
    try:
        loaded = load_pem_private_key(key_file.read_bytes(), None)
    except (TypeError, ValueError) as error:
        raise RunDirectoryError(f"{key_file} is not an unencrypted key ({error}); use a new folder") from error
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise RunDirectoryError(f"{key_file} was not made by hpbandster-lite certs; use a new folder")
    if certificate.not_valid_after_utc < now + timedelta(days=days):
        raise UsageError(
            f"--days {days} exceeds the validity of the authority in {path} (until "
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
    # The certificate first: after a kill between the two, it shows that the key may be replaced.
    _write(path / f"{role}.pem", _signed(role, key, authority, authority_key, days, now, names))
    _write_key(path / f"{role}.key", key)


def _signed(
    role: str,
    key: EllipticCurvePrivateKey,
    authority: x509.Certificate | None,
    authority_key: EllipticCurvePrivateKey,
    days: int,
    now: datetime,
    names: Sequence[x509.GeneralName] = (),
) -> x509.Certificate:
    """A signed certificate for a key; without an ``authority`` it is a self-signed authority."""
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
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    )
    if not is_authority:
        # A stolen client certificate cannot be used to impersonate the server.
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
