"""Certificates: which ones are created and refused, and which process uses which."""

from __future__ import annotations

import ipaddress
import os
import ssl
import stat
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from hpbandster_lite.access import certificates
from hpbandster_lite.access.certificate_authority import LONGEST_DAYS, make_certificates
from hpbandster_lite.access.certificates import Certificates, certificates_for
from hpbandster_lite.access.listening import listen_settings
from hpbandster_lite.cli.app import make_app
from hpbandster_lite.errors import RunDirectoryError, UsageError
from hpbandster_lite.rundir import RunDirectory

NOW = datetime.now(timezone.utc)
FILES = {f"{name}.{kind}" for name in ("ca", "server", "client") for kind in ("pem", "key")}


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path / "run" / "tls", ["head.cluster", "10.0.0.1", "fd00::5"], now=NOW)


# ---------------------------------------------------------------------------------------------- created certificates


def test_every_file_is_its_owner_s_alone_and_so_are_the_folders(made: Certificates) -> None:
    assert {file.name for file in made.path.iterdir()} == FILES
    assert {stat.S_IMODE(file.stat().st_mode) for file in made.path.iterdir()} == {0o600}
    assert stat.S_IMODE(made.path.stat().st_mode) == stat.S_IMODE(made.path.parent.stat().st_mode) == 0o700


def test_a_folder_that_was_made_for_a_run_to_be_is_taken_as_its_directory(made: Certificates) -> None:
    RunDirectory(made.path.parent).create()


def test_the_server_s_is_for_the_given_hosts_and_for_loopback(made: Certificates) -> None:
    assert set(made.hosts()) == {"head.cluster", "10.0.0.1", "fd00::5", "localhost", "127.0.0.1", "::1"}


@pytest.mark.parametrize(("role", "purpose"), [("server", "serverAuth"), ("client", "clientAuth")])
def test_each_is_for_its_own_side_and_signs_nothing(role: str, purpose: str, made: Certificates) -> None:
    extensions = made.read(role).extensions
    (purposes,) = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert purposes._name == purpose
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_they_are_valid_from_a_little_before_now_for_the_given_days(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "tls", [], days=3, now=NOW)
    for role in ("server", "client"):
        assert made.read(role).not_valid_before_utc < NOW
        assert abs(made.expires_at(role) - NOW - timedelta(days=3)) < timedelta(seconds=2)


def test_making_them_again_keeps_the_authority_so_that_old_ones_stay_good(made: Certificates) -> None:
    before = {name: (made.path / name).read_bytes() for name in FILES}
    make_certificates(made.path, ["other.cluster"], now=NOW)
    after = {name: (made.path / name).read_bytes() for name in FILES}
    assert {name for name in FILES if before[name] == after[name]} == {"ca.pem", "ca.key"}
    assert "other.cluster" in made.hosts()
    assert "head.cluster" not in made.hosts()


def another_pem_and_key(path: Path) -> None:
    other = make_certificates(path.parent / "other", [], now=NOW)
    for name in ("server.pem", "server.key"):
        (path / name).write_bytes((other.path / name).read_bytes())


def keys_alone(path: Path) -> None:
    for file in path.glob("*.pem"):
        file.unlink()


def a_key_alone(path: Path) -> None:
    (path / "client.pem").unlink()


def notes(path: Path) -> None:
    (path / "server.pem").write_text("notes")


@pytest.mark.parametrize("there", [another_pem_and_key, keys_alone, a_key_alone, notes])
def test_files_of_these_names_that_were_not_made_here_are_replaced_only_by_force(
    there: Callable[[Path], None], made: Certificates
) -> None:
    there(made.path)
    before = {file: file.read_bytes() for file in made.path.iterdir()}
    with pytest.raises(UsageError, match="was not made by this command; give another name, or replace it with --force"):
        make_certificates(made.path, [], now=NOW)
    assert {file: file.read_bytes() for file in made.path.iterdir()} == before
    make_certificates(made.path, [], now=NOW, force=True).server_context()


def test_certificates_of_another_folder_do_not_replace_an_authority_in_the_run(
    made: Certificates, tmp_path: Path
) -> None:
    run = RunDirectory(made.path.parent)
    before = {file: file.read_bytes() for file in made.path.iterdir()}
    with pytest.raises(RunDirectoryError, match="has another authority"):
        make_certificates(tmp_path / "other", [], now=NOW).install(run)
    assert {file: file.read_bytes() for file in made.path.iterdir()} == before


def test_two_authorities_are_two(tmp_path: Path) -> None:
    one, two = (make_certificates(tmp_path / name, [], now=NOW) for name in ("one", "two"))
    assert one.read("ca").public_key() != two.read("ca").public_key()


