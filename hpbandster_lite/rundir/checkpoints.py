"""What a checkpoint is, and the deletion of checkpoints that the search no longer needs.

Law of this file: a checkpoint is the set of non-empty files and links in an attempt's directory, without its log, its
points and the folder of what it keeps (``trial.keep_directory``). Only the master deletes checkpoints, only those that
the engine names, and only after the length of a lease, because a worker that lost its connection may still be reading,
or at the end of the search. Logs stay: they are small and show why a configuration failed.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
from collections import deque
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from hpbandster_lite.records import ConfigId
from hpbandster_lite.rundir.directory import RunDirectory
from hpbandster_lite.rundir.files import PARTIAL_SUFFIX

log = logging.getLogger(__name__)

SWEEP_EVERY_S = 1.0
"""Between two sweeps: each one ranks the results, and deletes what has become due meanwhile."""
NO_CHECKPOINT = (RunDirectory.LOG_NAME, RunDirectory.CURVE_NAME, RunDirectory.KEEP_NAME)
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
    elif entry.is_symlink() or (size_of(entry) > 0 and not _is_partial(entry.name)):
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


def size_of(entry: os.DirEntry[str]) -> int:
    """Size of a file or link in bytes; 0 if it was replaced or deleted at this moment."""
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0


def holds_anything_kept(directory: str | Path) -> bool:
    """Whether an attempt has put anything into its folder for what stays."""
    return bool(_entries(Path(directory, RunDirectory.KEEP_NAME)))


class CheckpointKeeper:
    """Deletes the checkpoints of configurations from which the search does not continue, after a delay and in order.

    Parameters
    ----------
    directory
        The run directory.
    keep_best
        How many of the best configurations keep their checkpoints; ``None``: all configurations do.
    delay_s
        Seconds from the end of a configuration to the deletion: the length of a lease.
    """

    def __init__(self, directory: RunDirectory, *, keep_best: int | None = 1, delay_s: float) -> None:
        self.keep_best = keep_best
        self._directory = directory
        self._delay_s = delay_s
        self._due: deque[tuple[float, ConfigId]] = deque()
        self._next_sweep = -math.inf

    def out(self, configurations: Iterable[ConfigId], now: float) -> None:
        """Schedule configurations from which no evaluation will continue."""
        if self.keep_best is not None:
            self._due.extend((now + self._delay_s, config_id) for config_id in configurations)

    def is_due(self, now: float) -> bool:
        """Whether a sweep has something to delete, and the last sweep was not just before."""
        return bool(self._due) and self._due[0][0] <= now and now >= self._next_sweep

    def sweep(self, now: float, *, spare: Container[ConfigId] = ()) -> list[ConfigId]:
        """Delete what is due, except the checkpoints of the best configurations; return the configurations.

        Parameters
        ----------
        now
            The caller's clock. With an infinite ``now`` everything is due: the search is over, and no worker reads a
            checkpoint any more.
        spare
            The best configurations.
        """
        self._next_sweep = now + SWEEP_EVERY_S
        due: list[ConfigId] = []
        while self._due and self._due[0][0] <= now:
            due.append(self._due.popleft()[1])
        swept = [config_id for config_id in due if config_id not in spare]
        for config_id in swept:
            self._delete(config_id)
        # The best ones are out of their brackets but still needed: check again later, when others may be better.
        self._due.extend((now + self._delay_s, config_id) for config_id in due if config_id in spare)
        return swept

    def _delete(self, config_id: ConfigId) -> None:
        with _failures_logged():
            for rung in sorted(self._directory.configuration_directory(config_id).glob("rung*")):
                delete_attempts(rung)


def delete_attempts(rung: Path) -> None:
    """Delete the checkpoints of an evaluation: everything in its attempts but their logs and what they keep."""
    with _failures_logged():
        for attempt in sorted(rung.glob("attempt*")):
            delete_checkpoint(attempt)


def delete_checkpoint(attempt: Path) -> None:
    """Delete everything that an attempt saved, but its log and what it keeps."""
    with _failures_logged():
        for entry in attempt.iterdir():
            if entry.name not in (RunDirectory.LOG_NAME, RunDirectory.KEEP_NAME):
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
