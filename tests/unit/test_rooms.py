"""Imports point down, rooms and files form no cycle, only named rooms import an outside library, pure rooms do no I/O.

A room is a module or a folder of the package, including ``workers/`` and ``nameserver/``. The test reads imports from
the source, also those inside functions. An import for annotations (under ``TYPE_CHECKING``) loads nothing, so it needs
no entry in ``DOORS``, but it points down like any other.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PACKAGE = "hpbandster_lite"
MAPPED = ("workers", "nameserver")
"""Top-level folders that are installed inside the package (setup.cfg, package_dir)."""
FLOORS = (
    {"_version", "errors", "records", "randomness", "hyperband", "space"},
    {"samplers", "wire", "protocol"},
    {"engine"},
    {"journal", "transport", "rundir", "access", "process"},
    # nameserver: a process like the master, in a separate folder because it also serves other programs.
    {"problems", "settings", "master", "agent", "trainer", "nameserver", "standalone", "launch", "results", "slurm"}
    | {"api", "doctor"},
    {"cli"},
    {"__init__", "__main__", "workers"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
PURE_FLOORS = 3
"""Floors 0 to 2 take the clock, the network and the disk as arguments."""
DOORS: dict[str, set[str]] = {
    "ConfigSpace": {"space", "workers"},
    "Pyro4": {"transport"},
    "PIL": {"workers"},
    "cryptography": {"access"},
    "filelock": {"master", "launch", "workers"},
    "pandas": {"results"},
    "psutil": {"agent", "doctor", "process", "launch", "master", "trainer", "transport"},
    "pydantic": {"settings"},
    "pynvml": {"process"},
    # The conformance tests of samplers, which other packages run on their samplers.
    "pytest": {"samplers"},
    "rich": {"cli"},
    "scipy": {"samplers", "space"},
    "sklearn": {"workers"},
    "sqlite3": {"journal"},
    "statsmodels": {"samplers"},
    "threadpoolctl": {"samplers"},
    # The second is in the standard library from Python 3.11 on; older versions use the first.
    "tomli": {"settings"},
    "tomllib": {"settings"},
    "torch": {"problems", "trainer", "workers"},
    "torchvision": {"workers"},
    "typer": {"cli"},
    # This test does not see such an import: these rooms load a user's reference, public names, and commands when
    # needed.
    "a module by its name": {"problems", "__init__", "cli"},
    # No room: data crosses processes only through wire and transport.
    **{name: set() for name in ("cloudpickle", "dill", "marshal", "multiprocessing", "pickle", "shelve")},
    # No room: the mapped folders are imported as parts of the package, and tests are not installed.
    **{name: set() for name in ("tests", *MAPPED)},
}
IMPORTERS_BY_NAME = {"__import__", "exec_module", "import_module"}
WITHOUT_A_DOOR = {"numpy"}
"""Outside libraries that every room may use."""
IMPURE = {
    *("asyncio", "concurrent", "datetime", "logging", "os", "pathlib", "queue", "random", "secrets", "select"),
    *("selectors", "shutil", "signal", "socket", "subprocess", "tempfile", "threading", "time", "uuid"),
}


@dataclass(frozen=True)
class Import:
    """One imported name: its place, the importing module, its target, and whether it is only for annotations."""

    place: str
    module: str
    target: str
    for_annotations: bool

    @property
    def room(self) -> str:
        return "__init__" if self.module == PACKAGE else self.module.split(".")[1]

    @property
    def library(self) -> str:
        return self.target.split(".")[0]


def sources(root: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Every source file of the package below ``root``, with its place inside the package."""
    for folder, inside in [(PACKAGE, ()), *((name, (name,)) for name in MAPPED)]:
        for path in sorted((root / folder).rglob("*.py")):
            yield path, (*inside, *path.relative_to(root / folder).parts)


def room_of(place: tuple[str, ...]) -> str:
    return place[0].removesuffix(".py")


