"""Invalid inputs for the transport: a real server on loopback, with or without TLS, and malformed or hostile messages.

Law: for any input, a turn of the loop raises nothing and ends quickly, the server executes only calls that an honest
client sent with the key, and it answers an honest client at the same time. Likewise a client that receives any answer
returns an answer or raises one of our errors. ``run`` is a function of its seed, which the message of a failure has.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from Pyro4 import message as pyro
from Pyro4.message import Message

from hpbandster_lite.access.certificates import Certificates
from hpbandster_lite.errors import SearchError
from hpbandster_lite.transport import PROTOCOL, Bounds, Call, Client, payloads
from hpbandster_lite.transport.message_codec import write_call
from hpbandster_lite.transport.server import Server
from tests.fuzz.mutations import SIZES, changed_value, mutated, odd_value

KEY = b"the key of a search that is attacked"
OBJECT = "master"
BATCH = 40
LONGEST_TURN_S = 5.0
"""For a machine with other load; a turn takes milliseconds."""
KINDS = (
    *(pyro.MSG_CONNECT, pyro.MSG_CONNECTOK, pyro.MSG_CONNECTFAIL),
    *(pyro.MSG_INVOKE, pyro.MSG_RESULT, pyro.MSG_PING, 99),
)


class Attacked:
    """A server, an honest client, and hostile clients."""

    def __init__(self, certificates: Certificates | None) -> None:
        self.certificates = certificates
        tls = None if certificates is None else certificates.server_context()
        bounds = Bounds(greeting_s=0.5, message_s=0.5)
        self.server = Server("127.0.0.1", 0, KEY, object_id=OBJECT, handle=self._handle, bounds=bounds, tls=tls)
        self.honest = 0
        self.carried_out: list[Call] = []
        self._client_tls = None if certificates is None else certificates.client_context()

    def _handle(self, call: Call) -> str:
        self.carried_out.append(call)
        return call.text

    def turn(self) -> None:
        began = time.monotonic()
        self.server.turn(0, commit=lambda: True)
        assert time.monotonic() - began < LONGEST_TURN_S, "a turn took too long"

    def attack(self, inputs: list[bytes], rng: random.Random) -> None:
        """Send each input on a separate connection, in pieces, between turns of the loop."""
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(socket.create_connection(self.server.endpoint)) for _ in inputs]
            for _ in range(3):
                self.turn()
            for peer, data in zip(peers, inputs, strict=True):
                peer.setblocking(False)
                cut = rng.randrange(len(data) + 1)
                for piece in (data[:cut], data[cut:]):
                    with contextlib.suppress(OSError):
                        peer.send(piece)
                    if rng.random() < 0.2:
                        self.turn()
            for _ in range(4):
                self.turn()
        for _ in range(4):
            self.turn()
        assert not self.carried_out, f"carried out: {self.carried_out[:1]!r:.500}"

    def signed(self, texts: list[tuple[int, bytes]]) -> None:
        """Send invalid calls signed with the key; the server may execute these, and nothing else."""
        with socket.create_connection(self.server.endpoint) as peer:
            peer.setblocking(False)
            for kind, data in texts:
                with contextlib.suppress(OSError):
                    peer.send(Message(kind, data, 2, 0, 1, hmac_key=KEY).to_bytes())
                self.turn()
            with contextlib.suppress(OSError):
                peer.recv(65_536)
        self.turn()
        self.carried_out.clear()

    def check_honest(self) -> None:
        """Check that an honest client gets its answer."""
        self.honest += 1
        answers: list[object] = []
        port = self.server.endpoint[1]

        def call() -> None:
            with Client("127.0.0.1", port, OBJECT, KEY, timeout_s=20.0, tls=self._client_tls) as client:
                answers.append(client.call("report", self.honest))

        thread = threading.Thread(target=call)
        thread.start()
        deadline = time.monotonic() + 20.0
        while thread.is_alive() and time.monotonic() < deadline:
            self.server.turn(0.01, commit=lambda: True)
        thread.join()
        assert answers == [self.honest]
        self.carried_out.clear()


def greeting() -> bytes:
    handshake = payloads.write_greeting(PROTOCOL, "client nonce", {"role": "fuzz"})
    return json.dumps({"handshake": handshake, "object": OBJECT}).encode()


def honest_bytes() -> list[bytes]:
    """Messages of honest clients and servers, with the key."""
    made: list[bytes] = [Message(pyro.MSG_CONNECT, greeting(), 2, 0, 1, hmac_key=KEY).to_bytes()]
    made.append(made[0] + write_call(1, OBJECT, ["nonce", 1, "report", "{}"], KEY))
    made.append(write_call(1, OBJECT, ["nonce", 1, "report", "{}"], KEY))
    made.append(Message(pyro.MSG_PING, b"ping", 2, 0, 1, hmac_key=KEY).to_bytes())
    return made


def client_hello(certificates: Certificates) -> bytes:
    outgoing = ssl.MemoryBIO()
    talking = certificates.client_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
    with contextlib.suppress(ssl.SSLWantReadError):
        talking.do_handshake()
    return outgoing.read()


def stranger_input(honest: list[bytes], rng: random.Random) -> bytes:
    """Input of a peer without the key: garbage, changed honest bytes, headers with wrong fields."""
    match rng.randrange(6):
        case 0:
            return rng.randbytes(rng.choice((0, 1, 5, 24, 100, 1_000)))
        case 1:
            kind, flags = rng.choice(KINDS), rng.choice((0, 1, 2, 4, 8, 1 << rng.randrange(16)))
            return bytes(Message(kind, rng.randbytes(60), rng.randrange(6), flags, 1, hmac_key=b"guessed").to_bytes())
        case 2:
            from tests.service.transport_peer import header

            size = rng.choice(SIZES) & 0x7FFF_FFFF
            lied = header(rng.choice(KINDS), size, rng.choice((0, 6, 26, 2**15)), rng.choice((0, 0, 2**9)))
            return lied + rng.randbytes(rng.randint(0, 300))
        case 3:
            data = json.dumps(changed_value(json.loads(greeting()), rng)).encode()
            return bytes(Message(pyro.MSG_CONNECT, data, 2, 0, 1, hmac_key=b"guessed").to_bytes())
        case _:
            return mutated(rng.choice(honest), rng)


def signed_inputs(rng: random.Random) -> list[tuple[int, bytes]]:
    """Input of a peer with the key that uses another protocol."""
    first = greeting() if rng.random() < 0.7 else json.dumps(changed_value(json.loads(greeting()), rng)).encode()
    call = {"object": OBJECT, "method": "call", "params": ["nonce", 1, "m", "{}"], "kwargs": {}}
    payload = json.dumps(changed_value(call, rng) if rng.random() < 0.8 else odd_value(rng)).encode()
    payload = mutated(payload, rng) if rng.random() < 0.3 else payload
    return [(pyro.MSG_CONNECT, first), (rng.choice(KINDS[:6]), payload)]


@contextlib.contextmanager
def attacked(certificates: Certificates | None) -> Iterator[Attacked]:
    made = Attacked(certificates)
    with made.server:
        yield made


def run(inputs: int, seed: int, certificates: Certificates | None) -> int:
    """Attack a server with this number of inputs; return the number."""
    rng = random.Random(seed)
    honest = honest_bytes() if certificates is None else [*honest_bytes(), *[client_hello(certificates)] * 4]
    count = 0
    with attacked(certificates) as scene:
        while count < inputs:
            scene.attack([stranger_input(honest, rng) for _ in range(BATCH)], rng)
            count += BATCH
            if certificates is None:
                for _ in range(8):
                    scene.signed(signed_inputs(rng))
                    count += 1
            if count % 2_000 < BATCH + 8:
                scene.check_honest()
        scene.check_honest()
    return count


class Impostor:
    """A server that sends a given answer and closes the connection; a context manager."""

    def __init__(self) -> None:
        self.answer = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._is_over = False
        self._thread = threading.Thread(target=self._serve, name="impostor")
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Impostor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        socket.create_connection(("127.0.0.1", self.port)).close()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._is_over:
            peer, _ = self._listener.accept()
            with peer, contextlib.suppress(OSError):
                peer.recv(65_536)
                peer.sendall(self.answer)


def run_client(inputs: int, seed: int) -> int:
    """Let a client call a server that answers arbitrary bytes; return the number of answers."""
    rng = random.Random(seed)
    welcome = {"protocol": PROTOCOL, "echo": "client nonce", "nonce": "n", "welcome": "{}"}
    with Impostor() as impostor:
        for _ in range(inputs):
            payload = json.dumps(changed_value(welcome, rng) if rng.random() < 0.7 else odd_value(rng)).encode()
            kind = rng.choice((pyro.MSG_CONNECTOK, pyro.MSG_CONNECTFAIL, pyro.MSG_RESULT, 99))
            key = KEY if rng.random() < 0.8 else b"guessed"
            answer = bytes(Message(kind, payload, rng.choice((2, 2, 2, 1, 3, 4)), 0, 1, hmac_key=key).to_bytes())
            impostor.answer = mutated(answer, rng) if rng.random() < 0.5 else answer
            with (
                contextlib.suppress(SearchError),
                Client("127.0.0.1", impostor.port, OBJECT, KEY, timeout_s=5.0) as client,
            ):
                client.call("report", 1)
                raise AssertionError(f"seed {seed}: a forged answer was accepted: {impostor.answer!r}")
    return inputs


def certificates_in(path: Path) -> Certificates:
    from datetime import datetime, timezone

    from hpbandster_lite.access.certificate_authority import make_certificates

    return make_certificates(path, [], now=datetime.now(timezone.utc))
