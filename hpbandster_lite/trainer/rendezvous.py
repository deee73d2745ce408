"""The rendezvous of the processes of one training: a loopback port for torch.distributed, and its variables.

Law of this file: the port is free when it is reserved, and stays reserved for this training, which may listen on it
repeatedly.
"""

from __future__ import annotations

import contextlib
import socket

ADDRESS = "127.0.0.1"


def reserve_port() -> socket.socket:
    """A socket that is bound to a free loopback port and does not listen.

    It keeps sockets without SO_REUSEADDR from this port. This package's servers and torch's store set SO_REUSEADDR.
    """
    with contextlib.ExitStack() as on_failure:
        holder = on_failure.enter_context(socket.socket())
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((ADDRESS, 0))
        on_failure.pop_all()
    return holder


class RendezvousPort:
    """A port that is reserved for one trainer.

    Parameters
    ----------
    processes
        Number of processes of a training.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._holder = reserve_port()

    @property
    def environment(self) -> dict[str, str]:
        """The variables of torch's ``env://``; the process that starts the ranks adds RANK and LOCAL_RANK."""
        count = str(self._processes)
        return {
            "MASTER_ADDR": ADDRESS,
            "MASTER_PORT": str(self._holder.getsockname()[1]),
            "WORLD_SIZE": count,
            "LOCAL_WORLD_SIZE": count,
        }

    def close(self) -> None:
        """Release the port."""
        self._holder.close()
