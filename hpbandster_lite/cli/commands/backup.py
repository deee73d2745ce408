"""``backup``: a copy of the journal, taken while its search runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpbandster_lite.cli.options import Run
from hpbandster_lite.cli.run_directory import directory_of_a_search
from hpbandster_lite.errors import UsageError
from hpbandster_lite.journal import JournalReader


def backup(
    run: Run,
    target: Annotated[
        Path, typer.Argument(metavar="FILE", help="The copy; an existing file is replaced at once.", show_default=False)
    ],
) -> None:
    """Copy the journal of a search into one file, as it is at this moment; its master continues meanwhile.

    A plain copy of journal.sqlite, while a master writes it, lacks what is in its write-ahead log. A search continues
    from a copy that is put into a run directory as journal.sqlite: decisions after it are made again.
    """
    directory = directory_of_a_search(run)
    if target.is_dir():
        target = target / directory.journal.name
    if target.exists() and target.samefile(directory.journal):
        raise UsageError(f"{target} is the journal itself; give the name of another file")
    count = JournalReader(directory.journal).copy_to(target)
    typer.echo(f"{count} entries copied to {target}")
