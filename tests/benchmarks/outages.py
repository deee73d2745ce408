"""Losses of 50 workers when the master or the name server is down for a minute, or when half of them are cut off.

Claim: when a master or a name server is down for 60 s, no result is lost, and all workers return within 10 s of its
return. When half of the workers are cut off for 90 s, none of their evaluations is run twice unless its lease expired,
and their late results are used.

Usage, on an idle machine; the partitions need root and network namespaces::

    python tests/benchmarks/outages.py master
    python tests/benchmarks/outages.py nameserver
    python tests/benchmarks/outages.py partition --lease 60
    python tests/benchmarks/outages.py partition --lease 120

The search uses real processes, Pyro4 with keys and the durable journal, with ten agents in a process, each with a
separate connection. They find the master at the name server, and evaluate by sleeping.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.problems import FunctionProblem, describe
from hpbandster_lite.records import Expired, LateReport, Leased, Recorded
from hpbandster_lite.rundir import ensure_key_file
from tests.benchmarks.impl_hpbandster_lite import make_configspace
from tests.deploy.hosts import Hosts, missing
from tests.service.local_search import DEADLINE_S, until
from tests.service.served_search import Served, ServedSearch

PROBLEM = "benchmark"
AGENTS, PER_PROCESS = 50, 10
EVALUATION_S = 5.0
LATER = 5
"""Agents that start while the name server is down."""
MASTER, CONNECTED, CUT_OFF = 0, 1, 2
"""Hosts of a partition."""


class Workers(logging.Handler):
    """The agents of one process: the evaluations of each, and when each logged that the master answers (again)."""

    def __init__(self, indices: Sequence[int], mean_s: float, options: Mapping[str, Any]) -> None:
        super().__init__()
        self._mean_s, self._options = mean_s, options
        self.answered_at: dict[str, float] = {}
        self.ended: list[str] = []
        self._threads = [threading.Thread(target=self._work, args=(index,), name=str(index)) for index in indices]

    def emit(self, record: logging.LogRecord) -> None:
        if "the master answers again" in record.getMessage():
            self.answered_at[str(record.threadName)] = time.monotonic()

    def _work(self, index: int) -> None:
        from hpbandster_lite.agent.loop import run_agent
        from hpbandster_lite.agent.options import AgentOptions

        options = {**self._options, "nameserver": tuple(self._options["nameserver"])}
        given = AgentOptions(problem=PROBLEM, index=index, isolation="none", **options)
        draw = random.Random(index)

        def sleep(config: Mapping[str, Any], budget: float, trial: Any) -> float:
            del config
            self.answered_at.setdefault(f"first {index}", time.monotonic())
            time.sleep(draw.uniform(0.5, 1.5) * self._mean_s)
            self.ended.append(f"{trial.config_id}@{trial.rung} {trial.attempt}")
            return budget + index

        run_agent(given, problem=FunctionProblem(sleep))

    def run(self) -> None:
        """Work until the search is over; print what happened as one line of JSON."""
        log = logging.getLogger("hpbandster_lite.agent")
        log.setLevel(logging.INFO)
        log.propagate = False
        log.addHandler(self)
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()
        print(json.dumps({"answered_at": self.answered_at, "ended": self.ended}), flush=True)


def never_called(config: Mapping[str, Any], budget: float, trial: Any) -> float:
    raise NotImplementedError("the workers have the objective")


class Outage:
    """A search of many light agents, and the outage that it goes through."""

    def __init__(self, search: ServedSearch, mean_s: float, hosts: Hosts | None) -> None:
        self.search, self._mean_s, self._hosts = search, mean_s, hosts
        self._key = search.place / "nameserver.key"
        ensure_key_file(self._key)
        self._address = "127.0.0.1" if hosts is None else hosts.address(MASTER)
        self._processes: list[subprocess.Popen[str]] = []
        self.nameserver_port = 0

    def on(self, host: int) -> list[str]:
        return [] if self._hosts is None else self._hosts.on(host)

    def start_nameserver(self) -> Served:
        given = {"host": self._address, "port": self.nameserver_port, "key_file": str(self._key)}
        place = self.search.place / f"nameserver-{secrets.token_hex(2)}.log"
        served = Served(place, ["hpbandster_lite.nameserver", json.dumps(given)], {}, self.on(MASTER))
        until(lambda: "listens on" in served.output(), "the name server listens")
        self.nameserver_port = int(served.output().partition("listens on ")[2].split()[0].rpartition(":")[2])
        return served

    def start_master(self) -> Served:
        self.search.before = self.on(MASTER)
        return self.search.start_master(
            host=self._address, nameserver=(self._address, self.nameserver_port), nameserver_key=str(self._key)
        )

    def start_workers(self, indices: Sequence[int], host: int = 0) -> None:
        for first in range(0, len(indices), PER_PROCESS):
            given = {
                "indices": list(indices[first : first + PER_PROCESS]),
                "mean_s": self._mean_s,
                "options": {
                    "nameserver": (self._address, self.nameserver_port),
                    "nameserver_key": str(self._key),
                    "run_id": JournalReader(self.search.directory.journal).settings().run_id,
                    "key": str(self.search.directory.key_file),
                    "scratch": str(self.search.place / f"scratch-{indices[first]}"),
                },
            }
            command = [*self.on(host), sys.executable, __file__, "--part", json.dumps(given)]
            self._processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))

    def wait_leased(self, agents: int) -> None:
        """Wait until this number of agents has had a lease."""
        until(lambda: len({entry.agent for entry in self.search.of(Leased)}) >= agents, f"{agents} agents work")

    def answered_and_ended(self) -> tuple[dict[str, float], Counter[str]]:
        """When each agent was answered again, and every attempt that one has ended; waits for the end of the search."""
        given = [json.loads(process.communicate()[0]) for process in self._processes]
        ended = Counter(attempt for each in given for attempt in each["ended"])
        return {name: at for each in given for name, at in each["answered_at"].items()}, ended

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def results(search: ServedSearch, ended: Counter[str]) -> str:
    """Counts of evaluations by their fate."""
    recorded = {f"{entry.evaluation} {entry.attempt}" for entry in search.of(Recorded)}
    late = {f"{entry.evaluation} {entry.attempt}" for entry in search.of(LateReport)}
    lost = ended.keys() - recorded - late
    again = sum(entry.attempt > 1 for entry in search.of(Leased))
    return (
        f"{ended.total()} evaluations ended, {len(recorded)} recorded, {len(late)} late and not needed, "
        f"{len(lost)} lost, {again} run again, {len(search.of(Expired))} leases ran out"
    )


@contextlib.contextmanager
def search_of(place: Path, evaluations: int, lease_s: float) -> Iterator[ServedSearch]:
    # Its source is this file, like that of the agents' objective.
    space = make_configspace([{"name": "x", "type": "float", "lower": 0.0, "upper": 1.0}])
    options: dict[str, Any] = {
        "description": describe(FunctionProblem(never_called, space), PROBLEM),
        "min_budget": 1, "max_budget": 9, "algorithm": "random", "lease_s": lease_s, "heartbeat_s": 5.0,
        "limits": {"evaluations": evaluations},
    }
    with ServedSearch(place, **options) as search:
        yield search


def gone(what: str, place: Path, seconds: float) -> None:
    """Kill the master or the name server, and start it again."""
    # Without a name server they continue to work meanwhile.
    rounds = 10 if what == "master" else 10 + int(1.5 * seconds / EVALUATION_S)
    with search_of(place, rounds * AGENTS, 60.0) as search:
        outage = Outage(search, EVALUATION_S, None)
        nameserver, master = outage.start_nameserver(), outage.start_master()
        try:
            outage.start_workers(range(AGENTS))
            outage.wait_leased(AGENTS)
            (master if what == "master" else nameserver).kill()
            if what == "nameserver":
                outage.start_workers(range(AGENTS, AGENTS + LATER))
            time.sleep(seconds)
            asked = time.monotonic()
            if what == "master":
                master = outage.start_master()
            else:
                nameserver = outage.start_nameserver()
            returned = time.monotonic()
            answered, ended = outage.answered_and_ended()
            assert master.process.wait(DEADLINE_S) == 0
        finally:
            outage.stop()
            nameserver.kill()
        search.check()
        names = [f"{i}" for i in range(AGENTS)] if what == "master" else [f"first {AGENTS + i}" for i in range(LATER)]
        back = [answered[name] for name in names if answered.get(name, 0.0) >= asked]
        who = f"{len(back)} of {len(names)} workers" + ("" if what == "master" else " that were started meanwhile")
        print(
            f"{what} gone for {seconds:g} s, {AGENTS} workers: {who} back {max(back) - returned:.1f} s after it served "
            f"again at the latest ({returned - asked:.1f} s after it was started); {results(search, ended)}"
        )


def partition(place: Path, seconds: float, lease_s: float) -> None:
    """Cut off half of the workers silently, and reconnect them."""
    reason = missing()
    if reason is not None:
        raise SystemExit(f"NOT MEASURED, no virtual hosts: {reason}")
    prefix = f"hpo{secrets.token_hex(2)}"
    with Hosts(prefix, 3, "10.84.0") as hosts, search_of(place, 8 * AGENTS, lease_s) as search:
        outage = Outage(search, 20.0, hosts)
        nameserver, master = outage.start_nameserver(), outage.start_master()
        try:
            outage.start_workers(range(AGENTS // 2), CONNECTED)
            outage.start_workers(range(AGENTS // 2, AGENTS), CUT_OFF)
            outage.wait_leased(AGENTS)
            hosts.fault(CUT_OFF, "silent")
            cut = time.monotonic()
            held = {entry.evaluation: entry for entry in search.of(Leased)}
            had = {entry.evaluation for entry in search.of(Recorded)}
            time.sleep(seconds)
            hosts.heal(CUT_OFF)
            healed = time.monotonic()
            answered, ended = outage.answered_and_ended()
            assert master.process.wait(DEADLINE_S) == 0
        finally:
            outage.stop()
            nameserver.kill()
        search.check()
        back = [answered.get(str(index), 0.0) for index in range(AGENTS // 2, AGENTS)]
        expired = {entry.evaluation for entry in search.of(Expired)}
        again = {entry.evaluation for entry in search.of(Leased) if entry.attempt > 1}
        used = [entry for entry in search.of(Recorded) if entry.attempt == 1 and entry.evaluation in expired]
        print(
            f"{AGENTS // 2} of {AGENTS} workers cut off for {healed - cut:.0f} s, leases of {lease_s:g} s, "
            f"{len(held.keys() - had)} evaluations running: {sum(at > cut for at in back)} of {len(back)} were back "
            f"{max(back) - healed:.1f} s after it was healed at the latest; {len(expired)} leases ran out, "
            f"{len(again)} evaluations were run twice, {len(again - expired)} of them without that; "
            f"{len(used)} results were used though their lease had run out; {results(search, ended)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("master", "nameserver", "partition"))
    parser.add_argument("--seconds", type=float, help="how long it is gone; default: 60, a partition 90")
    parser.add_argument("--lease", type=float, default=60.0, metavar="SECONDS", help="length of a lease in a partition")
    parser.add_argument("--part", metavar="JSON", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        Workers(**json.loads(given.part)).run()
        return
    if given.what is None:
        parser.error("say what is to be gone: master, nameserver or partition")
    # The launcher does the same for the processes of a search.
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="hpbandster_lite-outage-") as place:
        if given.what == "partition":
            partition(Path(place), given.seconds or 90.0, given.lease)
        else:
            gone(given.what, Path(place), given.seconds or 60.0)


if __name__ == "__main__":
    main()
