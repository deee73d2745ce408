"""Helpers of tests of a master in this process, in addition to the fixtures of this folder."""

from __future__ import annotations

from typing import Any

from hpbandster_lite.journal import JournalReader
from hpbandster_lite.rundir import RunDirectory


def stored(directory: RunDirectory, *kinds: type) -> list[Any]:
    """The entries of these kinds in the journal, in order."""
    return [entry for _, _, entry in JournalReader(directory.journal).entries() if isinstance(entry, kinds)]
