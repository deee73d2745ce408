"""``fashion_mnist`` with a small data set in the same file format, whose checksums replace the published ones.

An environment variable names the folder, and the processes of a search pass it on; nothing else is changed.
"""

from __future__ import annotations

import gzip
import hashlib
import os
from dataclasses import replace
from pathlib import Path

from hpbandster_lite.workers.images.catalogue import CATALOGUE
from hpbandster_lite.workers.images.problem import fashion_mnist

FOLDER = "IMAGE_PROBLEM_FOLDER"

if FOLDER in os.environ:
    _known = CATALOGUE["fashion_mnist"]
    _sums = {}
    for _name in _known.content_md5:
        _content = gzip.decompress((Path(os.environ[FOLDER]) / f"{_name}.gz").read_bytes())
        _sums[_name] = hashlib.md5(_content, usedforsecurity=False).hexdigest()
    CATALOGUE["fashion_mnist"] = replace(_known, content_md5=_sums)

problem = fashion_mnist
