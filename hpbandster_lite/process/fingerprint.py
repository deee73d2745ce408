"""The versions and machine features on which the last bits of a proposal depend.

Law of this file: it reads this process and this machine, and nothing of a search.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hpbandster_lite._version import __version__
from hpbandster_lite.process.devices import usable_cores
from hpbandster_lite.process.environment import THREAD_VARIABLES
from hpbandster_lite.records import Plain

CPU_INFO = Path("/proc/cpuinfo")
_VECTOR_FEATURES = ("sse", "ssse", "avx", "fma", "f16c", "neon", "asimd", "sve", "vsx", "vx")
"""Prefixes of the processor features by which numpy, scipy, BLAS and the C library select their code."""


def fingerprint() -> dict[str, Plain]:
    """What the last bits of a proposal may depend on, as texts that can be compared."""
    return dict(_fingerprint())


@functools.cache
def _fingerprint() -> dict[str, Plain]:
    # Once per process: it does not change, and takes 20 ms if scipy is not loaded.
    return {
        "hpbandster_lite": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": _version_of_scipy(),
        "machine": platform.machine(),
        "C library": " ".join(platform.libc_ver()).strip(),
        "processor": processor_features(),
        "threads": thread_setting(os.environ),
    }


def processor_features(cpu_info: Path = CPU_INFO) -> str:
    """The vector instructions of this processor, by name; empty if the system does not list them."""
    try:
        with cpu_info.open(encoding="utf-8", errors="replace") as lines:
            # x86 has "flags", ARM has "Features", one line per core; all cores are alike.
            found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        return ""
    names = found.partition(":")[2].split()
    return " ".join(sorted(name for name in names if name.startswith(_VECTOR_FEATURES)))


def thread_setting(environment: Mapping[str, str]) -> str:
    """The number of threads that divide a sum in numerical libraries: as configured, else the cores of this process."""
    configured = [f"{name}={environment[name]}" for name in THREAD_VARIABLES if name in environment]
    return ", ".join(configured) or f"as many as cores: {usable_cores()}"


def _version_of_scipy() -> str:
    loaded = sys.modules.get("scipy")
    if loaded is not None:
        return str(loaded.__version__)
    # Importing it takes half a second, which a search without a model should not need.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("scipy")
    except PackageNotFoundError:
        return ""
