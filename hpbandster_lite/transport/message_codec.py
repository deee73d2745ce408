"""Encodes and decodes the two frequent messages, a call and its answer, without Pyro4's objects.

Law of this file: pure functions of bytes, in Pyro4's message format (release 4.82), only for the calls of this
package's client and their answers: flags 0, JSON, and no annotation except the signature. For any other message, also
with a wrong signature, the result is ``None``, and Pyro4 reads the message. Why:
docs/decisions/0005-calls-past-pyro4.md.
"""

from __future__ import annotations

import hmac
import json
import struct
from typing import NamedTuple

from Pyro4 import constants
from Pyro4.message import MSG_INVOKE, MSG_RESULT, Message

from hpbandster_lite import wire
from hpbandster_lite.records import Plain
from hpbandster_lite.transport.payloads import CALL_METHOD, JSON_ID

_HEADER = struct.Struct(Message.header_format)
_CHUNK = struct.Struct("!4sH")
_SIGNATURE = _CHUNK.pack(b"HMAC", 20)
_DIGEST = "sha1"
"""Pyro4's choice; HMAC-SHA1 has no known weakness."""
HEADER_BYTES = _HEADER.size


class DirectCall(NamedTuple):
    """A call with a valid signature: its sequence number and parameters."""

    sequence: int
    params: list[Plain]


def read_call(message: bytes, object_id: str, key: bytes | None) -> DirectCall | None:
    """Decode a call that this package's client wrote; None for any other message.

    Parameters
    ----------
    message
        One complete message.
    object_id
        The object that the call must name.
    key
        HMAC key; ``None`` for messages without a signature.
    """
    decoded = _decoded(message, MSG_INVOKE, key)
    if decoded is None:
        return None
    sequence, call = decoded
    match call:
        case {"object": str(to), "method": str(method), "params": [_, _, _, _] as params, "kwargs": dict(kwargs)}:
            if to == object_id and method == CALL_METHOD and not kwargs and len(call) == 4:
                return DirectCall(sequence, params)
        case _:
            pass
    return None


def write_call(sequence: int, object_id: str, params: list[Plain], key: bytes | None) -> bytes:
    """Encode a call."""
    call = {"object": object_id, "method": CALL_METHOD, "params": params, "kwargs": {}}
    return _encoded(MSG_INVOKE, sequence, call, key)


def write_result(sequence: int, answer: Plain, key: bytes | None) -> bytes:
    """Encode the answer to a call."""
    return _encoded(MSG_RESULT, sequence, answer, key)


class Answer(NamedTuple):
    """The content of an answer with a valid signature."""

    content: Plain


def read_result(message: bytes, key: bytes | None) -> Answer | None:
    """Decode an answer that this package's server wrote; None for any other message."""
    decoded = _decoded(message, MSG_RESULT, key)
    return None if decoded is None else Answer(decoded[1])


def bytes_behind(header: bytes) -> int | None:
    """Number of bytes after this header of an answer; None if this package's server did not write it."""
    tag, version, kind, flags, sequence, size, serializer, annotations, _, checksum = _HEADER.unpack(header)
    if (tag, version, kind, flags, serializer) != (b"PYRO", constants.PROTOCOL_VERSION, MSG_RESULT, 0, JSON_ID):
        return None
    is_whole = size >= 0 and checksum == _checksum(kind, sequence, size, annotations)
    return int(size + annotations) if is_whole else None


def _encoded(kind: int, sequence: int, content: Plain, key: bytes | None) -> bytes:
    data = wire.json_of(content).encode("ascii")
    signature = b"" if key is None else _SIGNATURE + hmac.digest(key, data, _DIGEST)
    checksum = _checksum(kind, sequence, len(data), len(signature))
    version = constants.PROTOCOL_VERSION
    header = _HEADER.pack(b"PYRO", version, kind, 0, sequence, len(data), JSON_ID, len(signature), 0, checksum)
    return header + signature + data


def _decoded(message: bytes, kind: int, key: bytes | None) -> tuple[int, Plain] | None:
    """Sequence number and content of a message of this kind, if its header and signature are valid."""
    *what, sequence, size, serializer, annotations, _, checksum = _HEADER.unpack_from(message)
    begin = HEADER_BYTES + (len(_SIGNATURE) + 20 if key is not None else 0)
    if what != [b"PYRO", constants.PROTOCOL_VERSION, kind, 0] or serializer != JSON_ID:
        return None
    if HEADER_BYTES + annotations != begin or len(message) != begin + size:
        return None
    if checksum != _checksum(kind, sequence, size, annotations):
        return None
    data = message[begin:]
    if key is not None:
        head, signature = message[HEADER_BYTES : begin - 20], message[begin - 20 : begin]
        if head != _SIGNATURE or not hmac.compare_digest(signature, hmac.digest(key, data, _DIGEST)):
            return None
    try:
        return sequence, json.loads(str(data, "ascii"))
    except (ValueError, RecursionError):
        return None


def _checksum(kind: int, sequence: int, size: int, annotations: int) -> int:
    """Pyro4's checksum of the header's fields, for a message without flags."""
    version: int = constants.PROTOCOL_VERSION
    magic: int = Message.checksum_magic
    return (kind + version + size + annotations + JSON_ID + sequence + magic) & 0xFFFF
