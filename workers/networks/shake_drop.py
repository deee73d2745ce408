"""ShakeDrop (Yamada et al., arXiv:1802.02375): random factors disturb a residual branch and its gradient.

Law of this file: the forward factor of a branch is ``b + alpha - b alpha`` and the backward factor ``b + beta - b
beta``. The gate b is 1 with the block's probability of survival p; alpha ~ U(-1, 1) and beta ~ U(0, 1). At test time
the factor is the expectation of the forward factor, which is p.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import torch

from hpbandster_lite.errors import UsageError
from hpbandster_lite.workers.networks.branches import Factors, Level, Mixing, mix

Decay: TypeAlias = Literal["constant", "linear"]
ALPHA = (-1.0, 1.0)


def death_rates(blocks: int, last: float, decay: Decay = "linear") -> tuple[float, ...]:
    """1 - p_l of each block of a network.

    Parameters
    ----------
    blocks
        L, the number of blocks.
    last
        1 - p_L, the death rate of the last block.
    decay
        ``linear`` (the default): p_l = 1 - (l / L) (1 - p_L) with l from 1, the paper's rule; ``constant``: all blocks
        have the death rate of the last block.

    Raises
    ------
    UsageError
        If the decay is unknown.
    """
    if decay not in get_args(Decay):
        raise UsageError(f"decay of ShakeDrop must be one of {', '.join(get_args(Decay))}, got {decay!r}")
    return tuple(last if decay == "constant" else last * block / blocks for block in range(1, blocks + 1))


class ShakeDrop(Mixing):
    """Random disturbance of a residual branch, for the blocks of a stage or for a single branch.

    Parameters
    ----------
    rates
        Death rate, 1 - p, of each block; or one number for one block. Default: 0.5.
    gate
        ``batch`` (the default): one gate for all images of a batch; ``image``: one gate for each image.
    level
        Whether alpha and beta are drawn for each ``image`` (the default) or once for the ``batch``.

    Raises
    ------
    UsageError
        If a rate is outside [0, 1], or an option has an unknown value.
    """

    rates: torch.Tensor

    def __init__(
        self, rates: float | Sequence[float] = 0.5, *, gate: Level = "batch", level: Level = "image"
    ) -> None:
        super().__init__()
        of_blocks = tuple(rates) if isinstance(rates, Sequence) else (rates,)
        for rate in of_blocks:
            if not 0 <= rate <= 1:
                raise UsageError(f"a death rate must be a probability from 0 to 1, got {rate}")
        for name, value in (("gate", gate), ("level", level)):
            if value not in get_args(Level):
                raise UsageError(f"{name} of ShakeDrop must be one of {', '.join(get_args(Level))}, got {value!r}")
        self._survival = [1 - rate for rate in of_blocks]
        self._gate, self._level = gate, level
        # A buffer moves to the network's device; not persistent, because it is not learned.
        self.register_buffer("rates", torch.tensor(of_blocks).reshape(-1, 1, 1, 1, 1, 1), persistent=False)

    def draw(self, x: torch.Tensor) -> Factors:
        """Factors for one step: see :meth:`Mixing.draw`."""
        # torch's U(0, 1) is below 1 and may be 0, so at rate 0 all blocks survive, and at rate 1 no block does.
        lives = self._uniform(self._gate, x) >= self.rates
        low, high = ALPHA
        alpha = self._uniform(self._level, x).mul_(high - low).add_(low)
        beta = self._uniform(self._level, x)
        return Factors(torch.where(lives, 1.0, alpha).to(x.dtype), torch.where(lives, 1.0, beta).to(x.dtype))

    def _uniform(self, level: Level, x: torch.Tensor) -> torch.Tensor:
        return torch.rand((len(self._survival), 1, x.shape[0] if level == "image" else 1, 1, 1, 1), device=x.device)

    def at_test_time(self) -> Sequence[float]:
        """Expectation of the forward factor of each block: p + (1 - p) E[alpha] = p."""
        return [survival + (1 - survival) * sum(ALPHA) / 2 for survival in self._survival]

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        """Disturb one residual branch, a tensor (images, ...) with four dimensions, without its shortcut."""
        factors = next(iter(self.draw(branch).per_block())) if self.training else self.at_test_time()[0]
        return mix(None, [branch], factors)
