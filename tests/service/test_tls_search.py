"""A whole search under TLS: processes find, check and refuse each other, and no output contains a secret."""

from __future__ import annotations

import base64
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from hpbandster_lite.access.certificate_authority import make_certificates
from hpbandster_lite.access.certificates import Certificates
from hpbandster_lite.errors import NotAuthorised
from hpbandster_lite.master.connection import connect
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.transport import NameServerClient, run_name
from tests.service.local_search import LocalSearchProcess, until
from tests.service.served_search import ServedSearch, served_search

pytestmark = pytest.mark.timeout(120)

PATIENT = {"lease_s": 60.0, "heartbeat_s": 2.0}
NOW = datetime.now(timezone.utc)
KEY = "the name server's own key"


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.fixture
def search(tmp_path: Path) -> Iterator[ServedSearch]:
    with served_search(tmp_path, **PATIENT) as made:
        yield made


def certified(search: ServedSearch, *hosts: str) -> Certificates:
    """Certificates in the run directory, created like a user's before the search begins."""
    return make_certificates(search.directory.tls, hosts, now=NOW)


def far(search: ServedSearch, tls: Path, tmp_path: Path) -> dict[str, Any]:
    """Options of a worker that has a key and certificates, but no run directory."""
    return {"run_id": search.run_id, "key": str(search.directory.key_file), "tls": str(tls),
            "scratch": str(tmp_path / "scratch")}  # fmt: skip


def test_a_search_under_tls_with_its_name_server_ends_as_any_other(search: ServedSearch, tmp_path: Path) -> None:
    certificates = certified(search)
    key_file = tmp_path / "names.key"
    key_file.write_text(KEY)
    key_file.chmod(0o600)
    _, port = search.start_nameserver(key_file=str(key_file), tls=str(certificates.path))
    names: dict[str, Any] = {"nameserver": ("127.0.0.1", port), "nameserver_key": str(key_file)}
    master = search.start_master(**names)
    master.says("with TLS")
    tls = certificates.client_context()

    def is_registered() -> bool:
        with NameServerClient("127.0.0.1", port, KEY.encode(), tls=tls) as asking:
            return run_name(search.run_id) in asking.list()

    until(is_registered, "the master is registered")
    with NameServerClient("127.0.0.1", port, KEY.encode()) as plain, pytest.raises(NotAuthorised, match="only TLS"):
        plain.list()
    # One worker sees the run directory; the other has the key and the files of a client.
    handed = RunDirectory(tmp_path / "elsewhere")
    handed.create()
    certificates.install(handed)
    near = search.start_worker(0)
    away = search.start_worker(1, **names, **far(search, handed.tls, tmp_path))
    near.ends(0)
    away.ends(0)
    master.ends(0)
    search.check()


def test_a_master_with_certificates_elsewhere_gives_its_run_what_callers_need(
    search: ServedSearch, tmp_path: Path
) -> None:
    certificates = make_certificates(tmp_path / "mine", [], now=NOW)
    master = search.start_master(tls=str(certificates.path))
    assert {file.name for file in search.directory.tls.iterdir()} == {"ca.pem", "client.pem", "client.key"}
    with connect(search.directory) as client:
        assert client.call("status", {})["run_id"] == search.run_id
    search.start_worker().ends(0)
    master.ends(0)
    # A restart without the option does not fall back to plain connections.
    again = search.start_master(waits=False)
    assert "server.pem, which does not exist" in again.ends(4)


def test_a_worker_without_certificates_or_with_others_ends_with_the_remedy(
    search: ServedSearch, tmp_path: Path
) -> None:
    certificates = certified(search)
    master = search.start_master()
    endpoint = search.directory.read_endpoint()
    assert endpoint is not None
    # A copy of the run directory that a user makes by hand: the endpoint and the key.
    copy = RunDirectory(tmp_path / "copy")
    copy.create()
    copy.write_endpoint(endpoint)
    copy.key_file.write_bytes(search.directory.key_file.read_bytes())
    copy.key_file.chmod(0o600)
    bare = search.start_worker(0, run_dir=str(copy.path))
    assert re.search("accepts only TLS; give the certificates of the master with --tls DIR", bare.ends(3))
    others = make_certificates(tmp_path / "others", [], now=NOW)
    foreign = search.start_worker(1, run_dir=str(copy.path), tls=str(others.path))
    assert "its certificate comes from another authority" in foreign.ends(3)
    assert "TLS: it does not use TLS; start it with --tls DIR" in master.output()
    assert "TLS: our certificate" in master.output()
    search.start_worker(2, run_dir=str(copy.path), tls=str(certificates.path)).ends(0)
    master.ends(0)


@pytest.mark.skipif(not has_ipv6(), reason="THIS MACHINE HAS NO IPv6: nothing of it is tested")
@pytest.mark.parametrize("tls", [False, True])
def test_a_search_over_ipv6_ends_as_any_other(tls: bool, search: ServedSearch) -> None:
    if tls:
        certified(search)
    master = search.start_master(host="::1")
    endpoint = search.directory.read_endpoint()
    assert endpoint is not None
    assert endpoint["host"] == "::1"
    master.says(rf"\[::1\]:{endpoint['port']}")
    search.start_worker().ends(0)
    master.ends(0)
    search.check()


