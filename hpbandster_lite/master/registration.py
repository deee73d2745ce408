"""The master's entry at a name server: made, renewed when the name server returns from a crash, withdrawn at the end.

Law of this file: one thread of its own that talks to the name server and to nothing else, so that a name server that
does not answer costs the search nothing. A name that another living master has is :attr:`Registration.refusal` for this
one to end with; a master that was entered before serves on, whoever takes its name.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from hpbandster_lite.errors import NameServerUnreachable, PeerError
from hpbandster_lite.records import Plain
from hpbandster_lite.transport import NameServerClient, NameTaken

log = logging.getLogger(__name__)

CHECK_EVERY_S = 5.0
RETRY_EVERY_S = 0.5
"""While there is no entry yet: a name server that was started with the master is up within a second."""


class Registration:
    """Keeps ``name`` registered with ``endpoint`` until :meth:`withdraw`.

    Parameters
    ----------
    client
        Used by this object's thread alone.
    name
        The run's name at the name server.
    endpoint
        What :meth:`NameServerClient.register` takes: host, port, object, epoch and addresses of the master.
    """

    def __init__(self, client: NameServerClient, name: str, endpoint: Mapping[str, Plain]) -> None:
        self._client = client
        self._name = name
        self._endpoint = endpoint
        self._stop = threading.Event()
        self._registered = self._was_registered = False
        self._said = ""
        self.refusal: NameTaken | None = None
        """Why this master must not serve under its name at all: another one does."""
        self._thread = threading.Thread(target=self._keep_up, name="registration", daemon=True)
        self._thread.start()

    @property
    def state(self) -> str:
        """``registered`` or what is being waited for, for the status."""
        return "registered" if self._registered else f"name server not reached yet, next try within {CHECK_EVERY_S:g} s"

    def withdraw(self) -> None:
        """Stop the thread and take the entry back; a name server that is gone is not waited for."""
        self._stop.set()
        self._thread.join()
        if self._registered:
            try:
                self._client.unregister(self._name)
            except PeerError as error:
                log.info("the entry at the name server was not withdrawn: %s", error)
        self._client.close()

    def _keep_up(self) -> None:
        while True:
            self._registered = self._try_once()
            if self._stop.wait(CHECK_EVERY_S if self._registered else RETRY_EVERY_S):
                return

    def _try_once(self) -> bool:
        try:
            # Registering again what is registered changes nothing, and mends what a restarted name server forgot.
            self._client.register(self._name, self._endpoint)
        except NameServerUnreachable as error:
            if self._registered:
                log.warning("the name server is gone, retrying: %s", error)
            return False
        except PeerError as error:
            if isinstance(error, NameTaken) and not self._was_registered:
                self.refusal = error
            if str(error) != self._said:
                # Once for each reason: it is tried twice a second for as long as the search lasts.
                log.error("the name server refused the run's entry: %s", error)
                self._said = str(error)
            return False
        self._was_registered, self._said = True, ""
        return True
