"""Workers of this machine for a master that runs elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.launch.children import wait_for_end
from hpbandster_lite.launch.supervisor import POLL_S, Supervisor
from hpbandster_lite.process.shutdown import INTERRUPTED, REQUEUE


class LocalWorkers(Supervisor):
    """The agents of this machine, supervised until they end."""

    def run(self, options_of_agents: Sequence[AgentOptions]) -> int:
        """Run agents to their end.

        Returns
        -------
        int
            130 where they were interrupted, else the highest of their exit codes; 75 (start them again in the next
            allocation) only if no agent ended with a worse one.
        """
        self._handle_signals()
        self._grace_s = max(each.grace_s for each in options_of_agents)
        self._agents = [self._start_agent(each.index) for each in options_of_agents]
        self._brief_agents(options_of_agents, None)
        all_ended = False
        while not all_ended:
            if self._is_end_requested:
                self._end_all()
                return INTERRUPTED if self._interrupts else self._code()
            # Before and after: an agent that ends meanwhile is handled in the next round, a restarted one is awaited.
            had_ended = not any(agent.alive for agent in self._agents)
            self._restart_agents_that_died()
            self._note_stopped()
            all_ended = had_ended and not any(agent.alive for agent in self._agents)
            if not all_ended:
                wait_for_end(self._agents, POLL_S)
        return self._code()

    def _code(self) -> int:
        codes = [agent.returncode or 0 for agent in self._agents]
        worse = [code for code in codes if code > 0 and code != REQUEUE]
        # An agent that had to be killed has not handed its evaluation back; the evaluation is run again.
        return max(worse, default=REQUEUE if any(codes) else 0)
