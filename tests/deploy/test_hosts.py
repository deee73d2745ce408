"""Virtual hosts: each fault has the effect of its name on a connection, and healing ends it."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.deploy.hosts import Hosts, missing
from tests.service.local_search import until

PORT = 7_777
REASON = missing()
pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(REASON is not None, reason=f"NOT TESTED, no virtual hosts: {REASON}"),
]
ECHO = f"""
import socket
with socket.create_server(("0.0.0.0", {PORT})) as server:
    while True:
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"here")
"""
ASK = f"""
import socket, sys
try:
    with socket.create_connection((sys.argv[1], {PORT}), 1.5) as server:
        print(server.recv(4).decode())
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    # A separate name, because another process may run other tests of this file.
    with Hosts(f"hph{secrets.token_hex(2)}", 2, "10.79.0") as made:
        server = subprocess.Popen([*made.on(0), sys.executable, "-c", ECHO])
        try:
            until(lambda: answer(made) == "here", "the echo server answers")
            yield made
        finally:
            server.kill()
            server.wait()


def answer(hosts: Hosts) -> str:
    """The answer that a client on host 1 gets from the server on host 0."""
    command = [*hosts.on(1), sys.executable, "-c", ASK, hosts.address(0)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize(
    ("fault", "value", "seen"),
    [
        ("mute", None, "TimeoutError"),
        ("deaf", None, "TimeoutError"),
        ("silent", None, "TimeoutError"),
        ("drop", PORT, "TimeoutError"),
        ("loss", 99, "TimeoutError"),
        ("reset", PORT, "ConnectionRefusedError"),
        ("unplug", None, "OSError"),
        ("drop", PORT + 1, "here"),
        ("loss", 0, "here"),
        ("rate", 500, "here"),
    ],
)
def test_a_fault_is_what_it_is_called_until_it_is_healed(
    fault: str, value: int | None, seen: str, hosts: Hosts
) -> None:
    hosts.fault(1, fault, value)
    try:
        assert answer(hosts) == seen
    finally:
        hosts.heal(1)
    assert answer(hosts) == "here"


def test_a_fault_of_one_host_is_not_another_s(hosts: Hosts) -> None:
    hosts.fault(0, "reset", PORT + 1)
    try:
        assert answer(hosts) == "here"
    finally:
        hosts.heal(0)


def test_an_unknown_fault_is_refused_with_those_there_are(hosts: Hosts) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        hosts.fault(1, "sulk")
    assert "unknown fault 'sulk'; choose loss, mute" in refused.value.stderr


def test_hosts_are_removed_with_their_processes() -> None:
    with Hosts(f"hpg{secrets.token_hex(2)}", 1, "10.79.1") as made:
        left = subprocess.Popen([*made.on(0), "sleep", "600"])
    assert left.wait(timeout=10) == -9
    listed = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout
    assert made.prefix not in listed
