"""The trainer: a process that runs the objective, warm from one evaluation to the next, and whose death is survived.

Law of this room: ``python -m hpbandster_lite.trainer`` is the child; it talks over its own pipes, never over stdout,
and nobody but its agent hears it. :mod:`~hpbandster_lite.trainer.evaluation` turns what an objective does into an
outcome, :mod:`~hpbandster_lite.trainer.process` is the process around it; :mod:`~hpbandster_lite.trainer.handle` is the
agent's handle on that process, :mod:`~hpbandster_lite.trainer.in_thread` the same without a process, and
:mod:`~hpbandster_lite.trainer.exit_status` says what the death of one means.
"""
