"""CPU time of a proposal from BOHB's model with n results, and of observing a result: growth of both with n.

Claim (20 hyperparameters: 10 floats, 5 integers, 5 categoricals; one thread): a proposal, the fit after a new result
included, costs about a hundredth of HpBandSter 0.7.4's at n = 1,000 and grows no worse than linearly to n = 100,000;
taking a result in costs less than a fortieth of HpBandSter's at n = 5,000, and the same at any n.

Evidence: docs/benchmarks.md. Usage::

    OMP_NUM_THREADS=1 python tests/benchmarks/proposal.py [--most 100000] [--repeat 3]

HpBandSter is measured by the benchmark that ``impl_hpbandster_lite.py`` adapts to, on the same space.

First table: before each proposal one new result is observed, as in a search that never stands still, so every one pays
for a fit; ``random_fraction`` is 0, so every one comes from the model. ``us/n`` is microseconds per proposal and
result: it may fall with n, and not rise. Second table: :meth:`Engine.report`, what the master does with a report before
the journal has it, in a search with n results.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from hpbandster_lite.engine.decision_types import Granted
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.records import Limits, Outcome, ProblemDescription, Report, SearchSettings
from hpbandster_lite.samplers import make_sampler
from hpbandster_lite.space import Array, SearchSpace

SIZES = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
D = 20
SECONDS = 3.0
"""Measured for so long at each size, but for at least ``FEWEST`` proposals."""
FEWEST = 5


def mixed_space() -> SearchSpace:
    """Linear float, log float, integer and categorical in turn."""
    from ConfigSpace import Categorical, ConfigurationSpace, Float, Integer

    def hyperparameter(i: int) -> Any:
        name = f"p{i:02d}"
        match i % 4:
            case 0:
                return Float(name, (0.0, 1.0))
            case 1:
                return Float(name, (1e-5, 1.0), log=True)
            case 2:
                return Integer(name, (1, 64))
            case _:
                return Categorical(name, ["a", "b", "c", "d"])

    return SearchSpace.from_configspace(ConfigurationSpace(space=[hyperparameter(i) for i in range(D)]))


def losses_of(vectors: Array, rng: np.random.Generator) -> Array:
    """A bowl with a little noise."""
    losses: Array = ((vectors - 0.3) ** 2).mean(axis=1) + rng.normal(0.0, 0.01, len(vectors))
    return losses


def cpu_ms(call: Callable[[int], object], *, seconds: float, most: int) -> float:
    """CPU milliseconds of one call; the calls are numbered."""
    began = time.process_time()
    for number in range(most):
        call(number)
        if number + 1 >= FEWEST and time.process_time() - began > seconds:
            break
    return 1e3 * (time.process_time() - began) / (number + 1)


def proposal_ms(space: SearchSpace, n: int, seed: int) -> float:
    """A new result and a proposal, with n results before."""
    most = 300
    rng = np.random.default_rng(seed)
    vectors = space.sample(rng, n + most)
    losses = losses_of(vectors, rng)
    sampler = make_sampler("bohb", space, (1.0,), {"random_fraction": 0.0})
    for vector, loss in zip(vectors[:n], losses[:n], strict=True):
        sampler.add(vector)
        sampler.observe(vector, 1.0, float(loss))
    sampler.propose(rng)

    def observe_and_propose(number: int) -> None:
        sampler.add(vectors[n + number])
        sampler.observe(vectors[n + number], 1.0, float(losses[n + number]))
        proposal = sampler.propose(rng)
        if proposal is None or proposal.model_budget is None:
            raise RuntimeError("the proposal did not come from the model")

    return cpu_ms(observe_and_propose, seconds=SECONDS, most=most)


def report_us(space: SearchSpace, n: int) -> float:
    """CPU microseconds of one call of Engine.report, with n results before."""
    sampler = {"random_fraction": 1.0}
    settings = SearchSettings(
        run_id="proposal",
        problem=ProblemDescription(reference="p", name="p", space_json=None, space_tables=space.to_json()),
        budgets=(1.0, 3.0, 9.0, 27.0),
        eta=3.0,
        unit="budget",
        algorithm="bohb",
        bracket_rule="floor",
        seed=1,
        seed_was_given=True,
        sampler=sampler,
    )
    engine = Engine(settings, space, make_sampler("bohb", space, settings.budgets, sampler))
    engine.start(1, Limits(), now=0.0)
    measured = 300
    spent = 0.0
    for number in range(n + measured):
        answer = engine.lease("agent", number, now=0.0).answer
        if not isinstance(answer, Granted):
            raise RuntimeError(f"no work: {answer}")
        outcome = Outcome(loss=((number * 7919) % 10_007) / 10_007)
        report = Report(evaluation=answer.grant.evaluation, attempt=answer.grant.attempt, outcome=outcome)
        began = time.process_time()
        engine.report("agent", report, now=0.0)
        if number >= n:
            spent += time.process_time() - began
    return 1e6 * spent / measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=SIZES[-1], help="largest number of results")
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many is printed, beside all of them")
    options = parser.parse_args()
    space = mixed_space()
    sizes = [n for n in SIZES if n <= options.most]
    print("       n   CPU ms a proposal    us/n   all")
    for n in sizes:
        tries = [proposal_ms(space, n, seed) for seed in range(options.repeat)]
        columns = " ".join(f"{ms:.2f}" for ms in tries)
        print(f"{n:8,d}   {min(tries):17.2f}   {1e3 * min(tries) / n:5.2f}   {columns}", flush=True)
    print("\n       n   CPU us a report    all")
    for n in [100, 1_000, 5_000, 20_000]:
        tries = [report_us(space, n) for _ in range(options.repeat)]
        columns = " ".join(f"{us:.1f}" for us in tries)
        print(f"{n:8,d}   {min(tries):15.1f}    {columns}", flush=True)


if __name__ == "__main__":
    main()
