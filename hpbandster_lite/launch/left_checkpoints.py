"""Deletes the checkpoints that a complete search left because its last master was killed before it deleted them.

Law of this file: it works on a search that is complete and that no master serves, and deletes what the master would
have deleted.
"""

from __future__ import annotations

import heapq
import math

from hpbandster_lite.hyperband.ranking import IncumbentKey, incumbent_key
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.records import ConfigId, FinishKind
from hpbandster_lite.rundir import CheckpointKeeper, RunDirectory


def delete_left_checkpoints(directory: RunDirectory, keep_best: int | None) -> None:
    """Delete the checkpoints of all configurations but the best; ``None`` keeps them all."""
    reader = JournalReader(directory.journal)
    finished = reader.finished()
    if keep_best is None or finished is None or finished.kind is not FinishKind.COMPLETE or directory.is_served():
        return
    kept = _best(reader, keep_best)
    keeper = CheckpointKeeper(directory, keep_best=keep_best, delay_s=0.0)
    keeper.out(filter(None, map(_config_id, _names(directory))), 0.0)
    keeper.sweep(math.inf, spare=kept)


def _best(reader: JournalReader, count: int) -> frozenset[ConfigId]:
    best: dict[ConfigId, IncumbentKey] = {}
    for row in reader.evaluations(("done",)):
        if row["loss"] is not None:
            config_id = ConfigId(*row["config_id"])
            key = incumbent_key(row["budget"], row["loss"], config_id)
            best[config_id] = min(key, best.get(config_id, key))
    return frozenset(config_id for _, _, config_id in heapq.nsmallest(count, best.values()))


def _names(directory: RunDirectory) -> list[str]:
    try:
        return [path.name for path in directory.evaluations.iterdir()]
    except OSError:
        return []


def _config_id(name: str) -> ConfigId | None:
    parts = name.split("-")
    is_name = len(parts) == 3 and name.isascii() and all(part.isdigit() for part in parts)
    return ConfigId(*map(int, parts)) if is_name else None
