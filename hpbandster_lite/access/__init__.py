"""Access to a server: certificates and keys for TLS, and the addresses where it listens."""
