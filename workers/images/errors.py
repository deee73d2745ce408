"""The one error of this room.

Law of this file: no other error leaves the room on purpose, and each names the file or the argument, what is wrong with
it, and what to do.
"""

from __future__ import annotations

from hpbandster_lite.errors import UsageError


class ImageDataError(UsageError):
    """Images that cannot be had, are damaged, or do not fit what is asked of them."""
