"""The run directory that a command starts or joins a search in.

Law of this file: a worker imports it to start, so it imports neither the master nor what reads journals.
"""

from __future__ import annotations

from hpbandster_lite.cli.options import note
from hpbandster_lite.rundir import RunDirectory


def chosen_directory(problem: str, given: str | None, *, new: bool = False) -> RunDirectory:
    """The run directory of a search, given or by default; says so where the default of the problem is another's."""
    if given is not None:
        return RunDirectory(given)
    # Imported here: a worker that is given its directory reads no journal to start.
    from hpbandster_lite.settings.place import default_place

    place = default_place(problem, new=new)
    if place.note:
        note(place.note)
    return place.directory
