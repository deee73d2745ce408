"""How much the checkpoints in a run directory take, evaluation by evaluation.

Law of this file: it measures files and deletes nothing. An evaluation is measured when something has happened to it,
and while it runs, so that the whole directory is read once only, when a master starts.
"""

from __future__ import annotations

from collections.abc import Iterable

from hpbandster_lite.records import EvaluationId
from hpbandster_lite.rundir.checkpoints import checkpoint_files, size_of
from hpbandster_lite.rundir.directory import RunDirectory

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


class CheckpointSizes:
    """The sizes of all checkpoints of a run, as of their last measurement.

    Parameters
    ----------
    directory
        The run directory.

    Attributes
    ----------
    total_bytes : int
        The sum of all sizes.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._sizes: dict[EvaluationId, int] = {}
        self.total_bytes = 0

    def __getitem__(self, evaluation: EvaluationId) -> int:
        return self._sizes.get(evaluation, 0)

    @property
    def evaluations(self) -> list[EvaluationId]:
        """Those with a checkpoint."""
        return list(self._sizes)

    def measure(self, evaluations: Iterable[EvaluationId]) -> None:
        """Measure all attempts of these evaluations."""
        for evaluation in evaluations:
            size = self._measured(evaluation)
            self.total_bytes += size - self._sizes.pop(evaluation, 0)
            if size:
                self._sizes[evaluation] = size

    def _measured(self, evaluation: EvaluationId) -> int:
        attempts = self._directory.evaluation_directory(evaluation).glob("attempt*")
        return sum(size_of(file) for attempt in attempts for file in checkpoint_files(attempt))


def size_text(size_bytes: float) -> str:
    """A size for users: ``51.2 GB``."""
    unit = 0
    while size_bytes >= 1000 and unit + 1 < len(_UNITS):
        size_bytes, unit = size_bytes / 1000, unit + 1
    return f"{size_bytes:.3g} {_UNITS[unit]}"
