"""What a search found, read from its run directory."""