def imports(root: Path) -> Iterator[Import]:
    """Every import of every file below ``root``, with relative ones made absolute."""
    for path, place in sources(root):
        tree = ast.parse(path.read_text("utf-8"))
        annotations = {id(node) for guard in ast.walk(tree) if is_type_checking(guard) for node in ast.walk(guard)}
        for node in ast.walk(tree):
            for target in targets(node, inside=(PACKAGE, *place)):
                where = f"{path.relative_to(root)}:{getattr(node, 'lineno', 0)}"
                yield Import(where, module_of(place), target, id(node) in annotations)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and not node.orelse and ast.unparse(node.test).endswith("TYPE_CHECKING")


def targets(node: ast.AST, *, inside: tuple[str, ...]) -> list[str]:
    """Dotted names that a statement imports."""
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=module, names=names, level=level):
            stem = inside[:-level] if level else ()
            return [".".join([*stem, *filter(None, [module]), alias.name]) for alias in names]
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in IMPORTERS_BY_NAME:
            return ["a module by its name"]
        case _:
            return []


def room_named(target: str, rooms: Set[str]) -> str | None:
    """The room of a dotted name; None for another library and for the package's own version."""
    library, name, *_ = f"{target}.".split(".")
    if library != PACKAGE or name == "__version__":
        return None
    return name if name in rooms else "__init__"


def violations(root: Path) -> list[str]:
    """Violations of the rules in the files below ``root``, one sentence each."""
    rooms = {room_of(place) for _, place in sources(root)} | FLOOR.keys()
    broken = [f"room {room} has no floor: give it one in FLOORS" for room in sorted(rooms - FLOOR.keys())]
    for found in imports(root):
        here, there = found.room, room_named(found.target, rooms)
        is_pure = FLOOR.get(here, PURE_FLOORS) < PURE_FLOORS
        if there is not None:
            if FLOOR.get(there, 0) > FLOOR.get(here, len(FLOORS)):
                broken.append(f"{found.place}: {here} imports {there} from a floor above; pass it in")
        elif is_pure and found.library in IMPURE:
            broken.append(f"{found.place}: {here} is pure; take what {found.library} gives as an argument")
        elif not found.for_annotations:
            broken += door_violations(found)
    return broken


def door_violations(found: Import) -> list[str]:
    library = found.library
    if library in DOORS:
        if found.room in DOORS[library]:
            return []
        if not DOORS[library]:
            return [f"{found.place}: no room may import {library}, {found.room} included"]
        return [f"{found.place}: only {sorted(DOORS[library])} may import {library}, not {found.room}"]
    if library in sys.stdlib_module_names | WITHOUT_A_DOOR | {PACKAGE}:
        return []
    return [f"{found.place}: {library} has no door: name the room that may import it in DOORS"]


def cycle(root: Path) -> list[str] | None:
    """Rooms that import each other in a ring, or None."""
    rooms = {room_of(place) for _, place in sources(root)} | FLOOR.keys()
    graph: dict[str, set[str]] = defaultdict(set)
    for found in imports(root):
        there = room_named(found.target, rooms)
        if there is not None and there != found.room:
            graph[found.room].add(there)
    return ring_in(graph)


def cycle_of_files(root: Path) -> list[str] | None:
    """Modules that import each other in a ring, or None."""
    modules = {module_of(place) for _, place in sources(root)}
    graph: dict[str, set[str]] = defaultdict(set)
    for found in imports(root):
        there = module_named(found.target, modules)
        if there is not None:
            graph[found.module].add(there)
    return ring_in(graph)


def module_of(place: tuple[str, ...]) -> str:
    """Dotted name of a source file."""
    return ".".join([PACKAGE, *place]).removesuffix(".py").removesuffix(".__init__")


def module_named(target: str, modules: Set[str]) -> str | None:
    """The module that an imported name denotes, or that defines it; None for another library."""
    return next((name for name in (target, target.rpartition(".")[0]) if name in modules), None)


