"""The agent's conversation with the master: reports, questions for work, heartbeats.

Law of this file: one request at a time, and the next one only after its answer. What the master has not acknowledged is
sent again. A master of another protocol version is not asked again.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable

from hpbandster_lite.agent.assignment import Assignment, HandBack
from hpbandster_lite.agent.held_evaluations import HeldEvaluations
from hpbandster_lite.agent.master_link import Connect, Link
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.agent.outbox import Outbox
from hpbandster_lite.agent.source_check import SourceCheck
from hpbandster_lite.errors import ProtocolMismatch, SourceDiffers
from hpbandster_lite.process.identity import own_process
from hpbandster_lite.process.shutdown import REQUEUE
from hpbandster_lite.protocol.messages import (
    A,
    Done,
    ExchangeAnswer,
    ExchangeRequest,
    Grant,
    Hello,
    Leave,
    Request,
    SourceRequest,
    Stop,
    Wait,
)
from hpbandster_lite.protocol.slots import slot_name
from hpbandster_lite.records import HandBackKind
from hpbandster_lite.trainer.messages import TrainerReady
from hpbandster_lite.transport import OtherVersion

log = logging.getLogger(__name__)


REFUSED_S = 1.0
"""A master that refuses reports is asked again after so long, until the agent has ended."""


class Conversation:
    """What one agent sends to its master, and when.

    Parameters
    ----------
    options, connect
        As for :func:`hpbandster_lite.agent.run_agent`.
    agent, label
        Id of this incarnation of the agent, and the worker's display name.
    held, outbox
        What is leased, and what is not acknowledged.
    clock
        Monotonic clock, in seconds.
    jitter
        Spreads the tries to find a lost master; default: at random.

    Attributes
    ----------
    link : Link or None
        The connection; None until the trainer has imported the problem, or found no room for it.
    exit_code : int or None
        Exit code that follows from the master's answer.
    kept : tuple of str or None
        Once the search is over, the configurations that keep their checkpoints; None: all of them.
    source : SourceCheck
        Whether the trainer has the source that the search accepts.
    refusal : str or None
        Why this master cannot be asked again: it has another protocol version.
    """

    def __init__(
        self,
        options: AgentOptions,
        connect: Connect,
        agent: str,
        label: str,
        held: HeldEvaluations,
        outbox: Outbox,
        clock: Callable[[], float],
        *,
        jitter: random.Random | None = None,
    ) -> None:
        self._options = options
        self._connect = connect
        self._agent = agent
        self._label = label
        self._held = held
        self._outbox = outbox
        self._clock = clock
        self._jitter = jitter
        self._asks_again_at = 0.0
        self._is_anonymous = False
        self.link: Link | None = None
        self.exit_code: int | None = None
        self.kept: tuple[str, ...] | None = None
        self.refusal: str | None = None
        self.source = SourceCheck()

    def introduce(self, ready: TrainerReady) -> None:
        """A trainer has imported the problem: from the first one on the master can be called."""
        self.source.trainer_is_ready(ready)
        if self.link is None or self._is_anonymous:
            self._connect_as(ready)

    def introduce_hindered(self) -> None:
        """No trainer can import the problem before the disk has room; the master is called only to report this."""
        if self.link is None:
            self._connect_as(None)

    def _connect_as(self, ready: TrainerReady | None) -> None:
        self.close()
        self._is_anonymous = ready is None
        process = own_process()
        hello = Hello(
            agent=self._agent,
            worker=self._label,
            host=process.host,
            pid=process.pid,
            boot_id=process.boot_id,
            pid_namespace=process.pid_namespace,
            started_ticks=process.started_ticks,
            problem="" if ready is None else ready.problem,
            source_hash="" if ready is None else ready.source_hash,
            options={} if ready is None else ready.options,
        )
        self.link = Link(
            self._connect, hello, self._clock(), jitter=self._jitter, has_own_master=self._options.has_own_master
        )

    def close(self) -> None:
        """Close the connection."""
        if self.link is not None:
            self.link.close()

    # ---------------------------------------------------------------------------------------------------- deadlines

    def next_due(self) -> float:
        """When :meth:`act` has something to send."""
        if self.link is None or self.refusal is not None:
            return math.inf
        return max(self.link.next_try_at, self._sends_at())

    def act(self, now: float) -> None:
        """Send one request, if there is one and it is due."""
        if self.link is None or self.refusal is not None or now < self.link.next_try_at:
            return
        if self.source.is_due and not self._outbox.owes:
            self._compare_source(self.link)
            return
        current = self._held.current
        if current is not None and self._outbox and now < self._held.keeps_until:
            # The reports wait for the report of the running evaluation.
            return
        ends_at = self._options.time_ends_at
        time_left_s = None if ends_at is None else max(0.0, ends_at - now)
        asks = self._held.wanted > 0 and now >= self._asks_at()
        hindrance = self._held.disk.hindrance_at(now) if asks else None
        # A disk that has room again may still wait for its trainer.
        wanted = self._held.wanted if asks else 0
        request = self._outbox.next(asks=wanted, time_left_s=time_left_s, hindrance=hindrance)
        if isinstance(request, ExchangeRequest):
            self._exchange(self.link, request)
        elif request is not None:
            if self._call(self.link, request) is not None:
                self._outbox.acknowledge()
        elif current is not None and now >= current.renew_at:
            self._renew(self.link, current)

    def _sends_at(self) -> float:
        """When there is something to send."""
        if self._outbox:
            return self._held.keeps_until if self._held.current is not None else 0.0
        if self._held.current is not None:
            return self._held.current.renew_at
        if self.source.is_due:
            return 0.0
        return self._asks_at() if self._held.wanted else math.inf

    def _asks_at(self) -> float:
        return max(self._held.running.asks_from, self._asks_again_at)

    # ----------------------------------------------------------------------------------------------------- requests

    def _call(self, link: Link, request: Request[A]) -> A | None:
        """The answer; None if there is none at present.

        Raises
        ------
        SearchError
            If this agent can never work for this master.
        """
        try:
            return link.call(request, clock=self._clock)
        except OtherVersion as error:
            if link.epoch == 0:
                raise
            log.error("%s", error)
            self.refusal = str(error)
            return None
        except SourceDiffers as error:
            # Another master has accepted an edit; what this agent holds is handed back.
            self.source.refuse(str(error))
            link.next_try_at = self._clock() + REFUSED_S
            return None

    def _compare_source(self, link: Link) -> None:
        """Ask which source the search accepts; nothing is evaluated before."""
        answer = self._call(link, SourceRequest())
        if answer is not None:
            self.source.take(answer)
            link.identify(self.source.digest)

    def _exchange(self, link: Link, request: ExchangeRequest) -> None:
        answer = self._call(link, request)
        if answer is None:
            return
        if [each.slot for each in answer.slots] != [each.slot for each in request.slots]:
            # Its reports are not acknowledged: the master may not have read them.
            raise ProtocolMismatch(f"the master did not answer each slot of the request: {answer!r:.300}")
        self._outbox.acknowledge()
        self._take(answer)

    def _take(self, answer: ExchangeAnswer) -> None:
        grants: list[tuple[str, Grant]] = []
        for each in answer.slots:
            if each.report_is == "late":
                log.info("the evaluation had another outcome before; this one is kept as late")
            if isinstance(each.answer, Grant):
                grants.append((slot_name(self._agent, each.slot), each.answer))
        if grants:
            self._held.take(grants)
            return
        match answer.slots[0].answer:
            case Wait(seconds=seconds, reason=reason):
                self._asks_again_at = self._clock() + seconds
                log.debug("waiting: %s", reason)
            case Leave(reason=reason):
                log.info("its time is too short for what is left to do: %s", reason)
                self.exit_code = REQUEUE
            case Done(reason=reason, kept=kept):
                log.info("the search is over: %s", reason)
                self.kept = kept
                self.exit_code = 0
            case _:
                pass

    def _renew(self, link: Link, assignment: Assignment) -> None:
        answer = self._call(link, assignment.renewal())
        if answer is None:
            return
        if assignment.points_are_of in (None, link.epoch):
            assignment.curve.acknowledge()
        else:
            assignment.curve.send_again()
        assignment.points_are_of = link.epoch
        assignment.renew_at = self._clock() + assignment.heartbeat_s
        if isinstance(answer.answer, Stop):
            self._held.stop(HandBack(HandBackKind.ORDERED, answer.answer.reason))
