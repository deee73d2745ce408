"""Records between agent and trainer arrive whole, and other bytes are set aside."""

from __future__ import annotations

import os
import select
import threading
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpbandster_lite.records import ConfigId, CurvePoint, EvaluationId, Failure, FailureKind
from hpbandster_lite.trainer.frames import FrameReader, frames_of, write_frames
from hpbandster_lite.trainer.messages import (
    TrainerEnded,
    TrainerInterrupted,
    TrainerOrder,
    TrainerPoint,
    TrainerReady,
    TrainerRefused,
    TrainerStop,
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
    TrainerPoint(point=CurvePoint(1.0, float("inf"), {"accuracy": [0.5, None]}), order=3),
    TrainerEnded(loss=0.5, info={"size": 3}, duration_s=1.5, has_children=True),
    TrainerEnded(failure=Failure(kind=FailureKind.CODE, reason="x", traceback="a\nb", log_tail=("one", "two"))),
    TrainerInterrupted(has_children=True),
    TrainerEnded(loss=0.5, info={"text": "x" * 20_000}),
)


def bytes_of(record: object) -> bytes:
    return b"".join(frames_of(record))


def read(*pieces: bytes) -> tuple[list[object], str | None]:
    """The records in these bytes, and the bytes that are set aside."""
    reader = FrameReader()
    received = [record for piece in pieces for record in reader.records(piece)]
    reader.end_of_order()
    return received, reader.take_stray()


@given(sizes=st.lists(st.integers(1, 400), max_size=8))
def test_records_come_back_in_order_however_the_bytes_are_cut(sizes: list[int]) -> None:
    data = b"".join(map(bytes_of, RECORDS))
    pieces = []
    for size in [*sizes, len(data)]:
        pieces.append(data[:size])
        data = data[size:]
    assert read(*pieces) == (list(RECORDS), None)


def test_a_frame_is_one_line_that_a_pipe_takes_at_once() -> None:
    for frame in frames_of(TrainerEnded(loss=0.5, info={"text": "x" * 1_000_000})):
        assert len(frame) <= select.PIPE_BUF
        assert (frame.count(b"\n"), frame[-1:], frame.isascii()) == (1, b"\n", True)


@given(st.randoms(use_true_random=False))
def test_frames_of_many_writers_in_any_order_give_whole_records(random: Random) -> None:
    records = [TrainerEnded(loss=float(number), info={"text": str(number) * 5_000}) for number in range(1, 6)]
    waiting = [frames_of(record) for record in records]
    data = b""
    while any(waiting):
        data += random.choice([frames for frames in waiting if frames]).pop(0)
    received, stray = read(data)
    # None is a TrainerEnded.
    assert sorted(received, key=lambda record: record.loss or 0.0) == records  # type: ignore[attr-defined]
    assert stray is None


def test_half_a_record_is_nothing_yet() -> None:
    assert list(FrameReader().records(bytes_of(TrainerStop())[:-1])) == []


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\n",
        b"garbage",
        b"{}\n",
        b'\x1e{"type":"Popen"}\n',
        b"\xff\xfe\n\x1e\n",
        b'\x1e{"type":"TrainerReady","problem":1}\n',
        b"\x1eab 0 x y\n",
        b"\x1eab 1 2 {}\n",
        b"x" * 1_000_000 + b"\n",
        b"x" * 1_000_000,
        frames_of(TrainerEnded(loss=0.5, info={"text": "x" * 20_000}))[1],
        bytes_of(TrainerStop())[:20],
    ],
    ids=["text", "no end", "object", "class", "bytes", "field", "head", "part", "long", "longer", "second part", "cut"],
)
def test_bytes_that_are_no_record_are_set_aside_and_the_next_record_is_read(data: bytes) -> None:
    received, stray = read(data, bytes_of(TrainerStop()), data)
    assert received == [TrainerStop()]
    assert stray is not None
    assert "bytes, which begin with b'" in stray


def test_a_writer_that_was_killed_within_a_record_costs_only_that_record() -> None:
    first, *_ = frames_of(TrainerEnded(loss=0.5, info={"text": "x" * 20_000}))
    received, stray = read(first, bytes_of(TrainerStop()))
    assert received == [TrainerStop()]
    assert stray is not None


def test_what_is_kept_of_endless_input_is_bounded() -> None:
    reader = FrameReader()
    for _ in range(100):
        assert list(reader.records(b"x" * 65_536)) == []
    assert list(reader.records(bytes_of(TrainerStop()))) == [TrainerStop()]
    assert (reader.take_stray() or "").startswith("6,553,600 bytes")


def test_a_record_that_is_larger_than_the_pipe_is_written_whole() -> None:
    record = TrainerEnded(loss=0.5, info={"weights": "x" * 1_000_000})
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    thread = threading.Thread(target=write_frames, args=(writing, frames_of(record)))
    thread.start()
    reader = FrameReader()
    received: list[object] = []
    try:
        while not received:
            received += reader.records(os.read(reading, 65_536))
    finally:
        thread.join()
        os.close(reading)
        os.close(writing)
    assert received == [record]
