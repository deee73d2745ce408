"""Whether a worker can write where its attempts write; one that cannot takes no work.

Law of this file: a disk is full if it says so and a small file cannot be written there. After an evaluation found no
room, the worker takes work again when a small file can be written, and there is more room than then or a time is over:
what was to be written may be larger than the room that is left. It writes only below the worker's own directory.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger(__name__)

LOOK_EVERY_S = 10.0
"""How often an idle worker looks at its disk, and how soon it may take work again after a full one."""
LONGEST_S = 300.0
"""The time doubles, up to this, while one evaluation after the other finds no room though a small file has some."""
FULL_BELOW_BYTES = 2**20
"""A disk with less free space is tried; one with more is not full. Blocks for the administrator do not count."""
SAMPLE_BYTES = 2**16
"""Size of the small file: a log and a learning curve need as much."""
MORE_ROOM = 1.125
"""More room is this much more than there was: less is the noise of a disk that others use, too."""

_CANNOT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


class Room(NamedTuple):
    """The free bytes on the disk of a folder, and why a small file cannot be written there (empty: it can)."""

    free_bytes: float
    refusal: str


class OwnDisk:
    """The disk of one worker.

    Parameters
    ----------
    directory
        Where its attempts write.
    room_of
        How to look at a folder's disk; its second argument is whether to write a small file even if there seems to be
        room.

    Attributes
    ----------
    hindrance : str or None
        Why the worker takes no work, while it cannot write.
    look_at : float
        When it looks at the disk again, if it is asked to.
    """

    def __init__(self, directory: str, *, room_of: Callable[[str, bool], Room] | None = None) -> None:
        self._directory = directory
        self._room_of = room_of or self._look
        self._folder = directory
        self.look_at = -math.inf
        self._free_then = 0.0
        self._waits_until = -math.inf
        self._in_a_row = 0
        self.hindrance: str | None = None

    def hindrance_at(self, now: float) -> str | None:
        """Look at the disk if that is due; why the worker takes no work, if so."""
        if now < self.look_at:
            return self.hindrance
        self.look_at = now + LOOK_EVERY_S
        room = self._room_of(self._folder, self.hindrance is not None)
        if self.hindrance is None:
            if room.refusal:
                self._hinder(room.refusal, room.free_bytes, now)
        elif not room.refusal and (self._has_grown(room) or now >= self._waits_until):
            log.warning("this worker can write to the disk of %s again, and takes work", self._folder)
            self._folder, self.hindrance = self._directory, None
        return self.hindrance

    def found_no_room(self, folder: str, reason: str, now: float) -> None:
        """An evaluation failed because the disk of a folder has no room."""
        self._folder = folder
        self._in_a_row += 1
        self._hinder(reason, self._room_of(folder, False).free_bytes, now)

    def refusal(self) -> str:
        """Why nothing can be written now, where an evaluation failed for a reason that may be a consequence."""
        return self._room_of(self._directory, False).refusal

    def had_room(self) -> None:
        """An evaluation was completed."""
        self._in_a_row = 0

    def _hinder(self, reason: str, free_bytes: float, now: float) -> None:
        wait_s = min(LONGEST_S, LOOK_EVERY_S * 2 ** max(0, self._in_a_row - 1))
        log.error("this worker takes no work until it can write: %s", reason)
        self.hindrance, self._free_then = reason, free_bytes
        self._waits_until, self.look_at = now + wait_s, now + min(wait_s, LOOK_EVERY_S)

    def _has_grown(self, room: Room) -> bool:
        return room.free_bytes >= MORE_ROOM * self._free_then + SAMPLE_BYTES

    def _look(self, folder: str, writes: bool) -> Room:
        return room_of(folder, writes_below=self._directory, writes=writes)


def room_of(folder: str, *, writes_below: str, writes: bool = False) -> Room:
    """Look at the disk of a folder, which need not exist.

    Parameters
    ----------
    folder
        Any folder; the nearest one above it that exists counts.
    writes_below
        Only a disk below this folder is tried by writing; what another disk says is believed.
    writes
        Whether to write even where there seems to be room: a quota does not show in the free space.
    """
    existing = next(each for each in (Path(folder), *Path(folder).parents, Path("/")) if each.is_dir())
    try:
        disk = os.statvfs(existing)
    except OSError:
        return Room(math.inf, "")
    free_bytes = float(disk.f_bavail * disk.f_frsize)
    has_no_names = disk.f_files > 0 and disk.f_favail == 0
    if not existing.is_relative_to(writes_below):
        is_full = free_bytes < SAMPLE_BYTES or has_no_names
        return Room(free_bytes, f"no room on the disk of {existing}" if is_full else "")
    seems_full = free_bytes < FULL_BELOW_BYTES or has_no_names or bool(disk.f_flag & os.ST_RDONLY)
    return Room(free_bytes, _refusal_to_write(existing) if seems_full or writes else "")


def _refusal_to_write(folder: Path) -> str:
    """Write a small file and remove it; the words of the error if there is no room for it."""
    path = folder / f".hpbandster_lite-room-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with path.open("xb", buffering=0) as file:
            left = SAMPLE_BYTES
            while left > 0:
                left -= file.write(b"x" * left)
            os.fsync(file)
    except OSError as error:
        what = "cannot write to" if error.errno == errno.EROFS else "no room on"
        return f"{what} the disk of {folder}: {error.strerror}" if error.errno in _CANNOT_WRITE else ""
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
    return ""
