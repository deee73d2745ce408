"""What a checkpoint is, and the deletion of checkpoints that the search no longer needs.

Law of this file: a checkpoint is the set of non-empty files and links in an attempt's directory, without its log and
its points. Only the master deletes checkpoints, only those that the engine names, and only after the length of a lease,
because a worker that lost its connection may still be reading. Logs stay: they are small and show why a configuration
failed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from hpbandster_lite.records import ConfigId
from hpbandster_lite.rundir.directory import RunDirectory
from hpbandster_lite.rundir.files import PARTIAL_SUFFIX

log = logging.getLogger(__name__)

NO_CHECKPOINT = (RunDirectory.LOG_NAME, RunDirectory.CURVE_NAME)
"""Entries of an attempt's directory that no attempt continues from."""


def holds_checkpoint(directory: str | Path) -> bool:
    """Whether a directory holds a checkpoint; False if it cannot be read."""
    return next(checkpoint_files(directory), None) is not None


def checkpoint_files(directory: str | Path) -> Iterator[os.DirEntry[str]]:
    """The files and links of the checkpoint in an attempt's directory; no files if the directory cannot be read.

    Empty files and folders are not part of it: an attempt leaves them if the disk was full when it began to save. Nor
    are files that ``save_checkpoint`` was writing when its process was killed.
    """
    for entry in _entries(directory):
        if entry.name not in NO_CHECKPOINT:
            yield from _files_in(entry)


def _files_in(entry: os.DirEntry[str]) -> Iterator[os.DirEntry[str]]:
    if entry.is_dir(follow_symlinks=False):
        for inner in _entries(entry.path):
            yield from _files_in(inner)
    elif entry.is_symlink() or (_size(entry) > 0 and not _is_partial(entry.name)):
        yield entry


def _is_partial(name: str) -> bool:
    """Whether a file of this name is a checkpoint that is being written, or that a kill cut off."""
    return name.startswith(".") and name.endswith(PARTIAL_SUFFIX)


def _entries(directory: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError:
        return []


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0


class CheckpointKeeper:
    """Deletes the checkpoints of configurations from which the search does not continue, after a delay and in order.

    Parameters
    ----------
    directory
        The run directory.
    keep_all
        Whether to delete nothing.
    delay_s
        Seconds from the end of a configuration to the deletion: the length of a lease.
    """

    def __init__(self, directory: RunDirectory, *, keep_all: bool, delay_s: float) -> None:
        self._keep_all = keep_all
        self._directory = directory
        self._delay_s = delay_s
        self._due: deque[tuple[float, ConfigId]] = deque()

    def out(self, configurations: Iterable[ConfigId], now: float) -> None:
        """Schedule configurations from which no evaluation will continue."""
        if not self._keep_all:
            self._due.extend((now + self._delay_s, config_id) for config_id in configurations)

    def is_due(self, now: float) -> bool:
        """Whether a sweep has something to delete."""
        return bool(self._due) and self._due[0][0] <= now

    def sweep(self, now: float, *, spare: ConfigId | None = None) -> int:
        """Delete what is due, except the incumbent's checkpoints (``spare``); return the number of configurations."""
        due: list[ConfigId] = []
        while self.is_due(now):
            due.append(self._due.popleft()[1])
        swept = [config_id for config_id in due if config_id != spare]
        for config_id in swept:
            self._delete(config_id)
        if len(swept) < len(due) and spare is not None:
            # The incumbent is out of its bracket but still needed: check again later, after it may have changed.
            self._due.append((now + self._delay_s, spare))
        return len(swept)

    def _delete(self, config_id: ConfigId) -> None:
        with _failures_logged():
            for attempt in sorted(self._directory.configuration_directory(config_id).glob("rung*/attempt*")):
                for entry in attempt.iterdir():
                    if entry.name != self._directory.LOG_NAME:
                        _remove(entry)


def _remove(entry: Path) -> None:
    with _failures_logged():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


@contextlib.contextmanager
def _failures_logged() -> Iterator[None]:
    """Log an error instead of raising it: a left checkpoint costs disk space, but an exception would end the master."""
    try:
        yield
    except OSError as error:
        log.warning("a checkpoint could not be deleted: %s", error)
