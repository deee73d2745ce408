"""Restart of a long search: replay of its journal, memory of its master, and response time of readers.

Claim: a journal of 100,000 evaluations replays in at most 10 s, its master needs less than 500 MB, ``status`` and
``best`` answer from the file in 1 s; a master with 1,000 evaluations serves its first lease 2.5 s after its start.

Usage, on an idle machine::

    python tests/benchmarks/journal.py [--evaluations 1000 100000]
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from hpbandster_lite import wire
from hpbandster_lite.cli.run_directory import read_status
from hpbandster_lite.engine.decision_types import Granted
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.journal import Journal, JournalReader
from hpbandster_lite.master.connection import connect
from hpbandster_lite.master.options import MasterOptions
from hpbandster_lite.protocol.messages import ExchangeRequest, Grant, SlotRequest, send
from hpbandster_lite.records import Entry, Limits, Outcome, Report
from hpbandster_lite.results.incumbent import current_incumbent
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.samplers import make_sampler
from hpbandster_lite.settings.options import SearchOptions
from hpbandster_lite.settings.prepare import Prepared, prepare
from hpbandster_lite.space import SearchSpace

PROBLEM = "hartmann6"
AGENTS = 32
TURN = 200
"""Requests that share a commit while the program creates the journal."""


def engine_of(prepared: Prepared) -> Engine:
    """A new engine with random samples: the program measures the journal, not the model."""
    settings = prepared.settings
    space = SearchSpace.from_json(settings.problem.space_tables)
    return Engine(settings, space, make_sampler("random", space, settings.budgets, {}))


def make_journal(directory: RunDirectory, prepared: Prepared, evaluations: int) -> None:
    """Run a search of this number of evaluations in this process, and journal it as a master does."""
    directory.create()
    engine = engine_of(prepared)
    with Journal.open(directory.journal, create=prepared.settings) as journal:
        pending: list[Entry] = list(engine.start(journal.begin_epoch(), Limits(), now=0.0).entries)
        reports: dict[str, Report] = {}
        for request in range(evaluations + AGENTS):
            agent = f"agent-{request % AGENTS}"
            wanted = request < evaluations
            turn = engine.exchange(agent, request, now=0.0, report=reports.pop(agent, None), want_lease=wanted)
            pending += turn.entries
            if isinstance(turn.answer.answer, Granted):
                grant = turn.answer.answer.grant
                value = sum(map(float, grant.values.values()))  # type: ignore[arg-type]  # x is a number
                outcome = Outcome(loss=value + 1 / grant.budget, duration_s=1.0)
                reports[agent] = Report(evaluation=grant.evaluation, attempt=grant.attempt, outcome=outcome)
            if len(pending) >= TURN:
                journal.commit(pending, at=0.0)
                pending = []
        journal.commit(pending, at=0.0)


def seconds_of_replay(directory: RunDirectory, prepared: Prepared) -> tuple[float, int]:
    """Seconds to read the journal and rebuild the engine, and the engine's number of evaluations."""
    engine = engine_of(prepared)
    began = time.perf_counter()
    with Journal.open(directory.journal) as journal:
        engine.replay(entry for _, _, entry in journal.entries())
    return time.perf_counter() - began, engine.state.recorded


def seconds_to_the_first_lease(directory: RunDirectory, prepared: Prepared) -> tuple[float, float]:
    """Seconds from the start of a master's process to its first lease, and its memory then in MB."""
    briefing = wire.encode(wire.to_message(MasterOptions(run_directory=str(directory.path), prepared=prepared)))
    began = time.perf_counter()
    command = [sys.executable, "-m", "hpbandster_lite.master", briefing]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as master:
        try:
            while (endpoint := directory.read_endpoint()) is None or endpoint["pid"] != master.pid:
                time.sleep(0.005)
            with connect(directory) as client:
                asked = (SlotRequest(slot=0, wants_lease=True),)
                answer = send(ExchangeRequest(agent="new", request=1, worker="", slots=asked), client)
                assert isinstance(answer.slots[0].answer, Grant), answer
            taken_s = time.perf_counter() - began
            memory_mb = psutil.Process(master.pid).memory_info().rss / 1e6
        finally:
            master.send_signal(signal.SIGTERM)
    return taken_s, memory_mb


def measure(evaluations: int, folder: str) -> None:
    """Print all figures of a journal of this number of evaluations."""
    directory = RunDirectory(Path(folder) / str(evaluations))
    options = SearchOptions(problem=PROBLEM, algorithm="hyperband", seed=1, limits=Limits(brackets=10**6))
    prepared = prepare(options)
    began = time.perf_counter()
    make_journal(directory, prepared, evaluations)
    print(f"{evaluations:,} evaluations, journalled in {time.perf_counter() - began:.1f} s, ", end="")
    print(f"{directory.journal.stat().st_size / 1e6:.0f} MB on disk")
    replay_s, recorded = seconds_of_replay(directory, prepared)
    print(f"  replay of {recorded:,} evaluations  {replay_s:.2f} s")
    readers: dict[str, Callable[[], object]] = {
        "status": lambda: read_status(directory),
        "best": lambda: current_incumbent(directory),
        "list": lambda: JournalReader(directory.journal).evaluations(),
    }
    for name, read in readers.items():
        began = time.perf_counter()
        read()
        print(f"  {name} from the file  {time.perf_counter() - began:.2f} s")
    first_s, memory_mb = seconds_to_the_first_lease(directory, prepared)
    print(f"  start of the master to its first lease  {first_s:.2f} s, its memory {memory_mb:.0f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--evaluations", type=int, nargs="+", default=[1_000, 100_000])
    for evaluations in parser.parse_args().evaluations:
        with tempfile.TemporaryDirectory() as folder:
            measure(evaluations, folder)


if __name__ == "__main__":
    main()
