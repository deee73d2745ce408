"""A checkpoint is whole or absent, and loads as it was saved; an unreadable one costs only its own progress."""

from __future__ import annotations

import collections
import datetime
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hpbandster_lite import Trial, load_checkpoint, save_checkpoint
from hpbandster_lite.errors import UsageError
from hpbandster_lite.problems import checkpoints
from hpbandster_lite.rundir import holds_checkpoint


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Directories of the rung below, of an earlier attempt, and of this one."""
    return tmp_path / "below", tmp_path / "first", tmp_path / "second"


def saved(directory: Path, state: Any, name: str = "checkpoint") -> Path:
    save_checkpoint(Trial(directory=directory), state, name)
    return directory


def loaded(directory: Path, name: str = "checkpoint") -> Any:
    return load_checkpoint(Trial(resume_directory=directory), name)


# -------------------------------------------------------------------------------------------------- which one it takes


def test_without_a_checkpoint_there_is_nothing_to_load(places: tuple[Path, Path, Path]) -> None:
    below, first, second = places
    assert load_checkpoint(Trial()) is None
    assert load_checkpoint(Trial(directory=second, resume_directory=first, previous_directory=below)) is None
    assert not second.exists()


def test_an_earlier_attempt_comes_before_the_rung_below_and_the_log_says_which_was_taken(
    places: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    below, first, second = places
    saved(below, {"epoch": 1})
    trial = Trial(directory=second, resume_directory=first, previous_directory=below)
    assert load_checkpoint(trial, rung_below=False) is None
    assert load_checkpoint(trial) == {"epoch": 1}
    saved(first, {"epoch": 2})
    assert load_checkpoint(trial) == {"epoch": 2}
    assert capsys.readouterr().err.splitlines() == [
        f"hpbandster_lite: continues from {below / 'checkpoint.json'}, saved at the rung below",
        f"hpbandster_lite: continues from {first / 'checkpoint.json'}, saved by an earlier attempt",
    ]


def test_an_attempt_finds_what_it_saved_itself_and_no_files_of_another_use_of_its_directory(tmp_path: Path) -> None:
    saved(tmp_path, {"epoch": 9})
    trial = Trial(directory=tmp_path)
    assert load_checkpoint(trial) is None
    save_checkpoint(trial, {"epoch": 1}, "best")
    assert load_checkpoint(trial) is None
    assert load_checkpoint(trial, "best") == {"epoch": 1}


def test_an_attempt_with_nothing_left_to_train_leaves_the_checkpoint_to_the_next_rung(
    places: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, first, second = places
    third = second.with_name("third")
    saved(first, {"epoch": 3}, "deep/state")
    assert load_checkpoint(Trial(directory=second, resume_directory=first), "deep/state") == {"epoch": 3}
    assert loaded(second, "deep/state") == {"epoch": 3}

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    trial = Trial(directory=third, resume_directory=first)
    assert load_checkpoint(trial, "deep/state") == loaded(third, "deep/state") == {"epoch": 3}
    save_checkpoint(trial, {"epoch": 4}, "deep/state")
    assert (loaded(third, "deep/state"), loaded(first, "deep/state")) == ({"epoch": 4}, {"epoch": 3})


@pytest.mark.parametrize("ending", [checkpoints.TORCH, checkpoints.PLAIN])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half of it", b'{"epoch": '], ids=["empty", "zip", "text"])
def test_half_a_file_is_skipped_and_reported(
    places: tuple[Path, Path, Path], ending: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    below, first, second = places
    saved(below, {"epoch": 1, "weights": torch.ones(2)})
    first.mkdir()
    (first / f"checkpoint{ending}").write_bytes(content)
    state = load_checkpoint(Trial(directory=second, resume_directory=first, previous_directory=below))
    assert state["epoch"] == 1
    assert f"{first / f'checkpoint{ending}'} cannot be read and is skipped: " in capsys.readouterr().err


def test_a_file_with_code_is_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"epoch": Trial}, tmp_path / "checkpoint.pt")
    assert loaded(tmp_path) is None
    assert "is skipped" in capsys.readouterr().err


def test_what_the_shipped_problems_of_version_0_1_0_saved_is_read(tmp_path: Path) -> None:
    state = {"network": torch.nn.Linear(1, 1).state_dict(), "random": torch.get_rng_state(), "steps": 3}
    (tmp_path / "repeat1").mkdir()
    for name in ("checkpoint.pt", "repeat1/checkpoint.pt"):
        torch.save(state, tmp_path / name)
    assert loaded(tmp_path)["steps"] == loaded(tmp_path, "repeat1/checkpoint")["steps"] == 3


def test_the_newer_of_two_forms_counts_and_the_older_is_gone(tmp_path: Path) -> None:
    trial = Trial(directory=tmp_path)
    save_checkpoint(trial, {"epoch": 1})
    save_checkpoint(trial, {"epoch": torch.tensor(2)})
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]
    save_checkpoint(trial, {"epoch": 3})
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.json"]
    # A kill between the two steps leaves both.
    torch.save({"epoch": 2}, tmp_path / "checkpoint.pt")
    os.utime(tmp_path / "checkpoint.pt", ns=(1, 1))
    assert loaded(tmp_path) == {"epoch": 3}


@pytest.mark.parametrize("name", ["", "/elsewhere/x", "../other", "a/../../b", "."])
def test_a_name_that_leads_out_of_the_directory_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="the name of a checkpoint is a file's name"):
        save_checkpoint(Trial(directory=tmp_path), {}, name)
    with pytest.raises(UsageError, match="the name of a checkpoint is a file's name"):
        load_checkpoint(Trial(directory=tmp_path), name)


# ------------------------------------------------------------------------------------------------- what it can hold


PLAIN_STATE: dict[str, Any] = {
    "none": None, "truth": True, "whole": 2**70, "number": 0.1, "infinite": math.inf, "text": "ä\udc80",
    "list": [1, [2]],
    "tuple": (1, ("a", 2.5)), "set": {1, 2}, "frozen": {frozenset({1})}, "bytes": b"\x00\xff", "empty": {},
    "numbered": {1: "a", (2, 3): "b"}, "like a mark": {"$tuple": [1]}, "random": random.Random(1).getstate(),
}  # fmt: skip


@pytest.mark.parametrize(
    ("call", "message"),
    [
        # A wrong argument.
        (lambda trial: save_checkpoint("x", 1), "trial must be the trial that the objective got, got 'x'"),  # type: ignore[arg-type]
        # A wrong argument.
        (lambda trial: load_checkpoint(None), "trial must be the trial that the objective got, got None"),  # type: ignore[arg-type]
        # A wrong argument.
        (lambda trial: save_checkpoint(trial, 1, name=3), "the name of a checkpoint must be text, got 3; give for"),  # type: ignore[arg-type]
        # A wrong argument.
        (lambda trial: load_checkpoint(trial, name=None), "the name of a checkpoint must be text, got None"),  # type: ignore[arg-type]
        # A wrong argument.
        (lambda trial: load_checkpoint(trial, rung_below="no"), "rung_below must be true or false, got 'no'"),  # type: ignore[arg-type]
    ],
    ids=["save trial", "load trial", "save name", "load name", "rung below"],
)
def test_a_wrong_argument_is_refused_with_its_name_and_value(call: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        call(Trial(directory=tmp_path))
    assert str(caught.value).startswith(message)


def test_plain_values_come_back_as_they_were_without_torch(tmp_path: Path) -> None:
    assert loaded(saved(tmp_path, PLAIN_STATE)) == PLAIN_STATE
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.json"]


def test_plain_values_come_back_as_they_were_beside_tensors(tmp_path: Path) -> None:
    state = loaded(saved(tmp_path, {**PLAIN_STATE, "tensor": torch.arange(3)}))
    assert state.pop("tensor").tolist() == [0, 1, 2]
    assert state == PLAIN_STATE
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("beside", [0, torch.zeros(1)], ids=["plain", "torch"])
def test_a_dict_with_default_values_comes_back_as_a_dict(tmp_path: Path, beside: object) -> None:
    history = collections.defaultdict(list, loss=[0.5, np.float64(0.25)])
    state = loaded(saved(tmp_path, {"history": history, "beside": beside}))
    assert (type(state["history"]), state["history"]) == (dict, {"loss": [0.5, 0.25]})


@pytest.mark.parametrize("beside", [0, torch.zeros(1)], ids=["plain", "torch"])
def test_arrays_of_numpy_come_back_with_their_type_and_shape(tmp_path: Path, beside: object) -> None:
    arrays = [np.arange(6, dtype=np.uint32).reshape(2, 3), np.array(["a", "bc"]), np.zeros(0), np.array(1.5)]
    state = loaded(saved(tmp_path, {"arrays": arrays, "best": np.float32(0.5), "flag": np.bool_(1), "beside": beside}))
    for one, other in zip(arrays, state["arrays"], strict=True):
        assert (one.dtype, one.shape, one.tolist()) == (other.dtype, other.shape, other.tolist())
    assert (state["best"], state["flag"]) == (0.5, True)
    assert loaded(saved(tmp_path, np.random.RandomState(1).get_state(legacy=False)))["state"]["key"].dtype == np.uint32


def test_networks_optimizers_and_schedulers_continue_bit_for_bit(tmp_path: Path) -> None:
    def made() -> tuple[torch.nn.Module, torch.optim.Optimizer, Any]:
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1))
        optimizer = torch.optim.Adam(network.parameters(), 0.1)
        return network, optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4])

    def step(network: torch.nn.Module, optimizer: torch.optim.Optimizer, scheduler: Any) -> None:
        optimizer.zero_grad()
        network(torch.eye(2)).sum().backward()
        optimizer.step()
        scheduler.step()

    straight = made()
    step(*straight)
    parts = made()
    step(*parts)
    saved(tmp_path, {"parts": [part.state_dict() for part in parts], "best": np.float64(0.5)})
    again = made()
    state = loaded(tmp_path)
    for part, held in zip(again, state["parts"], strict=True):
        part.load_state_dict(held)
    # Torch's own name.
    assert state["parts"][0]._metadata == parts[0].state_dict()._metadata  # type: ignore[attr-defined]
    for _ in range(4):
        step(*straight)
        step(*again)
    for one, other in zip(straight[0].state_dict().values(), again[0].state_dict().values(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"when": [datetime.date(2026, 1, 1)]}, r"state\['when'\]\[0\] is a datetime.date, and a checkpoint holds"),
        ({"queue": collections.deque(), "x": torch.zeros(1)}, "this state holds collections.deque"),
        ({"objects": np.array([object()])}, r"state\['objects'\] is a numpy.ndarray"),
        ({"network": torch.nn.Linear(1, 1), "x": torch.zeros(1)}, "torch.nn.modules.linear.Linear"),
        ({"mask": np.ma.array([1, 2], mask=[False, True])}, r"state\['mask'\] is a numpy.ma.MaskedArray"),
        ({"mask": np.ma.array([1], mask=[True]), "x": torch.zeros(1)}, "this state holds numpy.*mareconstruct"),
        ({"matrix": np.zeros((1, 2)).view(np.matrix)}, r"state\['matrix'\] is a numpy.matrix"),
        ({"rate": lambda: 1, "x": torch.zeros(1)}, "a checkpoint holds .*; this state cannot be .*lambda"),
        ({"lock": threading.Lock(), "x": torch.zeros(1)}, "a checkpoint holds .*; this state cannot be .*lock"),
    ],
    ids=["date", "deque", "objects", "network", "mask", "mask beside a tensor", "matrix", "lambda", "lock"],
)  # fmt: skip
def test_what_could_not_be_loaded_again_is_refused_when_it_is_saved(tmp_path: Path, state: Any, words: str) -> None:
    saved(tmp_path, {"epoch": 1})
    with pytest.raises(TypeError, match=words):
        save_checkpoint(Trial(directory=tmp_path), state)
    assert loaded(tmp_path) == {"epoch": 1}


# ------------------------------------------------------------------------------------------------ atomic saves


def test_a_save_that_fails_leaves_the_checkpoint_before_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, {"epoch": 1})

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(Trial(directory=tmp_path), {"epoch": 2})
    assert loaded(tmp_path) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.json"]


KILLED = """
import sys
from hpbandster_lite import Trial, save_checkpoint
trial = Trial(directory=sys.argv[1])
for epoch in range(10**6):
    save_checkpoint(trial, {"epoch": epoch, "weights": [epoch] * 20_000})
    print(epoch, flush=True)
