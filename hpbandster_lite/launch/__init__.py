"""A whole search on this machine: its processes, started, supervised and ended in order."""

from hpbandster_lite.launch.local_search import LaunchOptions, LocalSearch, Watcher, is_over, search_here

__all__ = ["LaunchOptions", "LocalSearch", "Watcher", "is_over", "search_here"]
