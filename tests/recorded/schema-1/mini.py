"""A script that minimizes one function; ``python mini.py`` goes on with its search."""

from typing import Any

from ConfigSpace import ConfigurationSpace, Float

import hpbandster_lite


def objective(config: dict[str, Any], budget: float, trial: Any) -> float:
    return float((config["x"] - 0.3) ** 2 + 1 / budget)


if __name__ == "__main__":
    space = ConfigurationSpace()
    space.add(Float("x", (0.0, 1.0)))
    print(
        hpbandster_lite.minimize(
            objective, space, min_budget=1, max_budget=9, evaluations=12, seed=7, workers=1, run_dir="runs/minimize",
            accept_edited_source=True,
        )
    )
