"""What this host's processor computes fast; read from its flags, without torch.

Law of this file: it only reads ``/proc/cpuinfo``. An unreadable file means a processor without flags.
"""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
FAST_BFLOAT16 = frozenset({"amx_bf16", "avx512_bf16"})
"""Flags of processors that multiply bfloat16 numbers about twice as fast as float32 numbers."""


def has_fast_bfloat16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the processor has AMX or AVX512-BF16."""
    try:
        lines = cpuinfo.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    # All cores of a host have the same flags.
    flags = next((line.partition(":")[2] for line in lines if line.startswith("flags")), "")
    return not FAST_BFLOAT16.isdisjoint(flags.split())
