"""Problems: found by a reference, checked, described; errors name the fault in terms of the user's file."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ConfigSpace import ConfigurationSpace, Float

from hpbandster_lite.errors import ProblemError, SpaceError, UsageError
from hpbandster_lite.problems import (
    FunctionProblem,
    describe,
    load,
    loading,
    module_of,
    name_of,
    reference_of,
    references,
    source_hash,
)
from hpbandster_lite.problems.description import _answer_in, _lines, progress_line
from hpbandster_lite.problems.interface import as_problem, check_callable
from hpbandster_lite.problems.references import absolute
from hpbandster_lite.space import SearchSpace
from workers import counting_ones

GOOD = """
from ConfigSpace import ConfigurationSpace, Float

min_budget, max_budget, eta, unit, integer_budgets = 1, 27, 3, "epochs", True

def space():
    return ConfigurationSpace(space=[Float("lr", (1e-4, 1e-1), log=True)])

def evaluate(config, budget, trial):
    return config["lr"] / budget
"""


@pytest.fixture(autouse=True)
def leaves_no_module_behind(tmp_path: Path) -> Iterator[None]:
    paths, names = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = paths
    for name in set(sys.modules) - names:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes a problem's file and returns its path."""

    def file(text: str, name: str = "made_up.py") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return file


def evaluate(config: dict[str, Any], budget: float, trial: Any) -> float:
    return 0.5


def space() -> ConfigurationSpace:
    return ConfigurationSpace(space=[Float("x", (0.0, 1.0))])


class Bundle:
    """A problem as an object."""

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    space = staticmethod(space)

    def evaluate(self, config: dict[str, Any], budget: float, trial: Any) -> float:
        return self.scale


bundle = Bundle(2.0)
holder = SimpleNamespace(inner=bundle)


def refusal_of(reference: str) -> str:
    with pytest.raises(ProblemError) as caught:
        load(reference)
    return str(caught.value)


# ---------------------------------------------------------------------------------------------------------- loading


@pytest.mark.parametrize("name", ["counting_ones", "hartmann6", "counting_ones:d64"])
def test_a_shipped_problem_is_found_by_its_name(name: str) -> None:
    assert callable(load(name).evaluate)


def test_the_shipped_problems_are_those_of_the_metadata() -> None:
    ours = {entry.name: entry.value for entry in entry_points(group=references.GROUP)}
    assert references._shipped_here() == ours
    assert {"counting_ones", "digits", "cifar10"} <= ours.keys()


def test_a_trainer_loads_a_shipped_problem_without_the_metadata_of_all_packages() -> None:
    script = (
        "import sys; from hpbandster_lite.problems import load; from hpbandster_lite.trainer.process import readiness; "
        "readiness(load('counting_ones'), 'counting_ones'); print('importlib.metadata' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_problem_of_another_package_is_found_by_its_entry_point(write: Write, tmp_path: Path) -> None:
    write(GOOD, "theirs_alone.py")
    metadata = tmp_path / "theirs-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: theirs\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[{references.GROUP}]\ntheirs = theirs_alone\n")
    sys.path.insert(0, str(tmp_path))
    assert module_of("theirs") is None
    assert load("theirs") is module_of("theirs") is sys.modules["theirs_alone"]


@pytest.mark.parametrize(
    ("reference", "loss"),
    [
        (f"{__name__}:evaluate", 0.5),
        (f"{__name__}:bundle", 2.0),
        (f"{__name__}:holder.inner", 2.0),
        (f"{__name__}:Bundle", 1.0),
        (__name__, 0.5),
    ],
)
def test_a_function_an_object_a_class_and_a_module_are_problems(reference: str, loss: float) -> None:
    assert load(reference).evaluate({}, 1.0, None) == loss  # type: ignore[arg-type] # they use no trial


def test_a_file_is_a_problem_and_is_imported_once(write: Write) -> None:
    reference = write(GOOD)
    assert load(reference) is load(reference)
    # It needs no trial.
    assert load(f"{reference}:evaluate").evaluate({"lr": 6.0}, 3.0, None) == 2.0  # type: ignore[arg-type]


