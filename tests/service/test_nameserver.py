"""The name server over real sockets, and as a separate process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import Pyro4
import Pyro4.errors
import Pyro4.naming
import pytest
from Pyro4 import message as pyro
from Pyro4.message import Message

from hpbandster_lite.errors import (
    MasterUnreachable,
    NameServerUnreachable,
    NotAuthorised,
    ProtocolMismatch,
    RunDirectoryError,
    UsageError,
)
from hpbandster_lite.transport import Endpoint, NameServerClient, NameTaken, run_name
from hpbandster_lite.transport.name_server import serve_nameserver
from hpbandster_lite.transport.name_server_client import OBJECT_ID
from hpbandster_lite.transport.server import Server

pytestmark = pytest.mark.timeout(60)

KEY = b"the name server's own key"
RUN = run_name("cifar")
HERE = {"host": "10.0.0.1", "port": 4_000, "object": "master", "epoch": 1, "pid": 7}
THERE = {**HERE, "host": "10.0.0.2"}
DEADLINE_S = 10.0


@contextlib.contextmanager
def names(key: bytes | None = KEY, port: int = 0, **options: Any) -> Iterator[tuple[str, int]]:
    """A name server in a thread; yields its host and port."""
    is_over = threading.Event()
    has_started = threading.Event()
    endpoint: list[tuple[str, int]] = []
    reading, writing = os.pipe()

    def started(serving: Server) -> None:
        endpoint.append(serving.endpoint)
        has_started.set()

    def serve() -> None:
        serve_nameserver("127.0.0.1", port, key, is_over=is_over.is_set, started=started, wakeup_fd=reading, **options)

    thread = threading.Thread(target=serve)
    thread.start()
    assert has_started.wait(DEADLINE_S)
    try:
        yield endpoint[0]
    finally:
        is_over.set()
        os.close(writing)
        thread.join()
        os.close(reading)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# ------------------------------------------------------------------------------------------------------- our client


def test_what_a_master_enters_an_agent_finds() -> None:
    with names() as address, NameServerClient(*address, KEY) as master, NameServerClient(*address, KEY) as agent:
        master.register(RUN, HERE)
        host, port, object_id, _ = agent.lookup(RUN)
        assert (host, port, object_id) == ("10.0.0.1", 4_000, "master")
        master.register(run_name("digits"), THERE)
        assert agent.list() == {
            RUN: Endpoint("10.0.0.1", 4_000, "master"),
            run_name("digits"): Endpoint("10.0.0.2", 4_000, "master"),
        }
        assert master.unregister(RUN)
        with pytest.raises(MasterUnreachable, match="knows no run 'cifar'"):
            agent.lookup(RUN)


def test_a_name_of_a_living_master_is_refused_naming_it() -> None:
    with names() as address, NameServerClient(*address, KEY) as first, NameServerClient(*address, KEY) as second:
        first.register(RUN, HERE)
        with pytest.raises(NameTaken, match=r"10\.0\.0\.1:4000"):
            second.register(RUN, THERE)
        assert not second.unregister(RUN)
        assert second.lookup(RUN).host == "10.0.0.1"


def test_the_next_epoch_replaces_and_the_old_master_cannot_take_its_successor_down() -> None:
    with names() as address, NameServerClient(*address, KEY) as first, NameServerClient(*address, KEY) as second:
        first.register(RUN, HERE)
        second.register(RUN, {**THERE, "epoch": 2})
        assert not first.unregister(RUN)
        assert first.lookup(RUN).host == "10.0.0.2"


def test_a_dead_masters_name_is_free_when_its_entry_is_stale() -> None:
    with (
        names(stale_after_s=0.1) as address,
        NameServerClient(*address, KEY) as first,
        NameServerClient(*address, KEY) as second,
    ):
        first.register(RUN, {**HERE, "epoch": 9})
        deadline = time.monotonic() + DEADLINE_S
        while second.lookup(RUN).host != "10.0.0.2":
            assert time.monotonic() < deadline
            with contextlib.suppress(NameTaken):
                second.register(RUN, THERE)


def test_a_restarted_name_server_gets_the_registration_of_the_same_client_again() -> None:
    with names() as address, contextlib.ExitStack() as stack:
        master = stack.enter_context(NameServerClient(*address, KEY))
        master.register(RUN, HERE)
        stack.pop_all()
    with pytest.raises(NameServerUnreachable, match=f"name server at 127.0.0.1:{address[1]}.*is it running"):
        master.register(RUN, HERE)
    with names(port=address[1]):
        with pytest.raises(MasterUnreachable):
            master.lookup(RUN)
        master.register(RUN, HERE)
        assert master.lookup(RUN).host == "10.0.0.1"
        assert master.unregister(RUN)
    master.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 0},
        {"port": 65_536},
        {"port": "4000"},
        {"host": ""},
        {"host": "a b"},
        {"host": None},
        {"object": ""},
        {"object": "a\nb"},
    ],
)
def test_an_endpoint_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with names() as address, NameServerClient(*address, KEY) as master:
        with pytest.raises(UsageError, match="endpoint"):
            master.register(RUN, {**HERE, **wrong})
        assert master.list() == {}


def test_an_endpoint_without_its_epoch_is_refused() -> None:
    with (
        names() as address,
        NameServerClient(*address, KEY) as master,
        pytest.raises(ProtocolMismatch, match="register"),
    ):
        master.register(RUN, {"host": "h", "port": 1, "object": "m"})


@pytest.mark.parametrize("key", [b"the key of a run", None])
def test_another_key_is_refused_with_the_remedy_for_this_key(key: bytes | None) -> None:
    with (
        names() as address,
        NameServerClient(*address, key) as agent,
        pytest.raises(NotAuthorised, match="name server"),
    ):
        agent.lookup(RUN)


def test_listening_to_the_network_without_a_key_is_refused() -> None:
    with pytest.raises(UsageError, match="requires a key or TLS"):
        serve_nameserver("0.0.0.0", 0, None)  # noqa: S104 (that is the test)


# ----------------------------------------------------------------------------------------- unmodified Pyro4 clients


@pytest.fixture(params=["serpent", "json"])
def serializer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(Pyro4.config, "SERIALIZER", request.param)
    return str(request.param)


@pytest.mark.usefixtures("serializer")
def test_an_unmodified_pyro4_client_with_the_key_may_read() -> None:
    with names() as (host, port), NameServerClient(host, port, KEY) as master:
        master.register(RUN, HERE)
        with Pyro4.locateNS(host, port, hmac_key=KEY) as stock:
            stock.ping()
            assert stock.count() == 2
            assert str(stock.lookup(RUN)) == "PYRO:master@10.0.0.1:4000"
            assert stock.lookup(RUN, return_metadata=True)[1] == ["epoch:1"]
            assert stock.list() == {
                RUN: "PYRO:master@10.0.0.1:4000",
                "Pyro.NameServer": f"PYRO:Pyro.NameServer@{host}:{port}",
            }
            assert stock.list(prefix="hpbandster_lite.") == {RUN: "PYRO:master@10.0.0.1:4000"}
            master.unregister(RUN)
            with pytest.raises(Pyro4.errors.NamingError, match="unknown name"):
                stock.lookup(RUN)


@pytest.mark.usefixtures("serializer")
def test_a_pyroname_is_resolved() -> None:
    with names() as (host, port), NameServerClient(host, port, KEY) as master:
        master.register(RUN, HERE)
        assert Pyro4.resolve(f"PYRONAME:{RUN}@{host}:{port}", hmac_key=KEY).location == "10.0.0.1:4000"


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("register", ("name", "PYRO:a@b:1")),
        ("remove", (RUN,)),
        ("remove", (None, "hpbandster")),
        ("set_metadata", (RUN, ["x"])),
        ("list", (None, "(a+)+$")),
    ],
    ids=["register", "remove", "remove-prefix", "set_metadata", "regex"],
)
def test_an_unmodified_pyro4_client_may_not_write(method: str, arguments: tuple[Any, ...]) -> None:
    """Its calls have no nonce: a recorded one could be replayed."""
    with names() as (host, port), NameServerClient(host, port, KEY) as master:
        master.register(RUN, HERE)
        with (
            Pyro4.locateNS(host, port, hmac_key=KEY) as stock,
            pytest.raises(Pyro4.errors.NamingError, match="this name server"),
        ):
            getattr(stock, method)(*arguments)
        assert master.lookup(RUN).host == "10.0.0.1"
        assert list(master.list()) == [RUN]


def test_an_unmodified_pyro4_client_without_the_key_may_not_even_read() -> None:
    with names() as (host, port), pytest.raises(Pyro4.errors.NamingError):
        Pyro4.locateNS(host, port, hmac_key=b"another")


@pytest.mark.parametrize("nonce", ["", "guessed", None])
def test_an_unmodified_pyro4_client_has_no_nonce_for_our_object(nonce: Any) -> None:
    with names() as (host, port), NameServerClient(host, port, KEY) as master:
        with Pyro4.Proxy(f"PYRO:{OBJECT_ID}@{host}:{port}") as stock:
            stock._pyroHmacKey = KEY
            stock._pyroSerializer = "json"
            with pytest.raises(Pyro4.errors.ConnectionClosedError):
                stock.call(nonce, 1, "register", json.dumps({"name": RUN, **HERE}))
        assert master.list() == {}


def test_a_broadcast_gets_no_answer() -> None:
    with names(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        caller.settimeout(0.2)
        caller.sendto(b"GET_NSURI", ("127.0.0.1", 9091))
        with pytest.raises((TimeoutError, ConnectionRefusedError)):
            caller.recvfrom(100)


def test_silent_and_garbled_peers_block_no_other() -> None:
    with names() as address, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(address)) for _ in range(50)]
        silent[0].sendall(b"GET / HTTP/1.1\r\n\r\n")
        silent[1].sendall(Message(pyro.MSG_CONNECT, b"{}", 2, 0, 0, hmac_key=b"another").to_bytes())
        start = time.monotonic()
        with NameServerClient(*address, KEY) as master:
            master.register(RUN, HERE)
        assert time.monotonic() - start < 1.0


# ----------------------------------------------------------------------------------------------------- the program


@contextlib.contextmanager
def program(served: dict[str, Any], **options: Any) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The name server as a process; yields it and its port."""
    command = [sys.executable, "-W", "error", "-m", "hpbandster_lite.nameserver", json.dumps({"port": 0, **served})]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"listens on 127\.0\.0\.1:(\d+)", line)
        assert found, line + process.stderr.read()
        yield process, int(found[1])
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_program_serves_until_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(KEY + b"\n")
    (tmp_path / "key").chmod(0o600)
    with program({"key_file": str(tmp_path / "key")}) as (process, port):
        with NameServerClient("127.0.0.1", port, KEY) as master:
            master.register(RUN, HERE)
        process.send_signal(number)
        assert process.wait(DEADLINE_S) == 0


