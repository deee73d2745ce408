"""``python -m hpbandster_lite.agent OPTIONS``: an agent with options as one JSON record.

``-`` reads them from standard input, see :mod:`hpbandster_lite.process.startup`.
"""

import json
import sys

from hpbandster_lite import wire
from hpbandster_lite.agent.loop import run_agent
from hpbandster_lite.agent.options import AgentOptions
from hpbandster_lite.process.log_format import log_to_stderr
from hpbandster_lite.process.shutdown import exit_now
from hpbandster_lite.process.startup import READ_BRIEFING, read_briefing
from hpbandster_lite.process.streams import make_usable

if __name__ == "__main__":
    make_usable()
    log_to_stderr()
    briefing = read_briefing() if sys.argv[1] == READ_BRIEFING else json.loads(sys.argv[1])
    exit_now(0 if briefing is None else run_agent(wire.from_message(briefing, AgentOptions), is_alone=True))
