"""``nameserver``: where workers find the masters of runs by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpbandster_lite.cli.options import takes_options
from hpbandster_lite.nameserver import DEFAULT_PORT, serve
from hpbandster_lite.process.log_format import write_line
from hpbandster_lite.rundir import ensure_key_file
from hpbandster_lite.settings.options import Group, ListenOptions, LogOptions, TlsOptions


@takes_options
def nameserver(
    listen: ListenOptions,
    certificates: TlsOptions,
    logs: LogOptions,
    key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            envvar="HPBANDSTER_LITE_NAMESERVER_KEY_FILE",
            help="File with the key; a new file gets a new key. "
            "[dim]\\[default: nameserver.key in the user's configuration directory][/]",
            rich_help_panel=Group.SERVICE.title,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve names: workers look up the address of each run's master here.

    One name server serves many runs and may be restarted at any time: the masters register themselves again. Masters
    and workers need its address (--nameserver) and its key (--nameserver-key).
    """
    file = key or Path(typer.get_app_dir("hpbandster-lite")) / "nameserver.key"
    secret = ensure_key_file(file)
    write_line(f"the key of this name server: {file}")
    port = DEFAULT_PORT if listen.port is None else listen.port
    serve(listen.host, port, secret, interface=listen.interface, tls=certificates.tls)
