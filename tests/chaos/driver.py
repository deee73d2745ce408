"""A search under chaos, from its first process to its verification.

Law of this file: it injects faults in the order of the plan and then heals all of them. After that the search must end
by itself; then the driver checks the laws. A run depends on its seed and on the speed of the machine.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hpbandster_lite.records import BracketOpened
from tests.chaos.faults import Breaker
from tests.chaos.laws import Durable, Figures, broken_laws
from tests.chaos.plan import CLOCKS, DISKS, KINDS, LINKS, PROCESSES, Fault, plan
from tests.chaos.scene import Scene
from tests.deploy.hosts import Hosts, missing
from tests.service.clocks import LIBRARIES

log = logging.getLogger(__name__)

TICK_S = 0.05
LOOK_EVERY_S = 3.0
PATIENT_S, MOST_DEFERRED_S = 8.0, 120.0
"""A fault that has found no victim for ``PATIENT_S`` takes precedence over all others (half of the hosts are seldom
without a fault at once). After ``MOST_DEFERRED_S`` without a victim the run fails: the search stands still."""
PATIENCE_S = 60.0
"""Longest time until the first master serves."""
ENDS_WITHIN_S = 180.0
KNOWN_WITHIN_S = 10.0
"""Longest time until workers end after the search: a connected one ends at once; others read the journal."""
DISK = "96m"
WORKER_HOSTS = 4


class ChaosBroke(AssertionError):
    """A law did not hold; the message has the seed, the laws and the command that runs it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Options of a run: its seed, the number and kinds of faults, their interval, and the number of workers."""

    seed: int
    faults: int
    kinds: tuple[str, ...] = KINDS
    every_s: float = 1.5
    workers: int = 6
    step_s: float = 0.2

    @property
    def command(self) -> str:
        """The command that repeats the run."""
        kinds = "" if set(self.kinds) == set(possible_kinds()[0]) else f" --kinds {','.join(self.kinds)}"
        return (
            f"python -m tests.chaos --seed {self.seed} --faults {self.faults} --every {self.every_s:g} "
            f"--workers {self.workers} --step {self.step_s:g}{kinds}"
        )


def possible_kinds() -> tuple[tuple[str, ...], list[str]]:
    """Kinds of faults that this machine allows, and a line with the reason for each kind that it does not allow."""
    left_out: list[str] = []
    kinds = list(PROCESSES)
    reason = missing()
    if reason is None:
        kinds += LINKS
    else:
        left_out.append(f"NO FAULTS OF THE NETWORK: {reason}")
    if os.geteuid() == 0 and (reason := _no_mount()) is None:
        kinds += DISKS
    else:
        left_out.append(f"NO FULL DISK: {reason or 'only root may mount a file system'}")
    if LIBRARIES:
        kinds += CLOCKS
    else:
        left_out.append("NO WRONG CLOCKS: libfaketime is not here: apt-get install -y libfaketime")
    return tuple(kinds), left_out


def _no_mount() -> str | None:
    with tempfile.TemporaryDirectory() as place:
        try:
            with _disk(Path(place) / "probe", "1m"):
                return None
        except OSError as error:
            return str(error)


@contextlib.contextmanager
def _disk(place: Path, size: str) -> Iterator[Path]:
    """A separate file system."""
    place.mkdir(mode=0o700)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(place)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise OSError(f"no file system can be mounted here: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def run(options: RunOptions, place: Path, report: Callable[[str], None] = log.info) -> Figures:
    """Run one plan.

    Parameters
    ----------
    options
        The run.
    place
        An empty directory, for logs.
    report
        Receives a line for each fault, and for what follows.

    Returns
    -------
    Figures
        What happened.

    Raises
    ------
    ChaosBroke
        If a law does not hold.
    """
    with contextlib.ExitStack() as stack:
        hosts = None
        if set(options.kinds) & set(LINKS):
            prefix = f"hpc{secrets.token_hex(2)}"
            hosts = stack.enter_context(Hosts(prefix, 2 + WORKER_HOSTS, "10.83.0"))
        disk = place / "disk"
        if "disk_full" in options.kinds:
            stack.enter_context(_disk(disk, DISK))
        else:
            disk.mkdir(mode=0o700)
        scene = Scene(place, disk, hosts, options.workers, options.seed, options.step_s)
        stack.callback(scene.close)
        return Chaos(options, scene, report).run()


class Chaos:
    """One run; see :func:`run`."""

    def __init__(self, options: RunOptions, scene: Scene, report: Callable[[str], None]) -> None:
        self._options, self._scene, self._report = options, scene, report
        self._breaker = Breaker(scene)
        self._durable = Durable(scene.directory.journal)
        self._looks_at = 0.0
        self._began = time.monotonic()
        self.figures = Figures()

    def run(self) -> Figures:
        """Faults, healing, the end, the laws."""
        self._scene.open(PATIENCE_S)
        # A failed part does not end the run: the parts after it show more of the cause.
        broken = [*self._broken_in(self._break), *self._broken_in(self._end)]
        self.figures.seconds = time.monotonic() - self._began
        self.figures.exits = self._scene.exits
        broken += broken_laws(
            self._scene.directory,
            self._scene.objective_logs,
            "".join(log.read_text("utf-8") for log in self._scene.place.glob("agent-*.log")),
            self._scene.killed,
            self._durable,
            self.figures.counts,
        )
        broken += self._scene.violations
        if broken:
            # The disk is unmounted after the run.
            shutil.copytree(self._scene.directory.path, self._scene.place / "run", ignore_dangling_symlinks=True)
            laws, again = "\n".join(broken[:20]), self._options.command
            raise ChaosBroke(f"chaos broke {len(broken)} laws:\n{laws}\n{self.figures}\nagain: {again}")
        return self.figures

    @staticmethod
    def _broken_in(part: Callable[[], None]) -> list[str]:
        try:
            part()
        except AssertionError as error:
            return [str(error)]
        return []

    def _tick(self) -> float:
        now = time.monotonic()
        self._breaker.undo_due(now)
        known = len(self._scene.violations)
        self._scene.restart_ended(now)
        for words in self._scene.violations[known:]:
            self._report(f"!!! {words}")
        if now >= self._looks_at:
            self._looks_at = now + LOOK_EVERY_S
            self._durable.look()
        time.sleep(TICK_S)
        return now

    def _break(self) -> None:
        """Inject one fault after the other; a fault without a victim waits behind the next ones."""
        faults = plan(self._options.seed, self._options.faults, self._options.kinds, every_s=self._options.every_s)
        coming, waiting = deque(faults), deque[tuple[Fault, float]]()
        due = time.monotonic()
        while coming or waiting:
            now = self._tick()
            assert not self._scene.is_over, "the search ended before its faults did"
            is_held_up = bool(waiting) and now - min(since for _, since in waiting) > PATIENT_S
            if coming and now >= due and not is_held_up:
                fault = coming.popleft()
                due = now + (coming[0].after_s if coming else 0.0)
                if not self._try(fault, now):
                    waiting.append((fault, now))
            elif waiting:
                fault, since = waiting.popleft()
                if not self._try(fault, now):
                    assert now - since < MOST_DEFERRED_S, f"{fault} has found no victim for {MOST_DEFERRED_S:g} s"
                    waiting.append((fault, since))

    def _try(self, fault: Fault, now: float) -> bool:
        if not self._breaker.apply(fault, now):
            return False
        self.figures.faults[fault.kind] += 1
        what = f"{fault.kind} for {fault.lasts_s:g} s, {fault.strength}"
        self._report(f"{now - self._began:8.2f}  {fault.number}: {what}")
        return True

    def _end(self) -> None:
        """Heal all faults, limit the search to its open brackets, and wait until it ends by itself."""
        scene = self._scene
        self._breaker.heal()
        healed = time.monotonic()
        self._report(f"{healed - self._began:8.2f}  everything is healed")
        # A master that was asked to end may still serve for a moment; it does not count.
        while (last := self._breaker.serving_master()) is None:
            self._in_time(healed, "a master serves")
        scene.extend(brackets=1 + max(entry.bracket for entry in scene.of(BracketOpened)))
        last.fate = "asked to end"
        last.served.send(signal.SIGTERM)
        while not scene.is_over:
            self._in_time(healed, "the search is over")
        over = time.monotonic()
        while scene.processes():
            if time.monotonic() - over > KNOWN_WITHIN_S:
                scene.end_uninformed()
            self._in_time(over, "every process that knows that the search is over has ended")
        self._scene.restart_ended(time.monotonic())
        self.figures.counts["seconds from healing to the end"] = round(time.monotonic() - healed)

    def _in_time(self, since: float, what: str) -> None:
        now = self._tick()
        if now - since > ENDS_WITHIN_S:
            left = [part.name for part in self._scene.parts]
            logs = [part.served.output()[-1_500:] for part in self._scene.parts]
            raise AssertionError("\n".join([f"timed out: {what}; there are still {left}", *logs]))
