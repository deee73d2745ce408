"""The agent's connection to its master: found, lost, found again.

Law of this file: one call at a time, each with a deadline. After a failure the caller repeats the call, not before
:attr:`Link.next_try_at`. An answer with an older epoch than the newest one seen is ignored: that master was replaced
and has not noticed.
"""

from __future__ import annotations

import logging
import os
import random
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from hpbandster_lite import wire
from hpbandster_lite.access.certificates import certificates_for
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.errors import (
    AgentIdTaken,
    MasterUnreachable,
    NotAuthorised,
    PeerError,
    ProtocolMismatch,
    RunDirectoryError,
)
from hpbandster_lite.process.environment import KEY_VARIABLE, NAMESERVER_KEY_VARIABLE
from hpbandster_lite.protocol import messages
from hpbandster_lite.protocol.messages import A, Hello, Request
from hpbandster_lite.rundir import RunDirectory, hosts_of, read_given_key
from hpbandster_lite.transport import Busy, Client, NameServerClient, OtherVersion, Retry, run_name

log = logging.getLogger(__name__)

CALL_TIMEOUT_S = 5.0
"""Longest time for which one call can keep the agent from its trainer."""
RETRY = Retry(first_s=0.1, longest_s=3.0)
"""Every agent finds a master that returns within three seconds."""
FIRST_CONTACT = Retry(first_s=0.05, longest_s=0.3)
FIRST_CONTACT_S = 10.0
"""A worker that starts together with its master finds it at once; after this time it tries less often."""
LOG_AGAIN_S = 60.0
"""Why there is no master is logged once a minute, another kind of reason at once."""
RESTORED_REMEDY = (
    "if its journal was restored from a copy, end that master, and start it again with --restored: workers then take "
    "work from it by themselves"
)


class OlderMaster(MasterUnreachable):
    """A master of an older epoch than one that this agent has seen."""


class Caller(messages.Caller, Protocol):
    """What the link needs of :class:`hpbandster_lite.transport.Client`."""

    def close(self) -> None:
        """Close the connection."""


Connect = Callable[[Hello, int], Caller]
"""Makes a client of the master from the agent's greeting and the newest epoch that it has seen."""


class MasterFinder:
    """Finds the master by its endpoint in the run directory, or at the name server.

    Where both are given they are tried in turn, so that a stale entry in one does not hide the other.

    Parameters
    ----------
    options
        The agent's: the run directory and the name server.
    """

    def __init__(self, options: AgentOptions) -> None:
        self._options = options
        self._directory = None if options.run_dir is None else RunDirectory(Path(options.run_dir).absolute())
        self._sources = self._take_turns()
        self._client: Client | None = None
        self._good: str | None = None

    def __call__(self, hello: Hello | None, epoch: int) -> Client:
        """A client of the master, not connected yet.

        Raises
        ------
        PeerError, RunDirectoryError
            If neither knows where the master is.
        """
        hosts, port, object_id = next(self._sources)(epoch)
        if self._client is not None and self._client.welcome is not None:
            # It has answered there; the other hosts may be on networks that this one cannot reach.
            self._good = self._client.host
        self._client = Client(
            sorted(hosts, key=lambda host: host != self._good),
            port,
            object_id,
            self.key(),
            timeout_s=CALL_TIMEOUT_S,
            hello=None if hello is None else wire.to_message(hello),
            tls=self._tls(),
        )
        return self._client

    def _take_turns(self) -> Iterator[Callable[[int], tuple[Sequence[str], int, str]]]:
        while True:
            has_nameserver = self._options.nameserver is not None
            if self._directory is not None and (self._directory.endpoint_file.exists() or not has_nameserver):
                yield self._from_directory
            if has_nameserver:
                yield self._from_nameserver

    def _from_directory(self, epoch: int) -> tuple[Sequence[str], int, str]:
        endpoint = None if self._directory is None else self._directory.read_endpoint()
        if endpoint is None and self._options.has_own_master:
            raise MasterUnreachable(f"the master of this command does not serve {self._options.run_dir} yet")
        if endpoint is None:
            raise MasterUnreachable(f"no master serves {self._options.run_dir}; start one: hpbandster-lite master")
        if endpoint["epoch"] < epoch:
            raise OlderMaster(
                f"the endpoint in {self._options.run_dir} belongs to an older master (epoch {endpoint['epoch']}) than "
                f"the last one (epoch {epoch}); {RESTORED_REMEDY}"
            )
        return hosts_of(endpoint), endpoint["port"], endpoint["object"]

    def _from_nameserver(self, _: int) -> tuple[Sequence[str], int, str]:
        host, port = self._options.nameserver or ("", 0)
        key, tls = self.nameserver_key(), self._tls()
        with NameServerClient(host, port, key, timeout_s=CALL_TIMEOUT_S, tls=tls) as names:
            found = names.lookup(run_name(self.run_id()))
        return found.hosts, found.port, found.object_id

    def run_id(self) -> str:
        """The run to look up at the name server.

        Raises
        ------
        MasterUnreachable
            If it was not given and no endpoint names it.
        """
        if self._options.run_id is not None:
            return self._options.run_id
        endpoint = None if self._directory is None else self._directory.read_endpoint()
        if endpoint is None:
            raise MasterUnreachable("no run id is known to look up at the name server; give --run-id")
        return str(endpoint["run_id"])

    def _tls(self) -> ssl.SSLContext | None:
        # Read at each connection, as the key is.
        certificates = certificates_for(self._directory, self._options.tls)
        return None if certificates is None else certificates.client_context()

    def key(self) -> bytes | None:
        """The run's key: from the given file, the run directory, or the environment."""
        # Read at each connection: the master may have been started after this agent, and made the key then.
        if self._options.key is not None:
            return read_given_key(Path(self._options.key))
        if self._directory is not None:
            return self._directory.read_key()
        return os.environ.get(KEY_VARIABLE, "").strip().encode() or None

    def nameserver_key(self) -> bytes | None:
        """The key of the name server: from its file, or from the environment."""
        if self._options.nameserver_key is not None:
            return read_given_key(Path(self._options.nameserver_key))
        return os.environ.get(NAMESERVER_KEY_VARIABLE, "").strip().encode() or None


