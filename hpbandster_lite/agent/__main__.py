"""``python -m hpbandster_lite.agent OPTIONS``: an agent with options as one JSON record."""

import json
import logging
import sys

from hpbandster_lite import wire
from hpbandster_lite.agent import AgentOptions, run_agent

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    sys.exit(run_agent(wire.from_message(json.loads(sys.argv[1]), AgentOptions)))
