"""The master's entry at a name server: made, renewed when the name server returns from a crash, withdrawn at the end.

Law of this file: a separate thread calls the name server and nothing else, so that a name server that does not answer
does not delay the search. If another living master has the name, :attr:`Registration.refusal` says so and this master
ends; a master that was registered before continues to serve, even if another one takes its name.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from hpbandster_lite.errors import NameServerUnreachable, PeerError
from hpbandster_lite.records import Plain
from hpbandster_lite.transport import NameServerClient, NameTaken

log = logging.getLogger(__name__)

CHECK_EVERY_S = 5.0
RETRY_EVERY_S = 0.5
"""While there is no entry yet: a name server that was started with the master is up within a second."""
MISSED_AFTER_S = 5.0
"""A name server that has not answered for so long at the start is missed; one that was started with the master has."""
WITHDRAWN_WITHIN_S = 1.0
"""The end of a search waits so long for a name server, twice at most: for a call in progress, and to withdraw."""


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
    note
        Receives a line for the user when the name server does not answer. Default: only the log has it.
    """

    def __init__(
        self,
        client: NameServerClient,
        name: str,
        endpoint: Mapping[str, Plain],
        note: Callable[[str], object] | None = None,
    ) -> None:
        self._client = client
        self._name = name
        self._endpoint = endpoint
        self._stop = threading.Event()
        self._registered = self._was_registered = False
        self._note = note or (lambda _: None)
        self._missed_from = time.monotonic() + MISSED_AFTER_S
        self._is_missed = False
        self._logged = ""
        self.refusal: NameTaken | None = None
        """Why this master may not serve under its name: another master does."""
        self._thread = threading.Thread(target=self._run, name="registration", daemon=True)
        self._thread.start()

    @property
    def state(self) -> str:
        """``registered``, or what the thread waits for; for the status."""
        return "registered" if self._registered else f"name server not reached yet, next try within {CHECK_EVERY_S:g} s"

    def stop(self) -> None:
        """Let the thread delete the entry, unless the name server is gone, and end; it does not wait."""
        self._stop.set()

    def withdraw(self) -> None:
        """Like :meth:`stop`, and wait for the end of the thread."""
        self.stop()
        self._thread.join(2 * WITHDRAWN_WITHIN_S)
        if self._thread.is_alive():
            # It is a daemon in a call that ends by its time limit; only it uses the connection.
            log.warning("the entry at the name server was not withdrawn: it does not answer")

    def _run(self) -> None:
        self._keep_up()
        if self._registered:
            try:
                self._client.unregister(self._name, timeout_s=WITHDRAWN_WITHIN_S)
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
            # Repeated, because a restarted name server has lost the entry; otherwise it changes nothing.
            self._client.register(self._name, self._endpoint)
        except NameServerUnreachable as error:
            if self._registered:
                log.warning("the name server is gone, retrying: %s", error)
            if not self._is_missed and (self._registered or time.monotonic() >= self._missed_from):
                self._is_missed = True
                text = f"{error}; until it answers, workers that look for this run there do not find it"
                log.warning("%s", text)
                self._note(text)
            return False
        except PeerError as error:
            if isinstance(error, NameTaken) and not self._was_registered:
                self.refusal = error
            if str(error) != self._logged:
                # Once for each reason: the call is repeated twice a second for as long as the search lasts.
                log.error("the name server refused the run's entry: %s", error)
                self._logged = str(error)
            return False
        if self._is_missed:
            self._is_missed = False
            log.info("the name server answers again")
            self._note("the name server answers again")
        self._was_registered, self._logged = True, ""
        return True