@pytest.mark.parametrize("host", ["", "a b", "head/..", "head\nx", "*", "-\x1b[2J", "häd", "10.0.0.1:80", "[head]:1"])
def test_what_is_no_host_is_refused_with_its_value(host: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        make_certificates(tmp_path / "tls", [host], now=NOW)
    assert repr(host) in str(caught.value)
    assert not (tmp_path / "tls").exists()


def test_an_address_in_brackets_or_with_its_interface_is_that_address(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "tls", ["[fd00::7]", "fe80::1%eth0"], now=NOW)
    assert {"fd00::7", "fe80::1"} <= set(made.hosts())


@pytest.mark.parametrize("days", [0, -1, LONGEST_DAYS + 1])
def test_a_number_of_days_that_cannot_be_is_refused(days: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"--days must be .*got {days}"):
        make_certificates(tmp_path / "tls", [], days=days, now=NOW)


def test_a_certificate_that_would_outlive_its_authority_is_refused(made: Certificates) -> None:
    later = NOW + timedelta(days=LONGEST_DAYS - 10)
    make_certificates(made.path, [], days=9, now=later)
    with pytest.raises(UsageError, match="fewer days"):
        make_certificates(made.path, [], days=11, now=later)


def test_an_authority_without_its_key_signs_nothing(made: Certificates) -> None:
    (made.path / "ca.key").unlink()
    with pytest.raises(RunDirectoryError, match=r"without its key \(ca.key\)"):
        make_certificates(made.path, [], now=NOW)


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_key_of_an_authority_that_is_none_is_refused(content: bytes, made: Certificates) -> None:
    (made.path / "ca.key").write_bytes(content)
    with pytest.raises(RunDirectoryError, match=r"ca\.key"):
        make_certificates(made.path, [], now=NOW)


# ----------------------------------------------------------------------------------------------------- what is refused


def test_both_sides_speak_tls_1_2_or_newer_and_want_a_certificate(made: Certificates) -> None:
    for context in (made.server_context(), made.client_context()):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert all("GCM" in each["name"] or "CHACHA20" in each["name"] for each in context.get_ciphers())
    assert made.client_context().check_hostname


@pytest.mark.parametrize("name", ["ca.pem", "server.pem", "server.key"])
def test_a_missing_file_is_named_with_the_command_that_makes_it(name: str, made: Certificates) -> None:
    (made.path / name).unlink()
    with pytest.raises(RunDirectoryError) as caught:
        made.server_context()
    assert str(made.path / name) in str(caught.value)
    assert "hpbandster-lite certs DIR" in str(caught.value)


def test_a_client_needs_no_key_of_the_server_or_the_authority(made: Certificates) -> None:
    for name in ("ca.key", "server.key", "server.pem"):
        (made.path / name).unlink()
    made.client_context()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
@pytest.mark.parametrize("role", ["server", "client"])
def test_a_private_key_that_others_may_read_is_refused_as_ssh_does(role: str, mode: int, made: Certificates) -> None:
    key = made.path / f"{role}.key"
    key.chmod(mode)
    with pytest.raises(RunDirectoryError, match=f"chmod 600 {key}"):
        made.server_context() if role == "server" else made.client_context()
    assert stat.S_IMODE(key.stat().st_mode) == mode, "the owner must correct the mode: another user may have a copy"


def test_a_folder_in_which_others_may_write_is_refused(made: Certificates) -> None:
    made.path.chmod(0o755)
    made.client_context()
    made.path.chmod(0o775)
    with pytest.raises(RunDirectoryError, match=f"chmod go-w {made.path}"):
        made.client_context()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_secret_that_is_mounted_as_another_owner_s_is_that_one_s_to_protect(made: Certificates) -> None:
    for file in (made.path, *made.path.iterdir()):
        os.chown(file, 12_345, -1)
        file.chmod(0o1777 if file.is_dir() else 0o444)
    made.server_context()
    (made.path / "server.key").chmod(0o666)
    with pytest.raises(RunDirectoryError, match="open to other users"):
        made.server_context()


def test_files_that_do_not_belong_together_are_refused(made: Certificates) -> None:
    (made.path / "server.key").write_bytes((made.path / "client.key").read_bytes())
    with pytest.raises(RunDirectoryError, match="do not belong together"):
        made.server_context()


@pytest.mark.parametrize("name", ["ca.pem", "server.pem", "server.key"])
def test_a_file_that_holds_something_else_is_refused(name: str, made: Certificates) -> None:
    (made.path / name).write_bytes(b"\x00 nothing of the kind \xff")
    with pytest.raises(RunDirectoryError, match="cannot be used"):
        made.server_context()


def test_a_certificate_without_a_host_is_for_no_host(made: Certificates) -> None:
    (made.path / "server.pem").write_bytes((made.path / "client.pem").read_bytes())
    assert made.hosts() == ()


# -------------------------------------------------------------------------------------- certificates of each process


def test_the_folder_of_the_run_is_the_default(
    made: Certificates, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HPBANDSTER_LITE_TLS", raising=False)
    run = RunDirectory(made.path.parent)
    assert certificates_for(run) == made
    assert certificates_for(RunDirectory(tmp_path / "other")) is None
    assert certificates_for(None) is None
    monkeypatch.setenv("HPBANDSTER_LITE_TLS", "/secrets/tls")
    assert certificates_for(run) == certificates_for(None) == Certificates(Path("/secrets/tls"))
    assert certificates_for(run, "given") == Certificates(Path("given"))


def test_a_run_is_given_what_callers_need_and_no_more(made: Certificates, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "another")
    run.create()
    made.install(run)
    assert {file.name for file in run.tls.iterdir()} == {"ca.pem", "client.pem", "client.key"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in run.tls.iterdir()} == {0o600}
    Certificates(run.tls).client_context()
    with pytest.raises(RunDirectoryError, match=r"server\.pem.*--tls DIR"):
        Certificates(run.tls).server_context()


def test_a_run_that_holds_them_itself_is_left_alone(made: Certificates) -> None:
    before = {file: file.read_bytes() for file in made.path.iterdir()}
    made.install(RunDirectory(made.path.parent))
    assert {file: file.read_bytes() for file in made.path.iterdir()} == before


# ---------------------------------------------------------------------------------------------------------- addresses


def test_a_certificate_that_no_client_would_take_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "tls", [], now=NOW)
    where = listen_settings("10.1.0.5", None, made)
    with pytest.raises(UsageError) as caught:
        where.offered(["10.1.0.5"])
    assert f"hpbandster-lite certs {made.path} --host 10.1.0.5" in str(caught.value)


@pytest.mark.parametrize("role", ["server", "client"])
def test_an_expired_certificate_is_refused_at_the_start_with_its_date(role: str, tmp_path: Path) -> None:
    made = make_certificates(tmp_path / "tls", [], days=1, now=NOW - timedelta(days=9))
    fresh = make_certificates(tmp_path / "fresh", [], now=NOW)
    for kind in ("pem", "key"):
        if role == "client":
            (made.path / f"server.{kind}").write_bytes((fresh.path / f"server.{kind}").read_bytes())
    with pytest.raises(RunDirectoryError, match=rf"the {role}'s certificate in .* expired on {NOW.year}"):
        listen_settings("127.0.0.1", None, made)


def test_one_that_expires_within_the_week_is_mentioned(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    listen_settings("127.0.0.1", None, make_certificates(tmp_path / "tls", [], days=6, now=NOW))
    assert len(caplog.records) == 2
    caplog.clear()
    listen_settings("127.0.0.1", None, make_certificates(tmp_path / "longer", [], days=8, now=NOW))
    assert not caplog.records


def test_a_host_and_an_interface_are_not_both_taken() -> None:
    with pytest.raises(UsageError, match=r"--host 10\.0\.0\.1 or --interface eth0"):
        listen_settings("10.0.0.1", "eth0", None)


def test_loopback_is_an_interface_with_its_addresses() -> None:
    hosts = listen_settings("127.0.0.1", "lo", None).hosts
    assert "127.0.0.1" in hosts
    assert all(ipaddress.ip_address(host).is_loopback for host in hosts)


def test_a_reason_is_lower_case() -> None:
    assert certificates._reason(ValueError("X")) == "x"


# ------------------------------------------------------------------------------------------------------- the command


def test_the_command_prints_hosts_and_validity_and_no_key(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    arguments = ["certs", str(folder), "--host", "head.cluster", "--host", "10.0.0.1", "--days", "3"]
    done = CliRunner().invoke(make_app("certs"), arguments)
    assert done.exit_code == 0, done.output
    assert "head.cluster" in done.output
    assert f"{NOW + timedelta(days=3):%Y-%m-%d}" in done.output
    assert f"--tls {folder}" in done.output
    assert "KEY" not in done.output
    assert {file.name for file in folder.iterdir()} == FILES


def test_the_command_refuses_a_host_that_is_none() -> None:
    done = CliRunner().invoke(make_app("certs"), ["certs", "anywhere", "--host", "a b"])
    assert isinstance(done.exception, UsageError)
