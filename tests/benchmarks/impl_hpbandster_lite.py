"""Adapter to the speed benchmark, which measures HpBandSter with the same scripts; its names are the benchmark's.

Claim: the benchmark measures what users run. The name server is the program, the master is :func:`run_master` with its
durable journal, workers are agents that find the master at the name server; all use Pyro4, with keys. Each evaluation
costs microseconds, so the agents run it in their own process (``isolation="none"``).

The benchmark passes both sides only the name server's address, so keys and journal are in a temporary folder that is
named after its port.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

    from hpbandster_lite.space import SearchSpace

NAME = "hpbandster_lite"
IMPORT_MASTER = "import hpbandster_lite.master.serving, hpbandster_lite.nameserver"
IMPORT_WORKER = "import hpbandster_lite.agent.loop"

BUDGETS = (1.0,)
NAMESERVER_START_S = 30.0


def version() -> dict[str, str]:
    """Versions of the measured libraries."""
    return {name: version_of(name) for name in ("hpbandster_lite", "Pyro4", "ConfigSpace", "numpy", "scipy")}


def make_configspace(params: Sequence[Mapping[str, Any]]) -> ConfigurationSpace:
    """The ConfigSpace of the benchmark's neutral description."""
    from ConfigSpace import Categorical, ConfigurationSpace, Float, Integer

    space = ConfigurationSpace()
    for p in params:
        if p["type"] == "cat":
            space.add(Categorical(p["name"], p["choices"]))
        else:
            make = Float if p["type"] == "float" else Integer
            space.add(make(p["name"], (p["lower"], p["upper"]), log=p.get("log", False)))
    return space


def make_space(params: Sequence[Mapping[str, Any]]) -> SearchSpace:
    """The same, as a compiled search space."""
    from hpbandster_lite.space import SearchSpace

    return SearchSpace.from_configspace(make_configspace(params))


# ------------------------------------------------------------------------------------------------ without a network


class Generator:
    """The proposal model alone, without processes; a proposal includes the fit after new results."""

    def __init__(self, params: Sequence[Mapping[str, Any]], random_fraction: float | None = None) -> None:
        import numpy as np

        from hpbandster_lite.samplers import make_sampler

        self._space = make_space(params)
        parameters = {} if random_fraction is None else {"random_fraction": random_fraction}
        self._sampler = make_sampler("bohb", self._space, BUDGETS, parameters)
        self._rng = np.random.default_rng(0)

    def tell(self, config: Mapping[str, Any], budget: float, loss: float | None, refit: bool = True) -> None:
        """Add a result; the fit waits for the next proposal, for both values of ``refit``.

        The benchmark brings its own configurations, so each is first converted to a vector and excluded from further
        proposals. A search does this once per configuration, when it samples it.
        """
        vector = self._space.to_vectors([config])[0]
        self._sampler.add(vector)
        self._sampler.observe(vector, budget, loss)

    def propose(self, budget: float) -> tuple[Mapping[str, Any], bool]:
        """A configuration, and whether the model proposed it."""
        proposal = self._sampler.propose(self._rng)
        if proposal is None:
            raise RuntimeError("the space is exhausted")
        return proposal.values, proposal.model_budget is not None


def simulate(
    params: Sequence[Mapping[str, Any]],
    objective: Callable[[Mapping[str, Any], float], float],
    n_iterations: int,
    eta: float = 3,
    min_budget: float = 1,
    max_budget: float = 9,
) -> list[tuple[Mapping[str, Any], float, bool, bool]]:
    """A whole search by one worker: configuration, budget, whether the model proposed it, whether it is new, in order.

    The seed comes from numpy's global generator, which the benchmark seeds.
    """
    import numpy as np

    from hpbandster_lite.engine.decision_types import Granted
    from hpbandster_lite.engine.engine import Engine
    from hpbandster_lite.records import Limits, Origin, Outcome, Report
    from hpbandster_lite.samplers import make_sampler

    seed = int(np.random.randint(2**31))  # noqa: NPY002 (the benchmark's way to seed)
    settings = _prepared(params, "bohb", eta, min_budget, max_budget, n_iterations, "simulated", seed).settings
    space = make_space(params)
    engine = Engine(settings, space, make_sampler("bohb", space, settings.budgets, {}))
    engine.start(1, Limits(brackets=n_iterations), now=0.0)
    evaluated: list[tuple[Mapping[str, Any], float, bool, bool]] = []
    while isinstance(answer := engine.lease("agent", len(evaluated), now=0.0).answer, Granted):
        grant = answer.grant
        evaluation = grant.evaluation
        loss = objective(grant.values, grant.budget)
        report = Report(evaluation=evaluation, attempt=grant.attempt, outcome=Outcome(loss=loss))
        engine.report("agent", report, now=0.0)
        by_model = engine.state.proposals[evaluation.config_id].origin is Origin.MODEL
        evaluated.append((grant.values, grant.budget, by_model, evaluation.rung == evaluation.config_id.rung))
    return evaluated


