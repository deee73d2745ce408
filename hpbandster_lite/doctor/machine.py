"""Probes of the installation and of this machine: versions, cores, memory, GPUs, Slurm, names, limits.

Law of this file: it reads and changes nothing, imports no library that a search may lack (torch takes seconds), and
reports no secret: for a variable that holds one, it reports only that it is set.
"""

from __future__ import annotations

import locale
import os
import platform
import re
import resource
import shutil
import socket
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import psutil

from hpbandster_lite._version import __version__
from hpbandster_lite.doctor.bounded import LIMIT_S
from hpbandster_lite.errors import SearchError
from hpbandster_lite.journal import sqlite_version
from hpbandster_lite.process.devices import cores_of_container, usable_cores, visible_devices
from hpbandster_lite.process.environment import (
    KEY_VARIABLE,
    NAMESERVER_KEY_VARIABLE,
    THREAD_VARIABLES,
    VISIBLE,
)
from hpbandster_lite.process.gpu_driver import gpus_of_driver
from hpbandster_lite.records import Plain
from hpbandster_lite.slurm.commands import Slurm
from hpbandster_lite.transport.network_interfaces import reachable_addresses

LIBRARIES = (
    *("ConfigSpace", "numpy", "scipy", "statsmodels", "pandas", "pydantic", "typer", "click", "rich", "Pyro4"),
    *("serpent", "psutil", "filelock", "cryptography", "nvidia-ml-py", "torch", "torchvision", "scikit-learn"),
    *("pillow",),
)
SECRET = (KEY_VARIABLE, NAMESERVER_KEY_VARIABLE)
_OURS = re.compile(r"(HPBANDSTER_LITE|CUDA)_\w+|SLURM_(JOB|STEP|CPUS|MEM|NODE|GPUS|RESTART)\w*|OMP_WAIT_POLICY|TMPDIR")
_CUDA = re.compile(r"^cuda[^=]*= *['\"]([^'\"]+)", re.MULTILINE)


def software() -> dict[str, Plain]:
    """Versions; None for a library that is not installed."""
    return {
        "hpbandster_lite": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "distribution": _distribution(),
        "C library": " ".join(platform.libc_ver()).strip(),
        "sqlite": sqlite_version(),
        **{name: _version(name) for name in LIBRARIES},
        "CUDA of torch": _cuda_of_torch(),
        "encoding": f"{locale.getpreferredencoding(do_setlocale=False)}, {sys.getfilesystemencoding()}",
    }


def _version(name: str) -> str | None:
    # Here: the list of commands imports this file.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _distribution() -> str | None:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        return None


def _cuda_of_torch() -> str | None:
    """The version of CUDA with which torch was built, from its source: an import takes seconds."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        found = _CUDA.search(Path(spec.origin).with_name("version.py").read_text("utf-8"))
    except OSError:
        return None
    return None if found is None else found[1]


def processors() -> dict[str, Plain]:
    """Cores, and how many of them this process may use."""
    limit = cores_of_container()
    return {
        "cores": os.cpu_count(),
        "usable": usable_cores(),
        "cores of the container": limit,
        "load": [round(each, 2) for each in os.getloadavg()],
        **{name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
    }


def memory() -> dict[str, Plain]:
    """Memory in bytes; the limit of the container is None without one."""
    here, swap = psutil.virtual_memory(), psutil.swap_memory()
    return {
        "total": here.total,
        "available": here.available,
        "limit of the container": _memory_limit(),
        "swap": swap.total,
        "swap used": swap.used,
    }


def _memory_limit() -> int | None:
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(file).read_text("ascii").strip()
        except OSError:
            continue
        # Without a limit, version 1 has the largest number of pages.
        return int(text) if text.isdecimal() and int(text) < 2**60 else None
    return None


def graphics() -> dict[str, Plain]:
    """GPUs as their driver lists them, and those that a worker here would use."""
    return {**gpus_of_driver(), "visible": list(visible_devices()), VISIBLE: os.environ.get(VISIBLE)}


def batch_system() -> dict[str, Plain]:
    """Slurm: its version, what scontrol prints about its controllers, and this job."""
    if shutil.which("scontrol") is None:
        return {"installed": False, "job": os.environ.get("SLURM_JOB_ID")}
    slurm = Slurm()
    return {
        "installed": True,
        "version": _answer_of(lambda: slurm.version(timeout_s=LIMIT_S / 3)),
        "controller": _answer_of(lambda: slurm.controllers(timeout_s=LIMIT_S / 3)),
        "job": os.environ.get("SLURM_JOB_ID"),
        "nodes": os.environ.get("SLURM_JOB_NODELIST"),
    }


def _answer_of(ask: Callable[[], str]) -> str | None:
    try:
        return ask() or None
    except (SearchError, OSError) as error:
        return str(error)


def network() -> dict[str, Plain]:
    """The name of this machine, its addresses, and what the name resolves to."""
    name = socket.gethostname()
    return {
        "host": name,
        "full name": socket.getfqdn(),
        "resolves to": _resolved(name),
        "addresses": list(reachable_addresses(["::"])),
        "localhost resolves to": _resolved("localhost"),
    }


def _resolved(name: str) -> list[Plain]:
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return list(dict.fromkeys(str(each[4][0]) for each in found))


def limits() -> dict[str, Plain]:
    """Limits of this process; None for no limit."""

    def finite(kind: int, which: int = 0) -> int | None:
        limit = resource.getrlimit(kind)[which]
        return None if limit == resource.RLIM_INFINITY else limit

    return {
        "open files": finite(resource.RLIMIT_NOFILE),
        "open files at most": finite(resource.RLIMIT_NOFILE, 1),
        "open files now": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 (names are enough)
        "processes": finite(resource.RLIMIT_NPROC),
        "size of a file": finite(resource.RLIMIT_FSIZE),
    }


def environment() -> dict[str, Plain]:
    """The variables that a search or its libraries read."""
    chosen = {name: value for name, value in sorted(os.environ.items()) if _OURS.fullmatch(name)}
    return {name: "set" if name in SECRET else value for name, value in chosen.items()}
