"""Keeps an agent's trainer: starts it, limits the time of its import, starts another one when it has died.

Law of this file: at most one trainer lives. It passes on an evaluation's order, and knows nothing else of it.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.records import Failure, FailureKind
from hpbandster_lite.trainer.handle import TrainerHandle
from hpbandster_lite.trainer.messages import TrainerMessage, TrainerOrder

if TYPE_CHECKING:
    from hpbandster_lite.trainer.in_thread import InlineTrainer

log = logging.getLogger(__name__)

MOST_FRUITLESS = 5
"""Trainers that died in a row before they evaluated anything."""

Trainer: TypeAlias = "TrainerHandle | InlineTrainer"
StartTrainer: TypeAlias = "Callable[[], Trainer]"


class TrainerKeeper:
    """The trainer of one agent.

    Parameters
    ----------
    options
        The agent's.
    start_trainer
        Makes a trainer.

    Attributes
    ----------
    refusal : str or None
        Why the problem cannot be run here; then no other trainer is started.
    is_paused : bool
        Whether it starts no trainer for now.
    """

    def __init__(self, options: AgentOptions, start_trainer: StartTrainer) -> None:
        self._options = options
        self._start_trainer = start_trainer
        self._trainer: Trainer | None = None
        self._load_by = 0.0
        self._fruitless = 0
        self._is_retired = False
        self.is_paused = False
        self.refusal: str | None = None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What becomes readable when :meth:`receive` has something to do."""
        return () if self._trainer is None else self._trainer.descriptors

    @property
    def is_ready(self) -> bool:
        """Whether a trainer has imported the problem."""
        return self._trainer is not None and self._trainer.is_ready

    def next_due(self, now: float) -> float:
        """When :meth:`act` has something to do that no descriptor announces."""
        if self._trainer is None:
            return math.inf if self._is_retired or self.is_paused else now
        look_at = now + self._trainer.poll_every_s
        return look_at if self._trainer.is_ready else min(look_at, self._load_by)

    def act(self, now: float) -> None:
        """Start a trainer where there is none, and end one whose import takes too long."""
        if self._trainer is None:
            if not self._is_retired and not self.is_paused:
                self._trainer = self._start_trainer()
                self._load_by = now + self._options.load_timeout_s
            return
        self._trainer.sample()
        if not self._trainer.is_ready and now >= self._load_by:
            limit_s = self._options.load_timeout_s
            self.refuse(f"the problem {self._options.problem!r} was not imported within {limit_s:g} s")

    def wait_for_data(self) -> None:
        """The trainer has imported the problem and downloads its data: the time limit of the import is over."""
        self._load_by = math.inf

    def receive(self) -> list[TrainerMessage]:
        """What the trainer has sent since the last call, without waiting."""
        return [] if self._trainer is None else self._trainer.receive()

    # ---------------------------------------------------------------------------------------------- one evaluation

    def evaluate(self, order: TrainerOrder, log_file: str) -> None:
        """Send an order to the trainer, which is ready and idle."""
        if self._trainer is not None:
            self._fruitless = 0
            self._trainer.evaluate(order, log_file)

    def ask_to_stop(self) -> None:
        """Begin the grace of the evaluation: the objective is interrupted at its next report."""
        if self._trainer is not None:
            self._trainer.ask_to_stop()

    def terminate(self) -> None:
        """Send the trainer SIGTERM, as the last warning before it is killed."""
        if self._trainer is not None:
            self._trainer.terminate()

    def had_oom_kill(self) -> bool:
        """Whether a process of this evaluation was killed for lack of memory."""
        return self._trainer is not None and self._trainer.had_oom_kill()

    def log_tail(self) -> tuple[str, ...]:
        """The last lines that the trainer printed."""
        return () if self._trainer is None else self._trainer.log_tail()

    # ----------------------------------------------------------------------------------------------- how it ends

    def died(self, failure: Failure, *, had_evaluation: bool) -> None:
        """The trainer has died; if too many died without an evaluation, the problem cannot be run here."""
        was_ready, tail = self.is_ready, self.log_tail()
        self._trainer = None
        if had_evaluation or self.is_paused or self.refusal is not None:
            # A trainer that has refused the problem ends.
            return
        self._fruitless += 1
        if (was_ready or failure.kind is FailureKind.INFRASTRUCTURE) and self._fruitless < MOST_FRUITLESS:
            log.warning("%s while it had no evaluation; started again", failure.reason)
            return
        reason = f"the problem {self._options.problem!r} cannot be run here: {failure.reason}"
        self.refuse("\n".join((reason, *tail[-20:])))

    def replace(self, *, has_children: bool, spoilt: str | None) -> None:
        """End the trainer, so that another one is started, where it must not evaluate again.

        Parameters
        ----------
        has_children
            Whether its objective may have left processes running.
        spoilt
            Why it must not evaluate again; None if it may.
        """
        trainer = self._trainer
        if trainer is None:
            return
        left = trainer.leftover_processes(has_children)
        if left:
            log.warning("the objective left processes running, which end with its trainer: %s", "; ".join(left)[:500])
        if spoilt is not None:
            log.warning("the trainer is started anew: %s", spoilt[:500])
        if left or spoilt is not None:
            self.kill()
        elif self._options.fresh_process:
            # In order: what the problem registered with atexit is run.
            self.close()

    def refuse(self, message: str) -> None:
        """The problem cannot be run here."""
        log.error("%s", message)
        self.kill()
        self.refusal = message
        self._is_retired = True

    def pause(self) -> None:
        """End the trainer, and start no other one before :meth:`resume`."""
        self.kill()
        self.is_paused = True

    def resume(self, now: float) -> None:
        """Start a trainer again."""
        self.is_paused = False
        self.act(now)

    def retire(self) -> None:
        """Start no other trainer."""
        self._is_retired = True

    def kill(self) -> None:
        """End the trainer now, and everything that it started."""
        if self._trainer is not None:
            self._trainer.kill()
            self._trainer = None

    def close(self) -> None:
        """End an idle trainer, which may first run what the problem registered with atexit."""
        if self._trainer is not None and self._trainer.is_ready:
            self._trainer.close()
            self._trainer = None
        self.kill()
