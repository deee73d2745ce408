"""The messages of the service, as records: between agents, users and the master, and the status.

Law of this room: records and pure functions of them, for both sides of a connection, which the caller makes.
"""
