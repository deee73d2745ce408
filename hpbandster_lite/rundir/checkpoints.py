"""Deletes the checkpoints of configurations that are out of the search.

Law of this file: only the master deletes; only what the engine calls out, and not before one lease length has passed,
because a worker that was cut off may still be reading. Logs stay: they are small and tell why a configuration failed.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from hpbandster_lite.records import ConfigId
from hpbandster_lite.rundir import RunDirectory

log = logging.getLogger(__name__)


class CheckpointKeeper:
    """Deletes late and in order.

    Parameters
    ----------
    directory
        The run directory.
    keep_all
        Delete nothing.
    delay_s
        How long a configuration must have been out: one lease length.
    """

    def __init__(self, directory: RunDirectory, *, keep_all: bool, delay_s: float) -> None:
        self._keep_all = keep_all
        self._directory = directory
        self._delay_s = delay_s
        self._due: deque[tuple[float, ConfigId]] = deque()

    def out(self, configurations: Iterable[ConfigId], now: float) -> None:
        """Note configurations that nobody will continue from."""
        if not self._keep_all:
            self._due.extend((now + self._delay_s, config_id) for config_id in configurations)

    def is_due(self, now: float) -> bool:
        """Whether a sweep would find anything."""
        return bool(self._due) and self._due[0][0] <= now

    def sweep(self, now: float, *, spare: ConfigId | None = None) -> int:
        """Delete what is due, but never the incumbent (``spare``); return how many configurations were swept."""
        due: list[ConfigId] = []
        while self.is_due(now):
            due.append(self._due.popleft()[1])
        swept = [config_id for config_id in due if config_id != spare]
        for config_id in swept:
            self._delete(config_id)
        if len(swept) < len(due) and spare is not None:
            # It is out of its bracket, not of the search: ask again when another may have taken its place.
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
    """A checkpoint that stays costs room on the disk; a master that ends for it costs the search."""
    try:
        yield
    except OSError as error:
        log.warning("a checkpoint was left behind: %s", error)
