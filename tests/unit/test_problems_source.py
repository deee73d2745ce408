"""The files of a problem's source are listed once; each edit that counts is named, and nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hpbandster_lite.errors import ProblemError
from hpbandster_lite.problems import describe, describe_in_child, load
from hpbandster_lite.problems.references import module_of
from hpbandster_lite.problems.source import (
    MADE,
    SourceTree,
    digest_of,
    hashed_here,
    shipped_version,
    source_differences,
    source_of,
    source_tree,
)
from hpbandster_lite.records import ProblemSource, SourceFile

GOOD = """
from ConfigSpace import ConfigurationSpace
min_budget, max_budget = 1, 9
def space():
    return ConfigurationSpace({"x": (0.0, 1.0)})
def evaluate(config, budget, trial):
    return config["x"]
"""
Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def file(name: str, text: str = "") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return str(path)

    return file


def source(reference: str) -> ProblemSource:
    found = describe_in_child(reference).source
    assert found is not None
    return found


def listed(reference: str) -> list[str]:
    return [each.path for each in source(reference).files]


def test_the_file_and_the_modules_below_its_folder_that_it_imports_count(write: Write, tmp_path: Path) -> None:
    write("models/__init__.py")
    write("models/mlp.py", "from . import blocks\nimport torch_of_nobody.layers")
    write("models/blocks.py")
    write("models/unused.py")
    write("late.py")
    write("named.py")
    write("deep/inner.py")
    write("unused.py")
    write("lib/python3/site-packages/late.py")
    text = (
        "import json, importlib\n"
        "import deep.inner\n"
        "def build():\n"
        "    from models.mlp import Net\n"
        "    import late\n"
        "    importlib.import_module('named')\n"
    )
    assert listed(write("net.py", GOOD + text.replace("import deep.inner", "from deep import inner"))) == [
        "deep/inner.py", "late.py", "models/__init__.py", "models/blocks.py", "models/mlp.py", "named.py", "net.py",
    ]  # fmt: skip


def test_modules_that_describing_it_loads_count_however_they_are_found(write: Write) -> None:
    write("parts/by_path.py", "VALUE = 1")
    write("elsewhere/on_path.py", "VALUE = 1")
    text = (
        "import sys\nfrom pathlib import Path\n"
        "sys.path.insert(0, str(Path(__file__).parent / 'elsewhere'))\n"
        "import on_path\n"
        "import importlib.util\n"
        "spec = importlib.util.spec_from_file_location('odd', Path(__file__).parent / 'parts' / 'by_path.py')\n"
        "odd = importlib.util.module_from_spec(spec)\nsys.modules['odd'] = odd\nspec.loader.exec_module(odd)\n"
    )
    assert listed(write("net.py", GOOD + text)) == ["elsewhere/on_path.py", "net.py", "parts/by_path.py"]


def test_a_whole_package_counts_wherever_it_is_installed(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "venv/lib/python3/site-packages"
    write("venv/pyvenv.cfg")
    write(f"{place}/pack_of_it/__init__.py")
    write(f"{place}/pack_of_it/net.py", "import other_of_it\n" + GOOD)
    write(f"{place}/pack_of_it/unused.py")
    write(f"{place}/other_of_it.py")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / place))
    expected = ["pack_of_it/__init__.py", "pack_of_it/net.py", "pack_of_it/unused.py"]
    assert listed("pack_of_it.net") == expected
    assert listed(str(tmp_path / place / "pack_of_it/net.py")) == expected


def test_environments_libraries_hidden_folders_and_run_directories_do_not_count(write: Write) -> None:
    write("env/pyvenv.cfg")
    write("env/in_env.py")
    write(".cache/in_cache.py")
    write("runs/net/journal.sqlite")
    write("runs/net/in_run.py")
    write("vendor/site-packages/in_library.py")
    text = "".join(
        f"import sys; sys.path.insert(0, __file__.rpartition('/')[0] + '/{folder}'); import {name}\n"
        for folder, name in {
            "env": "in_env", ".cache": "in_cache", "runs/net": "in_run", "vendor/site-packages": "in_library",
        }.items()
    )  # fmt: skip
    assert listed(write("net.py", text + GOOD)) == ["net.py"]


def test_a_shipped_problem_is_its_version_and_an_object_of_its_class_elsewhere_is_a_file(write: Write) -> None:
    assert source("counting_ones") == ProblemSource(version=1)
    text = "from hpbandster_lite.workers.counting_ones import *\nfrom hpbandster_lite.workers import counting_ones\n"
    mine = write("mine.py", text + "evaluate, space = counting_ones.evaluate, counting_ones.space\n")
    assert source(mine).version is None
    assert listed(mine) == ["mine.py"]


# --------------------------------------------------------------------------------------- files that the problem opens


def test_files_that_are_opened_while_it_is_described_count(write: Write, tmp_path: Path) -> None:
    write("settings.json", "{}")
    write("data/points.txt", "1 2")
    outside = tmp_path.parent / f"{tmp_path.name}-outside.txt"
    outside.write_text("")
    text = (
        "import json, os, tempfile\n"
        "HERE = os.path.dirname(__file__)\n"
        "json.load(open(os.path.join(HERE, 'settings.json')))\n"
        f"open({str(outside)!r}).read()\n"
        "open(os.path.join(HERE, 'made.txt'), 'w').write('1')\n"
        "open(os.path.join(HERE, 'made.txt')).read()\n"
        "tempfile.NamedTemporaryFile(dir=HERE)\n"
        "try:\n    open(os.path.join(HERE, 'local.json'))\nexcept OSError:\n    pass\n"
    )
    reads = "    open(os.path.join(HERE, 'data', 'points.txt')).read()\n    return Configuration"
    reference = write("net.py", text + GOOD.replace("    return Configuration", reads))
    first = source(reference)
    assert [each.path for each in first.files] == [
        "data/points.txt", "local.json", "made.txt", "net.py", "settings.json",
    ]  # fmt: skip
    assert source_differences(first, source(reference)) == ()
    write("made.txt", "2")
    assert source_differences(first, source(reference)) == ()
    write("settings.json", '{"a": 1}')
    assert source_differences(first, source(reference)) == ("settings.json is another one",)
    write("local.json", "{}")
    assert source_differences(first, source(reference)) == ("local.json is new", "settings.json is another one")


READ = "import os, pathlib\nHERE = pathlib.Path(__file__).parent\n"


def test_a_file_that_is_opened_for_writing_and_stays_as_it_is_counts(write: Write) -> None:
    write("settings.json", "1")
    reference = write("net.py", f"{READ}open(HERE / 'settings.json', 'r+').read()\n{GOOD}")
    first = source(reference)
    assert source_differences(first, source(reference)) == ()
    write("settings.json", "100")
    assert source_differences(first, source(reference)) == ("settings.json is another one",)


def test_a_file_in_a_folder_behind_a_link_counts(write: Write, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-shared"
    outside.mkdir()
    (outside / "settings.json").write_text("1")
    (tmp_path / "data").symlink_to(outside)
    reference = write("net.py", f"{READ}open(HERE / 'data' / 'settings.json').read()\n{GOOD}")
    first = source(reference)
    assert listed(reference) == ["data/settings.json", "net.py"]
    (outside / "settings.json").write_text("100")
    assert source_differences(first, source(reference)) == ("data/settings.json is another one",)


def test_an_edit_of_a_file_that_the_problem_made_where_it_was_missing_counts(write: Write) -> None:
    made = "SETTINGS = HERE / 'settings.json'\nSETTINGS.exists() or SETTINGS.write_text('1')\nSETTINGS.read_text()\n"
    reference = write("net.py", f"{READ}{made}{GOOD}")
    first = source(reference)
    assert source_differences(first, source(reference)) == ()
    write("settings.json", "100")
    assert source_differences(first, source(reference)) == ("settings.json is another one",)


def test_a_file_that_is_read_once_it_is_there_is_a_difference(write: Write) -> None:
    text = (
        "import pathlib\nEXTRA = pathlib.Path(__file__).with_name('extra.txt')\nEXTRA.exists() and EXTRA.read_text()\n"
    )
    reference = write("net.py", text + GOOD)
    first = source(reference)
    write("extra.txt", "1")
    assert source_differences(first, source(reference)) == ("extra.txt is read now, but was not read before",)


def test_files_and_variables_that_it_names_count(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("tables/a.csv", "1")
    write("weights.bin", "1")
    outside = tmp_path.parent / f"{tmp_path.name}-shared.txt"
    outside.write_text("1")
    names = ["tables", "weights.bin", str(outside)]
    text = f"source_files = {names!r}\nsource_environment = ('MODE_OF_IT',)\n"
    reference = write("net.py", text + GOOD)
    first = source(reference)
    assert [each.path for each in first.files] == [str(outside), "net.py", "tables/a.csv", "weights.bin"]
    assert list(first.environment) == ["MODE_OF_IT"]
    outside.write_text("2")
    write("tables/a.csv", "2")
    monkeypatch.setenv("MODE_OF_IT", "secret-value")
    second = source(reference)
    assert source_differences(first, second) == (
        f"{outside} is another one",
        "tables/a.csv is another one",
        "the environment variable MODE_OF_IT has another value",
    )
    assert "secret-value" not in repr(second)


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("source_files = ('none.csv',)", r"source_files names 'none\.csv', .* correct the name"),
        ("source_files = 'none.csv'", "it must be a list of names"),
        ("source_environment = 'HOME'", "it must be a list of names"),
    ],
)
def test_what_cannot_be_named_is_refused(text: str, refusal: str, write: Write) -> None:
    with pytest.raises(ProblemError, match=refusal):
        describe_in_child(write("net.py", f"{text}\n{GOOD}"))


# -------------------------------------------------------------------------------------------------- on another host


def test_a_worker_hashes_the_listed_files_in_its_own_tree(write: Write, tmp_path: Path) -> None:
    write("here/part.py", "x = 1")
    reference = write("here/net.py", "def f():\n    import part\nsource_modules = ('named_of_it',)\n" + GOOD)
    write("here/named_of_it/__init__.py")
    accepted = source(reference)
    write("there/part.py", "x = 1  # the same\n")
    write("there/net.py", Path(reference).read_text())
    write("there/named_of_it/__init__.py")
    write("there/other.py", "not listed")
    tree = SourceTree(folder=str(tmp_path / "there"), modules={"named_of_it": str(tmp_path / "there" / "named_of_it")})
    assert source_differences(accepted, hashed_here(accepted, tree, ProblemSource())) == ()
    write("there/part.py", "x = 2")
    assert source_differences(accepted, hashed_here(accepted, tree, ProblemSource())) == ("part.py is another one",)
    (tmp_path / "there/part.py").unlink()
    assert source_differences(accepted, hashed_here(accepted, tree, ProblemSource())) == ("part.py is missing",)


def test_what_was_imported_counts_where_a_file_was_edited_since(write: Write, tmp_path: Path) -> None:
    reference = write("net.py", GOOD)
    accepted = source(reference)
    write("net.py", GOOD.replace("x", "y"))
    tree = SourceTree(folder=str(tmp_path))
    assert source_differences(accepted, hashed_here(accepted, tree, ProblemSource())) == ("net.py is another one",)
    assert source_differences(accepted, hashed_here(accepted, tree, accepted)) == ()
    assert digest_of(accepted, "") == digest_of(hashed_here(accepted, tree, accepted), "")
    assert digest_of(accepted, "") != digest_of(hashed_here(accepted, tree, ProblemSource()), "")


def test_a_loaded_problem_says_where_its_files_lie(write: Write, tmp_path: Path) -> None:
    write("pack_of_tree/__init__.py")
    reference = write("pack_of_tree/net.py", GOOD)
    problem = load(reference)
    assert source_tree(problem, module_of(reference)) == SourceTree(folder=str(tmp_path.resolve()))
    found = source_of(problem, module_of(reference))
    assert hashed_here(found, source_tree(problem, module_of(reference)), ProblemSource()) == found


def test_another_version_of_a_shipped_problem_is_a_difference() -> None:
    one, two = ProblemSource(version=1), ProblemSource(version=2)
    assert source_differences(one, two) == ("its version was 1 and is 2",)
    assert source_differences(one, hashed_here(one, SourceTree(), one)) == ()
    assert source_differences(one, hashed_here(one, SourceTree(), two)) == ("its version was 1 and is 2",)
    assert shipped_version(load("hartmann6"), module_of("hartmann6")) == 1


def test_a_file_that_the_problem_makes_itself_is_not_compared() -> None:
    made = ProblemSource(files=(SourceFile(path="cache.bin", hash=MADE),))
    read = replace(made, files=(SourceFile(path="cache.bin", hash="0" * 32),))
    assert source_differences(made, read) == source_differences(read, made) == ()


def test_the_paths_and_hosts_are_not_compared() -> None:
    one = ProblemSource(file="/a/net.py", host="a")
    assert source_differences(one, replace(one, file="/b/net.py", host="b")) == ()


def test_a_description_without_a_process_of_its_own_lists_what_is_imported(write: Write) -> None:
    write("part.py")
    reference = write("alone.py", "import part\n" + GOOD)
    try:
        found = describe(load(reference), reference).source
    finally:
        sys.modules.pop("part", None)
    assert found is not None
    assert [each.path for each in found.files] == ["alone.py", "part.py"]
    assert found.file == os.path.realpath(reference)
