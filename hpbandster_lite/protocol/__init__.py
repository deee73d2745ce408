"""The messages of the service, as records: between agents, users and the master, and the status."""