def test_the_program_ends_with_the_holder_of_its_lifeline() -> None:
    reading, writing = os.pipe()
    with program({"lifeline": reading}, pass_fds=(reading,)) as (process, _):
        os.close(reading)
        os.close(writing)
        assert process.wait(DEADLINE_S) == 0


def test_the_program_listens_nowhere_else_and_starts_no_thread() -> None:
    with program({}) as (process, port):
        running = psutil.Process(process.pid)
        assert [(sock.laddr.port, sock.type) for sock in running.net_connections("inet")] == [
            (port, socket.SOCK_STREAM)
        ]
        assert running.num_threads() == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (['{"host": "0.0.0.0"}'], "requires a key or TLS"),
        (['{"key_file": "/no/such/key"}'], "/no/such/key"),
        (["{"], "JSON"),
        (['{"hots": "x"}'], "hots"),
        (["[]"], "host, interface"),
    ],
    ids=["open", "key", "json", "unknown", "list"],
)
def test_the_program_refuses_bad_options_with_a_remedy(arguments: list[str], says: str) -> None:
    command = [sys.executable, "-m", "hpbandster_lite.nameserver", *arguments]
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=30)
    assert ended.returncode == (RunDirectoryError if "key_file" in arguments[0] else UsageError).exit_code
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_in_use_ends_the_program_with_a_remedy() -> None:
    with program({}) as (_, port):
        command = [sys.executable, "-m", "hpbandster_lite.nameserver", json.dumps({"port": port})]
        ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=30)
    assert ended.returncode == UsageError.exit_code
    assert f"{port}" in ended.stderr
    assert "choose another" in ended.stderr
