"""Run directories that earlier versions wrote, one archive each."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path

from hpbandster_lite.rundir import RunDirectory

RECORDED = Path(__file__).parent
RUNS: Mapping[int, tuple[str, ...]] = {
    1: ("complete", "limit", "same_fault", "stopped", "paused", "killed", "minimize"),
    2: ("edited", "one_fault"),
}
"""Names of the recorded runs of each schema; schema-N/README.md says how they were made."""


def folder_of(schema: int) -> Path:
    """Where the archives of a schema lie, with the problems of their searches."""
    return RECORDED / f"schema-{schema}"


def recorded_run(schema: int, name: str, place: Path) -> RunDirectory:
    """Unpack a recorded run as ``place/name``."""
    directory = RunDirectory(place / name)
    directory.create()
    with tarfile.open(folder_of(schema) / f"{name}.tar.gz") as archive:
        archive.extractall(directory.path)  # noqa: S202 (our own archive)
    return directory
