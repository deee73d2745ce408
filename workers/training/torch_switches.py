"""Process-wide switches of torch, set for one training and then restored.

Law of this file: when the context ends, the switches and the state of the global generators are as before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from hpbandster_lite.workers.training.memory_pool import freed_memory_kept


@contextmanager
def process_settings(device: str, *, deterministic: bool, tf32: bool) -> Iterator[None]:
    """Use fast or repeatable kernels in this context, and on a CPU keep freed memory.

    Parameters
    ----------
    device
        ``"cpu"`` or ``"cuda"``.
    deterministic
        Whether to use only kernels that give the same bits each time; an operation without such a kernel raises an
        error that names it. If False, cudnn tries its kernels on the first batch of each shape and keeps the fastest.
    tf32
        Whether a GPU may multiply float32 numbers with 10 bits of mantissa.
    """
    on_gpu = device.startswith("cuda")
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    was_warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    precision = torch.get_float32_matmul_precision()
    if deterministic and on_gpu:
        # cuBLAS is deterministic only with a workspace of this shape, and torch requires it.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn = torch.backends.cudnn.flags(
        enabled=True, benchmark=not deterministic, deterministic=deterministic, allow_tf32=tf32
    )
    rng = torch.random.fork_rng(devices=[torch.cuda.current_device()] if on_gpu else [])
    with rng, cudnn, nullcontext() if on_gpu else freed_memory_kept():
        torch.use_deterministic_algorithms(deterministic)
        if on_gpu:
            torch.set_float32_matmul_precision("high" if tf32 else "highest")
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(was_deterministic, warn_only=was_warn_only)
            torch.set_float32_matmul_precision(precision)