# The address is tested.
@pytest.mark.parametrize("where", [{"host": "0.0.0.0"}, {"interface": "lo"}, {"host": "localhost"}])  # noqa: S104
def test_a_master_on_several_addresses_tells_them_and_is_found(where: dict[str, Any], search: ServedSearch) -> None:
    master = search.start_master(**where)
    endpoint = search.directory.read_endpoint()
    assert endpoint is not None
    assert endpoint["host"] not in ("0.0.0.0", "::")  # noqa: S104 (the address is tested)
    assert endpoint.get("addresses", [endpoint["host"]])[0] == endpoint["host"]
    search.start_worker().ends(0)
    master.ends(0)


def test_a_worker_goes_on_to_the_address_that_leads_to_the_master_and_a_fixed_port_is_kept(
    search: ServedSearch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    master = search.start_master(port=port)
    endpoint = search.directory.read_endpoint()
    assert endpoint is not None
    assert endpoint["port"] == port
    # An unused address, an address of another network, and the address of another program with this port.
    search.directory.write_endpoint({**endpoint, "addresses": ["203.0.113.9", "127.0.0.9", "127.0.0.2", "127.0.0.1"]})
    with socket.create_server(("127.0.0.2", port)):
        search.start_worker().ends(0)
    master.ends(0)
    search.check()


def test_an_interface_that_is_not_there_is_refused_with_those_that_are(search: ServedSearch) -> None:
    output = search.start_master(waits=False, interface="nowhere0").ends(2)
    assert "nowhere0" in output
    assert "lo (127.0.0.1" in output


def test_an_unmodified_pyro4_client_with_a_certificate_reads_the_name_server(
    search: ServedSearch, tmp_path: Path
) -> None:
    certificates = make_certificates(tmp_path / "tls", [], now=NOW)
    _, port = search.start_nameserver(tls=str(certificates.path))
    # A separate process, because Pyro4 keeps the first certificates that it loads.
    script = f"""
import Pyro4, Pyro4.naming
Pyro4.config.SSL = True
Pyro4.config.SSL_CACERTS = {str(certificates.path / "ca.pem")!r}
Pyro4.config.SSL_CLIENTCERT = {str(certificates.path / "client.pem")!r}
Pyro4.config.SSL_CLIENTKEY = {str(certificates.path / "client.key")!r}
with Pyro4.locateNS("localhost", {port}) as names:
    print(names.list())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert "Pyro.NameServer" in done.stdout, done.stderr


# ------------------------------------------------------------------------------------------------------------ secrets


def test_no_key_is_ever_printed_logged_or_journalled(tmp_path: Path) -> None:
    """A search with all logs at the most verbose level; the test checks every byte that it leaves."""
    search = LocalSearchProcess(tmp_path)
    certificates = make_certificates(search.directory.tls, [], now=NOW)
    (tmp_path / "sitecustomize.py").write_text("import logging\nlogging.getLogger().setLevel(logging.DEBUG)\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(tmp_path))
        output = search.run()
    directory = search.directory
    secrets = {directory.key_file: directory.key_file.read_bytes().strip()}
    secrets[directory.nameserver_key_file] = directory.nameserver_key_file.read_bytes().strip()
    for name in ("ca.key", "server.key", "client.key"):
        secrets[certificates.path / name] = b"".join((certificates.path / name).read_bytes().split(b"\n")[1:-2])
    shapes = {shape for secret in secrets.values() for shape in _shapes(secret)}
    files = [file for file in tmp_path.rglob("*") if file.is_file() and file not in secrets]
    assert directory.journal in files
    assert directory.log("master") in files
    for content in (output.encode(), *(file.read_bytes() for file in files)):
        assert not any(shape in content for shape in shapes)


def _shapes(secret: bytes) -> set[bytes]:
    """Forms in which a secret may appear: whole, in part, and both in the usual encodings."""
    parts = {secret, secret[:24], secret[-24:]}
    return {
        dressed
        for part in parts
        for dressed in (part, base64.b64encode(part)[:-4], part.hex().encode(), json.dumps(str(part))[1:-1].encode())
    }


def test_the_search_for_secrets_finds_one_that_is_there() -> None:
    secret = b"0123456789abcdef0123456789abcdef"
    for hidden in (secret, secret.hex().encode(), base64.b64encode(secret), repr(secret).encode()):
        assert any(shape in b"before " + hidden + b" after" for shape in _shapes(secret)), hidden


def test_every_secret_of_a_run_is_its_owner_s_alone(tmp_path: Path) -> None:
    search = LocalSearchProcess(tmp_path)
    make_certificates(search.directory.tls, [], now=NOW)
    search.run(workers=1)
    run = search.directory.path
    assert {f"{path.relative_to(run)} {path.stat().st_mode & 0o777:o}" for path in (run, search.directory.tls)} == {
        ". 700",
        "tls 700",
    }
    open_to_others = [path for path in run.iterdir() if path.is_file() and path.stat().st_mode & 0o077]
    assert not open_to_others
