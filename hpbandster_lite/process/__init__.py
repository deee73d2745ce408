"""What every process of a search needs: environment, devices, startup, shutdown, log format."""
