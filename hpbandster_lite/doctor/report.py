"""The report: what every probe found, and which of that looks wrong.

Law of this file: :func:`findings` is a pure function of the answers; a sentence gives the fault, the value and the
remedy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from hpbandster_lite.doctor import machine, places
from hpbandster_lite.doctor.bounded import ERROR, LIMIT_S, Probe, answers_of
from hpbandster_lite.records import Plain
from hpbandster_lite.rundir import named_run_directory

VERSION = 1
"""Version of the JSON, which rises when a key is removed or changes its meaning."""
MOST_CLOCK_OFFSET_S = 2.0
"""A larger difference is no delay of a network: the clocks differ."""
BASE = Path("runs")
"""Directory of all runs whose users gave no directory."""
LEAST_FREE = 2**30
LEAST_FREE_FILES = 1_000
LEAST_OPEN_FILES = 1_024

Answers = Mapping[str, Mapping[str, Plain]]


def examine(run: Path | None, keys: Sequence[Path] = (), *, limit_s: float = LIMIT_S) -> dict[str, Plain]:
    """Run every probe, side by side.

    Parameters
    ----------
    run
        A run directory, or its name, which need not exist; None examines the directory ``runs``, or the current one.
    keys
        Further files that hold secrets.
    limit_s
        Time limit of each probe.

    Returns
    -------
    dict
        ``version``, ``findings`` (sentences), and the answer of each probe by its name.
    """
    found = answers_of({"place": lambda: {"path": str(_named(run))}}, limit_s)["place"]
    where = Path(found.get("path", run or BASE))
    run = None if run is None else where
    probes: dict[str, Probe] = {
        "software": machine.software,
        "processors": machine.processors,
        "memory": machine.memory,
        "GPUs": machine.graphics,
        "Slurm": machine.batch_system,
        "network": machine.network,
        "limits": machine.limits,
        "environment": machine.environment,
        "directory": partial(places.place, where),
        "temporary files": lambda: places.place(Path(tempfile.gettempdir())),
        "shared memory": partial(places.place, Path("/dev/shm")),  # noqa: S108 (its free space is of interest)
        "keys": lambda: places.keys([*(places.secrets_of(run) if run is not None else ()), *keys]),
    }
    if run is not None:
        probes["run"] = partial(places.run, run)
    answers = answers_of(probes, limit_s)
    return {"version": VERSION, "findings": list(findings(answers)), **answers}


def _named(run: Path | None) -> Path:
    if run is not None:
        return named_run_directory(run)
    return BASE if BASE.is_dir() else Path()


def findings(answers: Answers) -> Iterator[str]:
    """What looks wrong, one sentence each."""
    for name, answer in answers.items():
        if ERROR in answer:
            yield f"{name}: {answer[ERROR]}"
    for name in ("directory", "temporary files", "shared memory"):
        yield from _about_place(name, answers.get(name, {}))
    where = answers.get("directory", {})
    if "run" in answers and int(str(where.get("mode", "0")), 8) & 0o022:
        path = where["path"]
        yield f"directory: other users can write in {path} (mode {where['mode']}): chmod go-w {path}"
    yield from _about_keys(answers.get("keys", {}))
    network, limits = answers.get("network", {}), answers.get("limits", {})
    if network.get("resolves to") == []:
        yield (
            f"the name of this machine, {network.get('host')}, does not resolve; add it to /etc/hosts or DNS, or give "
            "masters and workers addresses"
        )
    open_files = limits.get("open files")
    if open_files is not None and open_files < LEAST_OPEN_FILES:
        yield f"at most {open_files} files may be open at a time; raise the limit: ulimit -n {LEAST_OPEN_FILES}"
    slurm = answers.get("Slurm", {})
    if slurm.get("installed") and " UP" not in str(slurm.get("controller")):
        words = slurm.get("controller") or slurm.get("version") or "scontrol prints nothing"
        yield f"Slurm is installed, and its controller does not answer ({words}); see scontrol ping"
    yield from _about_gpus(answers)


def _about_gpus(answers: Answers) -> Iterator[str]:
    about, torch = answers.get("GPUs", {}), answers.get("software", {})
    if about.get("fault"):
        yield (
            f"GPUs: their driver does not work ({about['fault']}); see nvidia-smi, and after an update of the driver "
            "start the machine again"
        )
    if about.get("GPUs") and torch.get("torch") and not torch.get("CUDA of torch"):
        yield (
            f"GPUs: torch {torch['torch']} is a build for the CPU and uses none; install one for CUDA "
            f"{about.get('CUDA of the driver')} or older"
        )


def _about_place(name: str, answer: Mapping[str, Plain]) -> Iterator[str]:
    path = answer.get("path")
    if answer.get("is a directory") is False:
        yield f"{name}: {path} {'is not a directory' if answer.get('exists') else 'does not exist'}"
        return
    if answer.get("writable") is False:
        yield f"{name}: {path} cannot be written: {answer.get('why')}"
    if answer.get("locks") not in (None, True):
        yield f"{name}: files in {path} cannot be locked ({answer['locks']}); mount it with locks"
    offset = answer.get("clock ahead of this machine, seconds")
    if offset is not None and abs(offset) > MOST_CLOCK_OFFSET_S:
        yield (
            f"{name}: the clock of the file system of {path} is {abs(offset):g} s "
            f"{'ahead of' if offset > 0 else 'behind'} that of this machine; set both by NTP"
        )
    free, files = answer.get("free"), answer.get("free files")
    if free is not None and free < LEAST_FREE:
        yield f"{name}: {path} has {free / 2**20:.0f} MiB free; make room, or use another disk"
    if files is not None and files < LEAST_FREE_FILES:
        yield f"{name}: {path} has room for {files} more files; delete some, or use another disk"


def _about_keys(answer: Mapping[str, Plain]) -> Iterator[str]:
    for file, about in answer.items():
        if isinstance(about, Mapping) and about["owner is this user"] and int(about["mode"], 8) & 0o077:
            yield f"keys: other users can open {file} (mode {about['mode']}): chmod 600 {file}"