def ring_in(graph: Mapping[str, Set[str]]) -> list[str] | None:
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        ring: list[str] = error.args[1]
        return ring
    return None


# ------------------------------------------------------------------------------------------- this repository


def test_imports_point_down_and_each_library_has_one_door() -> None:
    broken = violations(REPOSITORY)
    assert not broken, "\n".join(broken)


def test_rooms_form_no_cycle() -> None:
    assert cycle(REPOSITORY) is None


def test_files_form_no_cycle() -> None:
    assert cycle_of_files(REPOSITORY) is None


def test_unit_tests_import_nothing_from_the_tests_with_processes() -> None:
    unit_tests = (REPOSITORY / "tests/unit").rglob("*.py")
    assert [path for path in unit_tests if "tests.service" in path.read_text("utf-8")] == [Path(__file__)]


def test_every_room_with_a_floor_exists() -> None:
    assert set(FLOOR) == {room_of(place) for _, place in sources(REPOSITORY)}


def test_the_map_of_rooms_in_contributing_names_each_room_on_its_floor() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|", text, re.MULTILINE)
    assert {(int(floor), room) for floor, rooms in rows for room in rooms.split("`")[1::2]} == {
        (floor, room) for room, floor in FLOOR.items()
    }


# ------------------------------------------------------------------------------------- the checks themselves


