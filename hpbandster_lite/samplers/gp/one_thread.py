"""Linear algebra in one thread.

Law of this file: it limits the threads of BLAS, and nothing else. How many threads share a sum decides its last bits,
so with one thread a fit is the same whatever a process was configured to use; for matrices of some hundred rows more
threads gain nothing, and on a machine whose cores train networks they wait for each other for seconds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from threadpoolctl import ThreadpoolController

P = ParamSpec("P")
R = TypeVar("R")


@functools.cache
def _controller() -> ThreadpoolController:
    # It finds the libraries that are loaded, so it is made at the first use, when numpy and scipy are.
    return ThreadpoolController()


def in_one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Run the function with one thread of BLAS."""

    @functools.wraps(function)
    def limited(*args: P.args, **kwargs: P.kwargs) -> R:
        with _controller().limit(limits=1, user_api="blas"):
            return function(*args, **kwargs)

    return limited