def test_threads_that_load_a_file_at_once_get_all_of_it(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, may_go = threading.Event(), threading.Event()
    gate = SimpleNamespace(entered=entered, may_go=may_go)
    monkeypatch.setitem(sys.modules, "gate_of_the_import", gate)
    path = write("import gate_of_the_import as gate\ngate.entered.set()\ngate.may_go.wait(30)\n" + GOOD)
    loaded: list[Any] = []
    threads = [threading.Thread(target=lambda: loaded.append(load(path))) for _ in range(2)]
    threads[0].start()
    assert entered.wait(30)
    threads[1].start()
    # A thread that does not wait for the import has ended with an error by then.
    threads[1].join(0.2)
    may_go.set()
    for thread in threads:
        thread.join(30)
    assert len(loaded) == 2
    assert loaded[0] is loaded[1]


def test_a_file_may_import_its_neighbours(write: Write) -> None:
    write("WIDTH = 8", "neighbour_of_it.py")
    # Defined by the user's file.
    assert load(write(f"from neighbour_of_it import WIDTH\n{GOOD}")).WIDTH == 8  # type: ignore[attr-defined]


def test_a_file_of_a_package_has_relative_imports(write: Write) -> None:
    write("", "outer_package/__init__.py")
    write("WIDTH = 8", "outer_package/inner/sizes.py")
    write(f"from .sizes import WIDTH\n{GOOD}", "outer_package/inner/__init__.py")
    reference = write("from .inner import WIDTH, evaluate, space", "outer_package/problem.py")
    assert load(reference).WIDTH == 8  # type: ignore[attr-defined]  # defined by the user's file
    # Defined by the user's file.
    assert load(reference.replace("problem.py", "inner/__init__.py")).WIDTH == 8  # type: ignore[attr-defined]


def test_a_file_with_the_name_of_a_module_in_use_is_another_module(write: Write) -> None:
    reference = write(GOOD, "json.py")
    assert load(reference).max_budget == 27  # type: ignore[attr-defined]  # defined by the user's file
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("name", "module"),
    [("net.v2.py", "net_v2"), ("a.b.c.py", "a_b_c"), (".hidden.py", "_hidden"), ("my-net.1.py", "my-net_1")],
)
def test_a_file_name_may_have_dots(name: str, module: str, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    reference = write(GOOD, name)
    problem = load(reference)
    assert problem.max_budget == 27  # type: ignore[attr-defined]  # defined by the user's file
    assert load(reference) is problem
    assert problem.__name__ == module  # type: ignore[attr-defined]  # defined by the user's file
    for folder in (Path.cwd(), Path(reference).parent):
        monkeypatch.chdir(folder)
        assert reference_of(problem.evaluate) == f"{reference}:evaluate"
    assert name_of(reference) == name.removesuffix(".py").lstrip(".")


def test_a_file_with_dots_in_a_package_has_relative_imports(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    write("", "package_of_dots/__init__.py")
    write("WIDTH = 8", "package_of_dots/sizes.py")
    reference = write(f"from .sizes import WIDTH\n{GOOD}", "package_of_dots/net.v2.py")
    assert load(reference).WIDTH == 8  # type: ignore[attr-defined]  # defined by the user's file
    # Defined by the user's file.
    assert load(write(GOOD, "other.dots/net.v3.py")).max_budget == 27  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["package_of_spawners/net.v2.py", "module_in_use.py"])
def test_a_spawned_child_imports_the_problem_whatever_its_file_name(
    name: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    main = ModuleType("__main__")
    main.__spec__ = ModuleSpec("hpbandster_lite.trainer.__main__", None)
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setitem(sys.modules, "module_in_use", ModuleType("module_in_use"))
    write("", "package_of_spawners/__init__.py")
    problem: Any = load(write(f"def twice(x): return 2 * x\n{GOOD}", name))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply_async(problem.twice, (3,)).get(30) == 6


def test_a_module_beside_the_current_directory_is_found(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(GOOD, "beside_me.py")
    monkeypatch.chdir(tmp_path)
    assert load("beside_me").max_budget == 27  # type: ignore[attr-defined]  # defined by the user's file


def test_loading_is_known_while_it_lasts_and_not_after(write: Write) -> None:
    reference = write("from hpbandster_lite.problems import loading\nSEEN = loading()\n" + GOOD)
    assert load(reference).SEEN  # type: ignore[attr-defined]  # defined by the user's file
    assert not loading()
    refusal_of(write("raise ValueError", "broken.py"))
    assert not loading()


# ------------------------------------------------------------------------------------------- references, both ways


@pytest.mark.parametrize("target", [evaluate, bundle, Bundle, sys.modules[__name__], counting_ones.d64])
def test_what_can_be_imported_is_found_again_by_its_reference(target: Any) -> None:
    found = load(reference_of(target))
    evaluated = found.evaluate
    assert target in (found, type(found), evaluated)


def test_the_script_that_runs_is_named_by_its_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    main.__file__ = write("def evaluate(config, budget, trial): return 0.5")
    exec(compile(Path(main.__file__).read_text(), main.__file__, "exec"), vars(main))  # noqa: S102 (as Python runs it)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert reference_of(main.evaluate) == f"{main.__file__}:evaluate"
    assert reference_of(main) == main.__file__


def test_a_module_that_python_dash_m_runs_is_named_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    main.__spec__ = SimpleNamespace(name="package.train.__main__")  # type: ignore[assignment] # as runpy has it
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert reference_of(main) == "package.train"


def nested() -> Callable[..., float]:
    def inner(config: dict[str, Any], budget: float, trial: Any) -> float:
        return 0.5

    return inner


def decorated(function: Callable[..., float]) -> Callable[..., float]:
    def wrapper(*arguments: Any) -> float:
        return function(*arguments)

    return wrapper


class Methods:
    """An objective in each form that a class has, and one that is called itself."""

    def __call__(self, config: dict[str, Any], budget: float, trial: Any) -> float:
        return 0.5

    def run(self, config: dict[str, Any], budget: float, trial: Any) -> float:
        return 0.5

    @classmethod
    def of_class(cls, config: dict[str, Any], budget: float, trial: Any) -> float:
        return 0.5

    @staticmethod
    def static(config: dict[str, Any], budget: float, trial: Any) -> float:
        return 0.5


class MoreMethods(Methods):
    """Inherits all."""


with_wraps = functools.wraps(evaluate)(decorated(evaluate))
without_wraps = decorated(evaluate)
top_level_lambda = lambda config, budget, trial: 0.5  # noqa: E731 (as users write it)
top_level_partial = functools.partial(evaluate)
methods = Methods()
keeper = SimpleNamespace(methods=Methods())
cached = functools.cache(evaluate)
of_other_module = functools.partial(counting_ones.evaluate)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        *((name, name) for name in ("with_wraps", "without_wraps", "top_level_lambda", "top_level_partial", "cached")),
        *((name, name) for name in ("methods", "methods.run", "bundle.evaluate", "Methods", "Methods.of_class")),
        *((name, name) for name in ("MoreMethods.of_class", "Methods.static", "of_other_module")),
        *(("MoreMethods.static", "Methods.static"), ("methods.of_class", "Methods.of_class")),
        *((name, name) for name in ("keeper.methods", "keeper.methods.run")),
    ],
)
def test_every_callable_with_a_name_in_a_module_is_found_by_it(target: str, name: str) -> None:
    value = eval(target)  # noqa: S307 (a name of this file)
    assert reference_of(value) == f"{__name__}:{name}"
    found = load(reference_of(value))
    if target not in ("of_other_module", "cached"):
        # It needs no trial.
        assert found.evaluate({}, 1.0, None) == (2.0 if target == "bundle.evaluate" else 0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["with_wraps", "without_wraps", "top_level_lambda", "methods.run"])
def test_by_its_own_name_alone_a_callable_with_another_name_is_not_found(name: str) -> None:
    with pytest.raises(ProblemError, match="other processes cannot import"):
        reference_of(eval(name), by_own_name=True)  # noqa: S307 (a name of this file)
    for other in ("evaluate", "Methods.of_class", "methods", "top_level_partial"):
        assert reference_of(eval(other), by_own_name=True) == f"{__name__}:{other}"  # noqa: S307 (names of this file)


UNDER_MAIN = """
import functools
def evaluate(config, budget, trial): return 0.5
class Runner:
    def evaluate(self, config, budget, trial): return 0.5
early = functools.partial(evaluate)
def main():
    global late
    late = functools.partial(evaluate)
if __name__ == "__main__":
    def inside(config, budget, trial): return 0.5
    runner, short = Runner(), lambda config, budget, trial: 0.5
    main()
"""


@pytest.mark.parametrize(
    ("target", "name"),
    [("inside", "inside"), ("runner", "runner"), ("runner.evaluate", "runner"), ("short", "short"), ("late", "late")],
)
def test_what_exists_only_under_the_main_block_is_refused_in_words_that_fit(
    target: str, name: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = ModuleType("__main__")
    main.__file__ = write(UNDER_MAIN)
    exec(compile(UNDER_MAIN, main.__file__, "exec"), vars(main))  # noqa: S102 (as Python runs it)
    monkeypatch.setitem(sys.modules, "__main__", main)
    assert reference_of(main.early) == f"{main.__file__}:early"
    with pytest.raises(ProblemError) as caught:
        reference_of(eval(target, vars(main)))  # noqa: S307 (a name of this test)
    assert f"cannot import {target}: the script sets {name} under if __name__" in str(caught.value)
    assert "move it above the block" in str(caught.value)


@pytest.mark.parametrize(
    "target",
    [lambda config, budget, trial: 0.5, nested(), Bundle(), Bundle().evaluate, functools.partial(evaluate)],
    ids=["lambda", "nested function", "unbound object", "bound method", "partial"],
)
def test_what_no_other_process_can_import_is_refused_with_the_remedy(target: Any) -> None:
    with pytest.raises(ProblemError, match=r"other processes cannot import .* top level of a file"):
        reference_of(target)


def test_what_was_typed_into_a_shell_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    exec("def evaluate(config, budget, trial): return 0.5", vars(main))  # noqa: S102 (as a shell does)
    monkeypatch.setitem(sys.modules, "__main__", main)
    with pytest.raises(ProblemError, match="typed into a notebook or a shell"):
        reference_of(main.evaluate)


def test_a_reference_to_a_file_holds_in_any_directory(write: Write, tmp_path: Path, monkeypatch: Any) -> None:
    write(GOOD)
    monkeypatch.chdir(tmp_path)
    assert absolute("made_up.py:evaluate") == f"{tmp_path}/made_up.py:evaluate"
    assert absolute("./made_up.py") == f"{tmp_path}/made_up.py"
    assert absolute("digits") == "digits"
    assert absolute("module.name:problem") == "module.name:problem"


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("digits", "digits"),
        ("my_module:problem", "my_module-problem"),
        ("path/to/file.py", "file"),
        ("path/to/file.py:problem", "file-problem"),
        ("a.b.c:d.e", "a.b.c-d.e"),
        ("<lambda>", "lambda"),
        ("::", "search"),
    ],
)
def test_a_problem_has_a_short_name_that_is_fit_for_files(reference: str, name: str) -> None:
    assert name_of(reference) == name


