"""Checkpoints on disk: complete or not there at all.

Law of this file: whoever is killed while it saves leaves the earlier checkpoint as it was, and what is loaded can hold
numbers and tensors, never code.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch

FILE_NAME = "checkpoint.pt"


def save_checkpoint(directory: Path, state: dict[str, Any]) -> None:
    """Write under another name, sync, rename; on a full disk the earlier checkpoint stays.

    Parameters
    ----------
    directory
        An existing directory, usually ``trial.directory``.
    state
        Tensors, numbers, strings, and lists and dicts of these.

    Raises
    ------
    OSError
        If it cannot be written, with ``ENOSPC`` where the disk is full.
    """
    write_torch(directory / FILE_NAME, state)


def write_torch(file: Path, told: object) -> None:
    """Write what torch saves to a file, whole or not at all.

    Raises
    ------
    OSError
        As :func:`save_checkpoint`.
    """
    written = file.with_suffix(".tmp")
    # To memory first: on a full disk torch's own writer may end with words on positions in a file, not with ENOSPC.
    content = io.BytesIO()
    torch.save(told, content)
    try:
        with written.open("wb") as stream:
            stream.write(content.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        # What is there of it takes room and helps nobody.
        written.unlink(missing_ok=True)
        raise
    written.replace(file)


def load_checkpoint(directory: Path | None, device: str) -> dict[str, Any] | None:
    """The state that :func:`save_checkpoint` wrote; ``None`` without a directory or without a checkpoint in it."""
    if directory is None or not (directory / FILE_NAME).exists():
        return None
    state: dict[str, Any] = torch.load(directory / FILE_NAME, map_location=device, weights_only=True)
    return state
