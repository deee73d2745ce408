"""Import of torchvision's data set classes, also beside a torch for which torchvision was not built.

Law of this file: only ``torchvision.datasets`` is used, and the plain import is tried first.

torchvision has compiled operators for detection (``nms`` and others). If it was built for another torch, which pip
allows (a CUDA build of torchvision beside the CPU build of torch), they cannot be loaded, and even its Python part
fails to import, because it describes operators to the compiler that do not exist. The data sets need none of them. So
they are declared, without a body, and the import is tried once more; a call of one raises torch's own error. If the
compiled part was loaded, a second declaration would abort the process: hence the plain import first.
"""

from __future__ import annotations

import functools
import sys
import threading
from types import ModuleType

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
            f"torchvision cannot be imported ({error}); it reads this data set; install it with: "
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
    """Declare the two operators that torchvision's Python part describes; they exist as long as the returned object."""
    import torch

    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]
    return library