# ------------------------------------------------------------------------------------------------ unknown problems


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("digit", "there is no problem 'digit': it is not shipped"),
        ("digit", "did you mean 'digits'?"),
        ("counting-ones", "did you mean 'counting_ones'?"),
        ("zzz", "; there is cifar10, cifar100, counting_ones, digits, fashion_mnist, hartmann6, images, mnist"),
        ("zzz", "write a file as path/to/file.py:problem"),
        ("counting_ones:d63", "counting_ones has no 'd63'; did you mean 'd64'"),
        (f"{__name__}:holder.outer", f"{__name__} has no 'holder.outer'"),
        ("", "'' names no problem; use for example 'digits'"),
        (":problem", "':problem' names no problem"),
        ("..relative", "'..relative' is not the name of a module"),
        ("nowhere/to/be/found.py", "there is no file"),
        ("nowhere/to", "there is no file"),
    ],
)
def test_an_unknown_problem_is_refused_with_the_nearest_name(reference: str, words: str) -> None:
    assert words in refusal_of(reference)


def test_a_directory_is_no_problem_and_a_search_file_in_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"is a directory; name a file in it$"):
        load(str(tmp_path))
    for name in ("net.py", "search.toml"):
        (tmp_path / name).touch()
        with pytest.raises(ProblemError, match=rf"is a directory; name a file in it, such as {tmp_path / name}$"):
            load(str(tmp_path))


