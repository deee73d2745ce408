"""Trainings outside a search: a dry run, a refit, and the test of the incumbent."""
