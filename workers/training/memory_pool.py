"""Memory that a training frees stays with the process until the training ends.

glibc returns freed memory to the system when its heap ends in some hundred free kilobytes. Each step of a training
allocates the same tensors again, and the system then clears each page: seven thousand page faults in a step, which took
a tenth of its time.

Law of this file: results do not depend on it, and it does nothing where the C library is not glibc.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's parameters."""
LARGEST_POOLED = 32 * 2**20
"""Bytes: larger tensors are mapped one by one, because glibc allows no higher limit."""
NEVER = 2**31 - 1


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory in this context, and return it to the system at its end."""
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(M_MMAP_THRESHOLD, LARGEST_POOLED)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        # glibc's own threshold, which it doubles with the largest freed mapping: here the limit of both.
        libc.mallopt(M_TRIM_THRESHOLD, 2 * LARGEST_POOLED)
        libc.malloc_trim(0)


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
