"""Training under a budget: clock, schedule, checkpoints, faults and the loop."""
