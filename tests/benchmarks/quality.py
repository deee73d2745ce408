"""Search quality in simulated time: the real engine and samplers on a bench of multi-fidelity problems.

Claim (the bench's public suite of 7 problems, 8 workers, the time of 12 full-budget evaluations each): our default is
BOHB as defined by the paper and its code, so it is on a par with the bench's own ``bohb_paper`` and with HpBandSter,
and ahead of Hyperband and random search. Evidence: docs/benchmarks.md, also for
the bound on the points of the model (``max_points_in_model``, 512), measured with ``--horizon 48``, four times the
length.

The bench plays the workers: it requests an evaluation, charges its cost in simulated time, and reports the loss. It is
not part of this repository; name its folder, which has ``run.py``, ``analyse.py`` and the searches of its peers, on the
command line. The program takes ten minutes on one core. Usage::

    python tests/benchmarks/quality.py BENCH [--seeds 20] [--out results.jsonl]
    python BENCH/run.py --optimiser-module tests/benchmarks/quality.py:make --label ours     # the same by hand
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpbandster_lite.engine.decision_types import Granted
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.records import (
    EvaluationId,
    Failure,
    FailureKind,
    Limits,
    Outcome,
    ProblemDescription,
    Report,
    SearchSettings,
    Values,
)
from hpbandster_lite.samplers import make_sampler
from hpbandster_lite.space import SearchSpace

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

ETA = 3.0
MAKERS = {
    "hpbandster_lite_mfbo": "make_mfbo",
    "hpbandster_lite_bohb": "make",
    "hpbandster_lite_hyperband": "make_hyperband",
}
"""Labels in the results, and the functions of this file."""
PEERS = "bohb_paper,hpbandster,hyperband,random"

# ------------------------------------------------------------------------------------- functions for the bench


class Search:
    """One search of the bench: an engine, and an agent for every running evaluation.

    The engine's clock stands still, so no lease of a simulated worker expires.
    """

    def __init__(self, space: Any, budgets: Sequence[float], seed: int, algorithm: str, sampler: Mapping[str, Any]):
        compiled = SearchSpace.from_configspace(configspace_of(space))
        settings = SearchSettings(
            run_id="quality",
            problem=ProblemDescription(
                reference="quality", name="quality", space_json=None, space_tables=compiled.to_json()
            ),
            budgets=tuple(budgets),
            eta=ETA,
            unit="budget",
            algorithm=algorithm,
            bracket_rule="floor",
            seed=seed,
            seed_was_given=True,
            sampler=sampler,
        )
        self._engine = Engine(settings, compiled, make_sampler(algorithm, compiled, settings.budgets, sampler))
        self._engine.start(1, Limits(), now=0.0)
        self._requests = 0
        self._free: list[str] = []
        self._agents = 0
        self._running: dict[int, tuple[str, EvaluationId, int]] = {}

    def ask(self) -> tuple[int, Values, float] | None:
        """The next evaluation, or None if there is none before the next result."""
        agent = self._free.pop() if self._free else self._new_agent()
        self._requests += 1
        answer = self._engine.lease(agent, self._requests, now=0.0).answer
        if not isinstance(answer, Granted):
            self._free.append(agent)
            return None
        grant = answer.grant
        self._running[self._requests] = agent, grant.evaluation, grant.attempt
        return self._requests, dict(grant.values), grant.budget

    def tell(self, trial_id: int, loss: float, cost: float, info: Mapping[str, Any]) -> None:
        """Report the loss of an evaluation; an infinite loss is a crash."""
        agent, evaluation, attempt = self._running.pop(trial_id)
        if math.isfinite(loss):
            outcome = Outcome(loss=loss, duration_s=cost)
        else:
            outcome = Outcome(failure=Failure(kind=FailureKind.CODE, reason="crashed"), duration_s=cost)
        report = Report(evaluation=evaluation, attempt=attempt, outcome=outcome)
        report_is = self._engine.report(agent, report, now=0.0).answer
        if report_is != "recorded":
            raise RuntimeError(f"the report of {evaluation} was taken as {report_is!r}")
        self._free.append(agent)

    def _new_agent(self) -> str:
        self._agents += 1
        return f"agent{self._agents}"


def configspace_of(space: Any) -> ConfigurationSpace:
    """The bench's space: a list of dimensions; one may be active only for some values of another."""
    from ConfigSpace import Categorical, ConfigurationSpace, Float, InCondition, Integer, OrdinalHyperparameter

    made: dict[str, Any] = {}
    for dim in space.dims:
        match dim.kind:
            case "float":
                made[dim.name] = Float(dim.name, (dim.lower, dim.upper), log=dim.log)
            case "int":
                made[dim.name] = Integer(dim.name, (int(dim.lower), int(dim.upper)), log=dim.log)
            case "ordinal":
                made[dim.name] = OrdinalHyperparameter(dim.name, list(dim.choices))
            case "categorical":
                made[dim.name] = Categorical(dim.name, list(dim.choices))
            case other:
                raise ValueError(f"the bench has a new kind of hyperparameter: {other}")
    configspace = ConfigurationSpace(space=list(made.values()))
    for dim in space.dims:
        if dim.condition is not None:
            parent, values = dim.condition
            configspace.add(InCondition(made[dim.name], made[parent], list(values)))
    return configspace


