"""Access to a server: certificates and keys for TLS, and the addresses where it listens.

Law of this room: it prepares what a server needs and opens no connection. Only their owner can read private keys.
"""
