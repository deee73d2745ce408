"""``certs``: certificates for a master, a name server and their workers."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from hpbandster_lite.access.certificate_authority import DEFAULT_DAYS, make_certificates
from hpbandster_lite.cli.options import Force, path, whole_number


def certs(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            parser=path,
            help="The folder of the certificates: [b]RUN/tls[/], where all processes that see the run directory find "
            "them, or any other folder, for --tls.",
            show_default=False,
        ),
    ],
    host: Annotated[
        list[str] | None,
        typer.Option(
            "--host",
            metavar="NAME_OR_ADDRESS",
            help="A name or address by which workers reach the master or the name server; may be given more than "
            "once. The addresses of loopback are always included.",
            show_default=False,
        ),
    ] = None,
    days: Annotated[
        int,
        typer.Option("--days", metavar="N", help="How long the certificates are valid.", parser=whole_number),
    ] = DEFAULT_DAYS,
    force: Force = False,
) -> None:
    """Create certificates for TLS: a private authority, one certificate for servers and one for clients.

    Master and name server then accept only clients with a certificate of this authority, and all connections are
    encrypted. Give the same folder to master, name server and workers. A machine that only
    runs workers needs ca.pem, client.pem and client.key. Only this command needs ca.key; do not copy it to other
    machines.

    Run the command again to renew the certificates, or for other hosts: the authority stays, and its former
    certificates stay valid. Certificates and keys of other authorities are replaced only with --force.
    """
    made = make_certificates(directory, host or [], days=days, now=datetime.now(timezone.utc), force=force)
    until = f"{made.expires_at('server'):%Y-%m-%d}"
    typer.echo(f"certificates for {', '.join(made.hosts())}, valid until {until}, in {directory}")
    if directory.name != "tls":
        typer.echo(f"give them to master, name server and workers with --tls {directory}")