def make(space: Any, budgets: Sequence[float], n_workers: int, seed: int) -> Search:
    """BOHB with its defaults."""
    return Search(space, budgets, seed, "bohb", {})


def make_mfbo(space: Any, budgets: Sequence[float], n_workers: int, seed: int) -> Search:
    """The model of all budgets."""
    return Search(space, budgets, seed, "mfbo", {})


def make_statsmodels(space: Any, budgets: Sequence[float], n_workers: int, seed: int) -> Search:
    """BOHB with the densities of statsmodels."""
    return Search(space, budgets, seed, "bohb", {"density": "statsmodels"})


def make_bounded(space: Any, budgets: Sequence[float], n_workers: int, seed: int) -> Search:
    """BOHB with a bound on the points of the model that takes effect in a search of the bench's length."""
    return Search(space, budgets, seed, "bohb", {"max_points_in_model": 64})


def make_tightly_bounded(space: Any, budgets: Sequence[float], n_workers: int, seed: int) -> Search:
    """BOHB with a bound that also takes effect on the good set."""
    return Search(space, budgets, seed, "bohb", {"max_points_in_model": 16})


def make_hyperband(space: Any, budgets: Sequence[float], n_workers: int, seed: int) -> Search:
    """The same brackets without a model."""
    return Search(space, budgets, seed, "hyperband", {})


# --------------------------------------------------------------------------------------------- the whole comparison


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, help="folder of the bench")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--benchmarks", default="", help="only these, separated by commas")
    parser.add_argument("--peers", default=PEERS, help="optimisers of the bench's own results to compare with")
    parser.add_argument("--out", type=Path, default=Path("results.jsonl"), help="searches in it are not repeated")
    options = parser.parse_args()
    for label, maker in MAKERS.items():
        what = ["--optimiser-module", f"{Path(__file__).resolve()}:{maker}", "--label", label]
        how = ["--seeds", str(options.seeds), "--benchmarks", options.benchmarks, "--out", str(options.out)]
        subprocess.run([sys.executable, str(options.bench / "run.py"), *what, *how], check=True)
    files = [str(options.out), str(options.bench / "peers_public.jsonl"), "--out", str(options.out.with_suffix(""))]
    chosen = ["--optimisers", ",".join([*MAKERS, options.peers]), "--no-plot"]
    subprocess.run([sys.executable, str(options.bench / "analyse.py"), *files, *chosen], check=True)


if __name__ == "__main__":
    main()
