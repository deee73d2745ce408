"""The text of the documents names commands, options, files and headings that exist, in plain words."""

from __future__ import annotations

import functools
import importlib.metadata
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from hpbandster_lite.cli.app import COMMANDS, GROUPS, make_app
from hpbandster_lite.problems.references import GROUP as PROBLEMS
from hpbandster_lite.problems.references import load
from tests.docs.test_documents import DOCUMENTS, REPOSITORY
from tests.unit.test_code_shape import OBSCURE_WORDS

COMMAND = "hpbandster-lite"
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)?(?:#([^)\s]+))?\)")
PATH = re.compile(r"(?<![\w/~.-])(?:\.ci|deploy|docs|hpbandster_lite|nameserver|tests|workers)/[\w./-]*")
PROBLEM_OPTIONS = {"--data-set", "--preset", "--option"}
"""Options of problems, which follow the options of a command."""


def prose(path: Path) -> str:
    """The text of a document outside fenced blocks."""
    return re.sub(r"^ *```.*?^ *```", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def mentions() -> Iterator[tuple[str, str]]:
    for path in DOCUMENTS:
        for code in CODE.findall(prose(path)):
            yield str(path.relative_to(REPOSITORY)), code


@functools.cache
def options_of(*names: str) -> frozenset[str]:
    """Options of a command, of a command of a group, or, with no name, of the program; without former names."""
    command: Any = typer.main.get_command(make_app(*names[:1]))
    for name in names:
        command = command.commands[name]
    shown = [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]
    return frozenset(option for parameter in shown for option in (*parameter.opts, *parameter.secondary_opts)) | {
        "--help"
    }


@pytest.mark.parametrize(
    ("document", "code"), sorted({pair for pair in mentions() if pair[1].startswith(f"{COMMAND} ")})
)
def test_every_command_in_the_text_exists_with_its_options(document: str, code: str) -> None:
    _, name, *words = shlex.split(code)
    if name == "COMMAND":
        return
    if name.startswith("--"):
        assert name in options_of(), f"{document}: {code}"
        return
    assert name in {*COMMANDS, *GROUPS}, f"{document}: {code}"
    names = (name, words[0]) if name in GROUPS and words else (name,)
    given = {
        word.partition("=")[0] for word in words[: words.index("--") if "--" in words else None] if word[:2] == "--"
    }
    assert given - PROBLEM_OPTIONS <= options_of(*names), f"{document}: {code}"


@functools.cache
def all_options() -> frozenset[str]:
    groups: dict[str, Any] = {name: typer.main.get_command(make_app(name)) for name in GROUPS}
    return frozenset().union(
        options_of(),
        *(options_of(name) for name in COMMANDS),
        *(options_of(name, command) for name, group in groups.items() for command in group.commands[name].commands),
    )


REFIT = re.compile(rf"{COMMAND} refit runs/(\w+)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_refit_in_a_document_is_of_a_problem_that_has_one(document: Path) -> None:
    shipped = {point.name for point in importlib.metadata.entry_points(group=PROBLEMS)}
    for name in sorted(shipped.intersection(REFIT.findall(document.read_text("utf-8")))):
        assert hasattr(load(name), "refit"), f"{document.name}: a search of {name} has no refit"


DOCUMENTS_OF_OPTIONS = ("README.md", "docs/searches.md", "docs/machines.md", "docs/security.md", "docs/cluster.md")
SBATCH_OPTIONS = {
    *("--array", "--constraint", "--dependency", "--export", "--gres", "--mem", "--no-requeue", "--qos", "--requeue"),
    *("--signal", "--volumes"),
}


@pytest.mark.parametrize("document", DOCUMENTS_OF_OPTIONS)
def test_every_option_in_the_text_is_an_option_of_some_command(document: str) -> None:
    named = {
        option
        for code in CODE.findall(prose(REPOSITORY / document))
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", code)
    }
    assert named
    assert named - SBATCH_OPTIONS <= all_options(), sorted(named - SBATCH_OPTIONS - all_options())


@pytest.mark.parametrize(
    ("document", "path"), sorted({(document, path) for document, code in mentions() for path in PATH.findall(code)})
)
def test_every_file_in_the_text_exists(document: str, path: str) -> None:
    assert (REPOSITORY / path.rstrip(".")).exists() or "-N" in path, f"{document} names {path}"


def anchors(path: Path) -> set[str]:
    """Anchors of the headings of a document, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(path: Path) -> None:
    for target, anchor in LINK.findall(prose(path)):
        file = path.parent / target if target else path
        assert file.exists(), f"{path.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{path.name} links to {target}#{anchor}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_the_text_has_no_obscure_words(path: Path) -> None:
    assert OBSCURE_WORDS.findall(re.sub(r"<!--.*?-->", "", prose(path))) == []