# --------------------------------------------------------------------------------------------------- with a network


def _directory(port: int) -> Path:
    """Folder of the keys and the journal of the run whose name server has this port."""
    return Path(tempfile.gettempdir()) / f"hpbandster_lite-benchmark-{os.getuid()}-{port}"


class NameServer:
    """The name server's program, and the folder of its only run."""

    def __init__(self, run_id: str, host: str, port: int = 0, directory: str | None = None) -> None:
        from hpbandster_lite.rundir import RunDirectory

        self.host, self.port = host, port or _free_port(host)
        self._folder = _directory(self.port)
        # A benchmark that was killed leaves its folder.
        shutil.rmtree(self._folder, ignore_errors=True)
        run_directory = RunDirectory(self._folder)
        run_directory.create()
        run_directory.ensure_key()
        run_directory.ensure_nameserver_key()
        lifeline, self._held_open = os.pipe()
        options = {
            "host": self.host,
            "port": self.port,
            "key_file": str(run_directory.nameserver_key_file),
            "lifeline": lifeline,
        }
        with run_directory.log("nameserver").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hpbandster_lite.nameserver", json.dumps(options)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lifeline,),
            )
        os.close(lifeline)

    def stop(self) -> None:
        """End the name server and delete the run."""
        self._process.terminate()
        self._process.wait()
        os.close(self._held_open)
        shutil.rmtree(self._folder)


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def run_master(
    *,
    run_id: str,
    host: str,
    port: int,
    params: Sequence[Mapping[str, Any]],
    optimizer: str = "bohb",
    eta: float = 3,
    min_budget: float = 1,
    max_budget: float = 9,
    n_iterations: int = 1,
    min_n_workers: int = 1,
    progress: str | None = None,
    ping_interval: float | None = None,
    log_level: int = logging.WARNING,
) -> dict[str, Any]:
    """Serve one search to its end; ``progress`` gets a line when a result is durable.

    The search is paused until ``min_n_workers`` workers have joined, so that the benchmark does not measure their
    start. ``ping_interval`` has no effect.
    """
    from hpbandster_lite import wire
    from hpbandster_lite.journal import JournalReader
    from hpbandster_lite.master.options import MasterOptions
    from hpbandster_lite.master.serving import run_master as serve_search
    from hpbandster_lite.rundir import RunDirectory

    logging.basicConfig(level=log_level, format="%(asctime)s %(name)s %(message)s")
    directory = RunDirectory(_directory(port))
    options = MasterOptions(
        run_directory=str(directory.path),
        prepared=_prepared(params, optimizer, eta, min_budget, max_budget, n_iterations, run_id),
        host=host,
        nameserver=(host, port),
        nameserver_key=str(directory.nameserver_key_file),
    )
    # The launcher sends options in this way: options that the codec refuses fail here, too.
    options = wire.from_message(wire.decode(wire.encode(wire.to_message(options))), MasterOptions)
    resumer = threading.Thread(target=_resume_with, args=(directory, min_n_workers), daemon=True)
    _pause(options, directory)
    with _progress_noted(progress):
        began = time.monotonic()
        resumer.start()
        code = serve_search(options)
        ended = time.monotonic()
    rows = JournalReader(directory.journal).evaluations(("done", "failed"))
    if code != 0 or not rows:
        raise RuntimeError(f"the master ended with exit code {code} after {len(rows)} evaluations")
    runs = [{"id": list(row["config_id"]), "budget": row["budget"], "loss": row["loss"]} for row in rows]
    return {"runs": runs, "wall": ended - began, "shutdown": 0.0}


