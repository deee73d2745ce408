"""The only room that imports Pyro4: a server that no peer can block, its client, and the name server.

Law of this room: Pyro4 stays inside. Input is checked; output is a plain value or an error of this package. The room
itself names what clients need; a process that serves imports the server from its file.

Server side: :mod:`~hpbandster_lite.transport.server` is the event loop,
:mod:`~hpbandster_lite.transport.connection` one peer, :mod:`~hpbandster_lite.transport.tls` adds TLS to it,
:mod:`~hpbandster_lite.transport.pyro_daemon` wraps Pyro4.
Client side: :mod:`~hpbandster_lite.transport.client`, :mod:`~hpbandster_lite.transport.deadline_socket`,
:mod:`~hpbandster_lite.transport.retry`. Both: :mod:`~hpbandster_lite.transport.payloads` and
:mod:`~hpbandster_lite.transport.message_codec`, the contents and the bytes of messages;
:mod:`~hpbandster_lite.transport.sockets` and :mod:`~hpbandster_lite.transport.network_interfaces`.
The name server: :mod:`~hpbandster_lite.transport.name_registry` has its rules,
:mod:`~hpbandster_lite.transport.name_server` serves it, :mod:`~hpbandster_lite.transport.name_server_client` calls it.
"""

from hpbandster_lite.transport.client import Client
from hpbandster_lite.transport.connection import Bounds
from hpbandster_lite.transport.name_registry import Endpoint, run_name
from hpbandster_lite.transport.name_server_client import NameServerClient
from hpbandster_lite.transport.payloads import PROTOCOL, Busy, Call, NameTaken, OtherVersion
from hpbandster_lite.transport.retry import Retry

__all__ = [
    "PROTOCOL",
    "Bounds",
    "Busy",
    "Call",
    "Client",
    "Endpoint",
    "NameServerClient",
    "NameTaken",
    "OtherVersion",
    "Retry",
    "run_name",
]
