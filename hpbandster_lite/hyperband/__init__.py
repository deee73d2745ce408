"""Hyperband's arithmetic: the ladder of budgets, the sizes of brackets and rungs, and the order of results.

Law of this room: arithmetic only; no clock, no randomness, no state.
"""
