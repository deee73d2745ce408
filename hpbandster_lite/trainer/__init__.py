"""The trainer: a process that runs the objective; it is reused for many evaluations, and the agent survives its death.

Law of this room: ``python -m hpbandster_lite.trainer`` is the child process. It communicates only with its agent, by
:mod:`~hpbandster_lite.trainer.messages` through pipes, never by stdout. :mod:`~hpbandster_lite.trainer.evaluation`
calls the objective and makes an outcome of the result; :mod:`~hpbandster_lite.trainer.process` is the process around
it.
:mod:`~hpbandster_lite.trainer.handle` is the agent's handle on that process,
:mod:`~hpbandster_lite.trainer.in_thread` a handle that needs no process, and
:mod:`~hpbandster_lite.trainer.exit_status` explains the death of a trainer.
"""
