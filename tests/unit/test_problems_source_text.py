"""An edit that cannot change a loss does not change the hash of a file; every other edit does."""

from __future__ import annotations

import ast
import gc
from pathlib import Path

import pytest

from hpbandster_lite.problems.source_text import ABSENT, LARGE_BYTES, counted_text, hash_of_file

TEXT = '''import math

RATE = 0.1
NOTE = """one

# two
"""


def evaluate(config, budget, trial):
    return config["x"] * RATE


if __name__ == "__main__":
    print(1)
'''


def counted(text: str) -> bytes:
    return counted_text(text.encode())


@pytest.mark.parametrize(
    "edited",
    [
        TEXT.replace("import math\n", "import math  # for later\n# more\n\n\n"),
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("print(1)", "print(2)\n    # then\n\n    print(3)"),
        TEXT.replace('__name__ == "__main__"', '"__main__" == __name__'),
        TEXT.partition("if __name__")[0],
        "\ufeff" + TEXT,
        TEXT + "\n\n\n",
    ],
    ids=["comments", "line ends", "main block", "main block reversed", "no main block", "byte order mark", "blanks"],
)
def test_what_cannot_change_a_loss_does_not_count(edited: str) -> None:
    assert counted(edited) == counted(TEXT)


@pytest.mark.parametrize(
    "edited",
    [
        TEXT.replace("0.1", "0.2"),
        TEXT.replace("# two", "# three"),
        TEXT.replace("one\n\n", "one\n"),
        TEXT.replace("one\n", "one  \n"),
        TEXT.replace('"__main__":\n    print(1)', '"__main__":\n    print(1)\nelse:\n    RATE = 0.5'),
        TEXT.replace('__name__ == "__main__"', '__name__ != "__main__"'),
        TEXT.replace("    return", "    if True: return"),
    ],
    ids=["value", "sign in a string", "blank in a string", "space in a string", "else", "not main", "code"],
)
def test_everything_else_counts(edited: str) -> None:
    assert counted(edited) != counted(TEXT)


def test_a_file_that_is_no_python_counts_whole() -> None:
    assert counted("def broken(:  # one") != counted("def broken(:  # two")
    assert counted("def broken(:\r\n") == counted("def broken(:\n")


def test_other_encodings_are_read() -> None:
    latin = "# -*- coding: latin-1 -*-\nNAME = 'é'\n".encode("latin-1")
    assert counted_text(latin) == counted_text(latin + b"# end\n")
    assert counted_text(latin) != counted_text(latin.replace(b"\xe9", b"\xe8"))


def test_large_files_count_by_their_size(tmp_path: Path) -> None:
    data = tmp_path / "data.bin"
    data.write_bytes(b"a" * (LARGE_BYTES + 1))
    first = hash_of_file(data)
    data.write_bytes(b"b" * (LARGE_BYTES + 1))
    assert hash_of_file(data) == first == f"{LARGE_BYTES + 1} bytes"
    data.write_bytes(b"b" * LARGE_BYTES)
    assert len(hash_of_file(data)) == 32
    assert hash_of_file(tmp_path / "none") == ABSENT


def test_a_text_is_parsed_although_another_thread_parses_too() -> None:
    # A parse in the middle of another one, as in another thread: CPython 3.11 then fails.
    others: list[ast.Module] = []

    def parse(_phase: str, _info: object) -> None:
        if len(others) < 3:
            others.append(ast.parse("pass"))

    content = ("if a:\n  b = [c(1, (2, d))]\n" * 200).encode()
    usual = gc.get_threshold()
    gc.callbacks.append(parse)
    gc.set_threshold(50)
    try:
        assert counted_text(content + b"# end\n") == content.rstrip()
    finally:
        gc.set_threshold(*usual)
        gc.callbacks.remove(parse)
    assert len(others) == 3
