"""A hundred hostile connections: honest calls take at most twice as long, nothing changes, the log stays short."""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpbandster_lite.errors import SearchError
from hpbandster_lite.master.connection import connect
from hpbandster_lite.transport import NameServerClient, run_name
from tests.service.local_search import until
from tests.service.served_search import served_search

pytestmark = pytest.mark.timeout(120)

CONNECTIONS = 100
ROUNDS, CALLS = 4, 50
SLACK_S = 0.002
"""Added to twice the time, because a call takes half a millisecond and the scheduler may delay it by more."""
WAYS = {
    "never speak": None,
    "send a byte now and then": b"P",
    "send garbage": b"\x16\x03\x01" + bytes(range(256)) * 4,
}


class Vandals:
    """Connections that disturb a server, driven by a thread; a closed connection reconnects."""

    def __init__(self, address: tuple[str, int], says: bytes | None) -> None:
        self._address = address
        self._says = says
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._disturb, name="vandals")
        self.connected = self.sent = 0

    def __enter__(self) -> Vandals:
        self._thread.start()
        until(lambda: self.connected >= CONNECTIONS, "all of them are connected")
        until(lambda: self._says is None or self.sent >= CONNECTIONS, "each of them has sent something")
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _disturb(self) -> None:
        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
            for _ in range(CONNECTIONS):
                self._connect(selector)
            # A socket of ours.
            stack.callback(lambda: [key.fileobj.close() for key in list(selector.get_map().values())])  # type: ignore[union-attr]
            # A hundredth of them every 10 ms: the load on the server comes from them, not from the load of this
            # process.
            turn = 0
            while not self._is_over.wait(0.01):
                for key, _ in selector.select(0):
                    self._come_back(selector, key.fileobj)  # type: ignore[arg-type]  # a socket of ours
                sockets = [key.fileobj for key in selector.get_map().values()]
                turn += 1
                if self._says is not None:
                    with contextlib.suppress(OSError):
                        sockets[turn % len(sockets)].send(self._says)  # type: ignore[union-attr]  # a socket of ours
                        self.sent += 1

    def _connect(self, selector: selectors.BaseSelector) -> None:
        sock = socket.create_connection(self._address)
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
        self.connected += 1

    def _come_back(self, selector: selectors.BaseSelector, sock: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                has_ended = not sock.recv(65_536)
            except ConnectionError:
                has_ended = True
            if has_ended:
                selector.unregister(sock)
                sock.close()
                self._connect(selector)


def median_s(call: Callable[[], object]) -> float:
    """Median duration of many calls."""
    took = []
    for _ in range(CALLS):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def assert_undisturbed(call: Callable[[], object], address: tuple[str, int], says: bytes | None) -> None:
    """Check that honest calls take at most twice as long: the best of alternating rounds with and without load."""
    quiet, disturbed = [], []
    for _ in range(ROUNDS):
        quiet.append(median_s(call))
        with Vandals(address, says):
            disturbed.append(median_s(call))
    assert min(disturbed) < 2 * min(quiet) + SLACK_S, f"quiet {quiet}, disturbed {disturbed}"


@pytest.mark.parametrize("way", WAYS)
def test_a_hundred_vandals_do_not_slow_a_master_down(way: str, tmp_path: Path) -> None:
    with served_search(tmp_path, lease_s=60.0, heartbeat_s=0.5) as search:
        master = search.start_master()
        search.hold()
        worker = search.start_worker()
        search.wait_working(worker)
        endpoint = search.directory.read_endpoint()
        assert endpoint is not None
        before = search.entries()
        with connect(search.directory) as client:
            assert_undisturbed(lambda: client.call("status", {}), (endpoint["host"], endpoint["port"]), WAYS[way])
        assert search.entries() == before
        assert len(re.findall("WARNING hpbandster_lite.transport", master.output())) <= 10
        search.hold(False)
        worker.ends(0)
        master.ends(0)
        search.check()


@pytest.fixture
def names(tmp_path: Path) -> Iterator[tuple[NameServerClient, tuple[str, int], Path]]:
    with served_search(tmp_path) as search:
        served, port = search.start_nameserver()
        with NameServerClient("127.0.0.1", port, None) as client:
            yield client, ("127.0.0.1", port), served.log


@pytest.mark.parametrize("way", WAYS)
def test_a_hundred_vandals_do_not_slow_a_name_server_down(
    way: str, names: tuple[NameServerClient, tuple[str, int], Path]
) -> None:
    client, address, log = names
    name = run_name("honest")
    client.register(name, {"host": "127.0.0.1", "port": 4_711, "object": "master", "epoch": 1})
    entered = client.list()
    assert_undisturbed(lambda: client.lookup(name), address, WAYS[way])
    assert client.list() == entered
    assert len(log.read_text("utf-8").splitlines()) <= 12
    with pytest.raises(SearchError):
        client.lookup(run_name("nobody"))
