"""Convolutions of a grid at once give the values and gradients of torch's convolution, and are taken where they save time."""

import pytest
import torch
from torch import Tensor
from torch.func import grad
from torch.nn.functional import conv2d

from milbench_baselines.layers import depthwise, grid_convolution, grid_taps, grid_whole
from milbench_baselines.layers.grid_whole import goes_whole, whole

pytestmark = pytest.mark.skipif(
    not grid_convolution.is_convolved_fast(torch.float32),
    reason="oneDNN does not know this processor: strips go tap by tap",
)


def reference(rows: Tensor, kernel: Tensor, side: int) -> Tensor:
    grid = rows.reshape(side, side, -1).permute(2, 0, 1)[None]
    return conv2d(grid, kernel, padding=kernel.shape[-1] // 2, groups=len(kernel))[0].flatten(1).T


def made(side: int, size: int, channels: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(side)
    rows, kernel = (
        torch.randn(side**2, channels, generator=generator),
        torch.randn(channels, 1, size, size, generator=generator),
    )
    return rows.requires_grad_(), kernel.requires_grad_()


@pytest.mark.parametrize("size", [1, 3, 5, 7, 9])
@pytest.mark.parametrize(("side", "channels"), [(1, 4), (2, 16), (6, 20), (11, 7), (23, 48)])
def test_values_and_gradients_are_those_of_a_convolution(side: int, size: int, channels: int) -> None:
    given = made(side, size, channels)
    doubled = [each.detach().double().requires_grad_() for each in given]
    ours, theirs = whole(*given, side), reference(*doubled, side)
    weight = (
        torch.randn(ours.shape, generator=torch.Generator().manual_seed(1)).T.contiguous().T
    )  # not as it lies in memory
    found, expected = torch.autograd.grad(ours, given, weight), torch.autograd.grad(theirs, doubled, weight.double())
    for mine, other in zip((ours, *found), (theirs, *expected), strict=True):
        torch.testing.assert_close(mine.double(), other, atol=2e-5 * size**2, rtol=1e-5)


@pytest.mark.parametrize("wanted", [0, 1])
def test_a_gradient_that_nobody_wants_is_left_out(wanted: int) -> None:
    given = made(6, 5, 8)
    given[1 - wanted].requires_grad_(requires_grad=False)
    (found,) = torch.autograd.grad(whole(*given, 6).square().sum(), given[wanted])
    (expected,) = torch.autograd.grad(reference(*given, 6).square().sum(), given[wanted])
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-4)


def test_a_second_gradient_is_refused() -> None:
    rows, kernel = made(6, 5, 8)
    (first,) = torch.autograd.grad(whole(rows, kernel, 6).square().sum(), rows, create_graph=True)
    with pytest.raises(RuntimeError, match="gradient of a gradient"):
        torch.autograd.grad(first.sum(), kernel)


def test_it_is_taken_for_what_lies_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, kernel = made(6, 5, 8)
    assert goes_whole(rows, kernel)
    assert not goes_whole(rows.double(), kernel.double())
    with torch.autocast("cpu", torch.bfloat16):
        assert not goes_whole(rows, kernel)
    asked = []
    grad(lambda x: (asked.append(goes_whole(x, kernel)), x.sum())[1])(
        rows
    )  # which a function of the old kind cannot be in
    assert asked == [False]
    monkeypatch.setattr(grid_taps, "NUMBERS_OF_A_BLOCK", 1)
    assert not goes_whole(rows, kernel)


@pytest.mark.parametrize(
    ("side", "size", "goes"),
    [(22, 3, "conv2d"), (23, 3, "whole"), (8, 5, "whole"), (6, 7, "whole")],
)
def test_wide_kernels_and_larger_grids_go_whole(
    side: int, size: int, goes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = []
    for name, module in (("whole", grid_whole), ("conv2d", depthwise)):
        taken = getattr(module, name)
        monkeypatch.setattr(
            depthwise, name, lambda *x, _name=name, _taken=taken, **y: ways.append(_name) or _taken(*x, **y)
        )
    given = made(side, size, 96)
    (found,) = depthwise.depthwise([given[0]], [given[1]], side)
    assert ways == [goes]
    torch.testing.assert_close(found, reference(*given, side), atol=1e-4, rtol=1e-4)
