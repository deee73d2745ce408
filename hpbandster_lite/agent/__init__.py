"""The agent: a worker's half that pulls work from the master, keeps a trainer, and delivers what becomes of it.

Law of this room: one thread and one loop; nothing waits for the master or for the trainer. A lease that was given is
reported, handed back, or lost with this process, and never forgotten.

:mod:`~hpbandster_lite.agent.options` is how an agent is told what to do,
:mod:`~hpbandster_lite.agent.master_link` its line to the master, :mod:`~hpbandster_lite.agent.outbox` what it has to
say there, :mod:`~hpbandster_lite.agent.assignment` the evaluation that it holds,
:mod:`~hpbandster_lite.agent.interrupts` what tells it to end, and :mod:`~hpbandster_lite.agent.loop` brings them
together.
"""

from hpbandster_lite.agent.interrupts import END, GO_ON_LATER
from hpbandster_lite.agent.loop import run_agent
from hpbandster_lite.agent.options import AgentOptions

__all__ = ["END", "GO_ON_LATER", "AgentOptions", "run_agent"]
