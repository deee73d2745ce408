"""A whole search on this machine: its processes, started, supervised and ended in order.

Law of this room: it starts, supervises and ends processes, and decides nothing about the search.
"""
