"""Shake-Shake: the random factors, forward and backward pass, and Gastaldi's networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hpbandster_lite.errors import UsageError
from hpbandster_lite.workers.networks.branches import Branches, Factors, MixedBlock, MixedStage, mix
from hpbandster_lite.workers.networks.shake_shake import ShakeShake, ShakeShakeNet
from hpbandster_lite.workers.training.memory import parameter_count

IMAGES = 4_000
"""Number of draws with which a mean is known within 0.02 and the largest gap of a distribution within 0.03."""


def images(n: int = 3, width: int = 2, **options: Any) -> torch.Tensor:
    return torch.randn(n, width, 5, 4, **options)


def drawn(branches: int, n: int = IMAGES, **options: Any) -> Factors:
    torch.manual_seed(0)
    factors = ShakeShake(branches, **options).draw(torch.empty(n, 1, 1, 1))
    return Factors(factors.forward[0, :, :, 0, 0, 0], factors.backward[0, :, :, 0, 0, 0])


# ---------------------------------------------------------------------------------------------------------------- sum


@pytest.mark.parametrize("n_factors", [1, 3])
@pytest.mark.parametrize("side_by_side", [False, True])
@pytest.mark.parametrize("branches", [1, 2, 5])
def test_outputs_are_weighted_by_some_factors_and_gradients_by_others(
    branches: int, side_by_side: bool, n_factors: int
) -> None:
    shortcut = images(requires_grad=True)
    each = [images(requires_grad=True) for _ in range(branches)]
    factors = Factors(torch.rand(branches, n_factors, 1, 1, 1), torch.rand(branches, n_factors, 1, 1, 1))
    out = mix(shortcut, [torch.cat(each, dim=1)] if side_by_side else each, factors)
    expected = sum((a * x for a, x in zip(factors.forward, each, strict=True)), shortcut)
    torch.testing.assert_close(out, expected)
    gradient = images()
    torch.autograd.backward(out, gradient)
    assert shortcut.grad is not None
    assert torch.equal(shortcut.grad, gradient)
    for branch, beta in zip(each, factors.backward, strict=True):
        torch.testing.assert_close(branch.grad, beta * gradient)


def test_a_number_weights_all_branches_and_has_its_own_gradient() -> None:
    shortcut, one, two = (images(requires_grad=True) for _ in range(3))
    for branches in ([one, two], [torch.cat([one, two], dim=1)]):
        torch.testing.assert_close(mix(shortcut, branches, 0.25), shortcut + 0.25 * (one + two))
    torch.testing.assert_close(mix(None, [one, two], 0.25), 0.25 * (one + two))
    torch.autograd.backward(mix(None, [one, two], 0.25).sum())
    torch.testing.assert_close(one.grad, torch.full_like(one, 0.25))


def test_mixing_keeps_its_inputs_and_their_memory_format() -> None:
    shortcut, both = (images(width=w).contiguous(memory_format=torch.channels_last) for w in (2, 4))
    before = shortcut.clone(), both.clone()
    both.requires_grad_()
    out = mix(shortcut, [both], Factors(torch.rand(2, 3, 1, 1, 1), torch.rand(2, 3, 1, 1, 1)))
    torch.autograd.backward(out.sum())
    assert both.grad is not None
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert both.grad.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(shortcut, before[0])
    assert torch.equal(both, before[1])


def test_nothing_to_mix_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one branch"):
        mix(None, [], Factors(torch.rand(0, 1, 1, 1, 1), torch.rand(0, 1, 1, 1, 1)))


# -------------------------------------------------------------------------------------------------------------- draws


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("branches", [2, 3, 5])
def test_numbers_of_an_image_are_positive_and_sum_to_one_with_equal_means(branches: int, softmax: bool) -> None:
    for numbers in drawn(branches, softmax=softmax):
        assert numbers.shape == (branches, IMAGES)
        assert numbers.min() >= 0
        torch.testing.assert_close(numbers.sum(dim=0), torch.ones(IMAGES))
        torch.testing.assert_close(numbers.mean(dim=1), torch.full((branches,), 1 / branches), atol=0.02, rtol=0)


def test_two_branches_draw_from_the_unit_interval_uniformly() -> None:
    alpha = drawn(2).forward[0].sort().values
    gap = (alpha - torch.arange(IMAGES) / IMAGES).abs().max()
    assert gap < 0.03


@pytest.mark.parametrize("branches", [3, 4])
def test_more_branches_draw_from_the_simplex_uniformly(branches: int) -> None:
    """The flat Dirichlet distribution: P(alpha_i > t) = (1 - t)^(n - 1), with variance (n - 1) / (n² (n + 1))."""
    numbers = drawn(branches).forward
    for t in (0.1, 0.3, 0.6):
        share = (numbers > t).float().mean(dim=1)
        torch.testing.assert_close(share, torch.full((branches,), (1 - t) ** (branches - 1)), atol=0.03, rtol=0)
    expected = (branches - 1) / (branches**2 * (branches + 1))
    assert numbers.var().item() == pytest.approx(expected, rel=0.1)


def test_softmax_of_two_uniform_numbers_stays_near_a_half() -> None:
    alpha = drawn(2, softmax=True).forward
    assert 0.269 < alpha.min() < 0.29
    assert 0.71 < alpha.max() < 0.7311


def test_forward_and_backward_numbers_are_drawn_apart() -> None:
    forward, backward = drawn(2)
    correlation = torch.corrcoef(torch.stack([forward[0], backward[0]]))[0, 1]
    assert abs(correlation) < 0.06


@pytest.mark.parametrize(
    ("forward", "backward", "equal"),
    [
        ("shake", "keep", True), ("keep", "shake", True), ("shake", "shake", False), ("shake", "even", False),
        ("even", "shake", False), ("even", "keep", True), ("keep", "even", True), ("even", "even", True),
    ],
)  # fmt: skip
def test_each_mode_of_each_pass(forward: str, backward: str, equal: bool) -> None:
    numbers = drawn(3, n=7, forward=forward, backward=backward)
    assert torch.equal(*numbers) == equal
    even = torch.full((3, 7), 1 / 3)
    for mode, other, its in ((forward, backward, numbers.forward), (backward, forward, numbers.backward)):
        assert torch.equal(its, even) == (mode == "even" or (mode == "keep" and other == "even"))


def test_images_have_their_own_numbers_or_share_them() -> None:
    assert drawn(2, n=50, level="batch").forward.shape == (2, 1)
    assert len(set(drawn(2, n=50, level="image").forward[0].tolist())) == 50


def test_blocks_of_a_stage_have_their_own_numbers() -> None:
    factors = ShakeShake(2, blocks=3).draw(images())
    assert factors.forward.shape == (3, 2, 3, 1, 1, 1)
    assert len(set(factors.forward[:, 0].flatten().tolist())) == 9
    first, *_ = factors.per_block()
    assert torch.equal(first.backward, factors.backward[0])


def test_numbers_have_the_type_of_the_images() -> None:
    assert ShakeShake(2).draw(images(dtype=torch.bfloat16)).forward.dtype == torch.bfloat16


def test_the_same_seed_draws_the_same_numbers() -> None:
    assert torch.equal(drawn(3).forward, drawn(3).forward)


def test_by_itself_it_mixes_branches_evenly_in_evaluation_and_at_random_in_training() -> None:
    law = ShakeShake(3)
    each = [images() for _ in range(3)]
    assert not torch.equal(law(*each), law(*each))
    law.eval()
    torch.testing.assert_close(law(*each), sum(each) / 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"forward": "random"}, "forward of Shake-Shake must be one of shake, even, keep, got 'random'"),
        ({"backward": "odd"}, "backward of Shake-Shake must be one of"),
        ({"level": "pixel"}, "level of Shake-Shake must be one of batch, image, got 'pixel'"),
        ({"forward": "keep", "backward": "keep"}, "set one of them to shake or even"),
        ({"branches": 1}, "got branches=1; use ShakeDrop for one branch"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        ShakeShake(**options)
    assert message in str(caught.value)


# ----------------------------------------------------------------------------------------------------------- branches


@pytest.mark.parametrize("layout", ["wide", "grouped"])
@pytest.mark.parametrize("ends_normalised", [False, True])
def test_all_layouts_compute_the_same_outputs_gradients_and_statistics(layout: Any, ends_normalised: bool) -> None:
    results = []
    x = torch.randn(6, 4, 8, 8)
    for its in ("separate", layout):
        torch.manual_seed(3)
        branches = Branches(4, 5, 2, 3, ends_normalised=ends_normalised, layout=its)
        out = torch.cat(list(branches(x)), dim=1)
        torch.autograd.backward(out.square().sum())
        gradients = [parameter.grad for parameter in branches.parameters()]
        branches.eval()
        results.append([out, *gradients, *branches.buffers(), torch.cat(list(branches(x)), dim=1)])
    for separate, other in zip(*results, strict=True):
        torch.testing.assert_close(other, separate, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layout", ["separate", "wide", "grouped"])
def test_each_branch_is_two_normalised_convolutions(layout: Any) -> None:
    branches = Branches(2, 3, 1, 2, layout=layout)
    x = torch.randn(6, 2, 8, 8)
    out = torch.cat(list(branches(x)), dim=1)
    for i in range(2):
        rows = slice(3 * i, 3 * i + 3)
        inner = torch.relu(normalised(nn.functional.conv2d(x, branches.first.weight[rows], padding=1)))
        expected = normalised(nn.functional.conv2d(inner, branches.second.weight[rows], padding=1))
        torch.testing.assert_close(out[:, rows], expected, atol=1e-5, rtol=1e-4)


def normalised(x: torch.Tensor) -> torch.Tensor:
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
    return (x - mean) / (variance + 1e-5).sqrt()


def test_a_branch_has_the_weights_that_it_would_have_alone() -> None:
    torch.manual_seed(0)
    branches = Branches(32, 64, 1, 3)
    for convolution in (branches.first, branches.second):
        assert convolution.weight.std().item() == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.02)


def test_each_branch_is_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    real = nn.functional.conv2d

    def counted(*args: Any, **named: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return real(*args, **named)

    monkeypatch.setattr(nn.functional, "conv2d", counted)
    MixedStage([MixedBlock(4, 4, 1, 3, layout="separate")], ShakeShake(3))(torch.randn(2, 4, 8, 8))
    assert calls == 6


# ----------------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize(
    ("depth", "width", "parameters"),
    [(26, 32, 2_923_162), (26, 64, 11_653_978), (26, 96, 26_192_922), (26, 112, 35_640_442), (20, 64, 8_553_818)],
)
def test_the_nets_of_the_paper_have_its_parameters(depth: int, width: int, parameters: int) -> None:
    with torch.device("meta"):
        assert parameter_count(ShakeShakeNet(depth, width)) == parameters


@pytest.mark.parametrize(
    ("depth", "nearest"), [(25, "use 20 or 26"), (29, "use 26 or 32"), (2, "use 8"), (0, "use 8")]
)
def test_an_invalid_depth_is_refused_with_the_nearest_ones(depth: int, nearest: str) -> None:
    with pytest.raises(UsageError, match=rf"depth={depth}; {nearest}$"):
        ShakeShakeNet(depth, 32)


def test_a_branch_without_channels_is_refused() -> None:
    with pytest.raises(UsageError, match="width=0"):
        ShakeShakeNet(26, 0)


def test_a_training_step_disturbs_and_evaluation_does_not() -> None:
    network = ShakeShakeNet(8, 2)
    x = torch.randn(4, 3, 32, 32)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))
