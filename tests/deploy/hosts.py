"""Virtual hosts for tests: network namespaces on one switch, whose links can be cut, throttled and restored.

Law of this file: it creates and removes only namespaces with its prefix. It always removes them, with the processes in
them, however the test ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).parent
FIRST = 10
"""Last number of the first host's address."""


def missing() -> str | None:
    """The reason why this machine allows no virtual hosts, with the remedy; None if it does."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    for program, package in (("ip", "iproute2"), ("tc", "iproute2"), ("nft", "nftables")):
        if shutil.which(program) is None:
            return f"{program} is not installed: apt-get install -y {package}"
    probe = f"hpb-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"no network namespace can be made here: {made.stderr.strip()}"
    subprocess.run(["ip", "netns", "delete", probe], capture_output=True, check=False)
    return None


class Hosts:
    """Hosts that reach only each other; a context manager.

    Parameters
    ----------
    prefix
        Name of the namespaces, at most 8 letters, followed by the host's number.
    count
        Number of hosts.
    net
        First three numbers of their addresses.
    """

    def __init__(self, prefix: str, count: int, net: str = "10.77.0") -> None:
        self.prefix, self.count, self._net = prefix, count, net

    def __enter__(self) -> Hosts:
        # An earlier test with this prefix may have been killed.
        self._down()
        made = subprocess.run(
            [str(HERE / "netns_up.sh"), self.prefix, str(self.count)],
            env=os.environ | {"NET": self._net},
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            self._down()
            raise RuntimeError(f"no virtual hosts can be made: {made.stderr.strip()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._down()

    def _down(self) -> None:
        subprocess.run([str(HERE / "netns_down.sh"), self.prefix], capture_output=True, check=False)

    def address(self, host: int) -> str:
        """The host's IPv4 address."""
        return f"{self._net}.{FIRST + host}"

    def on(self, host: int) -> list[str]:
        """Prefix of a command that runs on this host; the process becomes the command itself."""
        return ["ip", "netns", "exec", f"{self.prefix}{host}"]

    def fault(self, host: int, what: str, value: int | None = None) -> None:
        """Break the network of a host: see ``netns_fault.sh``."""
        arguments = [] if value is None else [str(value)]
        subprocess.run(
            [str(HERE / "netns_fault.sh"), self.prefix, str(host), what, *arguments],
            check=True,
            capture_output=True,
            text=True,
        )

    def heal(self, host: int) -> None:
        """Remove all faults from this host's links."""
        self.fault(host, "heal")
