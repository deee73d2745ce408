"""A connection to the master that serves a run directory.

Law of this file: the commands that ask a master import it without the engine, the journal and numpy.
"""

from __future__ import annotations

import shlex

from hpbandster_lite.access.certificates import certificates_for
from hpbandster_lite.errors import RunDirectoryError
from hpbandster_lite.rundir import RunDirectory, hosts_of, why_no_answer
from hpbandster_lite.transport import Client


def connect(directory: RunDirectory, *, timeout_s: float = 5.0) -> Client:
    """A client of the master that serves a run directory.

    Raises
    ------
    RunDirectoryError
        If no master has left its endpoint there.
    PeerError
        On the first call, if no master answers.
    """
    endpoint = directory.read_endpoint()
    if endpoint is None:
        if directory.is_served():
            raise RunDirectoryError(f"no answer: {why_no_answer(directory.holder_file)}; repeat the command")
        how = "run the command that began the search there again"
        if not directory.journal.exists():
            how = f"run: hpbandster-lite run PROBLEM --run-dir {shlex.quote(str(directory.path))}"
        raise RunDirectoryError(f"no master serves {directory.path}; to start one, {how}")
    certificates = certificates_for(directory)
    return Client(
        hosts_of(endpoint),
        endpoint["port"],
        endpoint["object"],
        directory.read_key(),
        timeout_s=timeout_s,
        tls=None if certificates is None else certificates.client_context(),
    )
