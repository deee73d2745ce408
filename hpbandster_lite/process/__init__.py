"""What every process of a search needs around its work: environment, devices, start, end, and log lines."""
