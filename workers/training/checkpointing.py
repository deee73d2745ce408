"""Checkpoints on disk: complete or absent.

Law of this file: a process that is killed while it saves leaves the earlier checkpoint as it was, and a checkpoint
holds numbers and tensors, never code.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch

from hpbandster_lite.problems.trial import Trial

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
        If it cannot be written, with ``ENOSPC`` if the disk is full.
    """
    write_torch(directory / FILE_NAME, state)


def write_torch(file: Path, content: object) -> None:
    """Write what :func:`torch.save` makes of an object, whole or not at all.

    Raises
    ------
    OSError
        As :func:`save_checkpoint`.
    """
    written = file.with_suffix(".tmp")
    # To memory first: on a full disk torch's own writer may fail with a message about file positions, not with ENOSPC.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    try:
        with written.open("wb") as stream:
            stream.write(buffer.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        # A part of a checkpoint takes space and is of no use.
        written.unlink(missing_ok=True)
        raise
    written.replace(file)


def load_checkpoint(directory: Path | None, device: str) -> dict[str, Any] | None:
    """The state that :func:`save_checkpoint` wrote; ``None`` without a directory or without a checkpoint in it."""
    if directory is None or not (directory / FILE_NAME).exists():
        return None
    state: dict[str, Any] = torch.load(directory / FILE_NAME, map_location=device, weights_only=True)
    return state


def load_latest(trial: Trial, device: str) -> dict[str, Any] | None:
    """The checkpoint of an earlier attempt of this evaluation, else of the rung below, else ``None``."""
    return load_checkpoint(trial.resume_directory, device) or load_checkpoint(trial.previous_directory, device)
