"""The entry point of ``hpbandster-lite``: begin what takes longest, then import the command line.

Law of this file: it reads only the name of the command, to decide what to begin early, and imports nothing else before.
Ctrl-C ends it in silence, until the command itself begins.
"""

from __future__ import annotations

import signal
import sys

from hpbandster_lite.process import early_interrupt

READS_A_PROBLEM = frozenset({"run", "plan", "options", "master"})
IS_STARTED_AGAIN = frozenset({"run", "master", "worker"})
"""Commands that end in order when their allocation ends, also in their first second."""


def main() -> None:
    """Run the command that ``sys.argv`` names; never returns."""
    early_interrupt.end_at_once()
    # Here, as all that follows: only now Ctrl-C ends an import without a traceback.
    from hpbandster_lite.process import describer, streams, utf8

    utf8.start_again_in_utf8()
    streams.make_usable(utf8.output_encoding())
    if len(sys.argv) > 2 and sys.argv[1] in IS_STARTED_AGAIN:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    if len(sys.argv) > 2 and sys.argv[1] in READS_A_PROBLEM:
        describer.start_early()
    from hpbandster_lite.cli.app import main as command_line

    command_line()
