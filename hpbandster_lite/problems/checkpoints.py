"""Checkpoints of an objective: each save is atomic, and the next attempt or the next rung finds the checkpoint.

Law of this file: if a process is killed while it saves, the earlier checkpoint stays as it was. A checkpoint holds
tensors, arrays and plain values, never code. A file that cannot be read is skipped, and a note says so.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import copy
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from hpbandster_lite.errors import UsageError
from hpbandster_lite.problems.trial import Trial, note
from hpbandster_lite.rundir import PARTIAL_SUFFIX, replace_whole

NAME = "checkpoint"
TORCH, PLAIN = ".pt", ".json"
"""The suffix of a file that torch wrote, and of one with plain values only."""
EARLIER = "by an earlier attempt"
_MARKS = frozenset({"$array", "$tuple", "$set", "$frozenset", "$bytes", "$dict"})
"""A dict whose only key is one of these stands for a value that the file's format does not have."""


_MORE_THAN_ARRAYS = (np.ma.MaskedArray, np.matrix)
"""As an array, one of these would lose its mask, or multiply in another way."""


def save_checkpoint(trial: Trial, state: Any, name: str = NAME) -> None:
    """Save the state of a training in ``trial.directory``; call it before ``trial.report``.

    The state is written under a temporary name, synced and renamed, so a kill at any moment, or a full disk, leaves
    the earlier checkpoint intact. After the trial has ended, nothing is saved, and one note says so.

    Parameters
    ----------
    trial
        The trial of the running evaluation.
    state
        ``None``, numbers, strings, bytes, numpy's arrays and scalars, torch's tensors (such as the ``state_dict()`` of
        networks, optimizers and schedulers), and dicts, lists, tuples and sets of these. A state with tensors is saved
        as ``checkpoint.pt``, which torch can read with ``weights_only=True``; any other as ``checkpoint.json``.
    name
        The name of the file, without its suffix. Give another name to save a second checkpoint in an evaluation.

    Raises
    ------
    TypeError
        If the state holds anything else; the message says where in the state.
    UsageError
        If the name leads out of the directory.
    OSError
        If the file cannot be written; the errno is ``ENOSPC`` if the disk is full.
    RuntimeError
        If the trial was made without a directory.
    """
    _check_trial(trial)
    if trial.is_too_late("save_checkpoint", "nothing is saved"):
        return
    place = trial.directory / _checked(name)
    content, suffix = _encoded(state)
    place.parent.mkdir(parents=True, exist_ok=True)
    replace_whole(place.with_name(place.name + suffix), content)
    # An earlier state may be in the other format. Until it is removed, the newer file counts.
    place.with_name(place.name + (PLAIN if suffix == TORCH else TORCH)).unlink(missing_ok=True)
    trial.saved_checkpoints.add(str(_checked(name)))


def load_checkpoint(trial: Trial, name: str = NAME, rung_below: bool = True) -> Any:
    """The newest state that :func:`save_checkpoint` saved for this configuration; tensors are on the CPU.

    It looks first for a state that this attempt has saved, then in the directory of an earlier attempt of this
    evaluation, then in the directory of the rung below. A note in the attempt's log says which file was loaded, and
    which files could not be read.

    Parameters
    ----------
    trial
        The trial of the running evaluation.
    name
        As for :func:`save_checkpoint`.
    rung_below
        Whether to look at the rung below, too; False for a training that starts from the beginning at each rung.

    Returns
    -------
    object
        The state; ``None`` if none was found.

    Raises
    ------
    UsageError
        If the name leads out of the directory.
    """
    _check_trial(trial)
    if not isinstance(rung_below, bool):
        raise UsageError(f"rung_below must be true or false, got {rung_below!r:.100}; give rung_below=False, or none")
    place = _checked(name)
    _remove_cut_off(trial, place)
    for found in _found(trial, place, rung_below=rung_below):
        try:
            state = _decoded(found.file)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 (a file that a kill or a bad disk left may raise anything)
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            note(f"{found.file} cannot be read and is skipped: {type(error).__name__}: {reason:.200}")
            continue
        note(f"continues from {found.file}, saved {found.by}")
        if found.by == EARLIER and trial.own_directory is not None:
            _take_over(found.file, trial.own_directory / f"{place}{found.file.suffix}")
        return state
    return None


