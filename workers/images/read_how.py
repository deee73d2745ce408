"""How your own pictures are read: what the options of a problem decide about it.

Law of this file: it has values alone, so that every file of the room may import it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hpbandster_lite.workers.images.picture import Aspect, Unusual


class ReadHow(NamedTuple):
    """How your own pictures are read.

    Parameters
    ----------
    size
        Height and width to which all pictures are brought. Default: ``None``; then all must have the same size.
    aspect
        How a picture of another shape is brought to the size. Default: ``"squeeze"``.
    unusual
        What happens with pictures that lose something or cannot be read; ``"auto"`` as in searches that began before
        there was a choice: they are converted, and copies are used. Default: ``"refuse"``.
    cache
        Folder for decoded pixels and for what was found. Default: ``None``, for the default folders.
    group
        Column or pattern that names the group of each picture; see :mod:`.groups`. Default: ``None``, for no groups.
    """

    size: tuple[int, int] | None = None
    aspect: Aspect = "squeeze"
    unusual: Unusual = "refuse"
    cache: Path | None = None
    group: str | None = None