"""


def test_a_process_that_is_killed_while_it_saves_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True) as saver:
        assert saver.stdout is not None
        for _ in range(3):
            saver.stdout.readline()
        time.sleep(random.random() * 0.02)
        saver.send_signal(signal.SIGKILL)
        last = max(map(int, saver.stdout.read().split()), default=2)
    state = loaded(tmp_path)
    assert state["epoch"] in (last, last + 1)
    assert state["weights"] == [state["epoch"]] * 20_000


def test_part_of_a_first_save_is_no_checkpoint_and_goes_when_the_directory_is_used_again(tmp_path: Path) -> None:
    part = tmp_path / ".checkpoint.pt.12ab34cd.partial"
    part.write_bytes(b"half")
    assert not holds_checkpoint(tmp_path)
    # Like a refit, which continues in one directory.
    assert load_checkpoint(Trial(directory=tmp_path, resume_directory=tmp_path)) is None
    assert not part.exists()


def test_a_trial_that_has_ended_saves_nothing_and_says_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = Trial(directory=tmp_path)
    save_checkpoint(trial, {"epoch": 1})
    trial.end()
    for epoch in (2, 3):
        save_checkpoint(trial, {"epoch": epoch})
    assert json.loads((tmp_path / "checkpoint.json").read_text()) == {"epoch": 1}
    assert capsys.readouterr().err.count("which has ended; nothing is saved") == 1


def test_the_functions_need_no_torch() -> None:
    code = "import sys; from hpbandster_lite import load_checkpoint, save_checkpoint; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