def tree(root: Path, files: Mapping[str, str]) -> Path:
    """An artificial repository."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    "text",
    [
        "import hpbandster_lite.engine",
        "import hpbandster_lite.engine.state",
        "from hpbandster_lite import engine",
        "from hpbandster_lite.engine import Engine",
        "from .. import engine",
        "from ..engine.state import Engine",
        "def late():\n    from hpbandster_lite.engine import Engine",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from hpbandster_lite.engine import Engine",
    ],
)
def test_an_import_from_a_floor_above_is_found_however_it_is_written(text: str, tmp_path: Path) -> None:
    root = tree(tmp_path, {"hpbandster_lite/samplers/kde.py": text, "hpbandster_lite/engine/__init__.py": ""})
    (broken,) = violations(root)
    assert broken.endswith("samplers imports engine from a floor above; pass it in")


@pytest.mark.parametrize("text", ["import hpbandster_lite", "from hpbandster_lite import minimize"])
def test_no_room_imports_the_public_face(text: str, tmp_path: Path) -> None:
    (broken,) = violations(tree(tmp_path, {"hpbandster_lite/cli/__init__.py": text, "hpbandster_lite/__init__.py": ""}))
    assert "imports __init__ from a floor above" in broken


def test_imports_within_a_room_on_the_same_floor_and_downwards_are_fine(tmp_path: Path) -> None:
    files = {
        "hpbandster_lite/samplers/bohb.py": "import math\nimport numpy\nfrom scipy import special\nfrom . import kde",
        "hpbandster_lite/samplers/kde.py": "from hpbandster_lite.wire import plain\nfrom ..errors import Error",
        "hpbandster_lite/cli/__init__.py": "import importlib.metadata\nfrom hpbandster_lite import __version__",
        "hpbandster_lite/wire.py": "",
        "hpbandster_lite/errors.py": "",
        "workers/digits/__init__.py": "import torch\nfrom .data import load\nfrom ..counting_ones import space",
        "workers/counting_ones.py": "import ConfigSpace",
    }
    root = tree(tmp_path, files)
    assert violations(root) == []
    assert cycle(root) is None


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("hpbandster_lite/master.py", "import Pyro4.core", "only ['transport'] may import Pyro4, not master"),
        ("nameserver/__init__.py", "from Pyro4 import naming", "only ['transport'] may import Pyro4, not nameserver"),
        ("hpbandster_lite/results.py", "def f():\n    import sqlite3", "only ['journal'] may import sqlite3"),
        ("hpbandster_lite/cli/x.py", "import torch.cuda", "may import torch, not cli"),
        ("hpbandster_lite/agent.py", "import multiprocessing", "no room may import multiprocessing, agent included"),
        ("workers/own.py", "import pickle", "no room may import pickle, workers included"),
        ("workers/own.py", "import workers.digits", "no room may import workers, workers included"),
        ("hpbandster_lite/agent.py", "importlib.import_module(name)", "['__init__', 'cli', 'problems'] may import a"),
        ("hpbandster_lite/agent.py", "torch = __import__('torch')", "may import a module by its name, not agent"),
        ("hpbandster_lite/agent.py", "import requests", "requests has no door"),
        ("hpbandster_lite/engine.py", "import time", "engine is pure; take what time gives as an argument"),
        ("hpbandster_lite/space/codec.py", "def f():\n    from os import path", "space is pure; take what os gives"),
        ("hpbandster_lite/helpers.py", "", "room helpers has no floor"),
    ],
)
def test_a_second_door_and_an_impure_import_are_found(path: str, text: str, expected: str, tmp_path: Path) -> None:
    (broken,) = violations(tree(tmp_path, {path: text}))
    assert expected in broken


def test_a_floor_that_is_not_pure_may_read_the_clock(tmp_path: Path) -> None:
    assert violations(tree(tmp_path, {"hpbandster_lite/journal.py": "import time\nimport sqlite3"})) == []


def test_an_import_for_annotations_alone_needs_no_door_but_an_else_branch_does(tmp_path: Path) -> None:
    guarded = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ConfigSpace import ConfigurationSpace\n"
    assert violations(tree(tmp_path, {"hpbandster_lite/api.py": guarded})) == []
    otherwise = f"{guarded}else:\n    from ConfigSpace import ConfigurationSpace\n"
    assert len(violations(tree(tmp_path, {"hpbandster_lite/api.py": otherwise}))) == 2


def test_a_ring_of_rooms_on_one_floor_is_found(tmp_path: Path) -> None:
    files = {
        "hpbandster_lite/agent.py": "from hpbandster_lite import launch",
        "hpbandster_lite/launch/__init__.py": "",
        "hpbandster_lite/launch/children.py": "def f():\n    from hpbandster_lite.master import serve",
        "hpbandster_lite/master.py": "from hpbandster_lite.agent import AgentOptions",
    }
    root = tree(tmp_path, files)
    assert violations(root) == []
    assert set(cycle(root) or []) == {"agent", "launch", "master"}


@pytest.mark.parametrize(
    "back",
    [
        "from hpbandster_lite.launch import children",
        "from . import children",
        "from hpbandster_lite.launch.children import Child",
        "def late():\n    from hpbandster_lite.launch.children import Child",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .children import Child",
    ],
)
def test_a_ring_of_files_within_a_room_is_found_however_it_is_written(back: str, tmp_path: Path) -> None:
    files = {
        "hpbandster_lite/launch/__init__.py": "from hpbandster_lite.launch.children import Child",
        "hpbandster_lite/launch/children.py": "from hpbandster_lite.launch.supervisor import watch",
        "hpbandster_lite/launch/supervisor.py": "",
    }
    assert cycle_of_files(tree(tmp_path, files)) is None
    ring = cycle_of_files(tree(tmp_path, {"hpbandster_lite/launch/supervisor.py": back}))
    assert set(ring or []) == {"hpbandster_lite.launch.children", "hpbandster_lite.launch.supervisor"}


def test_a_file_that_imports_its_own_room_is_a_ring(tmp_path: Path) -> None:
    files = {
        "hpbandster_lite/launch/__init__.py": "from hpbandster_lite.launch.children import Child",
        "hpbandster_lite/launch/children.py": "from hpbandster_lite.launch import Child",
    }
    assert cycle_of_files(tree(tmp_path, files)) is not None
