"""The master: the process that owns a search, decides for all workers, and keeps the journal.

Law of this room: every turn is read, decide, apply in memory, one commit, then all answers. Nothing here waits for a
peer; the only thread beside it keeps the entry at the name server and touches neither engine nor journal.

:mod:`~hpbandster_lite.master.calls` answers the calls, :mod:`~hpbandster_lite.master.turns` says when what is done,
and :mod:`~hpbandster_lite.master.serving` is the process around them.
"""

from hpbandster_lite.master.calls import Master, wall_clock
from hpbandster_lite.master.serving import MasterOptions, connect, resumed, run_master
from hpbandster_lite.master.turns import Turns

__all__ = ["Master", "MasterOptions", "Turns", "connect", "resumed", "run_master", "wall_clock"]
