"""The log of one attempt: its beginning is on disk and its end in memory, both with a bound."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.trainer.attempt_log import MAX_LINE_BYTES, TAIL_LINES, AttemptLog


def written(log: AttemptLog, *parts: bytes) -> AttemptLog:
    for part in parts:
        log.write(part)
    return log


@given(
    lines=st.lists(st.integers(0, 9), max_size=250),
    ends=st.booleans(),
    cuts=st.lists(st.integers(0, 2_000), max_size=6),
)
def test_the_tail_is_the_last_lines_however_the_output_is_cut_into_parts(
    lines: list[int], ends: bool, cuts: list[int]
) -> None:
    printed = [f"{number} {'x' * size}" for number, size in enumerate(lines)]
    data = ("\n".join(printed) + "\n" * (ends and bool(printed))).encode()
    places = sorted({0, *(min(cut, len(data)) for cut in cuts), len(data)})
    log = written(AttemptLog(), *(data[start:end] for start, end in itertools.pairwise(places)))
    assert log.tail() == tuple(printed[-TAIL_LINES:])


@pytest.mark.parametrize("end", ["", "\n"])
def test_many_lines_at_once_are_as_many_lines_of_the_tail(end: str) -> None:
    printed = [f"line {number}" for number in range(3 * TAIL_LINES)]
    log = written(AttemptLog(), ("\n".join(printed) + end).encode())
    assert log.tail() == tuple(printed[-TAIL_LINES:])


def test_an_output_within_the_limit_is_in_the_file_as_it_was(tmp_path: Path) -> None:
    log = written(AttemptLog(tmp_path / "attempt1" / "log.txt", 1_000), b"one\n", b"\xfftwo\r\n", b"three")
    log.close()
    assert (tmp_path / "attempt1" / "log.txt").read_bytes() == b"one\n\xfftwo\r\nthree"


def test_no_output_makes_no_file_and_no_directory(tmp_path: Path) -> None:
    AttemptLog(tmp_path / "attempt1" / "log.txt").close()
    assert list(tmp_path.iterdir()) == []


def test_a_longer_output_keeps_its_beginning_the_omitted_size_and_its_last_lines(
    tmp_path: Path,
) -> None:
    log = AttemptLog(tmp_path / "log.txt", 10)
    for number in range(1_000):
        log.write(b"%d\n" % number)
    log.close()
    text = (tmp_path / "log.txt").read_text()
    last = "\n".join(str(number) for number in range(900, 1_000))
    assert text == f"0\n1\n2\n3\n4\n\n... 3,880 bytes more were printed; the last lines:\n{last}\n"


def test_a_limit_of_nothing_keeps_the_last_lines(tmp_path: Path) -> None:
    log = written(AttemptLog(tmp_path / "log.txt", 0), b"one\ntwo\n")
    log.close()
    assert (tmp_path / "log.txt").read_text() == "\n... 8 bytes more were printed; the last lines:\none\ntwo\n"


def test_a_file_that_is_there_is_added_to(tmp_path: Path) -> None:
    for part in (b"one\n", b"two\n"):
        written(AttemptLog(tmp_path / "log.txt"), part).close()
    assert (tmp_path / "log.txt").read_bytes() == b"one\ntwo\n"


def test_an_endless_line_keeps_its_end_and_no_more() -> None:
    log = AttemptLog()
    for _ in range(100):
        log.write(b"x" * MAX_LINE_BYTES)
    log.write(b" the end")
    (line,) = log.tail()
    assert len(line) == MAX_LINE_BYTES
    assert line.endswith(" the end")


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"10 %\r50 %\r100 %", "100 %"),
        (b"10 %\r100 %\r\n", "100 %"),
        (b"\x1b[1mbold\x1b[0m\x07", "[1mbold[0m"),
        (b"caf\xc3\xa9 \xff\ttab", "café �\ttab"),
        (b"\xc2\x9b31m", "31m"),
        (b"\r", ""),
    ],
)
def test_a_line_of_the_tail_is_what_a_person_would_have_seen(printed: bytes, shown: str) -> None:
    assert written(AttemptLog(), printed).tail() == (shown,)


def test_a_file_that_cannot_be_written_costs_the_log_and_not_the_evaluation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "attempt1").write_text("no directory")
    with caplog.at_level(logging.WARNING):
        log = written(AttemptLog(tmp_path / "attempt1" / "log.txt", 4), b"one\n", b"two\n")
        log.close()
    assert log.tail() == ("one", "two")
    (record,) = caplog.records
    assert record.getMessage().startswith("cannot write the log file of this evaluation, which continues without it: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this machine")
def test_a_full_disk_costs_the_log_and_not_the_evaluation(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "log.txt").symlink_to("/dev/full")
    log = written(AttemptLog(tmp_path / "log.txt"), b"one\n", b"two\n")
    log.close()
    assert log.tail() == ("one", "two")
    assert "No space left on device" in caplog.text
