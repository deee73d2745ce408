"""The only door to Pyro4: a server that no peer can hold up, its client, and the name server.

Law of this room: Pyro4 stays inside. What comes in is checked, what goes out is a plain value or an error of ours.

:mod:`~hpbandster_lite.transport.server` is the loop, :mod:`~hpbandster_lite.transport.connection` one peer of it,
:mod:`~hpbandster_lite.transport.tls` what TLS adds to it, :mod:`~hpbandster_lite.transport.daemon` Pyro4's side;
:mod:`~hpbandster_lite.transport.client`, :mod:`~hpbandster_lite.transport.line` and
:mod:`~hpbandster_lite.transport.retry` are the other end; :mod:`~hpbandster_lite.transport.protocol` is what both say;
:mod:`~hpbandster_lite.transport.names` is the name server; :mod:`~hpbandster_lite.transport.interfaces` knows the
addresses of this machine.
"""

from hpbandster_lite.transport.client import Client
from hpbandster_lite.transport.connection import Bounds
from hpbandster_lite.transport.interfaces import interface_addresses, offered_addresses
from hpbandster_lite.transport.names import Endpoint, NameServerClient, run_name, serve_nameserver
from hpbandster_lite.transport.protocol import PROTOCOL, Busy, Call, NameTaken
from hpbandster_lite.transport.retry import Retry
from hpbandster_lite.transport.server import Server

__all__ = [
    "PROTOCOL",
    "Bounds",
    "Busy",
    "Call",
    "Client",
    "Endpoint",
    "NameServerClient",
    "NameTaken",
    "Retry",
    "Server",
    "interface_addresses",
    "offered_addresses",
    "run_name",
    "serve_nameserver",
]