def take_over(trial: Trial, names: Iterable[str]) -> None:
    """Make an earlier attempt's checkpoints with these names also this attempt's.

    For an evaluation of several trainings, one after the other: if it is cut off in the first one, the next attempt
    looks for the checkpoints of the others in this attempt's directory.
    """
    for name in names:
        place = _checked(name)
        for found in _found(trial, place, rung_below=False):
            if found.by == EARLIER and trial.own_directory is not None:
                _take_over(found.file, trial.own_directory / f"{place}{found.file.suffix}")


def write_torch(file: Path, content: object) -> None:
    """Write an object in the format of :func:`torch.save`, atomically.

    Raises
    ------
    OSError
        If it cannot be written; the errno is ``ENOSPC`` if the disk is full.
    """
    replace_whole(file, _torch_bytes(content).getbuffer())


# ------------------------------------------------------------------------------------------------ where a file is


class _Found(NamedTuple):
    file: Path
    by: str


def _found(trial: Trial, place: PurePosixPath, *, rung_below: bool) -> Iterator[_Found]:
    """The files that may hold the newest state, the newest first."""
    folders = [(trial.resume_directory, EARLIER)]
    if str(place) in trial.saved_checkpoints:
        folders.insert(0, (trial.own_directory, "by this attempt"))
    if rung_below:
        folders.append((trial.previous_directory, "at the rung below"))
    for folder, by in folders:
        if folder is not None:
            files = [folder / f"{place}{suffix}" for suffix in (TORCH, PLAIN)]
            yield from (_Found(file, by) for file in sorted(files, key=_changed_at, reverse=True) if file.is_file())


