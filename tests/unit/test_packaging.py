"""The installed package holds every file of its folders, and all places agree on versions and commands."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hpbandster_lite._version import __version__
from tests.unit.test_rooms import MAPPED, PACKAGE, REPOSITORY, imports

BATCH = f"{PACKAGE}.slurm.batch", Path("deploy", "slurm")
"""The only package whose folder is below another folder, and its folder."""
HEAVY = ("ConfigSpace", "Pyro4", "pandas", "scipy", "scipy.stats", "statsmodels", "torch")
"""Libraries that take from 0.2 to 3 s to import; a module imports only those that it uses."""
DISTRIBUTIONS = {"PIL": "pillow", "pynvml": "nvidia-ml-py", "sklearn": "scikit-learn", "tomllib": "tomli"}
"""Libraries whose distribution has another name."""
TEST_COMMAND = ".venv/bin/python -m pytest"


def settings(name: str = "setup.cfg") -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(REPOSITORY / name, encoding="utf-8")
    return parser


def lines(section: str, option: str) -> list[str]:
    return [line for line in settings()[section][option].splitlines() if line and not line.startswith("#")]


def pairs(section: str, option: str) -> dict[str, str]:
    return dict(line.replace(" ", "").split("=", 1) for line in lines(section, option))


def names(requirements: list[str]) -> set[str]:
    """Names of the distributions in requirement lines, without extras and versions."""
    return {re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in requirements}


def folders() -> dict[str, Path]:
    """Packages that the folders define, with the folder of each."""
    found = {}
    for top in (PACKAGE, *MAPPED):
        for path in (REPOSITORY / top).rglob("__init__.py"):
            dotted = ".".join(path.parent.relative_to(REPOSITORY).parts)
            found[dotted if top == PACKAGE else f"{PACKAGE}.{dotted}"] = path.parent
    name, place = BATCH
    return {**found, name: REPOSITORY / place}


# ------------------------------------------------------------------------------------------------- packages


def test_every_folder_is_installed() -> None:
    assert sorted(lines("options", "packages")) == sorted(folders())


def test_every_folder_outside_the_package_is_mapped_into_it() -> None:
    outside = {name: folder.relative_to(REPOSITORY).as_posix() for name, folder in folders().items()}
    mapped = {name: folder for name, folder in outside.items() if folder.split("/")[0] != PACKAGE}
    assert pairs("options", "package_dir") == mapped


def test_every_outside_library_is_required_and_every_requirement_is_used() -> None:
    core, training = names(lines("options", "install_requires")), names(lines("options.extras_require", "torch"))
    used = {
        DISTRIBUTIONS.get(found.library, found.library)
        for found in imports(REPOSITORY)
        if found.library not in sys.stdlib_module_names | {PACKAGE} and found.library.isidentifier()
    }
    # Only the conformance tests of samplers import pytest, and they run under pytest.
    assert used <= core | training | {"pytest"}
    assert core <= used


def test_the_extra_dev_brings_all_the_others() -> None:
    extras = settings()["options.extras_require"]
    (itself,) = re.findall(rf"{PACKAGE}\[(.*)\]", extras["dev"])
    assert set(itself.split(",")) == set(extras) - {"dev"}


@pytest.mark.parametrize("section", ["console_scripts", "hpbandster_lite.problems"])
def test_every_entry_point_names_something_that_exists(section: str) -> None:
    for name, reference in pairs("options.entry_points", section).items():
        module, _, attribute = reference.partition(":")
        parent, _, leaf = module.rpartition(".")
        places = [folder for package, folder in folders().items() if package == module]
        source = places[0] / "__init__.py" if places else folders()[parent] / f"{leaf}.py"
        assert source.exists(), f"{name}: {source} is missing"
        assert not attribute or attribute in defined_in(source), f"{name}: {source} has no {attribute}"


def defined_in(source: Path) -> set[str]:
    """Functions and variables of a module."""
    body = ast.parse(source.read_text("utf-8")).body
    assigned = [target for node in body if isinstance(node, ast.Assign) for target in node.targets]
    return {node.name for node in body if isinstance(node, ast.FunctionDef)} | {
        target.id for target in assigned if isinstance(target, ast.Name)
    }


# ---------------------------------------------------------------------------------------------------- wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a copy: setuptools keeps files of earlier builds in the folder that it builds from."""
    copy, built = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy / name)
    for name in (PACKAGE, *MAPPED, str(BATCH[1])):
        shutil.copytree(REPOSITORY / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    # No isolation: the build then needs no network, only the setuptools that the extra `test` installs.
    build = ("wheel", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--wheel-dir", built, copy)
    done = subprocess.run([sys.executable, "-m", "pip", *build], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = built.glob("*.whl")
    return path


def test_the_wheel_holds_every_file_of_every_package_and_nothing_else(wheel: Path) -> None:
    expected = {
        f"{name.replace('.', '/')}/{file.name}"
        for name, folder in folders().items()
        for file in folder.iterdir()
        if file.is_file()
    }
    assert f"{PACKAGE}/py.typed" in expected
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if ".dist-info/" not in name} == expected


def test_the_wheel_alone_imports_and_has_its_command_and_licence(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    (info,) = tmp_path.glob("*.dist-info")
    assert "hpbandster-lite = hpbandster_lite.cli.start:main" in (info / "entry_points.txt").read_text("utf-8")
    assert list(info.rglob("LICENSE"))
    script = f"import {PACKAGE}.nameserver, {PACKAGE}.workers; print({PACKAGE}.workers.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip()) == tmp_path / PACKAGE / "workers" / "__init__.py"


# --------------------------------------------------------------------------------------------------- light imports


@pytest.mark.parametrize(
    ("module", "loaded"),
    [
        (PACKAGE, set()),
        (f"{PACKAGE}.workers", set()),
        (f"{PACKAGE}.engine", {"scipy"}),
        (f"{PACKAGE}.journal", set()),
        (f"{PACKAGE}.trainer", set()),
        (f"{PACKAGE}.agent", {"Pyro4"}),
        (f"{PACKAGE}.nameserver", {"Pyro4"}),
        (f"{PACKAGE}.master", {"Pyro4", "scipy"}),
    ],
)
def test_an_import_loads_no_heavy_library_that_it_does_not_need(module: str, loaded: set[str]) -> None:
    script = f"import sys, {module}; print(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= loaded


# ------------------------------------------------------------------------------------------- all places agree


def test_the_readme_s_test_command_is_what_continuous_integration_runs() -> None:
    readme, ci = ((REPOSITORY / name).read_text("utf-8") for name in ("README.md", ".ci/run"))
    assert re.search(rf"{re.escape(TEST_COMMAND)}$", readme, re.MULTILINE), f"README.md does not say {TEST_COMMAND!r}"
    assert re.search(rf"^step tests {re.escape(TEST_COMMAND)}$", ci, re.MULTILINE)


def test_a_commit_is_checked_by_the_commands_of_continuous_integration() -> None:
    ci = (REPOSITORY / ".ci" / "run").read_text("utf-8")
    hooks = re.findall(r"^ +entry: (.+)$", (REPOSITORY / ".pre-commit-config.yaml").read_text("utf-8"), re.MULTILINE)
    assert len(hooks) == 4
    for command in hooks:
        assert f" {command.removesuffix(' tests/unit')}" in ci, f".ci/run does not run {command!r}"


def test_the_wheel_is_built_and_used_in_continuous_integration() -> None:
    assert re.search(r"^step wheel \.ci/wheel$", (REPOSITORY / ".ci" / "run").read_text("utf-8"), re.MULTILINE)


def test_the_hosted_workflow_runs_the_same_scripts_with_every_python_that_is_claimed() -> None:
    workflow = (REPOSITORY / ".github/workflows/ci.yml").read_text("utf-8")
    claimed = re.findall(r"Python :: (3\.\d+)", settings()["metadata"]["classifiers"])
    matrix = re.search(r"python: \[(.*)\]", workflow)

    assert matrix is not None
    assert re.findall(r'"(.*?)"', matrix[1]) == claimed
    assert "run: .ci/run\n" in workflow
    assert "run: .ci/versions newest ${{ matrix.python }}\n" in workflow
    assert "step lowest .ci/versions lowest\n" in (REPOSITORY / ".ci/run").read_text("utf-8")
    for document in ("README.md", "CONTRIBUTING.md"):
        named = f"Python {claimed[0]} to {claimed[-1]}; 3.{int(claimed[-1][2:]) + 1} was not tried"
        assert named in " ".join((REPOSITORY / document).read_text("utf-8").split())


def test_the_citation_names_the_version_and_the_licence() -> None:
    citation = (REPOSITORY / "CITATION.cff").read_text("utf-8").splitlines()
    assert f"version: {__version__}" in citation
    assert f"license: {settings()['metadata']['license']}" in citation
    assert (REPOSITORY / "SECURITY.md").is_file()


def test_every_supported_python_may_install_it() -> None:
    minors = [int(minor) for minor in re.findall(r"Python :: 3\.(\d+)", settings()["metadata"]["classifiers"])]
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert settings()["options"]["python_requires"] == f">=3.{minors[0]}"
    assert f'target-version = "py3{minors[0]}"' in (REPOSITORY / "pyproject.toml").read_text("utf-8")
