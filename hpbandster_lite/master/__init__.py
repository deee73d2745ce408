"""The master: the process that owns a search, decides for all workers, and keeps the journal.

Law of this room: every turn is read, decide, apply in memory, one commit, then all answers. Nothing here waits for a
peer; the only other thread keeps the entry at the name server and touches neither engine nor journal.

:mod:`~hpbandster_lite.master.calls` answers the calls, :mod:`~hpbandster_lite.master.left_reports` reads what agents
left in the run directory, :mod:`~hpbandster_lite.master.turns` orders the steps of a turn,
:mod:`~hpbandster_lite.master.registration` keeps the entry at a name server, and
:mod:`~hpbandster_lite.master.serving` is the process, :mod:`~hpbandster_lite.master.options` is what it is given, and
:mod:`~hpbandster_lite.master.connection` connects a client to it.
"""
