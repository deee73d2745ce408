"""A worker that cannot write takes no work until it can: when it checks its disk, and which errors mean a full disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpbandster_lite.agent.own_disk import LONGEST_S, LOOK_EVERY_S, MORE_ROOM, SAMPLE_BYTES, OwnDisk, Room, room_of

FULL = Room(0.0, "no room on the disk of /run")
EMPTY = Room(1e9, "")
LITTLE = Room(1e6, "")


class FakeDisk(OwnDisk):
    """A disk with the free space that a test sets; it counts the checks."""

    def __init__(self) -> None:
        super().__init__("/run", room_of=self._given)
        self.room = EMPTY
        self.looked: list[tuple[str, bool]] = []

    def _given(self, folder: str, writes: bool) -> Room:
        self.looked.append((folder, writes))
        return self.room


# ---------------------------------------------------------------------------------------------------------- when


def test_an_idle_worker_looks_at_its_disk_before_its_first_question_and_then_now_and_again() -> None:
    disk = FakeDisk()
    for now in (0.0, 1.0, LOOK_EVERY_S - 0.1, LOOK_EVERY_S):
        assert disk.hindrance_at(now) is None
    assert disk.looked == [("/run", False)] * 2


def test_a_full_disk_hinders_until_there_is_room(caplog: pytest.LogCaptureFixture) -> None:
    disk = FakeDisk()
    disk.room = FULL
    assert disk.hindrance_at(0.0) == disk.hindrance_at(5.0) == disk.hindrance_at(1_000.0) == FULL.refusal
    disk.room = EMPTY
    assert disk.hindrance_at(1_005.0) == FULL.refusal, "the disk is not checked yet"
    assert disk.hindrance_at(1_010.0) is None
    # Free space does not show a quota, so the disk is also tested with a write.
    assert disk.looked == [("/run", False), ("/run", True), ("/run", True)]
    assert caplog.text.count("takes no work until it can write") == 1
    assert "can write to the disk of /run again, and takes work" in caplog.text


def test_a_disk_that_an_evaluation_found_full_is_the_one_that_is_looked_at() -> None:
    disk = FakeDisk()
    disk.room = FULL
    disk.found_no_room("/data", "no room on the disk of /data/x", 0.0)
    assert disk.hindrance_at(LOOK_EVERY_S) == "no room on the disk of /data/x"
    disk.room = EMPTY
    assert disk.hindrance_at(2 * LOOK_EVERY_S) is None
    disk.hindrance_at(4 * LOOK_EVERY_S)
    assert [folder for folder, _ in disk.looked] == ["/data", "/data", "/data", "/run"]


def test_room_that_was_too_little_for_an_evaluation_is_tried_again_after_longer_and_longer_times() -> None:
    disk = FakeDisk()
    disk.room = LITTLE
    now, waits = 0.0, []
    for _ in range(8):
        disk.found_no_room("/run", "too little", now)
        began = now
        while disk.hindrance_at(now) is not None:
            now += LOOK_EVERY_S
        waits.append(now - began)
    assert waits == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, LONGEST_S, LONGEST_S]
    disk.had_room()
    disk.found_no_room("/run", "too little", now)
    assert disk.hindrance_at(now + LOOK_EVERY_S) is None


def test_more_room_than_was_too_little_ends_the_wait() -> None:
    disk = FakeDisk()
    disk.room = LITTLE
    for _ in range(4):
        disk.found_no_room("/run", "too little", 0.0)
    disk.room = Room(MORE_ROOM * LITTLE.free_bytes, "")
    assert disk.hindrance_at(LOOK_EVERY_S) == "too little"
    disk.room = Room(MORE_ROOM * LITTLE.free_bytes + SAMPLE_BYTES, "")
    assert disk.hindrance_at(2 * LOOK_EVERY_S) is None


# ---------------------------------------------------------------------------------------------------------- what


def statvfs(monkeypatch: pytest.MonkeyPatch, **changed: Any) -> None:
    fields = {"f_bavail": 10**6, "f_frsize": 4_096, "f_files": 10**6, "f_favail": 10**5, "f_flag": 0, **changed}
    monkeypatch.setattr("os.statvfs", lambda _: SimpleNamespace(**fields))


def refuse_writes(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fsync(_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", fsync)


def look(folder: Path, below: Path | None = None, *, writes: bool = False) -> str:
    return room_of(str(folder), writes_below=str(below or folder), writes=writes).refusal


@pytest.mark.parametrize(
    ("shown", "number", "words"),
    [
        ({"f_bavail": 0}, errno.ENOSPC, "no room on the disk of {}: No space left on device"),
        ({"f_favail": 0}, errno.ENOSPC, "no room on the disk of {}: No space left on device"),
        ({"f_flag": os.ST_RDONLY}, errno.EROFS, "cannot write to the disk of {}: Read-only file system"),
    ],
    ids=["no blocks", "no names", "read-only"],
)
def test_a_disk_that_seems_full_is_tried(
    shown: dict[str, int], number: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    statvfs(monkeypatch, **shown)
    assert look(tmp_path) == ""
    refuse_writes(monkeypatch, number)
    assert look(tmp_path) == words.format(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_with_room_is_written_to_only_after_it_was_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The free space does not show a quota."""
    refuse_writes(monkeypatch, errno.EDQUOT)
    statvfs(monkeypatch)
    assert look(tmp_path) == ""
    assert look(tmp_path, writes=True) == f"no room on the disk of {tmp_path}: Disk quota exceeded"


def test_an_error_that_says_nothing_of_room_is_no_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    statvfs(monkeypatch, f_bavail=0)
    refuse_writes(monkeypatch, errno.EACCES)
    assert look(tmp_path) == ""


def test_nothing_is_written_outside_the_worker_s_own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_writes(monkeypatch, errno.EROFS)
    statvfs(monkeypatch, f_bavail=1)
    own = tmp_path / "own"
    assert look(tmp_path / "data", own, writes=True) == f"no room on the disk of {tmp_path}"
    statvfs(monkeypatch, f_bavail=16)
    assert look(tmp_path / "data", own, writes=True) == ""


def test_a_folder_that_does_not_exist_yet_is_on_the_disk_of_the_one_above(tmp_path: Path) -> None:
    attempt = tmp_path / "evaluations" / "0-0-0"
    room = room_of(str(attempt), writes_below=str(tmp_path), writes=True)
    assert room.refusal == ""
    assert room.free_bytes > 0
    assert list(tmp_path.iterdir()) == []
