"""The state of numerical libraries that an evaluation may change, and their global random generators.

Law of this file: the state of a library is recorded, and its generators are seeded, as soon as it is imported, which
may be during an evaluation. This file imports no library. The global generators of an evaluation depend on the seed of
its configuration and on its rung, and not on earlier evaluations.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import random
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any

from hpbandster_lite.trainer.module_functions import MODULES, functions_of
from hpbandster_lite.trainer.process_state import Restore, all_of, attributes, failure_of_part, setting

TINY = sys.float_info.min
"""The smallest normal number: its half is 0 if the processor flushes denormal numbers."""
EXECUTE = "exec_module"
"""The method of a loader that runs a module. This file replaces the method."""


def global_seed(seed: int, rung: int) -> int:
    """The seed of the global random generators, in [0, 2**32), which differs between rungs.

    Parameters
    ----------
    seed
        ``trial.seed``.
    rung
        Rung of the evaluation.
    """
    return int.from_bytes(hashlib.sha256(f"{seed} {rung}".encode()).digest()[:4], "big")


class LibraryState:
    """The recorded states of the loaded libraries; :meth:`watch` adds libraries that are imported later."""

    def __init__(self) -> None:
        self._restores: dict[str, Restore] = {}
        self._functions: dict[str, Restore] = {}
        self._seed: int | None = None
        for name in {**RECORDERS, **dict.fromkeys(MODULES)}:
            if name in sys.modules:
                self._record(name, sys.modules[name])

    def watch(self) -> None:
        """From now on, record each library when it is imported."""
        sys.meta_path.insert(0, _LateImports({*RECORDERS, *SEEDERS, *MODULES}, self._is_imported))

    def restore(self) -> list[str]:
        """Restore every library; return the names of those that cannot be restored, each with its error."""
        with warnings.catch_warnings(module=warnings):
            warnings.simplefilter("ignore")
            return _failures(self._restores)

    def restore_functions(self) -> list[str]:
        """Restore the functions of modules, which everything else calls; return as :meth:`restore` does."""
        return _failures(self._functions)

    def seed(self, seed: int) -> None:
        """Seed the global generators."""
        self._seed = seed
        random.seed(seed)
        for name, put in SEEDERS.items():
            module = sys.modules.get(name)
            if module is not None:
                put(module, seed)

    def _record(self, name: str, module: ModuleType) -> None:
        if name in RECORDERS:
            with warnings.catch_warnings(module=warnings):
                # Of libraries about the old names of their settings.
                warnings.simplefilter("ignore")
                self._restores[name] = RECORDERS[name](module)
        if name in MODULES:
            self._functions[name] = functions_of(module)

    def _is_imported(self, module: ModuleType) -> None:
        name = module.__name__
        self._record(name, module)
        if name in SEEDERS and self._seed is not None:
            SEEDERS[name](module, self._seed)


def _failures(restores: Mapping[str, Restore]) -> list[str]:
    failures = [failure_of_part(name, restore) for name, restore in list(restores.items())]
    return [failed for failed in failures if failed is not None]


class _LateImports:
    """A finder that uses the other finders, and calls ``on_import`` after one of the named modules is imported."""

    def __init__(self, names: set[str], on_import: Callable[[ModuleType], None]) -> None:
        self._names, self._on_import = names, on_import

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in self._names:
            return None
        others = (getattr(finder, "find_spec", None) for finder in list(sys.meta_path) if finder is not self)
        found = (find(name, path, target) for find in others if find is not None)
        spec: importlib.machinery.ModuleSpec | None = next((each for each in found if each is not None), None)
        execute = getattr(spec and spec.loader, EXECUTE, None)
        if spec is None or execute is None or isinstance(spec.loader, type):
            # A class loads all modules that are built in.
            return spec

        def execute_and_record(module: ModuleType) -> None:
            execute(module)
            self._on_import(module)

        # A loader that accepts no attributes does not change.
        with suppress(AttributeError):
            setattr(spec.loader, EXECUTE, execute_and_record)
        return spec


# ---------------------------------------------------------------------------------------------------- numpy and others


def _numpy(numpy: Any) -> Restore:
    return all_of(
        setting(numpy.geterr, lambda value: numpy.seterr(**value)),
        setting(numpy.geterrcall, numpy.seterrcall),
        setting(numpy.getbufsize, numpy.setbufsize),
        setting(numpy.get_printoptions, lambda value: _put_print_options(numpy, value)),
    )


def _numpy_random(module: Any) -> Restore:
    """The generator behind ``numpy.random.rand``, which a program may replace, and the function that seeds it."""
    seed = attributes(module, "seed")
    if not hasattr(module, "set_bit_generator"):
        return seed
    return all_of(seed, setting(module.get_bit_generator, module.set_bit_generator))


def _random(module: Any) -> Restore:
    return attributes(module, "seed")


def _pandas(pandas: Any) -> Restore:
    """The options of pandas, each by its full name."""
    return all_of(*(_option(pandas, name) for name in _leaves(pandas.options)))


def _option(pandas: Any, name: str) -> Restore:
    return setting(lambda: pandas.get_option(name), lambda value: pandas.set_option(name, value))


def _leaves(options: Any, prefix: str = "") -> list[str]:
    found = []
    for name in dir(options):
        value = getattr(options, name)
        is_group = type(value) is type(options)
        found += _leaves(value, f"{prefix}{name}.") if is_group else [f"{prefix}{name}"]
    return found


def _matplotlib(matplotlib: Any) -> Restore:
    parameters = matplotlib.rcParams
    # Reading the backend by its name chooses one.
    return setting(lambda: dict(dict.items(parameters)), lambda before: dict.update(parameters, before))


def _jax(jax: Any) -> Restore:
    def put(before: Mapping[str, Any]) -> None:
        for name, value in before.items():
            if jax.config.values.get(name) != value:
                jax.config.update(name, value)

    return setting(lambda: dict(jax.config.values), put)


def _put_print_options(numpy: Any, options: Mapping[str, Any]) -> None:
    # numpy 2.2 returns "override_repr" but does not accept it.
    numpy.set_printoptions(**{name: value for name, value in options.items() if name != "override_repr"})


def _sklearn(sklearn: Any) -> Restore:
    return setting(sklearn.get_config, lambda value: sklearn.set_config(**value))


def _scipy_special(special: Any) -> Restore:
    return setting(special.geterr, lambda value: special.seterr(**value))


def _csv(csv: Any) -> Restore:
    return setting(csv.field_size_limit, csv.field_size_limit)


def _calendar(calendar: Any) -> Restore:
    return setting(calendar.firstweekday, calendar.setfirstweekday)


def _distributions(module: Any) -> Restore:
    """Whether the distributions of torch check their arguments, which has a public setter only."""
    return attributes(module.Distribution, "_validate_args")


# --------------------------------------------------------------------------------------------------------------- torch

_TORCH_SETTINGS = (
    ("get_default_dtype", "set_default_dtype"),
    ("is_grad_enabled", "set_grad_enabled"),
    ("get_float32_matmul_precision", "set_float32_matmul_precision"),
    ("get_num_threads", "set_num_threads"),
    ("get_num_interop_threads", "set_num_interop_threads"),
    ("is_anomaly_enabled", "autograd.set_detect_anomaly"),
    ("is_warn_always_enabled", "set_warn_always"),
    ("_C._is_multithreading_enabled", "_C._set_multithreading_enabled"),
    ("multiprocessing.get_sharing_strategy", "multiprocessing.set_sharing_strategy"),
    ("backends.cuda.flash_sdp_enabled", "backends.cuda.enable_flash_sdp"),
    ("backends.cuda.mem_efficient_sdp_enabled", "backends.cuda.enable_mem_efficient_sdp"),
    ("backends.cuda.math_sdp_enabled", "backends.cuda.enable_math_sdp"),
    ("is_autocast_cache_enabled", "set_autocast_cache_enabled"),
    ("__future__.get_overwrite_module_params_on_conversion", "__future__.set_overwrite_module_params_on_conversion"),
    ("__future__.get_swap_module_params_on_conversion", "__future__.set_swap_module_params_on_conversion"),
)
"""For each setting, the function that reads it and the function that writes it."""
_TORCH_ATTRIBUTES = {
    "backends.cudnn": ("benchmark", "deterministic", "enabled", "allow_tf32"),
    "backends.cuda.matmul": ("allow_tf32", "allow_fp16_reduced_precision_reduction"),
    "backends.mkldnn": ("enabled",),
    "hub": ("_hub_dir",),
    "utils.deterministic": ("fill_uninitialized_memory",),
}
_TORCH_HOOKS = ("torch.nn.modules.module", "torch.optim.optimizer")


def _torch(torch: Any) -> Restore:
    settings = [setting(get, put) for get, put in _torch_settings(torch) if _can_be_read(get)]
    hooks = [_hooks(sys.modules[name]) for name in _TORCH_HOOKS if name in sys.modules]
    return all_of(lambda: _check_torch(torch), attributes(torch, "manual_seed"), *settings, *hooks)


def _hooks(module: Any) -> Restore:
    """The hooks that torch calls for all modules, or for all optimizers."""
    variables = {name: value for name, value in vars(module).items() if name.startswith("_global_")}
    before = {name: dict(value) for name, value in variables.items() if isinstance(value, dict)}
    flags = attributes(module, *(name for name in variables if name not in before))

    def restore() -> None:
        flags()
        for name, items in before.items():
            hooks = getattr(module, name)
            if len(hooks) != len(items) or dict(hooks) != items:
                hooks.clear()
                hooks.update(items)

    return restore


def _torch_settings(torch: Any) -> list[tuple[Callable[[], Any], Callable[[Any], object]]]:
    pairs = [(_within(torch, get), _within(torch, put)) for get, put in _TORCH_SETTINGS]
    pairs += [
        (lambda: _determinism(torch), lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1])),
        (lambda: str(torch.get_default_device()), lambda value: _put_default_device(torch, value)),
        (lambda: torch.empty(0).type(), torch.set_default_tensor_type),
        (lambda: TINY * 0.5 == 0.0, torch.set_flush_denormal),
        (torch.is_inference_mode_enabled, _not_to_be_set),
        # Modes that were entered and not left.
        (_within(torch, "_C._len_torch_function_stack"), _not_to_be_set),
        (_within(torch, "_C._len_torch_dispatch_stack"), _not_to_be_set),
        # A block of torch.autograd.graph.saved_tensors_hooks that was entered and not left; it has no public function.
        (lambda: _saved_tensors_hooks(torch), lambda _: torch._C._autograd._pop_saved_tensors_default_hooks()),  # noqa: SLF001
    ]
    for device in ("cuda", "cpu"):
        pairs.append((lambda device=device: torch.is_autocast_enabled(device),
                      lambda value, device=device: torch.set_autocast_enabled(device, value)))  # fmt: skip
        pairs.append((lambda device=device: torch.get_autocast_dtype(device),
                      lambda value, device=device: torch.set_autocast_dtype(device, value)))  # fmt: skip
    for path, names in _TORCH_ATTRIBUTES.items():
        owner = _within(torch, path)
        for name in names:
            pairs.append((lambda owner=owner, name=name: getattr(owner, name),
                          lambda value, owner=owner, name=name: setattr(owner, name, value)))  # fmt: skip
    return [(get, put) for get, put in pairs if get is not None and put is not None]


def _within(torch: Any, path: str) -> Any:
    found = torch
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


def _can_be_read(get: Callable[[], Any]) -> bool:
    try:
        get()
    except (AttributeError, RuntimeError, TypeError):
        # Another version of torch.
        return False
    return True


def _determinism(torch: Any) -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _saved_tensors_hooks(torch: Any) -> object:
    # torch has no public function that reads them.
    # torch has no public function that reads these hooks.
    return torch._C._autograd._top_saved_tensors_default_hooks(True)  # noqa: SLF001


def _put_default_device(torch: Any, name: str) -> None:
    # None removes the hook that another device adds to every function of torch.
    torch.set_default_device(None if name == "cpu" else name)


def _not_to_be_set(value: object) -> None:
    """Do nothing: only the end of the block that set this state can restore it."""


def _check_torch(torch: Any) -> None:
    """Restore the CUDA device; raise an error for a state that only a new process ends."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        raise RuntimeError("a process group is initialised")
    if torch.cuda.is_initialized():
        # A broken context raises here.
        torch.cuda.synchronize()
        torch.cuda.set_device(0)


RECORDERS: Mapping[str, Callable[[Any], Restore]] = {
    "random": _random,
    "numpy": _numpy,
    "numpy.random": _numpy_random,
    "torch": _torch,
    "torch.distributions.distribution": _distributions,
    "scipy.special": _scipy_special,
    "sklearn": _sklearn,
    "csv": _csv,
    "calendar": _calendar,
    "pandas": _pandas,
    "matplotlib": _matplotlib,
    "jax": _jax,
}
"""For each module with a state, the function that records it."""
SEEDERS: Mapping[str, Callable[[Any, int], object]] = {
    "numpy.random": lambda module, seed: module.seed(seed),
    "torch": lambda module, seed: module.manual_seed(seed),
}
"""For each module with a global generator, the function that seeds it."""
