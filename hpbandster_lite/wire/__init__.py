"""Data that is sent to another process or stored on disk: plain values, as text or as records.

Law of this room: no pickle, no clock, no I/O. Received bytes become plain values or registered records and nothing
else.

:mod:`~hpbandster_lite.wire.values` makes values plain, :mod:`~hpbandster_lite.wire.text` writes them as one line,
:mod:`~hpbandster_lite.wire.messages` converts records to plain dicts and back with the functions of
:mod:`~hpbandster_lite.wire.generated`, and :mod:`~hpbandster_lite.wire.tags` fixes the names of the records in
:mod:`hpbandster_lite.records`.
"""

from hpbandster_lite.wire.messages import classes_by_tag, field_names, from_message, register, to_message
from hpbandster_lite.wire.tags import TAGS
from hpbandster_lite.wire.text import (
    MAX_INFO_BYTES,
    MAX_MESSAGE_BYTES,
    decode,
    decode_all,
    encode,
    json_of,
    plain_within,
)
from hpbandster_lite.wire.values import MAX_INT_BITS, MAX_MESSAGE_DEPTH, MAX_VALUE_DEPTH, plain

__all__ = [
    "MAX_INFO_BYTES",
    "MAX_INT_BITS",
    "MAX_MESSAGE_BYTES",
    "MAX_MESSAGE_DEPTH",
    "MAX_VALUE_DEPTH",
    "TAGS",
    "classes_by_tag",
    "decode",
    "decode_all",
    "encode",
    "field_names",
    "from_message",
    "json_of",
    "plain",
    "plain_within",
    "register",
    "to_message",
]
