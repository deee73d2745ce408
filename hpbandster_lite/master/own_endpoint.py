"""The endpoint file of a serving master: written when it begins, and again when something has removed or spoilt it.

Law of this file: it never replaces the endpoint of another master; a newer one may have the run directory.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping

from hpbandster_lite.errors import RunDirectoryError
from hpbandster_lite.records import Plain
from hpbandster_lite.rundir import RunDirectory

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0


class OwnEndpoint:
    """Writes the endpoint of a master, and keeps it.

    Parameters
    ----------
    directory
        Of the run.
    endpoint
        What :meth:`RunDirectory.write_endpoint` takes.
    clock
        Of the master.

    Raises
    ------
    RunDirectoryError
        If the file cannot be written.
    """

    def __init__(
        self, directory: RunDirectory, endpoint: Mapping[str, Plain], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._directory = directory
        self._endpoint = endpoint
        self._clock = clock
        directory.write_endpoint(endpoint)
        self._look_at = clock() + LOOK_EVERY_S

    def look(self) -> None:
        """Write the file again, if there is none or it is no endpoint; what prevents this does not end the master."""
        if self._clock() < self._look_at:
            return
        self._look_at = self._clock() + LOOK_EVERY_S
        with contextlib.suppress(RunDirectoryError):
            if self._directory.read_endpoint() is not None:
                return
        with contextlib.suppress(RunDirectoryError):
            self._directory.write_endpoint(self._endpoint)
            log.warning("%s was removed or spoilt; it is written again", self._directory.endpoint_file)