def _changed_at(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _check_trial(trial: object) -> None:
    if not isinstance(trial, Trial):
        raise UsageError(f"trial must be the trial that the objective got, got {trial!r:.100}")


def _checked(name: str) -> PurePosixPath:
    given: object = name
    if not isinstance(given, str):
        raise UsageError(f"the name of a checkpoint must be text, got {given!r:.100}; give for example name='best'")
    path = PurePosixPath(name)
    if not path.name or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise UsageError(f"the name of a checkpoint is a file's name in trial.directory, got {name!r}")
    return path


def _take_over(file: Path, here: Path) -> None:
    """Make an earlier attempt's checkpoint also this attempt's checkpoint, until this attempt saves its own.

    If nothing is left to train, or this attempt is cut off before its first save, the next rung or attempt looks here.
    """
    if here.exists():
        return
    with contextlib.suppress(OSError):
        here.parent.mkdir(parents=True, exist_ok=True)
        try:
            here.hardlink_to(file)
        except OSError:
            replace_whole(here, file.read_bytes())


def _remove_cut_off(trial: Trial, place: PurePosixPath) -> None:
    """Remove partial files that a kill left in the trial's own directory: all attempts of a refit share a directory."""
    if trial.own_directory is not None:
        folder = (trial.own_directory / place).parent
        with contextlib.suppress(OSError):
            for part in folder.glob(f".*{PARTIAL_SUFFIX}"):
                part.unlink()


# -------------------------------------------------------------------------------------------- what is in a file


def _encoded(state: Any) -> tuple[bytes | memoryview, str]:
    """The content of a file, and its suffix."""
    if not _has_tensors(state):
        return json.dumps(_packed(state, "state", is_json=True)).encode("ascii"), PLAIN
    try:
        buffer = _torch_bytes(_packed(state, "state", is_json=False))
    except (OSError, MemoryError):
        raise
    except Exception as error:
        # PicklingError, or what a method of the state's objects raised.
        raise TypeError(f"a checkpoint {_HOLDS}; this state cannot be pickled: {error}") from error
    _refuse_code(buffer)
    return buffer.getbuffer(), TORCH


def _decoded(file: Path) -> Any:
    if file.suffix == PLAIN:
        return _unpacked(json.loads(file.read_bytes()))
    import torch

    # On the CPU: random states belong there, and load_state_dict copies to where the parameters are.
    return _unpacked(torch.load(file, map_location="cpu", weights_only=True))


def _torch_bytes(content: object) -> io.BytesIO:
    import torch

    # To memory first: on a full disk, torch's own writer may report an error about file positions instead of ENOSPC.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer


def _refuse_code(buffer: io.BytesIO) -> None:
    """Refuse now what ``torch.load(weights_only=True)`` would refuse later."""
    import torch

    buffer.seek(0)
    names = getattr(torch.serialization, "get_unsafe_globals_in_checkpoint", None)
    if names is None:
        # torch 2.4
        torch.load(buffer, map_location="cpu", weights_only=True)
        return
    refused = names(buffer)
    if refused:
        raise TypeError(f"a checkpoint {_HOLDS}; this state holds {', '.join(sorted(refused))}")


_HOLDS = "holds tensors, arrays and plain values (save the state_dict() of an object, or what it is made of)"


def _has_tensors(value: Any) -> bool:
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    kinds = (torch.Tensor, torch.Size, torch.dtype, torch.device)
    return any(isinstance(each, kinds) for each in _parts(value))


def _parts(value: Any) -> Iterator[Any]:
    yield value
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        for each in value:
            yield from _parts(each)


def _packed(value: Any, where: str, *, is_json: bool) -> Any:
    """The value in types that the file's format has; the same object if nothing changes."""
    match value:
        case np.ndarray() if not value.dtype.hasobject and not isinstance(value, _MORE_THAN_ARRAYS):
            return {"$array": _array_bytes(value, is_json=is_json)}
        case np.generic() if not isinstance(value.item(), np.generic):
            return _packed(value.item(), where, is_json=is_json)
        case dict():
            return _packed_dict(value, where, is_json=is_json)
        case list() | tuple():
            packed = [_packed(each, f"{where}[{i}]", is_json=is_json) for i, each in enumerate(value)]
            if isinstance(value, tuple) and is_json:
                return {"$tuple": packed}
            is_same = all(one is other for one, other in zip(packed, value, strict=True))
            return value if is_same else type(value)(packed) if type(value) in (list, tuple) else tuple(packed)
        case set() | frozenset():
            mark = "$set" if isinstance(value, set) else "$frozenset"
            return {mark: [_packed(each, f"an element of {where}", is_json=is_json) for each in value]}
        case bytes() | bytearray() if is_json:
            return {"$bytes": base64.b64encode(value).decode("ascii")}
        case None | bool() | int() | float() | str():
            return value
        case _ if not is_json:
            return value
        case _:
            kind = f"{type(value).__module__}.{type(value).__qualname__}"
            raise TypeError(f"{where} is a {kind}, and a checkpoint {_HOLDS}")


def _packed_dict(value: dict[Any, Any], where: str, *, is_json: bool) -> Any:
    packed = {key: _packed(each, f"{where}[{key!r}]", is_json=is_json) for key, each in value.items()}
    has_other_keys = is_json and not all(type(key) is str for key in value)
    if has_other_keys or (len(value) == 1 and _MARKS & value.keys()):
        return {"$dict": [[_packed(key, f"a key of {where}", is_json=is_json), each] for key, each in packed.items()]}
    if is_json or isinstance(value, collections.defaultdict):
        return packed
    if all(packed[key] is each for key, each in value.items()):
        return value
    # A network's state_dict has attributes in addition to its items.
    copied = copy.copy(value)
    copied.update(packed)
    return copied


def _unpacked(value: Any) -> Any:
    """The value that :func:`_packed` was given."""
    match value:
        case {"$array": content} if len(value) == 1:
            data = base64.b64decode(content) if isinstance(content, str) else content.numpy().tobytes()
            return np.load(io.BytesIO(data), allow_pickle=False)
        case {"$bytes": content} if len(value) == 1:
            return base64.b64decode(content)
        case {"$tuple": items} if len(value) == 1:
            return tuple(map(_unpacked, items))
        case {"$set": items} if len(value) == 1:
            return set(map(_unpacked, items))
        case {"$frozenset": items} if len(value) == 1:
            return frozenset(map(_unpacked, items))
        case {"$dict": items} if len(value) == 1:
            return {_unpacked(key): _unpacked(each) for key, each in items}
        case dict():
            for key, each in value.items():
                value[key] = _unpacked(each)
            return value
        case list():
            value[:] = map(_unpacked, value)
            return value
        case tuple() if type(value) is tuple:
            return tuple(map(_unpacked, value))
        case _:
            return value


def _array_bytes(array: np.ndarray[Any, Any], *, is_json: bool) -> Any:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    if is_json:
        return base64.b64encode(buffer.getbuffer()).decode("ascii")
    import torch

    return torch.frombuffer(bytearray(buffer.getbuffer()), dtype=torch.uint8)
