"""``certs``: certificates for a master, a name server and their workers."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from hpbandster_lite.access.certificate_authority import DEFAULT_DAYS, make_certificates


def certs(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="Where they are kept: [b]RUN/tls[/], where everybody who sees the run directory finds them, or any "
            "other folder, for --tls.",
            show_default=False,
        ),
    ],
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            metavar="NAME_OR_ADDRESS",
            help="A name or an address by which workers call the master or the name server; may be given more than "
            "once. Those of loopback are always among them.",
            show_default=False,
        ),
    ] = None,
    days: Annotated[
        int, typer.Option("--days", metavar="N", help="How long the certificates are valid.")
    ] = DEFAULT_DAYS,
) -> None:
    """Make certificates for TLS: an authority of your own, one certificate for who listens, one for who calls.

    Master and name server then talk to nobody who has no certificate of this authority, and all that is said is
    encrypted. Give the same folder to all of them. A machine that only runs workers needs ca.pem, client.pem and
    client.key alone; ca.key is needed by this command alone, and belongs on no other machine.

    Run it again to renew them, or for other hosts: the authority stays, and certificates that were handed out with it.
    """
    made = make_certificates(directory, host or [], days=days, now=datetime.now(timezone.utc))
    until = f"{made.expires_at('server'):%Y-%m-%d}"
    typer.echo(f"certificates for {', '.join(made.hosts())}, valid until {until}, in {directory}")
    if directory.name != "tls":
        typer.echo(f"give them to master, name server and workers with --tls {directory}")
