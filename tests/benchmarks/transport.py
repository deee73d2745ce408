"""Durable calls a second of the transport, compared with a bare loop that only receives, commits and answers.

Claim (2 cores shared by server and clients, key, JSON, one SQLite insert per call in a group commit, synchronous=FULL):
at least 60 % of the bare loop's calls. Usage::

    python tests/benchmarks/transport.py [--bare server_loop.py clients.py] [--clients 32] [--seconds 4]

``--bare`` names the two scripts of the bare loop: ``server_loop.py loop 1 0 DATABASE KEY json`` prints the URI of its
object, ``clients.py URI CLIENTS SECONDS KEY json 0`` its calls a second.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from hpbandster_lite import wire
from hpbandster_lite.transport import Call, Client
from hpbandster_lite.transport.server import Server

KEY = b"a key for the benchmark"
REPORT = {"id": [1, 0, 7], "budget": 9, "loss": 0.123456, "info": {"test": 0.2, "params": 12345}, "worker": "h1.123"}
GRANT = {"config": {"a": 0.1, "b": 0.2, "c": 3, "d": "x"}, "budget": 9, "id": [1, 0, 7]}


class DurableCounter:
    """Stores every call in a database with one commit a turn, like a master without its engine."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("CREATE TABLE entries(id INTEGER PRIMARY KEY, at REAL, body TEXT)")
        self._pending: list[tuple[float, str]] = []
        self.commits = 0

    def handle(self, call: Call) -> str:
        report = wire.decode(call.text)
        self._pending.append((time.monotonic(), wire.encode(report)))
        return wire.encode(GRANT)

    def commit(self) -> bool:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany("INSERT INTO entries(at, body) VALUES(?, ?)", self._pending)
        self._connection.execute("COMMIT")
        self._pending.clear()
        self.commits += 1
        return True


def serve(database: str) -> None:
    """The server's process: serve until SIGTERM, then print the cost."""
    is_over = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: is_over.set())
    counter = DurableCounter(Path(database))
    n_calls = 0
    with Server("127.0.0.1", 0, KEY, object_id="benchmark", handle=counter.handle) as server:
        print(server.endpoint[1], flush=True)
        cpu_before = time.process_time()
        while not is_over.is_set():
            n_calls += server.turn(0.1, commit=counter.commit)
        cpu_us = 1e6 * (time.process_time() - cpu_before)
    mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"calls": n_calls, "commits": counter.commits, "cpu_us": cpu_us / n_calls, "memory_mib": mib}))


def call_for(port: int, n_threads: int, seconds: float, results: multiprocessing.Queue[list[float]]) -> None:
    """One process of clients; puts the seconds of each call into ``results``."""
    barrier = threading.Barrier(n_threads)
    taken: list[float] = []

    def one() -> None:
        with Client("127.0.0.1", port, "benchmark", KEY, timeout_s=30) as client:
            client.call("report", REPORT)
            barrier.wait()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                start = time.perf_counter()
                client.call("report", REPORT)
                taken.append(time.perf_counter() - start)

    threads = [threading.Thread(target=one) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put(taken)


def measure(n_clients: int, seconds: float, folder: str) -> float:
    """Calls a second of the transport; prints them with latency and cost."""
    command = [sys.executable, __file__, "--serve", str(Path(folder) / "ours.sqlite")]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    port = int(server.stdout.readline())
    n_processes = min(n_clients, 4)
    results: multiprocessing.Queue[list[float]] = multiprocessing.Queue()
    shares = [n_clients // n_processes + (index < n_clients % n_processes) for index in range(n_processes)]
    processes = [multiprocessing.Process(target=call_for, args=(port, share, seconds, results)) for share in shares]
    for process in processes:
        process.start()
    taken = sorted(one for _ in processes for one in results.get())
    for process in processes:
        process.join()
    server.send_signal(signal.SIGTERM)
    cost = json.loads(server.communicate()[0])
    rate = len(taken) / seconds
    print(
        f"transport  clients {n_clients} calls/s {rate:.0f} p50 {1e3 * taken[len(taken) // 2]:.1f} ms "
        f"p99 {1e3 * taken[int(len(taken) * 0.99)]:.1f} ms, server {cost['cpu_us']:.0f} us CPU a call, "
        f"{cost['calls'] / cost['commits']:.1f} calls a commit, {cost['memory_mib']} MiB"
    )
    return rate


def measure_bare(server_script: str, clients_script: str, n_clients: int, seconds: float, folder: str) -> None:
    """The bare loop with its own clients; its clients print the line."""
    database = str(Path(folder) / "bare.sqlite")
    key = KEY.decode()
    command = [sys.executable, "-W", "ignore", server_script, "loop", "1", "0", database, key, "json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    uri = server.stdout.readline().strip()
    arguments = [uri, str(n_clients), f"{seconds:g}", key, "json", "0"]
    cpu_before = sum(psutil.Process(server.pid).cpu_times()[:2])
    clients = [sys.executable, "-W", "ignore", clients_script, *arguments]
    line = subprocess.run(clients, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    cpu_s = sum(psutil.Process(server.pid).cpu_times()[:2]) - cpu_before
    found = re.search(r"calls/s (\d+)", line)
    n_calls = int(found[1]) * seconds if found else math.nan
    print(f"bare loop  {line}, server {1e6 * cpu_s / n_calls:.0f} us CPU a call")
    server.terminate()
    server.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bare", nargs=2, metavar=("SERVER", "CLIENTS"))
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--serve", metavar="DATABASE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    for _ in range(options.repeat):
        with tempfile.TemporaryDirectory() as folder:
            if options.bare:
                server_script, clients_script = options.bare
                measure_bare(server_script, clients_script, options.clients, options.seconds, folder)
            measure(options.clients, options.seconds, folder)


if __name__ == "__main__":
    main()