def _pause(options: Any, directory: Any) -> None:
    """Create the journal of a search that is paused."""
    from hpbandster_lite import wire
    from hpbandster_lite.journal import Journal
    from hpbandster_lite.master.serving import resume_master
    from hpbandster_lite.protocol.messages import PauseRequest
    from hpbandster_lite.transport import Call

    directory.create()
    with Journal.open(directory.journal, create=options.prepared.settings) as journal:
        master, _ = resume_master(options, directory, journal)
        request = PauseRequest(reason="not all workers have joined")
        master.handle(Call(request.method, wire.encode(wire.to_message(request)), "benchmark"))
        master.commit()


def _resume_with(directory: Any, workers: int) -> None:
    """Resume the search when this number of workers has joined."""
    from hpbandster_lite.errors import SearchError
    from hpbandster_lite.master.connection import connect
    from hpbandster_lite.protocol.messages import ResumeRequest, send

    while True:
        with contextlib.suppress(SearchError), connect(directory) as client:
            while len(client.call("status", {})["agents"]) < workers:
                time.sleep(0.02)
            send(ResumeRequest(), client)
            return
        time.sleep(0.02)


@contextlib.contextmanager
def _progress_noted(path: str | None) -> Iterator[None]:
    """Make the journal also write a line per result to ``path``, as HpBandSter's adapter does."""
    from hpbandster_lite.journal import Journal
    from hpbandster_lite.records import Entry, Recorded

    if path is None:
        yield
        return
    commit = Journal.commit
    with Path(path).open("a", buffering=1) as file:

        def noted_commit(journal: Journal, entries: Sequence[Entry], *, at: float) -> int:
            position = commit(journal, entries, at=at)
            for entry in entries:
                if isinstance(entry, Recorded):
                    result = {"t": time.monotonic(), "id": list(entry.evaluation.config_id), "loss": entry.outcome.loss}
                    file.write(json.dumps(result) + "\n")
            return position

        with mock.patch.object(Journal, "commit", noted_commit):
            yield


def run_worker(
    *, run_id: str, host: str, port: int, compute: Callable[[Mapping[str, Any], float], Any], index: int | None = None
) -> None:
    """Work until the search is over."""
    from hpbandster_lite.agent.loop import run_agent
    from hpbandster_lite.agent.options import AgentOptions
    from hpbandster_lite.problems import FunctionProblem
    from hpbandster_lite.rundir import RunDirectory

    directory = RunDirectory(_directory(port))
    options = AgentOptions(
        problem="benchmark",
        nameserver=(host, port),
        nameserver_key=str(directory.nameserver_key_file),
        run_id=_prepared_run_id(run_id),
        key=str(directory.key_file),
        index=index or 0,
        isolation="none",
    )
    code = run_agent(options, problem=FunctionProblem(lambda config, budget, trial: compute(config, budget)))
    if code != 0:
        raise RuntimeError(f"the agent ended with exit code {code}")


def _prepared_run_id(run_id: str) -> str:
    return f"benchmark-{run_id}"


def _prepared(
    params: Sequence[Mapping[str, Any]],
    algorithm: str,
    eta: float,
    min_budget: float,
    max_budget: float,
    brackets: int,
    run_id: str,
    seed: int | None = None,
) -> Any:
    """The search as the command line prepares it, with the run id that the workers use."""
    from dataclasses import replace

    from hpbandster_lite.problems import FunctionProblem, describe
    from hpbandster_lite.records import Limits
    from hpbandster_lite.settings.options import SearchOptions
    from hpbandster_lite.settings.prepare import prepare

    problem = FunctionProblem(_never_called, make_configspace(params))
    options = SearchOptions(
        problem="benchmark",
        description=describe(problem, "benchmark"),
        min_budget=min_budget,
        max_budget=max_budget,
        eta=eta,
        algorithm=algorithm,
        seed=seed,
        limits=Limits(brackets=brackets),
    )
    prepared = prepare(options)
    return replace(prepared, settings=replace(prepared.settings, run_id=_prepared_run_id(run_id)))


def _never_called(config: Mapping[str, Any], budget: float, trial: Any) -> float:
    raise NotImplementedError("the workers have the objective")