class Link:
    """Calls the master, and records when it answered and when to call again.

    Parameters
    ----------
    connect
        Makes a client; called again after each failure, because the master may have moved.
    hello
        Sent when a connection is made.
    now
        Seconds on the agent's clock.
    jitter
        Spreads the tries to find a lost master; default: at random, because no result depends on which agent is first.
    has_own_master
        Whether the launcher of this agent starts the master, too: at first, a missing one is nothing to log.

    Attributes
    ----------
    epoch : int
        Highest epoch of a master that answered; 0 before the first answer.
    next_try_at, answered_at : float
        When the master may be called again, and when it answered last (before its first answer, when this link was
        made); seconds on the agent's clock.
    """

    def __init__(
        self,
        connect: Connect,
        hello: Hello,
        now: float,
        *,
        jitter: random.Random | None = None,
        has_own_master: bool = False,
    ) -> None:
        self._connect = connect
        self._hello = hello
        self._client: Caller | None = None
        self._failures = 0
        self._logged_at: dict[type, float] = {}
        self._random = jitter or random.Random()
        self._has_worked = False
        self._has_own_master = has_own_master
        self.epoch = 0
        self.next_try_at = now
        self.answered_at = now

    def call(self, request: Request[A], *, clock: Callable[[], float]) -> A | None:
        """The master's answer, or None if there was none; then call again at ``next_try_at``.

        Raises
        ------
        AgentIdTaken
            If another process has the agent's id.
        NotAuthorised, ProtocolMismatch
            If the first request, other than the one for the source, is refused: trying again would change nothing.
        OtherVersion
            If the master has another protocol version, also after other calls were answered.
        SearchError
            What the master's method raised.
        """
        try:
            if self._client is None:
                self._client = self._connect(self._hello, self.epoch)
            answer = self._checked(messages.send(request, self._client))
        except Busy as error:
            # It is alive and cannot write its journal: stay connected.
            self._failed(error, clock(), at_least_s=error.after_s)
            return None
        except AgentIdTaken:
            self.close()
            raise
        except (NotAuthorised, ProtocolMismatch) as error:
            self.close()
            if not self._has_worked or isinstance(error, OtherVersion):
                raise
            # The master that answered before is gone, and another server may have its port.
            self._failed(error, clock())
            return None
        except (PeerError, RunDirectoryError) as error:
            self.close()
            self._failed(error, clock())
            return None
        if self._failures:
            log.info("the master answers again")
        self._failures = 0
        # The comparison of sources comes before the first request for work, and proves nothing about its answers.
        self._has_worked |= not isinstance(request, messages.SourceRequest)
        self.answered_at = self.next_try_at = clock()
        return answer

    def identify(self, source: str) -> None:
        """Send this identity of the source with the next connections."""
        self._hello = replace(self._hello, source=source)

    def close(self) -> None:
        """Close the connection; the next call looks for the master anew."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _checked(self, answer: A) -> A:
        if answer.epoch < self.epoch:
            raise OlderMaster(
                f"this master (epoch {answer.epoch}) was replaced by one of epoch {self.epoch}; {RESTORED_REMEDY}"
            )
        if self.epoch and answer.epoch > self.epoch:
            log.info("another master has taken over (epoch %d)", answer.epoch)
        self.epoch = answer.epoch
        return answer

    def _failed(self, error: Exception, now: float, *, at_least_s: float = 0.0) -> None:
        self._failures += 1
        is_new = self.epoch == 0 and now < self.answered_at + FIRST_CONTACT_S
        retry = FIRST_CONTACT if is_new else RETRY
        self.next_try_at = now + retry.delay_s(self._failures, self._random, at_least_s=at_least_s)
        if is_new and self._has_own_master:
            log.debug("the master is starting: %s", error)
        elif now - self._logged_at.get(type(error), -LOG_AGAIN_S) >= LOG_AGAIN_S or self._failures == 1:
            self._logged_at[type(error)] = now
            log.warning("trying again: %s", error)
