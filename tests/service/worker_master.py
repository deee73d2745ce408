"""A master of the agent's protocol that follows a script and records its requests.

``python -m tests.service.worker_master RUN_DIR OPTIONS DEED...`` is an agent process with such a master inside, which
prints each request that it receives as one line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import psutil

from hpbandster_lite import wire
from hpbandster_lite.agent.loop import run_agent
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.errors import MasterUnreachable
from hpbandster_lite.protocol.messages import (
    REQUESTS,
    Done,
    ExchangeAnswer,
    ExchangeRequest,
    Grant,
    Hello,
    Keep,
    Leave,
    ReleaseAnswer,
    ReleaseRequest,
    RenewAnswer,
    RenewRequest,
    SlotAnswer,
    SourceAnswer,
    SourceRequest,
    Stop,
    Wait,
)
from hpbandster_lite.records import Outcome, Plain, Report
from tests.grants import grant
from tests.service.worker_objectives import REFERENCE

Answer: TypeAlias = Grant | Wait | Leave | Done | None
ATTEMPT = "evaluations/2-0-0/rung1/attempt1"
"""Directory of the first granted evaluation."""


@dataclass
class ScriptedMaster:
    """Grants the scripted evaluations in order, then answers that the search is over.

    It calls ``before`` and ``after`` with the method, the request and the number of calls. An exception of ``before``
    loses the call, an exception of ``after`` loses its answer. Like the engine, it gives a request with the same number
    the same answer.
    """

    grants: Iterable[Grant | None] = ()
    """None stands for a wait."""
    before: Callable[[str, Any, int], None] | None = None
    after: Callable[[str, Any, int], None] | None = None
    stop: Callable[[RenewRequest], str | None] = lambda request: None
    ends: bool = True
    epoch: int = 1
    calls: list[tuple[str, Any]] = field(default_factory=list)
    received: list[tuple[str, Any]] = field(default_factory=list)
    hellos: list[Hello] = field(default_factory=list)
    epochs_asked: list[int] = field(default_factory=list)
    granted: list[Grant] = field(default_factory=list)
    closed: int = 0

    def __post_init__(self) -> None:
        self._left: Iterator[Grant | None] = iter(self.grants)
        self._answers: dict[int, Answer] = {}

    def connect(self, hello: Hello, epoch: int) -> ScriptedMaster:
        self.hellos.append(hello)
        self.epochs_asked.append(epoch)
        return self

    def close(self) -> None:
        self.closed += 1

    def call(self, method: str, message: Plain) -> Plain:
        # A record that the codec refuses fails here, as it does on the wire.
        request = wire.from_message(wire.decode(wire.encode(message)), REQUESTS[method])
        if isinstance(request, SourceRequest):
            # Scripts do not cover this call.
            return wire.to_message(SourceAnswer(epoch=self.epoch))
        self.calls.append((method, request))
        if self.before is not None:
            self.before(method, request, len(self.calls))
        self.received.append((method, request))
        answer = self._answer(request)
        if self.after is not None:
            self.after(method, request, len(self.calls))
        return wire.to_message(answer)

    def _answer(self, request: Any) -> object:
        match request:
            case ExchangeRequest(request=number):
                if number not in self._answers:
                    self._answers[number] = self._next(request)
                answered = SlotAnswer(
                    slot=0, report_is="recorded" if has_report(request) else None, answer=self._answers[number]
                )
                return ExchangeAnswer(epoch=self.epoch, slots=(answered,))
            case RenewRequest():
                reason = self.stop(request)
                return RenewAnswer(epoch=self.epoch, answer=Keep() if reason is None else Stop(reason=reason))
            case _:
                return ReleaseAnswer(epoch=self.epoch)

    def _next(self, request: ExchangeRequest) -> Answer:
        if not request.slots[0].wants_lease:
            return None
        following = next(self._left, None)
        if following is not None:
            self.granted.append(following)
            return following
        return Done(reason="all done") if self.ends else Wait(seconds=0.02, reason="-")

    # ------------------------------------------------------------------------------------------- what was received

    @property
    def exchanges(self) -> list[ExchangeRequest]:
        return [request for _, request in self.received if isinstance(request, ExchangeRequest)]

    @property
    def reports(self) -> list[Report]:
        """The received reports, each once, by the number of its request."""
        found = {each.request: each.slots[0].report for each in self.exchanges}
        return [report for report in found.values() if report is not None]

    @property
    def outcomes(self) -> list[Outcome]:
        return [report.outcome for report in self.reports]

    @property
    def releases(self) -> list[ReleaseRequest]:
        return [request for _, request in self.received if isinstance(request, ReleaseRequest)]

    @property
    def renewals(self) -> list[RenewRequest]:
        return [request for _, request in self.received if isinstance(request, RenewRequest)]


def has_report(request: object) -> bool:
    """Whether this request is an exchange with a report."""
    return isinstance(request, ExchangeRequest) and request.slots[0].report is not None


def wait_for_the_end_of(*pids: int, within_s: float = 10.0) -> None:
    """Wait until none of these processes runs; fail after a time limit."""
    deadline = time.monotonic() + within_s
    while living := [pid for pid in pids if _is_alive(pid)]:
        assert time.monotonic() < deadline, f"still alive: {living}"
        time.sleep(0.005)


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def unreachable(*_: object) -> None:
    raise MasterUnreachable("no answer from the master")


def options(run_dir: Path | None, **changed: Any) -> AgentOptions:
    way = {} if run_dir is None else {"run_dir": str(run_dir)}
    return AgentOptions(**{"problem": REFERENCE, "grace_s": 5.0, "order_within_s": 0.3, **way, **changed})


class AgentProcess:
    """An agent in a separate process; its master grants these deeds and prints its requests."""

    def __init__(self, run_dir: Path, *deeds: str, **changed: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.service.worker_master", str(run_dir), json.dumps(changed), *deeds],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> AgentProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def receives(self, wanted: Callable[[str, Any], bool]) -> Any:
        """Wait for the first request for which this is true, and return it."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            method, message = json.loads(line)
            request = wire.from_message(message, REQUESTS[method])
            if wanted(method, request):
                return request
        raise AssertionError(f"the agent ended with {self._process.wait()} before that was received")

    def exit_code(self, within_s: float = 20.0) -> int:
        """Wait for the exit code and return it."""
        return self._process.wait(within_s)


