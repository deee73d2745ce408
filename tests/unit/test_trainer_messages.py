"""What agent and trainer say to each other: one record a line, and nothing else is believed."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.errors import ProtocolMismatch
from hpbandster_lite.records import ConfigId, CurvePoint, EvaluationId, Failure, FailureKind
from hpbandster_lite.trainer.messages import (
    LineReader,
    TrainerEnded,
    TrainerInterrupted,
    TrainerOrder,
    TrainerPoint,
    TrainerReady,
    TrainerRefused,
    TrainerStop,
    line_of,
    write_line,
)

RECORDS = (
    TrainerOrder(
        evaluation=EvaluationId(ConfigId(2, 0, 5), 1),
        attempt=1,
        values={"kernel": 3, "activation": "relu", "residual": True, "dropout": None, "lr": 0.1},
        budget=3.0,
        max_budget=9.0,
        unit="epochs\n",
        seed=11,
        directory="/scratch/é",
        call="test",
    ),
    TrainerStop(),
    TrainerReady(problem="digits", source_hash="ab"),
    TrainerRefused(message="two\nlines"),
    TrainerPoint(point=CurvePoint(1.0, float("inf"), {"accuracy": [0.5, None]})),
    TrainerEnded(loss=0.5, info={"size": 3}, duration_s=1.5, has_children=True),
    TrainerEnded(failure=Failure(kind=FailureKind.CODE, reason="x", traceback="a\nb", log_tail=("one", "two"))),
    TrainerInterrupted(has_children=True),
)


@given(sizes=st.lists(st.integers(1, 400), max_size=8))
def test_records_come_back_in_order_however_the_bytes_are_cut(sizes: list[int]) -> None:
    data = b"".join(map(line_of, RECORDS))
    reader = LineReader()
    received: list[object] = []
    for size in [*sizes, len(data)]:
        received += reader.records(data[:size])
        data = data[size:]
    assert received == list(RECORDS)


def test_a_record_is_one_line() -> None:
    for record in RECORDS:
        line = line_of(record)
        assert (line.count(b"\n"), line[-1:], line.isascii()) == (1, b"\n", True)


def test_half_a_line_is_nothing_yet() -> None:
    assert list(LineReader().records(line_of(TrainerStop())[:-1])) == []


@pytest.mark.parametrize(
    "data",
    [b"garbage\n", b"\n", b"{}\n", b'{"type":"Popen"}\n', b"\xff\xfe\n", b'{"type":"TrainerReady","problem":1}\n'],
)
def test_a_line_that_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolMismatch):
        list(LineReader().records(data))


def test_records_before_a_bad_line_are_received() -> None:
    records = LineReader().records(line_of(TrainerStop()) + b"garbage\n")
    assert next(records) == TrainerStop()
    with pytest.raises(ProtocolMismatch):
        next(records)


def test_a_line_without_an_end_is_refused_at_the_limit() -> None:
    reader = LineReader(limit_bytes=1_000)
    assert list(reader.records(b"x" * 1_000)) == []
    with pytest.raises(ProtocolMismatch, match="more than 1,000 bytes"):
        list(reader.records(b"x"))


def test_a_line_is_written_whole_where_a_signal_cuts_the_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bytes] = []

    def three_bytes(descriptor: int, data: memoryview) -> int:
        taken.append(bytes(data[:3]))
        return len(taken[-1])

    monkeypatch.setattr("os.write", three_bytes)
    write_line(9, line_of(TrainerStop()))
    monkeypatch.undo()
    assert b"".join(taken) == line_of(TrainerStop())


def test_a_line_that_is_larger_than_the_pipe_is_written_whole() -> None:
    line = line_of(TrainerEnded(loss=0.5, info={"weights": "x" * 1_000_000}))
    reading, writing = os.pipe()
    thread = threading.Thread(target=write_line, args=(writing, line))
    thread.start()
    reader = LineReader()
    received: list[object] = []
    try:
        while not received:
            received += reader.records(os.read(reading, 65_536))
    finally:
        thread.join()
        os.close(reading)
        os.close(writing)
    assert received == [TrainerEnded(loss=0.5, info={"weights": "x" * 1_000_000})]