def test_a_file_that_is_not_there_is_answered_with_the_nearest_file(write: Write) -> None:
    assert "made_op.py; did you mean 'made_up.py'?" in refusal_of(write(GOOD).replace("made_up", "made_op"))


def test_a_file_that_is_no_python_is_refused(write: Write) -> None:
    assert "is not a Python file; its name must end in .py" in refusal_of(write(GOOD, "made_up.txt"))


# ----------------------------------------------------------------------------------------------- errors of an import


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\n\n1 / 0\n", "failed at FILE:3: ZeroDivisionError: division by zero"),
        ("x = (\n", "failed at FILE:1: SyntaxError: '(' was never closed"),
        ("def f():\n    raise KeyError('width')\nf()\n", "failed at FILE:2: KeyError: 'width'"),
        ("import torch_no_such\n", "failed at FILE:1: ModuleNotFoundError: No module named 'torch_no_such'; install"),
        ("raise ModuleNotFoundError('x', name='torch')\n", 'install it with: pip install -e ".[torch]" in a clone'),
        ("import sys\nsys.exit(3)\n", 'called sys.exit(3); start the search under if __name__ == "__main__"'),
        ("raise Exception\n", "failed at FILE:1: Exception"),
    ],
)
def test_an_import_that_fails_names_the_user_s_line(text: str, words: str, write: Write) -> None:
    file = write(text)
    refusal = refusal_of(file)
    assert refusal.startswith(f"importing {file!r} ")
    assert words.replace("FILE", file) in refusal


