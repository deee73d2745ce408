"""Bitwise equality of the results of trainings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def assert_equal_bit_for_bit(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, Mapping):
        assert list(one) == list(other)
        for name in one:
            assert_equal_bit_for_bit(one[name], other[name])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_equal_bit_for_bit(left, right)
    else:
        assert one == other
