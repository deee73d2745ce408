"""The problems that ship with the product; each is found by its entry point in setup.cfg."""