def test_a_file_that_failed_is_imported_anew_the_next_time(write: Write) -> None:
    refusal_of(write("1 / 0"))
    assert load(write(GOOD)).max_budget == 27  # type: ignore[attr-defined]  # defined by the user's file


def test_a_search_that_a_file_starts_while_a_worker_imports_it_is_refused_with_the_guard_as_remedy(
    write: Write,
) -> None:
    text = f"{GOOD}\nimport hpbandster_lite as hpb\nhpb.minimize(evaluate, space(), min_budget=1, max_budget=9)\n"
    refusal = refusal_of(write(text))
    assert "minimize was called while a worker imports this script" in refusal
    assert 'if __name__ == "__main__":' in refusal


# ------------------------------------------------------------------------------------------------- parts of a problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def evaluate(config, budget): pass", "(config, budget), but must accept (config, budget, trial): too"),
        ("def evaluate(config, budget, trial, lr): pass", "missing a required argument: 'lr'"),
        ("def evaluate(*, config, budget, trial): pass", "too many positional arguments"),
        ("evaluate = 3", "is an int; it must be a function (config, budget, trial)"),
        ("evaluate = None", "is a NoneType; it must be a function (config, budget, trial)"),
        ("def space(): pass", "has no evaluate(config, budget, trial)"),
        ("class P:\n    evaluate = print\np = P()", "did you mean its attribute 'P' or 'p'?"),
        (f"{GOOD}\ndef feasible(): pass", "has the signature (), but must accept (config)"),
        (f"{GOOD}\ndef test(config): pass", "has the signature (config), but must accept (config, budget, trial)"),
        (f"{GOOD}\nfeasible = 'yes'", "is a str; it must be a function (config)"),
    ],
)
def test_a_part_that_does_not_fit_is_named_with_what_it_has_and_what_it_needs(
    text: str, words: str, write: Write
) -> None:
    assert words in refusal_of(write(text))


@pytest.mark.parametrize(
    "text",
    [
        "def evaluate(config, budget, trial): pass",
        "def evaluate(config, budget, trial, verbose=False): pass",
        "def evaluate(*args): pass",
        "def evaluate(c, b, /, t=None, **more): pass",
        "import operator\nevaluate = operator.itemgetter",
    ],
)
def test_what_can_be_called_with_three_arguments_will_do(text: str, write: Write) -> None:
    load(write(text))


async def coroutine(config: dict[str, Any], budget: float, trial: Any) -> float:
    return 0.5


def generator(config: dict[str, Any], budget: float, trial: Any) -> Iterator[float]:
    yield 0.5


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (coroutine, "coroutine returns a coroutine, not its result; write def, and return in place of yield"),
        (generator, "generator returns a generator, not its result; write def, and return in place of yield"),
        (Methods.run, "'trial'; it is a method of a class: give the method of an object"),
    ],
    ids=["coroutine", "generator", "method"],
)
def test_a_function_that_returns_no_result_is_refused(function: Any, words: str) -> None:
    with pytest.raises(ProblemError) as caught:
        FunctionProblem(function)
    assert words in str(caught.value)


def test_a_class_that_needs_arguments_is_refused() -> None:
    class Needy:
        def __init__(self, width: int) -> None: ...

        evaluate = staticmethod(evaluate)

    with pytest.raises(ProblemError, match=r"signature \(width.*, but must accept \(\): missing a required arg"):
        as_problem(Needy, "needy")


