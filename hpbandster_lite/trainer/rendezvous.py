"""Where the processes of one training meet: a port of loopback for torch.distributed, and the variables that name it.

Law of this file: the port is free when it is taken and stays so for everybody else, though the training may listen
there again and again.
"""

from __future__ import annotations

import socket

ADDRESS = "127.0.0.1"


def reserve_port() -> socket.socket:
    """A socket that is bound to a free port of loopback and does not listen.

    It keeps the port from everybody but for those who set SO_REUSEADDR, as our servers do and torch's store does.
    """
    holder = socket.socket()
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((ADDRESS, 0))
    except BaseException:
        holder.close()
        raise
    return holder


class RendezvousPort:
    """A port that is held for one trainer.

    Parameters
    ----------
    processes
        How many processes a training of this trainer has.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._holder = reserve_port()

    @property
    def environment(self) -> dict[str, str]:
        """What torch's ``env://`` reads; RANK and LOCAL_RANK each process is given by who starts it."""
        count = str(self._processes)
        return {
            "MASTER_ADDR": ADDRESS,
            "MASTER_PORT": str(self._holder.getsockname()[1]),
            "WORLD_SIZE": count,
            "LOCAL_WORLD_SIZE": count,
        }

    def close(self) -> None:
        """Let the port go."""
        self._holder.close()
