"""A master of the agent's protocol that follows a script and writes down what it hears.

``python -m tests.service.worker_master RUN_DIR OPTIONS DEED...`` is an agent process with such a master inside, which
prints each call that it hears as one line of JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from hpbandster_lite import wire
from hpbandster_lite.agent import AgentOptions, run_agent
from hpbandster_lite.errors import MasterUnreachable
from hpbandster_lite.records import Outcome, Plain, Report
from tests.grants import grant
from tests.service.worker_objectives import REFERENCE


@dataclass
class ScriptedMaster:
    """Grants the scripted evaluations in order, then says that the search is over.

    ``before`` and ``after`` are called with the method, the message and how many calls there were; what ``before``
    raises keeps the call from the master, what ``after`` raises loses its answer. Requests are answered as the engine
    answers them: the same number, the same answer.
    """

    grants: Iterable[Mapping[str, Plain]] = ()
    before: Callable[[str, Plain, int], None] | None = None
    after: Callable[[str, Plain, int], None] | None = None
    stop: Callable[[Plain], str | None] = lambda message: None
    ends: bool = True
    epoch: int = 1
    calls: list[tuple[str, Plain]] = field(default_factory=list)
    heard: list[tuple[str, Plain]] = field(default_factory=list)
    hellos: list[Plain] = field(default_factory=list)
    epochs_asked: list[int] = field(default_factory=list)
    granted: list[Plain] = field(default_factory=list)
    closed: int = 0

    def __post_init__(self) -> None:
        self._left: Iterator[Mapping[str, Plain]] = iter(self.grants)
        self._answers: dict[int, Plain] = {}

    def connect(self, hello: dict[str, Plain], epoch: int) -> ScriptedMaster:
        self.hellos.append(hello)
        self.epochs_asked.append(epoch)
        return self

    def close(self) -> None:
        self.closed += 1

    def call(self, method: str, message: Plain) -> Plain:
        # What cannot travel fails here as it would on the wire.
        message = wire.decode(wire.encode(message))
        self.calls.append((method, message))
        if self.before is not None:
            self.before(method, message, len(self.calls))
        self.heard.append((method, message))
        answer = {"epoch": self.epoch, **getattr(self, f"_{method}")(message)}
        if self.after is not None:
            self.after(method, message, len(self.calls))
        return answer

    def _exchange(self, message: Plain) -> dict[str, Plain]:
        number = message["request"]
        if number not in self._answers:
            self._answers[number] = self._next(message)
        return {"report_is": "recorded" if message["report"] else None, "answer": self._answers[number]}

    def _next(self, message: Plain) -> dict[str, Plain]:
        if not message["want_lease"]:
            return {"kind": "none"}
        following = next(self._left, None)
        if following is not None:
            self.granted.append(following)
            return {"kind": "grant", "grant": following}
        return {"kind": "done", "reason": "all done"} if self.ends else {"kind": "wait", "seconds": 0.02, "reason": "-"}

    def _renew(self, message: Plain) -> dict[str, Plain]:
        reason = self.stop(message)
        return {"answer": {"kind": "keep"} if reason is None else {"kind": "stop", "reason": reason}}

    def _release(self, message: Plain) -> dict[str, Plain]:
        return {}

    # --------------------------------------------------------------------------------------------- what was heard

    @property
    def reports(self) -> list[Report]:
        """The reports that were heard, each once, by the number of their request."""
        found = {m["request"]: m["report"] for method, m in self.heard if method == "exchange" and m["report"]}
        return [wire.from_message(report, Report) for report in found.values()]

    @property
    def outcomes(self) -> list[Outcome]:
        return [report.outcome for report in self.reports]

    @property
    def releases(self) -> list[Plain]:
        return [message for method, message in self.heard if method == "release"]

    @property
    def renewals(self) -> list[Plain]:
        return [message for method, message in self.heard if method == "renew"]


def wait_for_the_end_of(*pids: int, within_s: float = 10.0) -> None:
    """Wait until none of these processes lives; fail after a while."""
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
    return AgentOptions(**{"problem": REFERENCE, "grace_s": 5.0, **way, **changed})


class AgentProcess:
    """An agent in a process of its own; its master grants these deeds and prints what it hears."""

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

    def hears(self, wanted: Callable[[str, Plain], bool]) -> Plain:
        """The first message of which this is true; waits for it."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            method, message = json.loads(line)
            if wanted(method, message):
                return message
        raise AssertionError(f"the agent ended with {self._process.wait()} before that was heard")

    def exit_code(self, within_s: float = 20.0) -> int:
        """The exit code; waits for it."""
        return self._process.wait(within_s)


def main(run_dir: str, changed: str, *deeds: str) -> int:
    def tell(method: str, message: Plain, _: int) -> None:
        print(json.dumps([method, message]), flush=True)

    master = ScriptedMaster([grant({"do": deed}, number) for number, deed in enumerate(deeds)], after=tell, ends=False)
    return run_agent(options(Path(run_dir), **json.loads(changed)), connect=master.connect)


def outcomes_of(run_dir: Path, *deeds: str, **changed: Any) -> list[Outcome]:
    """The outcomes of these deeds, one after the other, by one agent that ends because the search is over."""
    master = ScriptedMaster([grant({"do": deed}, number) for number, deed in enumerate(deeds)])
    assert run_agent(options(run_dir, **changed), connect=master.connect) == 0
    assert [report.evaluation.config_id.index for report in master.reports] == list(range(len(deeds)))
    return master.outcomes


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