def test_what_does_not_tell_its_signature_is_left_to_the_call() -> None:
    check_callable(SimpleNamespace, ("config",), "it")
    check_callable(max, ("config", "budget", "trial"), "it")


# --------------------------------------------------------------------------------------------------------- functions


def test_a_function_problem_has_what_it_was_given() -> None:
    problem = FunctionProblem(evaluate, space(), feasible=bool, min_budget=1, unit="epochs")
    assert describe(problem, "p").unit == "epochs"
    assert describe(problem, "p").has_feasible
    assert not describe(problem, "p").has_test


def test_a_function_alone_has_no_space_and_its_error_says_how_to_give_one() -> None:
    with pytest.raises(ProblemError, match=r"evaluate is a function, which has no search space; call minimize"):
        describe(FunctionProblem(evaluate), "p")


def test_a_function_problem_refuses_a_default_that_there_is_not() -> None:
    with pytest.raises(ProblemError, match="a problem has no default 'min_budgets'; did you mean 'min_budget'"):
        FunctionProblem(evaluate, min_budgets=1)


def test_a_function_problem_refuses_a_function_that_takes_something_else() -> None:
    with pytest.raises(ProblemError, match="<lambda> has the signature"):
        FunctionProblem(lambda config: 0.5)


# ------------------------------------------------------------------------------------------------------- description


def test_a_description_holds_what_a_search_needs_to_know(write: Write) -> None:
    reference = write(GOOD)
    found = describe(load(reference), reference)
    assert (found.reference, found.name) == (reference, "made_up")
    assert (found.min_budget, found.max_budget, found.eta, found.unit) == (1.0, 27.0, 3.0, "epochs")
    assert (found.budgets, found.brackets, found.integer_budgets) == (None, None, True)
    assert (found.has_feasible, found.has_test) == (False, False)
    assert SearchSpace.from_json(found.space_tables).names == ("lr",)
    assert "lr" in json.dumps(found.space_json)
    assert len(found.source_hash) == 64


def test_a_space_may_be_an_attribute(write: Write) -> None:
    text = GOOD.replace("def space():\n    return", "space =")
    assert SearchSpace.from_json(describe(load(write(text)), "p").space_tables).names == ("lr",)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("min_budget", "1", "a number"),
        ("min_budget", True, "a number"),
        ("max_budget", [27], "a number"),
        ("eta", "three", "a number"),
        ("unit", 3, "a string"),
        ("budgets", 27, "a list of numbers"),
        ("budgets", "1,3,9", "a list of numbers"),
        ("budgets", [1, "3"], "a list of numbers"),
        ("brackets", 1.5, "an integer"),
        ("brackets", True, "an integer"),
        ("integer_budgets", 1, "True or False"),
    ],
)
def test_a_default_of_a_wrong_type_is_refused_with_field_value_and_remedy(name: str, value: Any, wanted: str) -> None:
    with pytest.raises(ProblemError) as caught:
        describe(FunctionProblem(evaluate, space(), **{name: value}), "my_problem")
    assert str(caught.value) == f"{name} of 'my_problem' is {value!r}; it must be {wanted}"


def test_whole_floats_and_values_of_numpy_are_defaults() -> None:
    given: dict[str, Any] = {"min_budget": np.int64(1), "eta": np.float32(3), "brackets": 1e1, "maximize": np.True_}
    about = describe(FunctionProblem(evaluate, space(), budgets=np.array([1, 3]), **given), "p")
    found = (about.min_budget, about.eta, about.brackets, about.maximize, about.budgets)
    assert repr(found) == "(1.0, 3.0, 10, True, (1.0, 3.0))"


def test_a_default_of_none_is_no_default() -> None:
    assert describe(FunctionProblem(evaluate, space(), unit=None, eta=None), "p").unit == "budget"


def test_an_explicit_ladder_is_plain() -> None:
    assert describe(FunctionProblem(evaluate, space(), budgets=[1, 3, 9]), "p").budgets == (1.0, 3.0, 9.0)


def test_the_error_for_a_problem_without_a_space_says_how_to_write_one() -> None:
    with pytest.raises(ProblemError, match=r"'p' has no search space; give it a function space\(\) that"):
        describe(SimpleNamespace(evaluate=evaluate), "p")


