"""The run directory that a command starts or joins a search in.

Law of this file: a worker imports it to start, so it imports neither the master nor what reads results.
"""

from __future__ import annotations

from hpbandster_lite.cli.options import note
from hpbandster_lite.rundir import RunDirectory
from hpbandster_lite.settings.place import place_of


def chosen_directory(problem: str, given: str | None, *, new: bool = False) -> RunDirectory:
    """The run directory of a search, given or by default; says so where the default of the problem is another's."""
    place = place_of(problem, given, new=new)
    if place.note:
        note(place.note)
    return place.directory
