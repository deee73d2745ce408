"""Records in a pipe to which several processes write: records stay whole, and other bytes are ignored.

Law of this file: one call writes a frame, which is at most as long as a pipe accepts at once, so that frames of threads
and child processes never mix. A longer record consists of several frames with the same token. The trainer runs user
code, which may write anything to any descriptor: bytes that are not part of a frame are counted and ignored.
"""

from __future__ import annotations

import os
import secrets
import select
from collections.abc import Iterator

from hpbandster_lite import wire
from hpbandster_lite.errors import ProtocolMismatch

MARK = b"\x1e"
"""The first byte of a frame; JSON in ASCII has no control characters."""
END = b"\n"
MOST_FRAME_BYTES = min(select.PIPE_BUF, 4_096)
"""POSIX: a write of at most PIPE_BUF bytes to a pipe does not mix with others."""
_PIECE_BYTES = MOST_FRAME_BYTES - 64
"""The other 64 bytes are for the head of a part: mark, token, number, count."""
_MOST_WAITING_BYTES = 2 * wire.MAX_MESSAGE_BYTES
"""Most bytes kept of incomplete records."""
_SHOWN_BYTES = 100


def frames_of(record: object) -> list[bytes]:
    """The frames of one record, to be written in this order."""
    text = wire.encode(wire.to_message(record)).encode("ascii")
    if len(text) + 2 <= MOST_FRAME_BYTES:
        return [MARK + text + END]
    token = secrets.token_hex(8).encode("ascii")
    pieces = [text[at : at + _PIECE_BYTES] for at in range(0, len(text), _PIECE_BYTES)]
    count = len(pieces)
    return [b"%s%s %d %d %s%s" % (MARK, token, number, count, piece, END) for number, piece in enumerate(pieces)]


def write_frames(descriptor: int, frames: list[bytes]) -> None:
    """Write all frames, each by one call; wait while the pipe is full."""
    for frame in frames:
        rest = frame
        while rest:
            rest = rest[_write(descriptor, rest) :]


def _write(descriptor: int, data: bytes) -> int:
    try:
        return os.write(descriptor, data)
    except BlockingIOError:
        # The objective has made the descriptor non-blocking. A frame is then written completely or not at all.
        select.select([], [descriptor], [])
        return 0


def write_line(descriptor: int, line: bytes) -> None:
    """Write a whole line to a blocking descriptor without other writers."""
    rest = memoryview(line)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class FrameReader:
    """Collects bytes until records are complete, in limited memory, because the input may be anything."""

    def __init__(self) -> None:
        self._rest = b""
        self._parts: dict[bytes, list[bytes]] = {}
        self._waiting_bytes = 0
        self._stray_bytes = 0
        self._stray = b""

    def records(self, data: bytes) -> Iterator[object]:
        """The records that these bytes complete."""
        *lines, self._rest = (self._rest + data).split(END)
        for line in lines:
            stray, _, frame = line.rpartition(MARK)
            if len(stray) + len(frame) < len(line):
                self._set_aside(stray)
                yield from self._read(frame)
            else:
                self._set_aside(line)
        if len(self._rest) > MOST_FRAME_BYTES:
            # This is too long for a frame, but its last bytes may begin one.
            begins = self._rest.rfind(MARK, -MOST_FRAME_BYTES)
            keeps = len(self._rest) if begins < 0 else begins
            self._set_aside(self._rest[:keeps])
            self._rest = self._rest[keeps:]

    def end_of_order(self) -> None:
        """Drop incomplete records, because their writer has ended."""
        for token in list(self._parts):
            self._drop(token)

    def take_stray(self) -> str | None:
        """Number and beginning of the bytes ignored since the last call, as text; None if there are none."""
        if not self._stray_bytes:
            return None
        shown = f"{self._stray_bytes:,} bytes, which begin with {self._stray!r}"
        self._stray, self._stray_bytes = b"", 0
        return shown

    def _read(self, frame: bytes) -> Iterator[object]:
        text = frame if frame.startswith(b"{") else self._joined(frame)
        if text is None:
            return
        try:
            record = wire.from_message(wire.decode(text.decode("ascii", errors="replace")))
        except ProtocolMismatch:
            self._set_aside(text)
            return
        yield record

    def _joined(self, frame: bytes) -> bytes | None:
        """The text of the record that this part completes; None if it is not the last part."""
        head = frame.split(b" ", 3)
        if len(head) != 4 or not (head[1].isdigit() and head[2].isdigit()):
            self._set_aside(frame)
            return None
        token, number, count, piece = head[0], int(head[1]), int(head[2]), head[3]
        parts = self._parts.setdefault(token, [])
        if number != len(parts):
            self._drop(token)
            self._set_aside(frame)
            return None
        parts.append(piece)
        self._waiting_bytes += len(piece)
        if number == count - 1:
            del self._parts[token]
            self._waiting_bytes -= sum(map(len, parts))
            return b"".join(parts)
        while self._waiting_bytes > _MOST_WAITING_BYTES:
            self._drop(next(iter(self._parts)))
        return None

    def _drop(self, token: bytes) -> None:
        dropped = b"".join(self._parts.pop(token))
        self._waiting_bytes -= len(dropped)
        self._set_aside(dropped)

    def _set_aside(self, data: bytes) -> None:
        if not self._stray_bytes:
            self._stray = data[:_SHOWN_BYTES]
        self._stray_bytes += len(data)
