"""Runs probes side by side, each within a time limit.

Law of this file: a probe that fails or does not end costs its own answer and never those of others. Nothing can end a
thread that hangs in the kernel, as on a file system whose server is away; it stays, and ends with the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

from hpbandster_lite.records import Plain

Probe: TypeAlias = Callable[[], dict[str, Plain]]
LIMIT_S = 5.0
"""Time limit of one probe in seconds."""
ERROR = "error"
"""The key that replaces the answer of a probe that failed or did not end."""


def answers_of(probes: Mapping[str, Probe], limit_s: float = LIMIT_S) -> dict[str, dict[str, Plain]]:
    """The answers by the names of the probes, in their order; a probe that failed or did not end has its ``error``."""
    answers: dict[str, dict[str, Plain]] = {}
    threads = {name: threading.Thread(target=_run, args=(name, probe, answers), daemon=True, name=f"probe {name}")
               for name, probe in probes.items()}  # fmt: skip
    for thread in threads.values():
        thread.start()
    ends_at = time.monotonic() + limit_s
    for thread in threads.values():
        thread.join(max(0.0, ends_at - time.monotonic()))
    late = {ERROR: f"no answer within {limit_s:g} s"}
    return {name: answers.get(name, late) for name in probes}


def _run(name: str, probe: Probe, answers: dict[str, dict[str, Plain]]) -> None:
    try:
        answers[name] = probe()
    except Exception as error:  # noqa: BLE001 (a fault of a probe is its answer)
        answers[name] = {ERROR: f"{type(error).__name__}: {error}"}