@pytest.mark.parametrize("where", ["in a function", "at the top"])
def test_a_space_that_configspace_refuses_is_a_space_error_with_the_line_and_its_message(
    where: str, write: Write
) -> None:
    line = 'ConfigurationSpace(space=[Float("lr", (1.0, 0.1))])'
    head = "from ConfigSpace import ConfigurationSpace, Float\ndef evaluate(config, budget, trial): pass\n"
    text = f"{head}space = {line}\n" if where == "at the top" else f"{head}def space(): return {line}\n"
    file = write(text)
    with pytest.raises(SpaceError) as caught:
        describe(load(file), file)
    refusal = str(caught.value)
    assert f"the search space of {file!r} cannot be built at {file}:3:" in refusal
    assert "Upper bound 0.1" in refusal
    assert f"check it with: hpbandster-lite plan {file}" in refusal


@pytest.mark.parametrize("made", ["{'lr': (0, 1)}", "None", "[1]"])
def test_a_space_that_is_none_is_refused(made: str, write: Write) -> None:
    text = f"def space(): return {made}\ndef evaluate(config, budget, trial): pass\n"
    with pytest.raises(UsageError, match="ConfigurationSpace"):
        describe(load(write(text)), "p")


# -------------------------------------------------------------------------------------------------------- source hash


def test_the_source_of_a_file_and_of_all_files_of_a_package_counts(write: Write, tmp_path: Path) -> None:
    single = load(write(GOOD))
    first = source_hash(single)
    write(f"{GOOD}\n# changed", "made_up.py")
    assert source_hash(single) != first
    write("", "bundle_of_it/net.py")
    package = load(write(GOOD, "bundle_of_it/__init__.py"))
    hashes = {source_hash(package)}
    write("x = 1", "bundle_of_it/net.py")
    hashes.add(source_hash(package))
    write("x = 1", "bundle_of_it/deep/net.py")
    hashes.add(source_hash(package))
    (tmp_path / "bundle_of_it/deep/net.py").rename(tmp_path / "bundle_of_it/deep/other.py")
    hashes.add(source_hash(package))
    assert len(hashes) == 4


def test_functions_objects_and_partials_have_the_source_of_their_file() -> None:
    whole = source_hash(sys.modules[__name__])
    partial = FunctionProblem(functools.partial(evaluate))
    assert {source_hash(FunctionProblem(evaluate)), source_hash(bundle), source_hash(partial)} == {whole}


def test_a_problem_without_a_file_has_no_source() -> None:
    made: dict[str, Any] = {"__name__": "made_in_a_shell"}
    exec("def evaluate(config, budget, trial): return 0.5", made)  # noqa: S102 (as a shell does)
    assert source_hash(FunctionProblem(made["evaluate"])) == ""


def test_modules_that_a_problem_names_count_as_its_source_and_are_not_imported(write: Write) -> None:
    named = f"{GOOD}\nsource_modules = ('net_of_it', 'layers_of_it')\n"
    write("raise RuntimeError('imported')", "net_of_it.py")
    write("", "layers_of_it/__init__.py")
    problem = load(write(named))
    hashes = {source_hash(problem)}
    write("raise RuntimeError('changed')", "net_of_it.py")
    hashes.add(source_hash(problem))
    write("x = 1", "layers_of_it/deep.py")
    hashes.add(source_hash(problem))
    assert len(hashes) == 3


def test_a_module_named_as_source_that_is_not_there_is_refused_by_name(write: Write) -> None:
    problem = load(write(f"{GOOD}\nsource_modules = ('no_such.module',)\n"))
    with pytest.raises(ProblemError, match=r"source_modules names 'no_such\.module', .* correct the name"):
        source_hash(problem)


# ------------------------------------------------------------------------------------------------ progress of a child


def test_lines_about_progress_come_before_the_answer_and_set_the_time_limit_anew() -> None:
    reading, writing = os.pipe()
    words: list[str] = []
    with os.fdopen(reading, "rb") as answers, os.fdopen(writing, "wb", buffering=0) as child:
        child.write(f"{progress_line('one')}\n{progress_line('two')}\n".encode() + b'{"answer":')

        def third(text: str) -> None:
            words.append(text)
            if text == "two":
                child.write(b'1}\n')

        assert _answer_in(_lines(answers.fileno(), 5.0), third) == (b'{"answer":1}\n', False)
        child.write(b"half")
        assert _answer_in(_lines(answers.fileno(), 0.01), third) == (b"half", True)
    assert words == ["one", "two"]
