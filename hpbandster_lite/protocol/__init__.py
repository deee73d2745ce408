"""What agents and the master send each other, as records."""
