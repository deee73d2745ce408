"""TLS in the transport's own loop: which peers it accepts, the errors on both sides; no handshake blocks it."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import statistics
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from hpbandster_lite import wire
from hpbandster_lite.access.certificate_authority import make_certificates
from hpbandster_lite.access.certificates import Certificates
from hpbandster_lite.errors import MasterUnreachable, NotAuthorised, PeerError
from hpbandster_lite.transport import Bounds, Client
from hpbandster_lite.transport.message_codec import write_call
from hpbandster_lite.transport.server import Server
from tests.service.transport_peer import (
    KEY,
    OBJECT,
    PATIENT,
    QUICK,
    client,
    echo,
    n_connections,
    running,
    server,
    until,
)

pytestmark = pytest.mark.timeout(60)

NOW = datetime.now(timezone.utc)
LONG_AGO = NOW - timedelta(days=100)
WHERE = "127.0.0.1"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def ours(place: Path) -> Certificates:
    return make_certificates(place / "ours", [], now=NOW)


@pytest.fixture(scope="module")
def theirs(place: Path) -> Certificates:
    """Certificates of another authority."""
    return make_certificates(place / "theirs", [], now=NOW)


@pytest.fixture(scope="module")
def expired(place: Path, ours: Certificates) -> Certificates:
    """Certificates of our authority that are a hundred days old."""
    copy = place / "expired"
    copy.mkdir(mode=0o700)
    for name in ("ca.pem", "ca.key"):
        (copy / name).write_bytes((ours.path / name).read_bytes())
        (copy / name).chmod(0o600)
    return make_certificates(copy, [], days=1, now=LONG_AGO)


def calling(serving: Server, tls: ssl.SSLContext | None, host: str = WHERE, key: bytes | None = KEY) -> Client:
    return Client(host, serving.endpoint[1], OBJECT, key, timeout_s=5.0, tls=tls)


def refused(serving: Server, tls: ssl.SSLContext | None, host: str = WHERE) -> str:
    """The error of a client that the server refuses."""
    with running(serving), calling(serving, tls, host) as stranger, pytest.raises(NotAuthorised) as caught:
        stranger.call("report", 1)
    return str(caught.value)


# ---------------------------------------------------------------------------------------------- accepted connections


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("key", [KEY, None])
def test_calls_go_through_tls_with_and_without_a_key(
    version: ssl.TLSVersion, key: bytes | None, ours: Certificates
) -> None:
    context = ours.client_context()
    context.minimum_version = context.maximum_version = version
    with (
        server(tls=ours.server_context(), key=key) as serving,
        running(serving),
        calling(serving, context, key=key) as one,
        calling(serving, context, "localhost", key) as two,
    ):
        for number in range(20):
            assert one.call("report", number) == two.call("report", number) == number


@pytest.mark.parametrize("size", [16_000, 17_000, 70_000, 3_000_000, wire.MAX_MESSAGE_BYTES - 100])
def test_messages_of_any_size_arrive_whole_in_both_directions(size: int, ours: Certificates) -> None:
    """A record holds 16 KiB; decrypted data does not wake a selector."""
    with server(tls=ours.server_context()) as serving, running(serving), calling(serving, ours.client_context()) as one:
        assert one.call("report", "x" * size, timeout_s=30) == "x" * size


def test_an_ipv6_address_is_checked_and_found(ours: Certificates) -> None:
    with (
        Server("::1", 0, KEY, object_id=OBJECT, handle=echo, tls=ours.server_context()) as serving,
        running(serving),
        calling(serving, ours.client_context(), "::1") as one,
    ):
        assert one.call("report", 1) == 1


@pytest.mark.parametrize("minimum", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_nothing_older_than_tls_1_2_is_accepted(minimum: ssl.TLSVersion, ours: Certificates) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ours.path / "ca.pem")
    context.load_cert_chain(ours.path / "client.pem", ours.path / "client.key")
    context.minimum_version = context.maximum_version = minimum
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        server(tls=ours.server_context()) as serving,
        running(serving),
        calling(serving, context) as one,
        pytest.raises(PeerError),
    ):
        one.call("report", 1)


def test_the_right_certificate_with_the_wrong_key_is_not_let_in(ours: Certificates) -> None:
    with (
        server(tls=ours.server_context()) as serving,
        running(serving),
        calling(serving, ours.client_context(), key=b"another") as one,
        pytest.raises(NotAuthorised, match="key"),
    ):
        one.call("report", 1)


# ---------------------------------------------------------------------------- refused, with a clear error on both sides


def log_of(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)


@pytest.mark.parametrize("_", range(20))
def test_an_expired_client_gets_the_reason_and_the_server_logs_it(
    _: int, ours: Certificates, expired: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    """Repeated: the reset of a connection during the greeting must not drop the alert."""
    with server(tls=ours.server_context()) as serving:
        error = refused(serving, expired.client_context())
    assert "our certificate has expired" in error
    assert "hpbandster-lite certs" in error
    assert "TLS: its certificate has expired" in log_of(caplog)


def test_a_client_of_another_authority_gets_the_reason_and_the_server_logs_it(
    ours: Certificates, theirs: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    context = theirs.client_context()
    context.load_verify_locations(ours.path / "ca.pem")
    with server(tls=ours.server_context()) as serving:
        error = refused(serving, context)
    assert "our certificate comes from an authority that it does not trust" in error
    assert "--tls DIR" in error
    assert "TLS: its certificate comes from another authority" in log_of(caplog)


def test_a_client_without_a_certificate_gets_the_reason_and_the_server_logs_it(
    ours: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ours.path / "ca.pem")
    with server(tls=ours.server_context()) as serving:
        error = refused(serving, context)
    assert "it requires a certificate" in error
    assert "--tls DIR" in error
    assert "TLS: it has no certificate" in log_of(caplog)


def test_a_server_s_certificate_cannot_be_used_by_a_client_nor_the_reverse(ours: Certificates) -> None:
    swapped = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    swapped.load_verify_locations(ours.path / "ca.pem")
    swapped.load_cert_chain(ours.path / "server.pem", ours.path / "server.key")
    with server(tls=ours.server_context()) as serving:
        refused(serving, swapped)
    impostor = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    impostor.load_cert_chain(ours.path / "client.pem", ours.path / "client.key")
    with server(tls=impostor) as serving:
        assert "another purpose" in refused(serving, ours.client_context())


@pytest.mark.parametrize(
    ("whose", "words", "remedy"),
    [("theirs", "comes from another authority", "--tls DIR"), ("expired", "has expired", "hpbandster-lite certs DIR")],
)
def test_a_server_with_another_certificate_is_refused_by_its_clients(
    whose: str, words: str, remedy: str, request: pytest.FixtureRequest, ours: Certificates,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with server(tls=request.getfixturevalue(whose).server_context()) as serving:
        error = refused(serving, ours.client_context())
        assert f"its certificate {words}" in error
        assert remedy in error
        until(lambda: n_connections(serving) == 0, serving)
    assert "TLS: our certificate" in log_of(caplog)


def test_a_host_that_is_not_in_the_certificate_is_refused_with_the_command_that_mends_it(ours: Certificates) -> None:
    with Server("127.0.0.2", 0, KEY, object_id=OBJECT, handle=echo, tls=ours.server_context()) as serving:
        error = refused(serving, ours.client_context(), "127.0.0.2")
    assert "127.0.0.2" in error
    assert "not for this address" in error
    assert "hpbandster-lite certs DIR --host" in error


def test_a_client_without_tls_learns_that_the_server_requires_it(
    ours: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    with server(tls=ours.server_context()) as serving:
        error = refused(serving, None)
    assert "it accepts only TLS" in error
    assert "--tls DIR" in error
    assert "TLS: it does not use TLS; start it with --tls DIR" in log_of(caplog)


def test_a_client_with_tls_learns_that_the_server_has_none(
    ours: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    with server() as serving:
        error = refused(serving, ours.client_context())
    assert "it does not use TLS" in error
    assert "start it with --tls DIR" in error
    assert "it uses TLS, but this server does not; start the server with --tls DIR" in log_of(caplog)


def test_a_server_that_goes_away_in_the_handshake_is_one_that_does_not_answer(ours: Certificates) -> None:
    with socket.create_server((WHERE, 0)) as listener, contextlib.ExitStack() as stack:
        one = stack.enter_context(Client(WHERE, listener.getsockname()[1], OBJECT, KEY, tls=ours.client_context(),
                                         timeout_s=0.3))  # fmt: skip
        with pytest.raises(MasterUnreachable):
            one.call("report", 1)


# --------------------------------------------------------------------------------------------- handshakes do not block


@contextlib.contextmanager
def connections(serving: Server, count: int, says: bytes) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.create_connection(serving.endpoint)) for _ in range(count)]
        for each in made:
            each.sendall(says)
        yield made


def client_hello(certificates: Certificates) -> bytes:
    """The first flight of an honest client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    talking = certificates.client_context().wrap_bio(incoming, outgoing, server_hostname=WHERE)
    with pytest.raises(ssl.SSLWantReadError):
        talking.do_handshake()
    return outgoing.read()


