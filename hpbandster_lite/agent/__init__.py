"""The agent: the half of a worker that leases evaluations from the master, runs a trainer, and reports results.

Law of this room: one thread and one loop; only a call of the master, which has a deadline, holds the loop up. Each
lease ends in a report or a release, or expires with this process.

:mod:`~hpbandster_lite.agent.options` configures an agent, and :mod:`~hpbandster_lite.agent.loop` runs its parts:
:mod:`~hpbandster_lite.agent.trainer_keeper` starts and restarts the trainer,
:mod:`~hpbandster_lite.agent.held_evaluations` has what is leased, each an :mod:`~hpbandster_lite.agent.assignment`, as
many at a time as :mod:`~hpbandster_lite.agent.pace` allows, :mod:`~hpbandster_lite.agent.running_evaluation` runs one
of them, :mod:`~hpbandster_lite.agent.lease_ends` puts its report or release into the outbox,
:mod:`~hpbandster_lite.agent.conversation` sends to the master what :mod:`~hpbandster_lite.agent.outbox` holds, over
:mod:`~hpbandster_lite.agent.master_link`, and :mod:`~hpbandster_lite.agent.departure` ends the agent, for one when
:mod:`~hpbandster_lite.agent.interrupts` reports a signal, and :mod:`~hpbandster_lite.agent.signal_senders` its sender.
:mod:`~hpbandster_lite.agent.attempt_directories` names the directories that attempts write to.
"""
