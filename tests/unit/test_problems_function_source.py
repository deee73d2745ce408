"""A function without an import path is identified by everything that it reads, and by nothing else."""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import logging
import os
import random
import re
import subprocess
import sys
import textwrap
import threading
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from scipy import special

from hpbandster_lite.problems import source_differences
from hpbandster_lite.problems.function_source import function_parts, note_own_changes, source_of_function
from hpbandster_lite.problems.interface import FunctionProblem
from hpbandster_lite.problems.value_hash import Unreadable, ValueReader
from hpbandster_lite.records import ProblemSource

Module = Callable[[str, str], None]


def typed(text: str, /, **names: Any) -> Any:
    """The function ``f`` of a cell that is typed into a notebook where these names have these values."""
    cell: dict[str, Any] = {"__name__": "__main__", **names}
    program = compile(textwrap.dedent(text), f"<cell {random.random()}>", "exec")
    exec(program, cell)  # noqa: S102 (a notebook does so)
    return cell["f"]


def parts(problem: Any) -> Mapping[str, str]:
    found, reason = function_parts(problem)
    assert reason == ""
    return found


def value_hash(value: Any) -> str:
    reader = ValueReader()
    reader.read(value)
    return reader.hash


def differing(one: Any, other: Any) -> set[str]:
    before, after = parts(one), parts(other)
    return {name for name in {**before, **after} if before.get(name) != after.get(name)}


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Module]:
    """A function that writes a module of the user, which counts as newly imported."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def write(name: str, text: str) -> None:
        names.append(name)
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        sys.modules.pop(name, None)
        importlib.invalidate_caches()

    yield write
    for name in names:
        sys.modules.pop(name, None)


# ------------------------------------------------------------------------------------------------------------ code


def test_the_same_cell_run_again_is_the_same_function_wherever_it_stands() -> None:
    cell = "def f(config, budget, trial):\n    return config['x'] + [y + 1 for y in (1, 2)][0]"
    moved = "\n\n# a comment\n\n" + cell.replace("\n    ", "\n\n    # another\n    ")
    assert differing(typed(cell), typed(moved)) == set()


@pytest.mark.parametrize(
    "edited",
    [
        "f = lambda c, b, t: c['x'] * 2",
        "f = lambda c, b, t: c['x'] + 3",
        "f = lambda c, b, t: c['x'] + 2.0",
        "f = lambda c, b, t: c['y'] + 2",
        "f = lambda c, b, t, k=1: c['x'] + 2",
        "f = lambda c, b, t: (lambda: c['x'] + 2)()",
    ],
)
def test_other_code_is_another_function(edited: str) -> None:
    assert "its code" in differing(typed("f = lambda c, b, t: c['x'] + 2"), typed(edited))


def test_code_inside_the_code_counts() -> None:
    cell = "def f(c, b, t):\n    def g(): return {}\n    return g()"
    assert differing(typed(cell.format(1)), typed(cell.format(2))) == {"its code"}


def test_a_loop_over_a_variable_makes_another_function_each_time() -> None:
    def made(k: Any) -> Any:
        return lambda c, b, t: k * c["x"]

    hashes = {str(parts(made(k))) for k in (1, 2, 1.0, True, "1", None, 0.0, -0.0)}
    assert len(hashes) == 8
    assert differing(made(1), made(2)) == {"its variable 'k'"}


def test_default_values_and_globals_count_and_other_globals_do_not() -> None:
    cell = "def f(c, b, t, *, scale={}): return offset + scale"
    assert differing(typed(cell.format(1), offset=1), typed(cell.format(1), offset=1, other=2)) == set()
    assert differing(typed(cell.format(1), offset=1), typed(cell.format(2), offset=3)) == {
        "its default values",
        "its global 'offset'",
    }
    assert differing(typed(cell.format(1), offset=1), typed(cell.format(1))) == {"its global 'offset'"}


def test_the_users_own_functions_count_in_turn() -> None:
    cell = "def h(x): return x + {}\ndef g(x): return h(x) + k\ndef f(c, b, t): return g(c['x'])"
    before = typed(cell.format(1), k=1)
    assert differing(before, typed(cell.format(1), k=1)) == set()
    assert differing(before, typed(cell.format(2), k=1)) == {"its global 'g'"}
    assert differing(before, typed(cell.format(1), k=2)) == {"its global 'g'"}


def test_functions_that_call_each_other_and_themselves_are_read() -> None:
    cell = "def g(n): return n and f(n - {})\ndef f(n, b=0, t=0): return n and g(n - 1)"
    assert differing(typed(cell.format(1)), typed(cell.format(1))) == set()
    assert "its global 'g'" in differing(typed(cell.format(1)), typed(cell.format(2)))


def test_a_decorated_function_and_its_decorator_count() -> None:
    cell = """
    import functools
    def scaled(function):
        @functools.wraps(function)
        def run(*a): return function(*a) * {}
        return run
    @scaled
    def f(c, b, t): return {}
    """
    before = typed(cell.format(1, 1))
    assert differing(before, typed(cell.format(1, 1))) == set()
    assert differing(before, typed(cell.format(2, 1))) == {"its code"}
    assert "its variable 'function'" in differing(before, typed(cell.format(1, 2)))


@pytest.mark.parametrize("wrapper", ["functools.lru_cache(None)", "functools.cache", "contextlib.contextmanager"])
def test_what_a_library_wraps_counts(wrapper: str) -> None:
    cell = f"import contextlib, functools\n@{wrapper}\ndef g(x): return {{}}\ndef f(c, b, t): return g(1)"
    before = typed(cell.format(1))
    assert differing(before, typed(cell.format(1))) == set()
    assert differing(before, typed(cell.format(2))) == {"its global 'g'"}


def test_a_library_counts_by_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = "import numpy as np\nfrom numpy.linalg import norm\ndef f(c, b, t): return np.sin(1) + norm([1])"
    from hpbandster_lite.problems import value_hash as room

    before = parts(typed(cell))
    assert parts(typed(cell)) == before
    monkeypatch.setattr(np, "__version__", "99.9")
    room.version_of.cache_clear()
    after = parts(typed(cell))
    room.version_of.cache_clear()
    assert {name for name in before if before[name] != after[name]} == {"its global 'np'", "its global 'norm'"}


def test_a_module_of_the_users_own_counts_by_its_file_and_by_what_is_named_in_it(module: Module) -> None:
    cell = "import settings_of_mine as s\ndef f(c, b, t): return s.scale(c['x']) + s.OFFSET"
    module("settings_of_mine", "OFFSET = 1\ndef scale(x): return 2 * x\n")
    before = parts(typed(cell))
    assert parts(typed(cell)) == before
    sys.modules["settings_of_mine"].OFFSET = 2  # type: ignore[attr-defined]  # defined by the script
    assert parts(typed(cell)) != before
    module("settings_of_mine", "# a comment\nOFFSET = 1\n\ndef scale(x): return 2 * x\n")
    assert parts(typed(cell)) == before
    module("settings_of_mine", "OFFSET = 1\ndef scale(x): return 3 * x\n")
    assert parts(typed(cell)) != before


@pytest.mark.parametrize("is_loaded", [True, False], ids=["loaded", "not loaded"])
def test_a_module_that_the_function_imports_when_it_is_called_counts(is_loaded: bool, module: Module) -> None:
    cell = "def f(c, b, t):\n    import late_module\n    return late_module.scale(1)"

    def read(text: str) -> Mapping[str, str]:
        module("late_module", text)
        if is_loaded:
            importlib.import_module("late_module")
        return parts(typed(cell))

    before = read("def scale(x): return 2 * x")
    assert read("def scale(x): return 2 * x") == before
    assert read("def scale(x): return 3 * x") != before


@pytest.mark.parametrize(
    "body",
    [
        "from late_package.sub import K",
        "from late_package import sub",
        "import late_package.sub as s",
        "import late_package.other",
    ],
)
def test_the_modules_of_a_package_that_is_not_loaded_count(body: str, tmp_path: Path, module: Module) -> None:
    folder = tmp_path / "late_package"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "other.py").write_text("from . import sub\n")

    def read(text: str) -> Mapping[str, str]:
        (folder / "sub.py").write_text(text)
        importlib.invalidate_caches()
        return parts(typed(f"def f(c, b, t):\n    {body}"))

    module("unused", "")
    before = read("K = 1")
    assert read("# a comment\nK = 1") == before
    assert read("K = 100") != before


@pytest.mark.parametrize(
    "held",
    [
        lambda module: lambda c, b, t: module.settings.k,
        lambda module: lambda c, b, t, m=module: m.settings.k,
        lambda module: SimpleNamespace(module=module, evaluate=lambda c, b, t: 1),
    ],
    ids=["closure", "default", "attribute"],
)
def test_a_module_that_is_held_as_a_value_counts_by_its_state(held: Callable[[Any], Any]) -> None:
    module = ModuleType("made_here")
    vars(module)["settings"] = SimpleNamespace(k=1)
    before = parts(held(module))
    assert parts(held(module)) == before
    vars(module)["settings"].k = 100
    assert parts(held(module)) != before


def test_what_python_caches_in_a_class_does_not_count() -> None:
    class Mine(Items):
        pass

    before = value_hash(Mine([1]))
    Mine([1]).__reduce_ex__(4)
    assert "__slotnames__" in vars(Mine)
    assert value_hash(Mine([1])) == before


# ---------------------------------------------------------------------------------------------------------- objects


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Point:
    x: float
    y: list[int] = dataclasses.field(default_factory=list)


class Named(NamedTuple):
    a: int


class Slotted:
    __slots__ = ("__hidden", "a")

    def __init__(self, a: Any, hidden: Any) -> None:
        self.a, self.__hidden = a, hidden


class Forgetful:
    """Its pickled form leaves out what it does."""

    def __init__(self, a: Any) -> None:
        self.a = a

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Items(list):  # type: ignore[type-arg]  # as users write it
    pass


Old = namedtuple("Old", "a b")


def _with_attributes(table: pd.DataFrame, a: Any) -> pd.DataFrame:
    table.attrs["a"] = a
    return table


PAIRS: dict[str, Callable[[Any], Any]] = {
    "list": lambda a: [1, [a]],
    "tuple": lambda a: (1, (a,)),
    "many plain values": lambda a: [*range(100), a],
    "dict": lambda a: {"k": {"a": a}},
    "key": lambda a: {a: 1},
    "set": lambda a: {"x", "y", a},
    "set of many": lambda a: {*map(str, range(1_000)), a},
    "frozenset": lambda a: frozenset({("k", a)}),
    "mapping proxy": lambda a: MappingProxyType({"a": a}),
    "bytes": lambda a: bytes([a]),
    "bytearray": lambda a: bytearray([a]),
    "range": range,
    "deque": lambda a: deque([a]),
    "ordered dict": lambda a: OrderedDict(a=a),
    "defaultdict": lambda a: defaultdict(list, a=a),
    "counter": lambda a: Counter("a" * a),
    "namespace": lambda a: SimpleNamespace(a=a),
    "date": lambda a: date(2020, 1, a),
    "decimal": Decimal,
    "path": lambda a: Path("x") / str(a),
    "pattern": lambda a: re.compile(f"x{a}"),
    "enum": Colour,
    "data class": lambda a: Point(1.0, [a]),
    "named tuple": Named,
    "old named tuple": lambda a: Old(1, a),
    "slots": lambda a: Slotted(a, 1),
    "hidden slots": lambda a: Slotted(1, a),
    "an object that forgets": Forgetful,
    "a list of one's own": lambda a: Items([a]),
    "partial": lambda a: functools.partial(max, a),
    "partial of a lambda": lambda a: functools.partial(lambda b, c: b + c, c=a),
    "bound method of a list": lambda a: [a].index,
    "random generator": random.Random,
    "numpy generator": np.random.default_rng,
    "numpy state": np.random.RandomState,
    "numpy number": np.float32,
    "numpy type": lambda a: np.dtype(f"i{2 * a}"),
    "array": lambda a: np.array([[1.0, a], [3.0, 4.0]]),
    "array of texts": lambda a: np.array(["x", str(a)]),
    "array of objects": lambda a: np.array([None, [a]], dtype=object),
    "array of times": lambda a: np.array([a], dtype="datetime64[s]"),
    "masked array": lambda a: np.ma.array([1, 2], mask=[a == 1, False]),
    "records": lambda a: np.array([(1, a)], dtype=[("p", "i4"), ("q", "i8")]),
    "data frame": lambda a: pd.DataFrame({"p": [1, a], "q": ["x", "y"]}),
    "column name": lambda a: pd.DataFrame({f"p{a}": [1]}),
    "index": lambda a: pd.DataFrame({"p": [1]}, index=[a]),
    "series": lambda a: pd.Series([1.0, a]),
    "categories": lambda a: pd.Series(["x"], dtype=pd.CategoricalDtype(["x", f"y{a}"])),
    "order of categories": lambda a: pd.Series(pd.Categorical(["x", "y"], ordered=a == 1)),
    "attributes of a table": lambda a: _with_attributes(pd.DataFrame({"p": [1]}), a),
    "time stamp": lambda a: pd.Timestamp(2020, 1, a),
    "times": lambda a: pd.date_range("2020-01-01", periods=a),
    "missing values": lambda a: pd.Series([None, a], dtype="Int64"),
    "logger": lambda a: logging.getLogger(f"of{a}"),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_values_count_by_their_content(kind: str) -> None:
    make = PAIRS[kind]
    assert value_hash(make(1)) == value_hash(make(1))
    assert value_hash(make(1)) != value_hash(make(2))


MIXED = """
import collections, dataclasses, enum, numpy, pandas, sklearn.datasets, sklearn.svm
from hpbandster_lite.problems.function_source import function_parts
class Kind(enum.Flag):
    A, B = 1, 2
