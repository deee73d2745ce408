"""Training under a budget: clock, schedule, faults and the loop."""
