"""``python -m hpbandster_lite.master OPTIONS``: a master as the launcher starts it; you use ``hpbandster-lite master``.

``OPTIONS`` is a :class:`MasterOptions` as one JSON object; ``-`` reads it from standard input, see
:mod:`hpbandster_lite.process.startup`.
"""

from __future__ import annotations

import json
import logging
import sys

from hpbandster_lite import wire
from hpbandster_lite.errors import SearchError
from hpbandster_lite.master.options import MasterOptions
from hpbandster_lite.master.serving import run_master
from hpbandster_lite.process.log_format import log_to_stderr
from hpbandster_lite.process.shutdown import exit_now
from hpbandster_lite.process.startup import READ_BRIEFING, read_briefing
from hpbandster_lite.process.streams import make_usable
from hpbandster_lite.records import Plain


def _read_briefing() -> Plain:
    # Imported while the process waits: the model is needed as soon as the briefing arrives.
    import hpbandster_lite.samplers.kde.sampler  # noqa: F401 (loads it)

    return read_briefing()


def main(arguments: list[str]) -> int:
    """Serve the search that ``OPTIONS`` describes; the exit code of the process."""
    make_usable()
    log_to_stderr()
    try:
        briefing = _read_briefing() if arguments == [READ_BRIEFING] else json.loads(arguments[0])
        return 0 if briefing is None else run_master(wire.from_message(briefing, MasterOptions))
    except SearchError as error:
        logging.getLogger(__package__).error("%s", error)
        return error.exit_code


if __name__ == "__main__":
    exit_now(main(sys.argv[1:]))