@dataclasses.dataclass
class Options:
    names: set = dataclasses.field(default_factory=lambda: {"a", "b", "c"})
    kind: Kind = Kind.A
    counts: dict = dataclasses.field(default_factory=lambda: collections.Counter("abc"))
options, generator = Options(), numpy.random.default_rng(3)
x, y = sklearn.datasets.load_iris(return_X_y=True, as_frame=True)
fitted = sklearn.svm.SVC().fit(x, y)
print(sorted(function_parts(lambda c, b, t: (options, generator, x, y, fitted, {"p", "q", "r"}))[0].items()))
"""


def test_another_process_finds_the_same_hashes() -> None:
    texts = [
        subprocess.run(
            [sys.executable, "-c", MIXED], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    ]
    assert texts[0] == texts[1]
    assert texts[0].count(b"its global") == 5


def test_the_layout_of_an_array_does_not_count_and_its_shape_and_type_do() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert value_hash(array) == value_hash(np.asfortranarray(array)) == value_hash(array[::1].copy())
    assert value_hash(np.arange(6)[::2]) == value_hash(np.array([0, 2, 4]))
    others = [array.T.copy(), array.astype("f4"), array.astype("i8"), array.reshape(3, 2), array.tolist()]
    assert len({value_hash(each) for each in (array, *others)}) == 6
    assert value_hash(np.zeros((0, 3))) != value_hash(np.zeros((3, 0)))


def _hooked(kind: str, k: int) -> Any:
    """A network with a hook that has the value k."""
    import torch
    from torch.nn.utils.prune import l1_unstructured

    torch.manual_seed(0)
    net: Any = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    net.handle = net.register_forward_hook(lambda *_: None)
    if kind == "forward":
        net[0].register_forward_hook(lambda *_: k)
    elif kind == "keywords":
        net[0].register_forward_hook(lambda *_, **__: k, with_kwargs=True)
    elif kind == "first":
        net[0].register_forward_pre_hook(lambda *_: k)
    elif kind == "backward":
        net[0].register_full_backward_hook(lambda *_: k)
    elif kind == "tensor":
        net[0].weight.register_hook(lambda gradient: gradient * k)
    elif kind == "spectral norm":
        torch.nn.utils.parametrizations.spectral_norm(net[0], n_power_iterations=k)
    elif kind == "pruned":
        l1_unstructured(net[0], "weight", k / 10)  # type: ignore[no-untyped-call]  # torch has no type for it
    return net


@pytest.mark.parametrize(
    "kind", ["forward", "keywords", "first", "backward", "tensor", "spectral norm", "pruned"]
)
def test_a_network_with_hooks_is_the_same_in_each_process(kind: str) -> None:
    pytest.importorskip("torch")
    assert value_hash(_hooked(kind, 2)) == value_hash(_hooked(kind, 2))
    assert value_hash(_hooked(kind, 2)) != value_hash(_hooked(kind, 6))


def test_the_tensors_and_networks_of_torch_count_by_their_content() -> None:
    torch = pytest.importorskip("torch")

    def network(weight: float) -> Any:
        torch.manual_seed(0)
        made = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
        with torch.no_grad():
            made[0].bias[0] = weight
        return made

    kinds = (torch.float32, torch.bfloat16, torch.int64, torch.bool)
    tensors = [torch.tensor([1, 0]).to(kind) for kind in kinds] + [torch.tensor(1.0), torch.tensor([[1.0, 0.0]])]
    assert len({value_hash(tensor) for tensor in tensors}) == 6
    assert value_hash(torch.arange(4)[::2]) == value_hash(torch.tensor([0, 2]))
    assert value_hash(network(1.0)) == value_hash(network(1.0)) != value_hash(network(2.0))
    assert value_hash(torch.device("cpu")) != value_hash(torch.float32)


def test_an_object_s_class_and_state_count_and_its_space_does_not() -> None:
    cell = """
    class P:
        rate = {}
        def __init__(self, k): self.k, self.space = k, object()
        def evaluate(self, c, b, t): return self.helper() * {}
        def helper(self): return 1
        @property
        def p(self): return 1
        @classmethod
        def q(cls): return super().__new__(cls)
    f = P
    """
    before = typed(cell.format(1, 1))(1)
    assert differing(before, typed(cell.format(1, 1))(1)) == set()
    assert differing(before, typed(cell.format(1, 1))(2)) == {"its attribute 'k'"}
    assert differing(before, typed(cell.format(2, 1))(1)) == {"its class"}
    assert differing(before, typed(cell.format(1, 2))(1)) == {"its class"}
    bound = before.evaluate
    assert differing(bound, typed(cell.format(1, 1))(1).evaluate) == set()
    assert differing(bound, typed(cell.format(1, 1))(2).evaluate) == {"its attribute 'k'"}


def test_the_arguments_of_a_partial_count() -> None:
    def evaluate(k: int, c: Any, b: float, t: Any, n: int = 0) -> float:
        return k

    before = functools.partial(evaluate, 1, n=2)
    assert differing(before, functools.partial(evaluate, 1, n=2)) == set()
    assert differing(before, functools.partial(evaluate, 2, n=2)) == {"its bound arguments"}
    assert differing(before, functools.partial(evaluate, 1, n=3)) == {"its bound arguments"}


def test_a_space_counts_by_its_hyperparameters() -> None:
    from ConfigSpace import ConfigurationSpace

    def space(high: float) -> ConfigurationSpace:
        return ConfigurationSpace({"x": (0.0, high)}, seed=1)

    sampled = space(1.0)
    sampled.sample_configuration()
    assert value_hash(sampled) == value_hash(space(1.0)) != value_hash(space(2.0))


# --------------------------------------------------------------------------------------------------- what is unreadable


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (threading.Lock(), "_thread.lock"),
        ((number for number in range(3)), "generator"),
        ([{"deep": threading.Event()}], "_thread.lock"),
        (Point(1.0, [threading.Lock()]), "_thread.lock"),  # type: ignore[list-item]  # a wrong item
        (sys.stdout, "TextIOWrapper"),
        (np.frompyfunc(lambda x: x + 1, 1, 1), "numpy.ufunc"),
    ],
    ids=["lock", "generator", "deep", "attribute", "file", "a ufunc of one's own"],
)
def test_state_that_is_not_plain_has_no_hash(value: Any, kind: str) -> None:
    with pytest.raises(Unreadable, match=kind), Path(__file__).open(encoding="utf-8") as file:
        value_hash(file if value is sys.stdout else value)


def test_the_ufuncs_of_libraries_count_by_name() -> None:
    assert len({value_hash(ufunc) for ufunc in (np.add, np.exp, special.expit, special.erf)}) == 4


def test_the_part_that_cannot_be_read_is_named() -> None:
    found, reason = function_parts(typed("def f(c, b, t): return handle", handle=threading.Lock()))
    assert (found, reason) == ({}, "its global 'handle' holds a _thread.lock")


def test_a_structure_without_end_is_read_and_one_that_is_too_deep_is_not() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert value_hash(loop) == value_hash(loop)
    deep: Any = ()
    for _ in range(100_000):
        deep = (deep,)
    assert function_parts(typed("f = lambda c, b, t: deep", deep=deep))[0] == {}


def test_a_million_values_are_read_in_a_second() -> None:
    value_hash({"values": list(range(1_000_000)), "array": np.zeros((1_000, 1_000))})


def test_what_its_own_evaluations_change_makes_it_no_other_function() -> None:
    seen: list[int] = []
    scale = [1]

    def evaluate(c: Any, b: float, t: Any) -> int:
        seen.append(1)
        return scale[0]

    before = source_of_function(evaluate, FunctionProblem(evaluate))
    evaluate({}, 1.0, None)
    note_own_changes(evaluate, before)
    assert source_of_function(evaluate, FunctionProblem(evaluate)).function == before.function
    scale[0] = 2
    assert source_differences(before, source_of_function(evaluate, FunctionProblem(evaluate))) != ()


# --------------------------------------------------------------------------------------------------------- as a source


def test_functions_differ_as_sources_by_the_names_of_their_parts() -> None:
    def source(k: int, cell: str = "f = lambda c, b, t: k") -> ProblemSource:
        function = typed(cell, k=k)
        return source_of_function(function, FunctionProblem(function))

    assert source_differences(source(1), source(1)) == ()
    assert source_differences(source(1), source(2)) == ("its global 'k' is another one",)
    sum_of_two = "f = lambda c, b, t: k + abs(__name__)"
    added = source_differences(source(1), source(1, sum_of_two))
    assert added == ("its code is another one", "its global '__name__' is new")
    gone = source_differences(source(1, sum_of_two), source(1))
    assert gone == ("its code is another one", "its global '__name__' is gone")
    unreadable = source(threading.Lock())  # type: ignore[arg-type]  # a wrong argument
    assert unreadable.not_comparable == "its global 'k' holds a _thread.lock"
    assert source_differences(source(1), unreadable) == source_differences(unreadable, source(1)) == ()
    assert source_differences(ProblemSource(), source(1)) == ("it is now a function that no other process can import",)
    assert source_differences(unreadable, ProblemSource()) == ("it was a function that no other process can import",)
