"""The whole search as a pure state machine: requests in, decisions and journal entries out.

Law of this room: no clock, no files, no threads; the same entries give the same state, and the same state the same next
decision.

:mod:`~hpbandster_lite.engine.engine` answers requests and commands, :mod:`~hpbandster_lite.engine.decisions` says what
is next, :mod:`~hpbandster_lite.engine.commands` what a user's command does, :mod:`~hpbandster_lite.engine.limits` what
ends a search, :mod:`~hpbandster_lite.engine.lease_rules` what holds for a lease, and
:mod:`~hpbandster_lite.engine.grants` what an agent receives with it. :mod:`~hpbandster_lite.engine.state` is what the
journal's entries add up to, :mod:`~hpbandster_lite.engine.leases` what only a living master knows, and
:mod:`~hpbandster_lite.engine.proposing` and :mod:`~hpbandster_lite.engine.pool` ask the sampler.
:mod:`~hpbandster_lite.engine.waits`, :mod:`~hpbandster_lite.engine.hints` and :mod:`~hpbandster_lite.engine.status`
explain the search to people; :mod:`~hpbandster_lite.engine.invariants` and :mod:`~hpbandster_lite.engine.verify` check
it.
"""
