"""The name server as a program: one name server is enough for the masters of many runs.

Law of this file: :func:`hpbandster_lite.transport.serve_nameserver` does the work. This program adds signals, a key
file, and an end together with its parent process. It stores nothing on disk, because masters register again.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from hpbandster_lite.access.certificates import certificates_for
from hpbandster_lite.access.listening import LOOPBACK, listen_settings
from hpbandster_lite.errors import SearchError, UsageError
from hpbandster_lite.process.log_format import log_to_stderr
from hpbandster_lite.process.shutdown import shutdown_requests
from hpbandster_lite.process.startup import READ_BRIEFING, read_briefing
from hpbandster_lite.rundir import read_given_key
from hpbandster_lite.transport.name_server import serve_nameserver

log = logging.getLogger(__name__)

DEFAULT_PORT = 9090
"""Pyro4's default."""
OPTIONS = {"host", "interface", "port", "key_file", "tls", "lifeline"}


def serve(
    host: str = LOOPBACK,
    port: int = DEFAULT_PORT,
    key: bytes | None = None,
    *,
    interface: str | None = None,
    tls: str | None = None,
    lifeline: int | None = None,
) -> None:
    """Serve names until SIGTERM, SIGINT, or the end of the lifeline; call it from the main thread.

    Parameters
    ----------
    host
        Address to listen on; addresses other than loopback require a key or certificates. Default: loopback.
    port
        Port; 0 chooses a free one. Default: 9090.
    key
        The name server's HMAC key. Default: None, for messages without a signature.
    interface
        Network interface to listen on, instead of ``host``. Default: None.
    tls
        Folder with the certificates for TLS. Default: from the environment, see
        :func:`hpbandster_lite.access.certificates.certificates_for`.
    lifeline
        A file descriptor, usually the read end of a pipe; its end of file ends the name server. Default: None.

    Raises
    ------
    UsageError
        If the address cannot be used, or would be open to other machines without a key or TLS.
    RunDirectoryError
        If the certificates cannot be used.
    """
    where = listen_settings(host, interface, certificates_for(None, tls))
    with shutdown_requests(lifeline) as ending:
        serve_nameserver(
            where.hosts,
            port,
            key,
            is_over=lambda: ending.is_requested,
            started=lambda server: log.info("name server listens on %s", where.describe(server)),
            wakeup_fd=ending.wakeup_fd,
            tls=where.tls,
        )
    log.info("name server ended")


def main(arguments: list[str]) -> int:
    """Run ``python -m hpbandster_lite.nameserver [OPTIONS]``: for the launcher; use ``hpbandster-lite nameserver``.

    ``OPTIONS`` is one JSON object with any of :data:`OPTIONS`; ``-`` reads it from standard input, see
    :mod:`hpbandster_lite.process.startup`.
    """
    log_to_stderr("%(asctime)s %(name)s %(message)s")
    try:
        options = read_briefing() if arguments == [READ_BRIEFING] else _options(arguments)
        if options is None:
            return 0
        key_file = options.get("key_file")
        key = None if key_file is None else read_given_key(Path(key_file))
        serve(
            options.get("host", LOOPBACK),
            options.get("port", DEFAULT_PORT),
            key,
            interface=options.get("interface"),
            tls=options.get("tls"),
            lifeline=options.get("lifeline"),
        )
    except SearchError as error:
        log.error("%s", error)
        return error.exit_code
    return 0


def _options(arguments: list[str]) -> dict[str, Any]:
    try:
        options = json.loads(arguments[0]) if arguments else {}
    except json.JSONDecodeError as error:
        raise UsageError(f"OPTIONS must be one JSON object, got {arguments[0]!r}: {error}") from error
    if not isinstance(options, dict) or not options.keys() <= OPTIONS:
        raise UsageError(f"OPTIONS must be an object with any of {', '.join(sorted(OPTIONS))}; got {arguments}")
    return options
