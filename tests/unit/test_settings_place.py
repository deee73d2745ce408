"""A default run directory belongs to another problem only if its journal names another file that still exists."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from hpbandster_lite.journal import Journal
from hpbandster_lite.records import ProblemSource
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.place import default_place, file_of_reference, place_of, place_of_function
from hpbandster_lite.settings.prepare import prepare
from tests.descriptions import asked, description, sources


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.py").write_text("")
    return tmp_path


def begin(path: Path, source: ProblemSource | None, **about: object) -> None:
    directory = RunDirectory(path)
    directory.create()
    Journal.open(directory.journal, create=prepare(asked(description(source=source, **about))).settings).close()


def of(file: Path, host: str | None = None) -> ProblemSource:
    return sources("0", file=str(file), host=socket.gethostname() if host is None else host)


def test_two_problems_of_one_name_have_directories_of_their_own(base: Path) -> None:
    assert (default_place("a/net.py").directory.path, default_place("a/net.py").note) == (Path("runs/net"), "")
    begin(base / "runs/net", of(base / "a/net.py"))
    assert default_place("a/net.py").directory.path == Path("runs/net")
    other = default_place("b/net.py?k=1")
    assert other.directory.path == Path("runs/net-2")
    assert other.note == (f"runs/net belongs to the problem in {base / 'a/net.py'}; this search is kept in runs/net-2")
    begin(base / "runs/net-2", of(base / "b/net.py"))
    assert default_place("b/net.py").directory.path == Path("runs/net-2")
    assert default_place("c/net.py").directory.path == Path("runs/net-3")
    assert place_of("c/net.py", "runs/net").directory.path == Path("runs/net")


@pytest.mark.parametrize("typed", ["runs/net", "runs/net/", "d/net.py"], ids=["run directory", "slash", "no file"])
def test_where_a_path_of_no_file_would_be_kept_is_not_noted(base: Path, typed: str) -> None:
    begin(base / "runs/net", of(base / "a/net.py"))
    assert default_place(typed).note == ""


def test_a_checkout_that_has_moved_keeps_its_directory(base: Path) -> None:
    begin(base / "runs/net", of(base / "gone/net.py"))
    assert default_place("b/net.py").directory.path == Path("runs/net")


def test_a_link_to_the_file_is_the_same_file(base: Path) -> None:
    begin(base / "runs/net", of(base / "a/net.py"))
    (base / "link").symlink_to(base / "a")
    assert default_place("link/net.py").directory.path == Path("runs/net")


def test_paths_of_another_host_are_not_compared(base: Path) -> None:
    begin(base / "runs/net", of(base / "a/net.py", host="another"))
    assert default_place("b/net.py").directory.path == Path("runs/net")


def test_a_journal_without_a_list_of_files_names_its_problem(base: Path) -> None:
    begin(base / "runs/net", None, reference=str(base / "a/net.py"))
    assert default_place("a/net.py").directory.path == Path("runs/net")
    assert default_place("b/net.py").directory.path == Path("runs/net-2")


def test_a_file_that_is_called_like_a_shipped_problem_is_another_problem(base: Path) -> None:
    begin(base / "runs/digits", ProblemSource(version=1), reference="digits", name="digits")
    (base / "digits.py").write_text("")
    assert default_place("digits.py").directory.path == Path("runs/digits-2")
    begin(base / "runs/net", of(base / "digits.py"))
    assert default_place("net").directory.path == Path("runs/net")


def function(k: str = "1", why_not: str = "") -> ProblemSource:
    return ProblemSource(function={} if why_not else {"its code": "a", "its variable 'k'": k}, not_comparable=why_not)


def test_another_function_of_one_name_has_a_directory_of_its_own(base: Path) -> None:
    def place(source: ProblemSource, *, is_edit: bool = False) -> tuple[str, str]:
        found = place_of_function("f.<locals>.<lambda>", source, is_edit=is_edit)
        return str(found.directory.path), found.note

    first = "runs/f.-locals-.-lambda"
    assert place(function("1")) == (first, "")
    begin(base / first, function("1"))
    assert place(function("1")) == (first, "")
    note = f"{first} has the search of another function of this name, or of one that reads other values"
    assert place(function("2")) == (f"{first}-2", f"{note}; this search is kept in {first}-2")
    begin(base / f"{first}-2", function("2"))
    assert place(function("2")) == (f"{first}-2", "")
    assert place(function("3"))[0] == f"{first}-3"
    assert place(function("3"), is_edit=True) == (f"{first}-2", "")
    assert place(function("1"), is_edit=True) == (first, "")


def test_a_function_that_cannot_be_compared_has_a_new_directory_each_time(base: Path) -> None:
    unreadable = function(why_not="its global 'file' holds a TextIOWrapper")
    for path in ("runs/f", "runs/f-2"):
        place = place_of_function("f", unreadable)
        assert str(place.directory.path) == path
        assert place.note == (
            "whether this function has been searched before cannot be seen (its global 'file' holds a TextIOWrapper), "
            f"so this is a new search, in {path}; give run_dir to continue one"
        )
        begin(base / path, unreadable)
    assert str(place_of_function("f", function()).directory.path) == "runs/f-3"
    assert str(place_of_function("f", unreadable, is_edit=True).directory.path) == "runs/f-2"


def test_a_search_of_before_fingerprints_is_no_search_of_this_function(base: Path) -> None:
    begin(base / "runs/f", None, source_hash="")
    assert str(place_of_function("f", function()).directory.path) == "runs/f-2"


def test_a_file_that_is_called_like_a_function_is_another_problem(base: Path) -> None:
    begin(base / "runs/net", function())
    assert str(default_place("a/net.py").directory.path) == "runs/net-2"


def test_modules_are_found_without_being_imported(base: Path) -> None:
    package = base / "pack_of_place"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "net.py").write_text("raise RuntimeError('imported')")
    assert file_of_reference("pack_of_place.net:f") == Path(os.path.realpath(package / "net.py"))
    assert file_of_reference("pack_of_place") == Path(os.path.realpath(package / "__init__.py"))
    assert file_of_reference("no_such_module_of_it") is None
