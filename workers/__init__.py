"""The shipped problems; their entry points are in setup.cfg."""
