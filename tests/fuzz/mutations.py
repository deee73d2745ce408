"""Mutations of honest bytes and values, each a function of a generator alone."""

from __future__ import annotations

import random
import struct
from typing import Any

INTERESTING = (0, 1, 0x7F, 0x80, 0xFF)
SIZES = (0, 1, 24, 4_095, 4_096, 4_097, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**63, 2**200, 1.5, float("nan"), float("inf"), "", "x" * 10_000, "\0", "\x1b[2J", "\ud800"),
    *("../../etc/passwd", [], {}, [[]], [None] * 50, {"": None}, {"__class__": "os.system"}, {"$record": "Started"}),
)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A few changes to some bytes: flipped, overwritten, cut, doubled, moved."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not changed:
            changed += rng.randbytes(rng.randint(1, 40))
        at = rng.randrange(len(changed))
        match rng.randrange(7):
            case 0:
                changed[at] ^= 1 << rng.randrange(8)
            case 1:
                changed[at] = rng.choice(INTERESTING)
            case 2:
                del changed[at:]
            case 3:
                del changed[at : at + rng.randint(1, 16)]
            case 4:
                changed[at:at] = rng.randbytes(rng.randint(1, 16))
            case 5:
                changed[at:at] = changed[: rng.randint(1, len(changed))]
            case _:
                size = struct.pack("!I", rng.choice(SIZES))
                changed[at : at + 4] = size
    return bytes(changed[:200_000])


def odd_value(rng: random.Random, depth: int = 0) -> Any:
    """A value that JSON can express and that no reader expects."""
    if depth < 3 and rng.random() < 0.3:
        return [odd_value(rng, depth + 1) for _ in range(rng.randint(0, 3))]
    if depth < 3 and rng.random() < 0.2:
        return {str(number): odd_value(rng, depth + 1) for number in range(rng.randint(0, 3))}
    return rng.choice(ODD_VALUES)


def changed_value(value: Any, rng: random.Random) -> Any:
    """A JSON value in which one part is replaced, removed or renamed."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        match rng.randrange(4):
            case 0:
                return {name: each for name, each in value.items() if name != key}
            case 1:
                other = rng.choice(("", "x", "$record", key * 2))
                return {other if name == key else name: each for name, each in value.items()}
            case _:
                return {**value, key: changed_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        match rng.randrange(4):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return [*value, *value[at:]]
            case _:
                return [*value[:at], changed_value(value[at], rng), *value[at + 1 :]]
    return odd_value(rng)
