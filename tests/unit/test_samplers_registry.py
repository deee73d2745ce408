"""Algorithms by name: the built-in ones, and those that an installed package publishes."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from hpbandster_lite.errors import UsageError
from hpbandster_lite.records import Limits, Origin
from hpbandster_lite.samplers import algorithm_named, algorithm_names, bracket_plan, make_sampler, sampler_parameters
from hpbandster_lite.samplers.random import Random
from hpbandster_lite.samplers.registry import BUILT_IN
from hpbandster_lite.space.examples import square
from tests.engine_room import finish, settings_for, started

CODE = """
from hpbandster_lite.samplers import Algorithm
from hpbandster_lite.samplers.random import Random

toy = Algorithm(
    plan="full_budget", sampler=lambda space, budgets, parameters: Random(space), parameters={"pace": 2}, help="a toy"
)
not_an_algorithm = 7
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A function that installs a package with entry points, as metadata on the path."""

    def install(package: str, **entries: str) -> Path:
        module = f"{package}_module"
        monkeypatch.delitem(sys.modules, module, raising=False)
        root = tmp_path / package
        about = root / f"{package}-1.0.dist-info"
        about.mkdir(parents=True)
        (root / f"{module}.py").write_text(CODE)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{name} = {target.format(module=module)}" for name, target in entries.items()]
        (about / "entry_points.txt").write_text("\n".join(["[hpbandster_lite.samplers]", *lines]) + "\n")
        monkeypatch.syspath_prepend(root)
        return root

    return install


def test_the_built_in_names_come_first() -> None:
    assert algorithm_names() == tuple(BUILT_IN) == ("bohb", "mfbo", "hyperband", "sh", "bo", "random")
    assert all(algorithm.help for algorithm in BUILT_IN.values())


def test_names_and_plans_are_known_without_numpy() -> None:
    code = (
        "import sys\n"
        "from hpbandster_lite.samplers import algorithm_named, sampler_parameters\n"
        "assert algorithm_named('bohb').plan == 'hyperband' and sampler_parameters('bohb')\n"
        "print(sorted({'numpy', 'scipy', 'ConfigSpace', 'importlib.metadata'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


def test_successive_halving_runs_the_most_aggressive_bracket_again_and_again() -> None:
    space = square()
    settings = settings_for(space, algorithm="sh", budgets=(1.0, 3.0, 9.0))
    assert [bracket_plan(settings, number).s for number in range(4)] == [2, 2, 2, 2]
    engine = started(Limits(brackets=2), space=space, algorithm="sh", budgets=(1.0, 3.0, 9.0))
    grants = finish(engine)
    assert Counter(grant.budget for grant in grants) == {1.0: 18, 3.0: 6, 9.0: 2}
    assert {engine.state.proposals[grant.evaluation.config_id].origin for grant in grants} == {
        Origin.DEFAULT,
        Origin.RANDOM,
    }


# ------------------------------------------------------------------------------------------------ installed packages


def test_an_installed_algorithm_has_a_name_a_plan_a_sampler_and_parameters(installed: Callable[..., Path]) -> None:
    installed("toys", toy="{module}:toy")
    assert algorithm_names() == (*BUILT_IN, "toy")
    assert algorithm_named("toy").plan == "full_budget"
    assert sampler_parameters("toy") == {"pace": 2}
    assert isinstance(make_sampler("toy", square(), (1.0,), {"pace": 3}), Random)
    with pytest.raises(UsageError, match="the sampler of 'toy' has no parameter pase=3; did you mean 'pace'"):
        make_sampler("toy", square(), (1.0,), {"pase": 3})


def test_an_unknown_name_is_answered_with_the_nearest_of_all_packages(installed: Callable[..., Path]) -> None:
    installed("toys", toy="{module}:toy")
    with pytest.raises(UsageError, match="unknown algorithm 'toi'; did you mean 'toy'"):
        algorithm_named("toi")


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("no_such_module:toy", ("no_such_module", "cannot be loaded", "repair or uninstall")),
        ("{module}:missing", ("cannot be loaded (AttributeError", "missing", "repair or uninstall")),
        ("{module}:not_an_algorithm", ("is a int", "must be a hpbandster_lite.samplers.Algorithm")),
    ],
)
def test_a_broken_entry_point_is_refused_with_its_package(
    installed: Callable[..., Path], target: str, words: tuple[str, ...]
) -> None:
    installed("toys", toy=target)
    with pytest.raises(UsageError) as caught:
        algorithm_named("toy")
    assert all(word in str(caught.value) for word in ("'toy'", "the package 'toys'", *words))


def test_a_broken_package_does_not_keep_others_from_being_chosen(installed: Callable[..., Path]) -> None:
    installed("broken", broken="no_such_module:toy")
    installed("toys", toy="{module}:toy")
    assert algorithm_named("toy").help == "a toy"
    assert algorithm_named("bohb") is BUILT_IN["bohb"]


def test_two_packages_with_one_name_are_refused_with_both(installed: Callable[..., Path]) -> None:
    installed("toys", toy="{module}:toy")
    installed("games", toy="{module}:toy")
    with pytest.raises(UsageError, match=r"'(games|toys)' and .*'(games|toys)' share a name; uninstall one package"):
        algorithm_named("toy")


def test_a_package_cannot_take_a_built_in_name(installed: Callable[..., Path]) -> None:
    installed("toys", bohb="{module}:toy")
    with pytest.raises(UsageError, match=r"'bohb'.*the package 'toys' has a built-in algorithm's name; rename it"):
        algorithm_names()
    assert algorithm_named("bohb") is BUILT_IN["bohb"]
