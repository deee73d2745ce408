"""The arguments of a script are handed to what imports it, and their hash counts where the user's code reads them."""

from __future__ import annotations

import copy
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from hpbandster_lite.errors import ProblemError
from hpbandster_lite.problems import describe_in_child, load, source_differences, source_in_child
from hpbandster_lite.problems.script_arguments import ScriptArguments, script_arguments
from hpbandster_lite.problems.source import ARGUMENTS_DIFFER

ARGUMENTS = ("script.py", "--depth", "3")
GOOD = """
def evaluate(config, budget, trial):
    return 1.0
"""
Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    number = 0

    def written(text: str) -> str:
        nonlocal number
        number += 1
        file = tmp_path / f"script{number}.py"
        file.write_text(textwrap.dedent(text) + GOOD)
        return f"{file}:evaluate"

    return written


def forget(reference: str) -> None:
    """Forget the module of a file, under any name."""
    file = reference.partition(":")[0]
    for name in [name for name, module in sys.modules.items() if getattr(module, "__file__", None) == file]:
        del sys.modules[name]


def read_by(reference: str, arguments: tuple[str, ...] = ARGUMENTS) -> str:
    with script_arguments(reference, arguments) as noted:
        load(reference)
    return noted.source


@pytest.mark.parametrize(
    "text",
    [
        "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('--depth')\nparser.parse_args()",
        "import argparse\nargparse.ArgumentParser().parse_known_args()",
        "import sys\nDEPTH = sys.argv[-1]",
        "from sys import argv\nDEPTH = list(argv)",
        "import sys\nDEPTH = ' '.join(sys.argv)",
        "import sys\nIS_LONG = len(sys.argv) > 2",
        "import sys\nIS_FAST = '--fast' in sys.argv",
        "import sys\n_, *rest = sys.argv",
        "import sys\nARGUMENTS = (*sys.argv,)",
        "import sys\nARGUMENTS = sys.argv.copy()",
        "import getopt, sys\ngetopt.getopt(sys.argv[1:], '', ['depth='])",
    ],
)
def test_arguments_that_are_read_at_import_count(text: str, write: Write) -> None:
    reference = write(text)
    found = read_by(reference)
    assert len(found) == 32
    forget(reference)
    assert read_by(reference, ("elsewhere/script.py", "--depth", "3")) == found
    forget(reference)
    assert read_by(reference, ("script.py", "--depth", "4")) != found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "import sys\ndef main():\n    return sys.argv[1:]",
        "from sys import argv",
        "import argparse, sys\nPARSER, NAME = argparse.ArgumentParser(), sys.argv[0]",
        "import sys\nif __name__ == '__main__':\n    print(sys.argv)",
    ],
)
def test_arguments_that_are_read_later_do_not_count(text: str, write: Write) -> None:
    assert read_by(write(text)) == ""


def test_a_library_that_reads_them_at_its_own_import_does_not_count(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "site-packages"
    library.mkdir()
    text = "import sys\nARGUMENTS = list(sys.argv)\ndef parsed(): return sys.argv[1:]"
    (library / "curious_library.py").write_text(text)
    monkeypatch.syspath_prepend(library)
    try:
        assert read_by(write("import curious_library")) == ""
        assert read_by(write("import curious_library\ncurious_library.parsed()")) != ""
    finally:
        sys.modules.pop("curious_library", None)


def test_the_list_is_a_plain_one_afterwards_and_in_other_processes(write: Write) -> None:
    reference = write("import sys\nsys.argv.append('x')")
    with script_arguments(reference, ARGUMENTS) as noted:
        load(reference)
        # As multiprocessing sends it.
        assert type(copy.copy(sys.argv)) is list
    assert type(sys.argv) is list
    assert sys.argv == [*ARGUMENTS, "x"]
    assert type(ScriptArguments(["x"])[:]) is list
    assert noted.copy() == sys.argv


def test_without_a_script_they_are_the_file_alone(write: Write) -> None:
    reference = write("import sys\nif len(sys.argv) > 1: raise ValueError(sys.argv)")
    alone = read_by(reference, ())
    assert sys.argv == [reference.partition(":")[0]]
    assert source_in_child(reference).arguments == alone != source_in_child(write("")).arguments == ""


def test_the_words_of_a_parser_are_reported_with_a_remedy_that_applies(write: Write) -> None:
    text = "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('k')\nparser.parse_args()"
    reference = write(text)
    with pytest.raises(ProblemError) as caught:
        read_by(reference, ())
    assert "called sys.exit(2) at " in str(caught.value)
    assert "script1.py:4: argparse: the following arguments are required: k. " in str(caught.value)
    assert "declare them as options of the problem" in str(caught.value)
    with pytest.raises(ProblemError, match="argparse: the following arguments are required: k"):
        describe_in_child(reference)
    assert read_by(reference, ("script.py", "1")) != ""


def test_a_child_notes_what_is_read_and_which_files_are_opened(write: Write, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text("{}")
    reference = write(
        "import sys\nfrom pathlib import Path\n"
        "SETTINGS = Path(__file__).with_name('settings.json').read_text()\nDEPTH = sys.argv[-1]"
    )
    found = source_in_child(reference, arguments=ARGUMENTS)
    assert {each.path for each in found.files} == {"script1.py", "settings.json"}
    assert "depth" not in repr(found)
    other = source_in_child(reference, arguments=("script.py",))
    assert source_differences(found, other) == (ARGUMENTS_DIFFER,)
