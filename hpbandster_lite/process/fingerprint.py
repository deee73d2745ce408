"""The versions and machine features on which the last bits of a proposal depend.

Law of this file: it depends on this process and this machine, and not on the search.
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
    """The versions and features on which the last bits of a proposal may depend, as comparable texts."""
    return dict(_fingerprint())


@functools.cache
def _fingerprint() -> dict[str, Plain]:
    # Computed once per process: the result does not change, and takes 20 ms if scipy is not loaded.
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
            # x86 has "flags", ARM has "Features", one line per core; all cores have the same line.
            found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    except OSError:
        return ""
    names = found.partition(":")[2].split()
    return " ".join(sorted(name for name in names if name.startswith(_VECTOR_FEATURES)))


def thread_setting(environment: Mapping[str, str]) -> str:
    """The number of threads of numerical libraries, among which they divide a sum: as configured, else the cores."""
    configured = [f"{name}={environment[name]}" for name in THREAD_VARIABLES if name in environment]
    return ", ".join(configured) or f"as many as cores: {usable_cores()}"


def _version_of_scipy() -> str:
    loaded = sys.modules.get("scipy")
    if loaded is not None:
        return str(loaded.__version__)
    # Read the version without an import, which takes half a second, because a search without a model needs no scipy.
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("scipy")
    except PackageNotFoundError:
        return ""
