"""A whole search on this machine: its processes, started, supervised and ended in order."""
