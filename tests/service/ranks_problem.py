"""An objective that trains with one process for each device, as on several GPUs; ``deed`` selects how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

from hpbandster_lite.problems.trial import Trial

NAMES = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


def evaluate(config: dict[str, Any], budget: float, trial: Trial) -> Any:
    variables = {name: os.environ.get(name) for name in NAMES}
    if config["deed"] == "tells":
        return {"loss": 0.0, "variables": variables, "devices": list(trial.devices)}
    ranks = [
        subprocess.Popen(
            [sys.executable, __file__, config["deed"]],
            stdout=subprocess.PIPE,
            env={**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(len(trial.devices))
    ]
    assert ranks[0].stdout is not None
    line = ranks[0].stdout.readline()
    trial.report(1, 1.0, pids=[rank.pid for rank in ranks])
    while config["deed"] == "waits" and all(rank.poll() is None for rank in ranks):
        trial.report(2, 1.0)
        time.sleep(0.05)
    codes = [rank.wait() for rank in ranks]
    if any(codes):
        raise RuntimeError(f"the processes of the training ended with {codes}")
    return {"loss": json.loads(line), "variables": variables, "pids": [rank.pid for rank in ranks]}


def train(deed: str) -> None:
    """One process of the training."""
    import torch
    from torch import distributed

    distributed.init_process_group("gloo")
    mine = torch.tensor(10.0 ** distributed.get_rank())
    distributed.all_reduce(mine)
    if distributed.get_rank() == 0:
        print(json.dumps(mine.item()), flush=True)
    elif deed == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if deed in ("is killed", "waits"):
        # It waits for the other process, which never connects.
        distributed.barrier() if distributed.get_rank() == 0 else time.sleep(600)
    distributed.destroy_process_group()


if __name__ == "__main__":
    train(sys.argv[1])
