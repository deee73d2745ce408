"""ShakeDrop: gates and random factors, forward and backward pass, evaluation mode, death rates over depth."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hpbandster_lite.errors import UsageError
from hpbandster_lite.workers.networks.branches import Factors
from hpbandster_lite.workers.networks.shake_drop import ShakeDrop, death_rates

IMAGES = 4_000


def drawn(rate: float, n: int = IMAGES, seed: int = 0, **options: Any) -> Factors:
    torch.manual_seed(seed)
    factors = ShakeDrop(rate, **options).draw(torch.empty(n, 1, 1, 1))
    return Factors(factors.forward.flatten(), factors.backward.flatten())


def test_outputs_are_multiplied_by_one_number_and_gradients_by_the_other() -> None:
    law = ShakeDrop(1.0)
    branch = torch.randn(3, 2, 4, 4, requires_grad=True)
    torch.manual_seed(4)
    (factors,) = law.draw(branch).per_block()
    torch.manual_seed(4)
    out = law(branch)
    torch.testing.assert_close(out, factors.forward[0] * branch)
    out.sum().backward()
    torch.testing.assert_close(branch.grad, factors.backward[0].expand_as(branch))


def test_an_open_gate_lets_everything_through_and_a_shut_one_nothing_but_alpha_and_beta() -> None:
    forward, backward = drawn(0.3, gate="image")
    lives = forward == 1
    assert torch.equal(lives, backward == 1)
    assert lives.float().mean().item() == pytest.approx(0.7, abs=0.03)
    alpha, beta = forward[~lives], backward[~lives]
    assert -1 <= alpha.min() < -0.99
    assert 0.99 < alpha.max() < 1
    assert 0 <= beta.min() < 0.01
    assert 0.99 < beta.max() < 1
    assert alpha.mean().item() == pytest.approx(0, abs=0.06)
    assert beta.mean().item() == pytest.approx(0.5, abs=0.03)
    assert abs(torch.corrcoef(torch.stack([alpha, beta]))[0, 1]) < 0.09


def test_a_gate_for_the_batch_opens_or_shuts_for_all_of_its_images() -> None:
    shares = torch.tensor([(drawn(0.5, n=20, seed=seed).forward == 1).float().mean() for seed in range(60)])
    assert set(shares.tolist()) == {0.0, 1.0}
    assert 0.3 < shares.mean() < 0.7


@pytest.mark.parametrize(("level", "different"), [("batch", 1), ("image", 50)])
def test_numbers_are_drawn_for_each_image_or_for_the_batch(level: Any, different: int) -> None:
    forward, backward = drawn(1.0, n=50, level=level)
    assert (len(set(forward.tolist())), len(set(backward.tolist()))) == (different, different)


def test_rate_zero_lets_every_block_live_and_rate_one_none() -> None:
    for numbers in drawn(0.0, gate="image"):
        assert torch.equal(numbers, torch.ones(IMAGES))
    assert not (drawn(1.0, gate="image").forward == 1).any()


def test_the_factor_of_test_time_is_the_expectation_of_the_forward_one() -> None:
    rates = (0.0, 0.2, 1.0)
    law = ShakeDrop(rates, gate="image")
    assert law.at_test_time() == pytest.approx([1.0, 0.8, 0.0])
    torch.manual_seed(0)
    means = law.draw(torch.empty(IMAGES, 1, 1, 1)).forward.mean(dim=(1, 2, 3, 4, 5))
    torch.testing.assert_close(means, torch.tensor(law.at_test_time()), atol=0.04, rtol=0)
    branch = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(ShakeDrop(0.2).eval()(branch), 0.8 * branch)


def test_blocks_of_a_stage_have_their_own_rates_and_gates() -> None:
    law = ShakeDrop((0.0, 1.0, 1.0))
    forward = law.draw(torch.empty(5, 1, 1, 1)).forward
    assert forward.shape == (3, 1, 5, 1, 1, 1)
    assert (forward[0] == 1).all()
    assert len(set(forward[1:].flatten().tolist())) == 10


def test_rates_are_no_part_of_a_checkpoint_but_move_with_the_network() -> None:
    law = ShakeDrop(0.5)
    assert not law.state_dict()
    assert law.to("meta").rates.device.type == "meta"


def test_the_death_rate_grows_linearly_to_that_of_the_last_block() -> None:
    assert death_rates(4, 0.5) == pytest.approx((0.125, 0.25, 0.375, 0.5))
    assert death_rates(3, 0.5, "constant") == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rates": 1.1}, "probability from 0 to 1, got 1.1"),
        ({"rates": (0.5, -0.1)}, "probability from 0 to 1, got -0.1"),
        ({"rates": float("nan")}, "probability from 0 to 1, got nan"),
        ({"gate": "pixel"}, "gate of ShakeDrop must be one of batch, image, got 'pixel'"),
        ({"level": "pixel"}, "level of ShakeDrop must be one of batch, image, got 'pixel'"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        ShakeDrop(**options)
    assert message in str(caught.value)


def test_a_decay_that_is_none_is_refused() -> None:
    decay: Any = "cosine"
    with pytest.raises(UsageError, match="constant, linear, got 'cosine'"):
        death_rates(3, 0.5, decay)
