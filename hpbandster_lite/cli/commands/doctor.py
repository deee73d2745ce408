"""``doctor``: what an issue report needs to know about this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from hpbandster_lite.cli.options import AsJson, path
from hpbandster_lite.cli.view.doctor import print_report
from hpbandster_lite.cli.view.terminal import console
from hpbandster_lite.doctor.report import examine

KEY_FILES = ("HPBANDSTER_LITE_KEY_FILE", "HPBANDSTER_LITE_NAMESERVER_KEY_FILE")
"""Environment variables that name files with keys."""


def doctor(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN]",
            parser=path,
            help="A run directory, which is examined too: [b]runs/digits[/], or its name, [b]digits[/].",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Examine this installation and this machine, and print what an issue report needs.

    It shows versions, cores, memory, GPUs, Slurm, the resolution of names, limits, the file system of the run directory
    with its clock and its free space, and which users can read the keys. It shows no key. Each probe has 5 seconds; the
    report names those that do not answer. What looks wrong comes first.
    """
    named = [Path(os.environ[name]) for name in KEY_FILES if os.environ.get(name)]
    own = Path(typer.get_app_dir("hpbandster-lite")) / "nameserver.key"
    report = examine(run, list(dict.fromkeys([*named, own])))
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        print_report(console(), report)
