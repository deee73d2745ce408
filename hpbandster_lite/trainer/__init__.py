"""The trainer: a process that runs the objective, warm from one evaluation to the next, and whose death is survived.

Law of this room: ``python -m hpbandster_lite.trainer`` is the child; it talks over its own pipes, never over stdout,
and nobody but its agent hears it. :mod:`~hpbandster_lite.trainer.evaluating` turns what an objective does into an
outcome, :mod:`~hpbandster_lite.trainer.child` is the process around it; :mod:`~hpbandster_lite.trainer.process` is the
agent's handle on that process, :mod:`~hpbandster_lite.trainer.inline` the same without a process, and
:mod:`~hpbandster_lite.trainer.verdict` says what the death of one means.
"""
