"""The endpoint file: where the master of a run listens.

Law of this file: an endpoint is written atomically and checked when it is read; a master deletes only its own endpoint.
The file has the protocol version. New fields are optional, so that the file of an earlier version can be read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict, cast

from hpbandster_lite.errors import RunDirectoryError
from hpbandster_lite.records import Plain
from hpbandster_lite.rundir.files import os_errors_as_ours, write_atomically

LONGEST_HOST = 255
HIGHEST_EPOCH = 2**53
_ENDPOINT_FIELDS: Mapping[str, type] = {
    "protocol": int,
    "run_id": str,
    "epoch": int,
    "host": str,
    "port": int,
    "object": str,
    "pid": int,
}


class _EveryEndpoint(TypedDict):
    protocol: int
    run_id: str
    epoch: int
    host: str
    port: int
    object: str
    pid: int


class EndpointFile(_EveryEndpoint, total=False):
    """The content of the file; :func:`hosts_of` gives the hosts at which to call."""

    addresses: list[str]


def write_endpoint(file: Path, endpoint: Mapping[str, Plain]) -> None:
    """Write the master's endpoint atomically.

    Parameters
    ----------
    file
        The endpoint file.
    endpoint
        ``protocol``, ``run_id``, ``epoch``, ``host``, ``port``, ``object``, ``pid`` and, if the master has several
        addresses, all its ``addresses``; see :func:`hosts_of`.

    Raises
    ------
    RunDirectoryError
        If the file cannot be written.
    """
    write_atomically(file, json.dumps(endpoint, indent=1) + "\n")


def read_endpoint(file: Path) -> EndpointFile | None:
    """The endpoint of the last master, which may have ended; ``None`` if there is no file.

    Raises
    ------
    RunDirectoryError
        If the file cannot be read, or does not contain an endpoint.
    """
    endpoint: Plain
    with os_errors_as_ours(file, "read the endpoint"):
        try:
            endpoint = json.loads(file.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError):
            endpoint = None
    if not isinstance(endpoint, dict) or not _is_endpoint(endpoint):
        raise RunDirectoryError(
            f"{file} is not the endpoint of a master; delete it; a master that serves writes it again within "
            "seconds, else start one"
        )
    return cast(EndpointFile, endpoint)


def remove_endpoint(file: Path, epoch: int, pid: int | None = None) -> None:
    """Remove the endpoint if it has this epoch and, unless ``pid`` is None, this process id.

    The epoch alone may not identify a master: after a run directory is deleted and made again, epochs start from 1.

    Raises
    ------
    RunDirectoryError
        If the file cannot be read or deleted.
    """
    endpoint = read_endpoint(file)
    if endpoint is not None and endpoint["epoch"] == epoch and pid in (None, endpoint["pid"]):
        with os_errors_as_ours(file, "delete the endpoint"):
            file.unlink(missing_ok=True)


def hosts_of(endpoint: Mapping[str, Plain]) -> list[str]:
    """The hosts at which to call the master of an endpoint, the most likely first."""
    return list(endpoint.get("addresses") or [endpoint["host"]])


def _is_endpoint(content: dict[str, Plain]) -> bool:
    # Exact types: True is an int, too.
    if not all(type(content.get(name)) is kind for name, kind in _ENDPOINT_FIELDS.items()):
        return False
    if not (0 < content["port"] < 2**16 and 0 < content["epoch"] < HIGHEST_EPOCH):
        return False
    # Masters of earlier versions wrote one host and no addresses.
    addresses = content.get("addresses", [])
    return isinstance(addresses, list) and all(_is_host(each) for each in (content["host"], *addresses))


def _is_host(text: Plain) -> bool:
    return isinstance(text, str) and 0 < len(text) <= LONGEST_HOST and text.isprintable()
