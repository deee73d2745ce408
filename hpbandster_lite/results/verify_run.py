"""Verify the journal of a run directory.

Law of this file: it only reads; a master that serves the search meanwhile is not disturbed.
"""

from __future__ import annotations

from hpbandster_lite.engine.verify import Verification, verify
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.process.fingerprint import fingerprint
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.samplers import make_sampler
from hpbandster_lite.space import SearchSpace


def verify_run(directory: RunDirectory) -> Verification:
    """Recompute every decision in the journal of a search: running, stopped or finished.

    Raises
    ------
    JournalError
        If there is no journal, or it cannot be read.
    """
    reader = JournalReader(directory.journal)
    settings = reader.settings()
    space = SearchSpace.from_json(settings.problem.space_tables)
    # Read the whole journal first: verification takes long, and an open reader hinders the writer.
    entries = [entry for _, _, entry in reader.entries()]
    return verify(
        settings,
        space,
        lambda: make_sampler(settings.algorithm, space, settings.budgets, settings.sampler),
        entries,
        fingerprint=fingerprint(),
    )
