"""The file ``incumbent.json``: the best configuration, with the test figures of its model.

Law of this file: the journal says which configuration it is; the file alone has the test figures.
"""

from __future__ import annotations

import json

from hpbandster_lite.journal import JournalReader
from hpbandster_lite.records import Plain
from hpbandster_lite.results.journal_status import incumbent_from_journal
from hpbandster_lite.rundir import RunDirectory, write_atomically

FILE_NAME = "incumbent.json"


def read_incumbent(directory: RunDirectory) -> dict[str, Plain] | None:
    """The content of the file; ``None`` before the first search there has ended."""
    file = directory.path / FILE_NAME
    if not file.exists():
        return None
    content: dict[str, Plain] = json.loads(file.read_text("utf-8"))
    return content


def write_incumbent(directory: RunDirectory, incumbent: dict[str, Plain]) -> None:
    """Replace the file."""
    write_atomically(directory.path / FILE_NAME, json.dumps(incumbent, indent=2) + "\n")


def current_incumbent(directory: RunDirectory) -> dict[str, Plain] | None:
    """The incumbent as it is in the journal now.

    Returns
    -------
    dict or None
        ``run_id``, ``problem``, ``config_id``, ``rung``, ``values``, ``budget``, ``unit``, ``loss``, ``info``,
        ``directory`` and ``test`` (test figures, if this very model was tested, else None); None before any loss.
    """
    reader = JournalReader(directory.journal)
    settings, best = reader.settings(), incumbent_from_journal(reader)
    if best is None:
        return None
    saved = read_incumbent(directory)
    is_saved = saved is not None and (saved["config_id"], saved["rung"]) == (list(best.config_id), best.rung)
    return {
        "run_id": settings.run_id,
        "problem": settings.problem.name,
        "config_id": list(best.config_id),
        "rung": best.rung,
        "values": dict(best.values),
        "budget": best.budget,
        "unit": settings.unit,
        "loss": best.loss,
        "info": dict(best.info),
        "directory": best.directory,
        "test": saved["test"] if saved is not None and is_saved else None,
    }
