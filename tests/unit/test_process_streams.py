"""The standard streams: any of them may be closed, and any encoding works."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys

import pytest

from hpbandster_lite.cli.view.terminal import console
from hpbandster_lite.process.streams import REPLACES, make_usable

CLOSED = [each for count in (1, 2, 3) for each in itertools.combinations(range(3), count)]
PROBE = """
import os, sys
from hpbandster_lite.process.streams import make_usable
make_usable()
reading, writing = os.pipe()
print("\\u00b7", flush=True)
sys.stderr.write("\\u00b7")
sys.exit(10 if min(reading, writing) > 2 and sys.stdin.read() == "" else 1)
"""


@pytest.mark.parametrize("closed", CLOSED, ids=lambda closed: "_".join(map(str, closed)))
def test_a_closed_stream_is_the_null_device_and_its_number_is_not_used_again(closed: tuple[int, ...]) -> None:
    shell = " ".join(f"{number}{'<' if number == 0 else '>'}&-" for number in closed)
    done = subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {shell}', sys.executable, PROBE], stdin=subprocess.DEVNULL, check=False
    )

    assert done.returncode == 10


@pytest.mark.parametrize(
    ("encoding", "text", "written"),
    [
        ("ascii", "4 \u00b7 5 \u2026 \u2192 \u2265", b"4 - 5 ... -> >="),
        ("ascii", "gr\u00f6\u00dfe \u2713 \U0001f600", rb"gr\xf6\xdfe \u2713 \U0001f600"),
        ("latin-1", "gr\u00f6\u00dfe \u2013 \u2713", b"gr\xf6\xdfe - \\u2713"),
        ("utf-8", "4 \u00b7 5", "4 \u00b7 5".encode()),
    ],
    ids=["ascii_signs", "ascii_letters", "latin", "utf"],
)
def test_a_character_that_an_encoding_lacks_is_replaced(encoding: str, text: str, written: bytes) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=REPLACES)
    stream.write(text)
    stream.flush()

    assert stream.buffer.getvalue() == written


def test_a_terminal_of_size_zero_has_the_size_of_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    monkeypatch.setenv("LINES", "24")

    make_usable()

    assert "COLUMNS" not in os.environ
    assert os.environ["LINES"] == "24"


@pytest.mark.parametrize("fault", ["no_reader", "no_room"])
def test_a_console_of_a_search_drops_what_cannot_be_written(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if fault == "no_reader":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr("sys.stdout", os.fdopen(writing, "w", closefd=False))
    try:
        console(drops=True).print("one line")
        with pytest.raises((OSError, SystemExit)):
            console().print("one line")
    finally:
        os.close(writing)
