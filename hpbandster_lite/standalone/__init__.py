"""Trainings outside a search: a dry run, a refit, and the test of the incumbent.

Law of this room: no master, no lease and no entry of a journal: a training here changes nothing in a search.
"""
