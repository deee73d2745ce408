"""A whole search in a separate process, for tests that kill parts of it: like ``run``, without the terminal.

The problem counts its steps and saves a checkpoint after each. While the file ``hold`` is in its directory, it stays in
the middle of an evaluation and reports; while the file ``deaf`` is there, it stays there without reports.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil

from hpbandster_lite import wire
from hpbandster_lite.errors import SearchError
from hpbandster_lite.journal import JournalReader, holds_anything
from hpbandster_lite.launch.local_search import LaunchOptions, search_here
from hpbandster_lite.problems import describe, load
from hpbandster_lite.protocol.status import Status
from hpbandster_lite.records import Entry, Leased, Limits, ProblemDescription, Recorded, Released, Sampled
from hpbandster_lite.results.verify_run import verify_run
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.options import SearchOptions
from hpbandster_lite.settings.prepare import Prepared
from hpbandster_lite.space import SearchSpace
from tests.engine_room import engine_for

DEADLINE_S = 60.0
MARK = "HPBANDSTER_LITE_TEST_SEARCH"
"""Environment variable that marks all processes of a search, including orphans."""
PROBLEM = '''
import json
import os
import time
from pathlib import Path

HERE = Path(__file__).parent
min_budget, max_budget, unit = 1, 9, "steps"


def space():
    from ConfigSpace import ConfigurationSpace, Float, Integer

    return ConfigurationSpace(space=[Float("x", (0.0, 1.0)), Integer("n", (1, 9))])


def evaluate(config, budget, trial):
    saved = trial.resume_directory or trial.previous_directory
    began = 0 if saved is None else json.loads((saved / "state.json").read_text())["step"]
    final = (config["x"] - 0.3) ** 2 + config["n"] / 100
    for step in range(began + 1, int(budget) + 1):
        loss = final + 1 / step
        # Written beside and renamed, as every checkpoint should be: a kill must not leave half of one.
        (trial.directory / "half").write_text(json.dumps({"step": step}))
        (trial.directory / "half").rename(trial.directory / "state.json")
        trial.report(step, loss, pid=os.getpid())
        time.sleep(float(os.environ.get("STEP_S", "0.01")))
        (HERE / f"inside-{os.getpid()}").touch()
        while (HERE / "hold").exists():
            trial.report(step, loss, pid=os.getpid())
            time.sleep(0.01)
        while (HERE / "deaf").exists():
            time.sleep(0.01)
    return {"loss": final + 1 / budget, "began": began}


def test(config, budget, trial):
    with (HERE / "tested").open("a") as file:
        file.write(f"{trial.previous_directory}\\n")
    if (HERE / "test fails").exists():
        raise ValueError("the test split is missing")
    return {"steps": json.loads((trial.previous_directory / "state.json").read_text())["step"]}
'''


@functools.cache
def _described(text: str, path: str) -> ProblemDescription:
    return describe(load(path), path)


class LocalSearchProcess:
    """A problem in a directory, and searches of it in separate processes, one after the other."""

    text = PROBLEM

    def __init__(self, place: Path, **options: Any) -> None:
        self.place = place
        self.problem = place / f"steps_{secrets.token_hex(4)}.py"
        self.problem.write_text(self.text)
        self.directory = RunDirectory(place / "run")
        self.mark = secrets.token_hex(8)
        self._options: dict[str, Any] = {
            "seed": 1,
            "lease_s": 2.0,
            "heartbeat_s": 0.2,
            "limits": {"brackets": 1},
            **options,
        }
        if "description" not in options:
            self._options["description"] = _described(self.text, str(self.problem))

    @contextlib.contextmanager
    def running(self, workers: int = 2) -> Iterator[subprocess.Popen[str]]:
        """Begin or continue the search; all its processes end with the context."""
        given = {"options": {**self._options, "description": None}, "workers": workers, "run": str(self.directory.path)}
        about = wire.to_message(self._options["description"])
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.service.local_search", json.dumps({**given, "about": about})],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {MARK: self.mark},
            start_new_session=True,
        )
        try:
            yield process
        finally:
            self.hold(False)
            self.deafen(False)
            for left in self.processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    left.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    @contextlib.contextmanager
    def held(self, *, recorded: int = 0) -> Iterator[subprocess.Popen[str]]:
        """A search with at least this number of outcomes, all of whose workers are held inside an evaluation."""
        with self.running() as process:
            self.wait_recorded(recorded)
            self.hold()
            self.wait_inside()
            yield process

    def run(self, workers: int = 2) -> str:
        """Run the search to its end; return its output."""
        with self.running(workers) as process:
            return self.end_of(process, 0)

    def end_of(self, process: subprocess.Popen[str], code: int) -> str:
        """Wait until the search has ended with this exit code and left nothing behind; return its output."""
        output, _ = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == code, output
        until(lambda: not self.processes(), "every process of the search has ended")
        return output

    def extend(self, **limits: Any) -> None:
        """Give the next run other limits."""
        self._options["limits"] = limits

    # ---------------------------------------------------------------------------------------------- its processes

    def processes(self, module: str = "") -> list[psutil.Process]:
        """Running processes of the search: ``master``, ``agent``, ``trainer``, ``nameserver``, or all of them."""
        mark, found = f"{MARK}={self.mark}".encode(), []
        # Tests call this again and again, and psutil takes twice as long.
        for pid in sorted(int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()):
            with contextlib.suppress(OSError, psutil.Error):
                if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    process = psutil.Process(pid)
                    if process.status() != psutil.STATUS_ZOMBIE:
                        command = process.cmdline()
                        if not module or f"hpbandster_lite.{module}" in command:
                            found.append(process)
        return found

    def kill(self, module: str) -> int:
        """Kill one process of the search with SIGKILL; return its pid."""
        victim = self.processes(module)[0]
        victim.kill()
        return victim.pid

    def kill_all(self, process: subprocess.Popen[str]) -> None:
        """Kill everything at once, like a power failure; the launcher first, so that it restarts nothing."""
        victims = [psutil.Process(process.pid), *(each for each in self.processes() if each.pid != process.pid)]
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.send_signal(signal.SIGSTOP)
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        process.wait()

    def hold(self, held: bool = True) -> None:
        """Make evaluations stay where they are and report, or let them continue."""
        self._set("hold", held)

    def deafen(self, deaf: bool = True) -> None:
        """Make evaluations stay where they are without reports, so that no interrupt acts, or let them continue."""
        self._set("deaf", deaf)

    def _set(self, name: str, there: bool) -> None:
        if there:
            (self.place / name).touch()
        else:
            (self.place / name).unlink(missing_ok=True)

    def wait_inside(self, workers: int = 2) -> None:
        """Wait until this number of trainers is in the middle of an evaluation."""

        def are_inside() -> bool:
            return sum((self.place / f"inside-{each.pid}").exists() for each in self.processes("trainer")) >= workers

        until(are_inside, f"{workers} trainers are in the middle of an evaluation")

    def wait_recorded(self, count: int) -> None:
        """Wait until this number of outcomes is in the journal."""

        def are_recorded() -> bool:
            journal = self.directory.journal
            return holds_anything(journal) and len(JournalReader(journal).endings()) >= count

        until(are_recorded, f"{count} outcomes are recorded")

    # ------------------------------------------------------------------------------------------------ its journal

    def entries(self) -> list[Entry]:
        """All entries of the journal, in order."""
        return [entry for _, _, entry in JournalReader(self.directory.journal).entries()]

    def of(self, kind: type) -> list[Any]:
        """The entries of one kind."""
        return [entry for entry in self.entries() if isinstance(entry, kind)]

    def check(self, acknowledged: Mapping[Any, Any] | None = None) -> None:
        """Check that the search is over and verified, and has every result once, without repeats after a result.

        ``acknowledged`` is the value of :meth:`results` at an earlier time: these results must be unchanged.
        """
        entries = self.entries()
        recorded = [entry.evaluation for entry in entries if isinstance(entry, Recorded)]
        assert Counter(recorded).most_common(1)[0][1] == 1
        ended: set[Any] = set()
        for entry in entries:
            if isinstance(entry, Recorded):
                ended.add(entry.evaluation)
            elif isinstance(entry, Leased):
                assert entry.evaluation not in ended, f"{entry.evaluation} was run again after its result"
        assert {entry.evaluation for entry in entries if isinstance(entry, Leased)} == ended
        if acknowledged is not None:
            assert acknowledged.items() <= self.results().items()
        reader = JournalReader(self.directory.journal)
        assert reader.finished() is not None
        settings = reader.settings()
        engine = engine_for(settings, SearchSpace.from_json(settings.problem.space_tables))
        engine.replay(entries)
        engine.validate()
        assert engine.finished == reader.finished()
        assert all(outcome.loss is not None for outcome in self.results().values())
        assert self.verified()

    def verified(self) -> bool:
        """Check that a second computation gives every decision in the journal."""
        verification = verify_run(self.directory)
        assert verification.holds, verification.summary
        return verification.entries > 0

    def results(self) -> dict[Any, Any]:
        """The outcome of each evaluation that has one."""
        if not holds_anything(self.directory.journal):
            return {}
        return {entry.evaluation: entry.outcome for entry in self.of(Recorded)}

    def decisions(self) -> list[Any]:
        """Sampled configurations and their results, in order, which must not depend on interruptions."""
        made: list[Any] = []
        for entry in self.entries():
            if isinstance(entry, Sampled):
                made.append((entry.config_id, entry.proposal, "sampled"))
            elif isinstance(entry, Recorded):
                made.append((entry.evaluation, entry.outcome.loss))
        return made

    def handed_back(self) -> list[Released]:
        """Evaluations that a worker handed back."""
        return self.of(Released)


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.01)


class Notes:
    """A watcher that prints each note."""

    def begin(self, prepared: Prepared, directory: RunDirectory) -> None:
        self.note("going on" if prepared.resumed else "new")

    def status(self, status: Status) -> None:
        """Ignore the status: the tests read the journal."""

    def note(self, text: str) -> None:
        print(text, flush=True)


def main(text: str) -> int:
    """The process of :class:`LocalSearchProcess`."""
    given = json.loads(text)
    about = wire.from_message(given["about"], ProblemDescription)
    limits = Limits(**given["options"].pop("limits", {}))
    options = SearchOptions(problem=about.reference, **{**given["options"], "description": about, "limits": limits})
    try:
        return search_here(options, RunDirectory(given["run"]), LaunchOptions(workers=given["workers"]), Notes())
    except SearchError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
