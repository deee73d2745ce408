"""Where a master serves, and how; the launcher sends it to the process.

Law of this file: values only; a launcher imports it without the engine, the journal and numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from hpbandster_lite import wire
from hpbandster_lite.access.listening import LOOPBACK
from hpbandster_lite.records import Plain
from hpbandster_lite.records.decorator import record
from hpbandster_lite.settings.prepare import Prepared


@wire.register("MasterOptions")
@record(frozen=True, slots=True, kw_only=True)
class MasterOptions:
    """Where a master serves; ``lifeline`` is a file descriptor whose end of file ends the master.

    ``interface`` takes the place of ``host``; ``tls`` is a folder with certificates, default: the run directory's.
    ``key`` is a file with the run's key, which the run directory then holds as well; ``None`` takes or makes that one.
    ``news`` is a file descriptor for what the launcher must know (:mod:`hpbandster_lite.master.news`).
    ``grace_s`` is that of the workers whose launcher started this master.
    ``command_options`` are options of the command that started the search, for the search file in the run directory.
    """

    run_directory: str
    prepared: Prepared
    host: str = LOOPBACK
    interface: str | None = None
    port: int = 0
    tls: str | None = None
    key: str | None = None
    nameserver: tuple[str, int] | None = None
    nameserver_key: str | None = None
    keep_checkpoints: str = "needed"
    checkpoint_quota: int | str | None = None
    grace_s: float = 20.0
    lifeline: int | None = None
    news: int | None = None
    command_options: Mapping[str, Plain] = field(default_factory=dict)