def half_open(what: str, certificates: Certificates) -> bytes:
    hello = client_hello(certificates)
    return {"silent": b"", "a byte": hello[:1], "half a hello": hello[: len(hello) // 2], "a hello": hello}[what]


WAYS = ["silent", "a byte", "half a hello", "a hello"]


@pytest.mark.parametrize("what", WAYS)
def test_three_hundred_half_open_handshakes_delay_no_other(what: str, ours: Certificates) -> None:
    def median_s(one: Client) -> float:
        took = []
        for number in range(50):
            began = time.perf_counter()
            one.call("report", number)
            took.append(time.perf_counter() - began)
        return statistics.median(took)

    with (
        server(tls=ours.server_context(), bounds=PATIENT) as serving,
        running(serving),
        calling(serving, ours.client_context()) as one,
    ):
        one.call("report", 0)
        quiet_s = min(median_s(one) for _ in range(3))
        with connections(serving, 300, half_open(what, ours)):
            with calling(serving, ours.client_context()) as newcomer:
                began = time.perf_counter()
                newcomer.call("report", 1)
                assert time.perf_counter() - began < 2.0
            assert min(median_s(one) for _ in range(3)) < 2 * quiet_s + 0.002


@pytest.mark.parametrize("what", WAYS)
def test_a_handshake_has_the_time_of_a_greeting(
    what: str, ours: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    with server(tls=ours.server_context(), bounds=QUICK) as serving, connections(serving, 20, half_open(what, ours)):
        until(lambda: n_connections(serving) == 20, serving)
        until(lambda: n_connections(serving) == 0, serving)
    assert "its TLS handshake is not over yet" in log_of(caplog)
    assert len(caplog.records) <= 2


def test_a_handshake_that_comes_byte_by_byte_has_no_more_time(ours: Certificates) -> None:
    with server(tls=ours.server_context(), bounds=QUICK) as serving, running(serving):
        began = time.monotonic()
        with connections(serving, 1, b"") as (slow,), contextlib.suppress(OSError):
            for byte in client_hello(ours) * 10:
                slow.sendall(bytes([byte]))
                time.sleep(0.01)
        assert time.monotonic() - began < 2.0


def test_a_slow_greeting_behind_a_handshake_has_no_more_time(ours: Certificates) -> None:
    with server(tls=ours.server_context(), bounds=QUICK) as serving, running(serving):
        plain = socket.create_connection(serving.endpoint)
        with ours.client_context().wrap_socket(plain, server_hostname=WHERE) as silent:
            silent.settimeout(5.0)
            with contextlib.suppress(ConnectionError):
                assert silent.recv(1) == b""


@pytest.mark.parametrize("says", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\x00" * 100, b"PYRO" * 20])
def test_what_is_no_handshake_ends_its_connection_with_few_lines(
    says: bytes, ours: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    with server(tls=ours.server_context()) as serving:
        for _ in range(30):
            with connections(serving, 1, says):
                until(lambda: n_connections(serving) == 1, serving)
                until(lambda: n_connections(serving) == 0, serving)
        with running(serving), calling(serving, ours.client_context()) as one:
            assert one.call("report", 1) == 1
    assert 1 <= len(caplog.records) <= 2


def test_a_peer_that_never_reads_costs_no_more_than_its_bound(ours: Certificates) -> None:
    bounds = Bounds(unread_bytes=1_000_000, message_s=0.5)
    with server(lambda call: wire.encode("x" * 100_000), tls=ours.server_context(), bounds=bounds) as serving:
        with running(serving), calling(serving, ours.client_context()) as deaf:
            deaf.call("report", 1)
            line = deaf._line
            assert line is not None
            with contextlib.suppress(OSError):
                for number in range(2, 500):
                    line._socket.send(write_call(number, OBJECT, [deaf._welcome.nonce, number, "m", "{}"], KEY))
        until(lambda: n_connections(serving) == 0, serving)


def test_a_client_of_several_hosts_goes_on_to_the_one_that_the_certificate_is_for(ours: Certificates) -> None:
    hosts = ["127.0.0.2", WHERE]
    with (
        Server(hosts, 0, KEY, object_id=OBJECT, handle=echo, tls=ours.server_context()) as serving,
        running(serving),
        Client(hosts, serving.endpoint[1], OBJECT, KEY, tls=ours.client_context()) as one,
    ):
        assert one.call("report", 1) == 1
        assert one.host == WHERE


def test_a_plain_client_is_as_before(ours: Certificates) -> None:
    with server() as serving, running(serving), client(serving) as one:
        assert one.call("report", 1) == 1
