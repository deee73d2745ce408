"""``backup``: a copy of the journal, taken while its search runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from hpbandster_lite.cli.options import Force, Run, path
from hpbandster_lite.cli.run_directory import directory_of_a_search
from hpbandster_lite.errors import UsageError
from hpbandster_lite.journal import JournalReader
from hpbandster_lite.rundir import refuse_to_replace


def backup(
    run: Run,
    target: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            parser=path,
            help="The copy. An earlier copy of this journal is replaced; any other file only with --force.",
            show_default=False,
        ),
    ],
    force: Force = False,
) -> None:
    """Copy the journal of a search into one file, as it is at this moment; the master continues meanwhile.

    While a master runs, a plain copy of journal.sqlite would lack the entries in its write-ahead log. To continue a
    search from a copy, put it into a run directory as journal.sqlite; the search then repeats what followed the copy.
    """
    directory = directory_of_a_search(run)
    reader = JournalReader(directory.journal)
    if target.is_dir():
        target = target / directory.journal.name
    # A link stays, and the file that it names is replaced.
    place = Path(os.path.realpath(target))
    _refuse_parts_of_the_journal(directory.journal, place)
    # Such as the copy from before a migration.
    is_a_master_s = place.name.startswith("journal.") and place.parent == Path(os.path.realpath(directory.path))
    refuse_to_replace(place, force=force, is_ours=lambda: not is_a_master_s and reader.contains(place))
    count = reader.copy_to(place)
    typer.echo(f"{count} entries copied to {target}")


def _refuse_parts_of_the_journal(journal: Path, place: Path) -> None:
    """Refuse the journal itself and the files that SQLite keeps beside it, under any name."""
    parts = [journal, *(journal.with_name(journal.name + suffix) for suffix in ("-wal", "-shm", "-journal"))]
    if place in map(Path, map(os.path.realpath, parts)) or (place.exists() and place.samefile(journal)):
        raise UsageError(f"{place} is the journal itself; give the name of another file")
