"""The one message that a server gets all day, taken apart and answered without Pyro4's objects.

Law of this file: bytes in, bytes out, in the format of Pyro4's messages (release 4.82), for exactly the call that our
own client makes: flags 0, JSON, no annotation but the signature, one object, one method. Of anything else, a wrong
signature included, it says ``None``, and Pyro4's daemon judges it. Why: docs/decisions/0005-calls-past-pyro4.md.
"""

from __future__ import annotations

import hmac
import json
import struct
from typing import NamedTuple

from Pyro4 import constants
from Pyro4.message import MSG_INVOKE, MSG_RESULT, Message

from hpbandster_lite.records import Plain
from hpbandster_lite.transport.protocol import CALL_METHOD, JSON_ID

_HEADER = struct.Struct(Message.header_format)
_CHUNK = struct.Struct("!4sH")
_SIGNATURE = _CHUNK.pack(b"HMAC", 20)
_DIGEST = "sha1"
"""Pyro4's own choice; as an HMAC it is not known to be weak."""
_CALL = (b"PYRO", constants.PROTOCOL_VERSION, MSG_INVOKE, 0)


class DirectCall(NamedTuple):
    """A call whose signature is right: its sequence number and what it carries."""

    sequence: int
    params: list[Plain]


def read_call(message: bytes, object_id: str, key: bytes | None) -> DirectCall | None:
    """The call that a complete message is, if it is one that our client writes; else None.

    Parameters
    ----------
    message
        One complete message.
    object_id
        The object that it must be for.
    key
        HMAC key; ``None`` for messages without a signature.
    """
    *what, sequence, size, serializer, annotations, _, checksum = _HEADER.unpack_from(message)
    begin = _HEADER.size + (len(_SIGNATURE) + 20 if key is not None else 0)
    if tuple(what) != _CALL or serializer != JSON_ID or _HEADER.size + annotations != begin:
        return None
    if checksum != _checksum(MSG_INVOKE, sequence, size, annotations) or len(message) != begin + size:
        return None
    data = message[begin:]
    if key is not None:
        head, signature = message[_HEADER.size : begin - 20], message[begin - 20 : begin]
        if head != _SIGNATURE or not hmac.compare_digest(signature, hmac.digest(key, data, _DIGEST)):
            return None
    try:
        call = json.loads(data)
    except (ValueError, RecursionError):
        return None
    match call:
        case {"object": str(to), "method": str(method), "params": [_, _, _, _] as params, "kwargs": dict(kwargs)}:
            if to == object_id and method == CALL_METHOD and not kwargs and len(call) == 4:
                return DirectCall(sequence, params)
        case _:
            pass
    return None


def write_result(sequence: int, answer: Plain, key: bytes | None) -> bytes:
    """The message that answers a call."""
    data = json.dumps(answer).encode("ascii")
    signature = b"" if key is None else _SIGNATURE + hmac.digest(key, data, _DIGEST)
    checksum = _checksum(MSG_RESULT, sequence, len(data), len(signature))
    version = constants.PROTOCOL_VERSION
    header = _HEADER.pack(b"PYRO", version, MSG_RESULT, 0, sequence, len(data), JSON_ID, len(signature), 0, checksum)
    return header + signature + data


def _checksum(kind: int, sequence: int, size: int, annotations: int) -> int:
    """Pyro4's sum of the header's fields, of a message without flags."""
    version: int = constants.PROTOCOL_VERSION
    magic: int = Message.checksum_magic
    return (kind + version + size + annotations + JSON_ID + sequence + magic) & 0xFFFF
