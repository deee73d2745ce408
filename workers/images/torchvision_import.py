"""Imports torchvision's data set classes, even if torchvision was built for another torch.

Law of this file: it uses only ``torchvision.datasets``, and tries the plain import first.

torchvision has compiled operators for detection (``nms`` and others). If it was built for another torch, which pip
allows (a CUDA build of torchvision with the CPU build of torch), they cannot be loaded. Then even its Python part
cannot be imported, because it describes operators to the compiler that do not exist. The data sets need no operators.
So this file declares the operators without a body and tries the import again; a call of an operator raises torch's
error. The plain import comes first, because a second declaration of loaded operators would abort the process.
"""

from __future__ import annotations

import functools
import sys
import threading
from types import ModuleType
from typing import Any

from hpbandster_lite.workers.images.image_data import ImageDataError

_one_at_a_time = threading.Lock()


def data_sets() -> ModuleType:
    """The module ``torchvision.datasets``.

    Raises
    ------
    ImageDataError
        If torchvision is not installed.
    """
    with _one_at_a_time:
        return _data_sets()


@functools.cache
def _data_sets() -> ModuleType:
    try:
        import torchvision.datasets
    except ImportError as error:
        raise ImageDataError(
            f"this data set requires torchvision, which cannot be imported ({error}); install it with: "
            'pip install -e ".[torch]" in a clone of hpbandster_lite'
        ) from error
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        _declare_missing_operators()
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        import torchvision.datasets
    module: ModuleType = torchvision.datasets
    return module


@functools.cache
def _declare_missing_operators() -> object:
    """Declare the two operators that torchvision's Python part describes; keep the returned object to keep them."""
    import torch

    # torch has no type for it.
    library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
