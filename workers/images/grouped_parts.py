"""Distributes groups of images over parts: no group is in two parts, and each part has its share of each class.

Law of this file: arithmetic on numbers of images; the same labels and groups give the same parts. The best distribution
is a hard problem, so a greedy one is improved by moves and exchanges of groups until none helps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hpbandster_lite.workers.images.image_data import ImageDataError

NO_IMAGES = (1e7, 1e5, 1e3)
"""Costs of a part without an image of a class: training needs it before validation, and validation before a test. Each
is more than the usual deviations from the shares together. Parts with equal shares are folds, with the second cost."""
EMPTY = 1e10
"""Cost of a part without images."""
MOST_CHANGES, FEWEST_CHANGES = 1_000, 20
MOST_NUMBERS = 200_000_000
"""Numbers that all changes together compute, which takes some seconds; many small groups need few changes."""
FEW_GROUPS = 250
"""Up to this number all pairs of groups are tried for an exchange."""
HELPS = -1e-9

Rows = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]


def grouped_parts(labels: Rows, groups: Rows, shares: Sequence[float]) -> Rows:
    """The part of each image, from 0.

    Parameters
    ----------
    labels, groups
        Class and group of each image, shape (n,).
    shares
        Share of the images of each part; their sum is 1. If they differ, the parts are for training, validation and
        test, in this order.

    Raises
    ------
    ImageDataError
        If there are fewer groups than parts.
    """
    names, first, group = np.unique(groups, return_index=True, return_inverse=True)
    if len(names) < len(shares):
        raise ImageDataError(
            f"{len(names)} group{'s' if len(names) > 1 else ''} of images cannot be divided into {len(shares)} parts "
            "without a group in two of them; give images of more groups, or leave --group out"
        )
    counts = np.zeros((len(names), labels.max() + 1))
    np.add.at(counts, (group, labels), 1)
    # Large groups first; groups of one size in the order in which their first images come, which is shuffled.
    order = np.lexsort((first, -counts.sum(axis=1)))
    table = _Table(counts[order], shares)
    table.deal()
    table.improve()
    part = np.empty(len(names), dtype=np.int64)
    part[order] = table.part
    return part[group]


class _Table:
    """Groups with their parts.

    Parameters
    ----------
    counts
        Images of each class in each group, shape (groups, classes).
    shares
        Share of each part.
    """

    def __init__(self, counts: Numbers, shares: Sequence[float]) -> None:
        whole = counts.sum(axis=0)
        # The last column is for the sizes of the parts.
        self._counts = np.column_stack([counts, counts.sum(axis=1)])
        self._n_classes = counts.shape[1]
        total = np.append(whole, whole.sum())
        self._target = np.outer(shares, total)
        self._scale = 1 / np.maximum(total, 1) ** 2
        are_folds = len(set(shares)) == 1
        self._lack = np.full(len(shares), NO_IMAGES[1]) if are_folds else np.array(NO_IMAGES[: len(shares)])
        self._has_images = whole > 0
        self.part = np.zeros(len(counts), dtype=np.int64)
        self._held = np.zeros((len(shares), len(total)))

    def _cost(self, held: Numbers, part: Rows | int) -> Numbers:
        """The cost of parts that hold these images; the last axis is that of classes."""
        deviation = ((held - self._target[part]) ** 2 * self._scale).sum(axis=-1)
        lacks = ((held[..., : self._n_classes] == 0) & self._has_images).sum(axis=-1)
        cost: Numbers = deviation + self._lack[part] * lacks + EMPTY * (held[..., -1] == 0)
        return cost

    def deal(self) -> None:
        """Give each group to the part that lacks its images most."""
        for number, counts in enumerate(self._counts):
            before, after = self._held - self._target, self._held + counts - self._target
            self._put(number, int(np.argmin(((after**2 - before**2) * self._scale).sum(axis=1))))

    def _put(self, number: int, part: int) -> None:
        self.part[number] = part
        self._held[part] += self._counts[number]

    def improve(self) -> None:
        """Move or exchange groups, the best change first, until no change helps."""
        most = MOST_NUMBERS // (self._counts.size * len(self._held))
        for _ in range(min(max(most, FEWEST_CHANGES), MOST_CHANGES)):
            if not (self._moved() or self._exchanged()):
                return

    def _moved(self) -> bool:
        """Make the best move of one group to another part, if one helps."""
        parts = np.arange(len(self._held))
        now = self._cost(self._held, parts)
        left = self._cost(self._held[self.part] - self._counts, self.part) - now[self.part]
        joined = np.stack([self._cost(self._held[to] + self._counts, int(to)) - now[to] for to in parts], axis=1)
        change = left[:, None] + joined
        change[np.arange(len(change)), self.part] = 0
        number, to = np.unravel_index(np.argmin(change), change.shape)
        if change[number, to] >= HELPS:
            return False
        self._held[self.part[number]] -= self._counts[number]
        self._put(int(number), int(to))
        return True

    def _exchanged(self) -> bool:
        """Make the best exchange of two groups, if one helps."""
        if len(self.part) > FEW_GROUPS:
            return False
        now = self._cost(self._held, np.arange(len(self._held)))
        best, pair = HELPS, None
        for number, counts in enumerate(self._counts):
            others = np.flatnonzero(self.part > self.part[number])
            if not len(others):
                continue
            ours, theirs, difference = self.part[number], self.part[others], self._counts[others] - counts
            change = self._cost(self._held[ours] + difference, ours) - now[ours]
            change = change + self._cost(self._held[theirs] - difference, theirs) - now[theirs]
            if change.min() < best:
                best, pair = float(change.min()), (number, int(others[np.argmin(change)]))
        if pair is None:
            return False
        one, other = pair
        parts = int(self.part[one]), int(self.part[other])
        for each, place in zip(pair, parts, strict=True):
            self._held[place] -= self._counts[each]
        self._put(one, parts[1])
        self._put(other, parts[0])
        return True
