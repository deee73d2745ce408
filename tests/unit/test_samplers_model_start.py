"""When the model of a search begins: the same as in a search that one worker runs to its end."""

from __future__ import annotations

from typing import Any

import pytest
from ConfigSpace import Categorical, ConfigurationSpace, Constant, Float, Integer, OrdinalHyperparameter

from hpbandster_lite.cli.view.plan import plan_plain
from hpbandster_lite.engine.decision_types import Granted
from hpbandster_lite.engine.engine import Engine
from hpbandster_lite.engine.status import about_model
from hpbandster_lite.protocol.status import Serving
from hpbandster_lite.records import Limits, ProblemDescription, Sampled, SearchSettings
from hpbandster_lite.samplers.kde.axes import axes_of
from hpbandster_lite.samplers.model_start import ModelStart, model_start, results_for_model
from hpbandster_lite.settings.options import SearchOptions
from hpbandster_lite.settings.prepare import prepare
from hpbandster_lite.space import SearchSpace
from tests.engine_room import LADDER, engine_for, loss, settings_for, space_of

WIDE = space_of(*(Float(f"x{number}", (0.0, 1.0)) for number in range(400)))
NEVER_RANDOM = {"random_fraction": 0.0}


def searched(settings: SearchSettings, space: SearchSpace, limits: Limits) -> tuple[int | None, Engine]:
    """After how many evaluations the first configuration of the model was sampled, by one worker; and the engine."""
    engine = engine_for(settings, space)
    engine.start(1, limits, now=0.0)
    ended, request = 0, 0
    report = None
    while True:
        turn = engine.exchange("w", request, now=float(request), report=report)
        if any(isinstance(entry, Sampled) and entry.proposal.model_budget is not None for entry in turn.entries):
            return ended, engine
        answer = turn.answer.answer
        if not isinstance(answer, Granted):
            return None, engine
        ended, request = ended + 1, request + 1
        report = loss(answer.grant, 1.0 / ended)


@pytest.mark.parametrize("algorithm", ["bohb", "bo"])
@pytest.mark.parametrize("least", [None, 2, 9, 30], ids=["by_dimensions", "two", "nine", "thirty"])
@pytest.mark.parametrize(
    "limits",
    [Limits(brackets=3), Limits(brackets=9), Limits(evaluations=25), Limits(total_budget=100.0)],
    ids=["cycle", "cycles", "evaluations", "budget"],
)
def test_the_model_begins_when_the_plan_says(algorithm: str, least: int | None, limits: Limits) -> None:
    space = space_of()
    sampler: dict[str, Any] = NEVER_RANDOM | ({} if least is None else {"min_points_in_model": least})
    settings = settings_for(space, algorithm=algorithm, sampler=sampler)
    planned = model_start(settings, limits)
    first, engine = searched(settings, space, limits)

    assert planned is not None
    assert planned.is_used == (first is not None)
    if first is not None:
        assert planned.evaluations is not None
        # The configuration after these evaluations may be promoted ones first.
        assert planned.evaluations <= first
        sampled_next = [each for each in engine.state.proposals.values() if each.model_budget is not None]
        assert [each.model_budget for each in sampled_next] == [planned.budget]


@pytest.mark.parametrize(
    "space",
    [
        space_of(),
        space_of(Constant("c", 1), Float("x", (0.0, 1.0))),
        space_of(Categorical("one", ["a"]), Integer("n", (1, 3)), OrdinalHyperparameter("o", [1, 2])),
        WIDE,
    ],
    ids=["two", "constant", "one_choice", "wide"],
)
def test_a_model_needs_three_results_more_than_hyperparameters(space: SearchSpace) -> None:
    assert results_for_model(settings_for(space, algorithm="bohb")) == axes_of(space).d + 3


def test_some_searches_have_no_model() -> None:
    constant = space_of(Constant("c", 1))

    assert results_for_model(settings_for(space_of(), algorithm="hyperband")) is None
    assert results_for_model(settings_for(constant, algorithm="bohb")) is None
    assert results_for_model(settings_for(space_of(), algorithm="bohb", sampler={"random_fraction": 1.0})) is None
    assert results_for_model(settings_for(space_of(), algorithm="of_a_package")) is None


def test_with_many_hyperparameters_the_model_never_begins_and_the_plan_and_the_status_show_it() -> None:
    space = ConfigurationSpace({f"x{number}": (0.0, 1.0) for number in range(400)})
    tables = SearchSpace.from_configspace(space).to_json()
    problem = ProblemDescription(
        reference="t", name="t", space_json=None, space_tables=tables, min_budget=1, max_budget=9, unit="epochs"
    )
    limits = Limits(evaluations=300)
    prepared = prepare(SearchOptions(problem="t", description=problem, seed=1, limits=limits))

    assert prepared.model_start == ModelStart(results=403, evaluations=None, budget=1.0, most=135, is_used=False)
    note = next(each for each in prepared.notes if "model" in each)
    assert note.startswith("no configuration will come from the model: it begins with 403 results at one budget")
    assert "at most 135, at 1 epochs" in note
    assert plan_plain(prepared)["model"]["most"] == 135
    _, engine = searched(settings_for(WIDE, algorithm="bohb"), WIDE, Limits(brackets=2))
    status = engine.status(now=0.0, serving=Serving())
    assert status.model == (
        "no configuration came from it: it needs 403 results at one budget, and there are 9 at 1 epochs"
    )


def test_a_status_counts_the_configurations_of_the_model() -> None:
    settings = settings_for(space_of(), algorithm="bohb", budgets=LADDER)

    assert about_model(settings, (), from_model=3, configurations=20) == "3 of 20 configurations came from it"