def main(run_dir: str, changed: str, *deeds: str) -> int:
    def show(method: str, request: object, _: int) -> None:
        print(json.dumps([method, wire.to_message(request)]), flush=True)

    master = ScriptedMaster([grant({"do": deed}, number) for number, deed in enumerate(deeds)], after=show, ends=False)
    return run_agent(options(Path(run_dir), **json.loads(changed)), connect=master.connect, is_alone=True)


def outcomes_of(run_dir: Path, *deeds: str, **changed: Any) -> list[Outcome]:
    """Run these deeds one after the other in one agent, which ends because the search is over; return the outcomes."""
    master = ScriptedMaster([grant({"do": deed}, number) for number, deed in enumerate(deeds)])
    assert run_agent(options(run_dir, **changed), connect=master.connect) == 0
    assert [report.evaluation.config_id.index for report in master.reports] == list(range(len(deeds)))
    return master.outcomes


def deeds(*names: str) -> list[Grant]:
    return [grant({"do": name}, number) for number, name in enumerate(names)]


def has_reported(method: str, message: Any) -> bool:
    """Whether this call brings a point of the learning curve: the objective runs."""
    return method == "renew" and bool(message.curve)


def once(when: Callable[[str, Any], bool], then: Callable[[], object]) -> Callable[[str, Any, int], None]:
    """A hook that acts at the first call for which ``when`` is true."""
    waiting = [then]

    def hook(method: str, message: Any, _: int) -> None:
        if waiting and when(method, message):
            waiting.pop()()

    return hook


def terminate_me() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def is_trainer(process: psutil.Process) -> bool:
    try:
        return "hpbandster_lite.trainer" in process.cmdline()
    except psutil.Error:
        return False


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
