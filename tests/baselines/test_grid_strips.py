"""Convolutions in strips give the values and gradients of torch's convolution, in stacks too."""

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap
from torch.nn.functional import conv2d

from milbench_baselines.layers import grid_taps
from milbench_baselines.layers.grid_strips import in_strips

CHANNELS = 3


@pytest.fixture(params=[1, 40, 90, 2**18], autouse=True)
def _numbers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_taps, "NUMBERS_OF_A_BLOCK", request.param)


def reference(rows: Tensor, kernel: Tensor, side: int) -> Tensor:
    grid = rows.reshape(side, side, -1).permute(2, 0, 1)[None]
    return conv2d(grid, kernel, padding=kernel.shape[-1] // 2, groups=len(kernel))[0].flatten(1).T


def made(side: int, size: int, *lead: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(side)
    shapes = (side**2, CHANNELS), (CHANNELS, 1, size, size)
    rows, kernel = (torch.randn(*lead, *shape, generator=generator).double().requires_grad_() for shape in shapes)
    return rows, kernel


def assert_same(ours: Tensor, theirs: Tensor, given: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1)).double()
    found, expected = (torch.autograd.grad((each * weight).sum(), given) for each in (ours, theirs))
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("side", [1, 2, 5, 9, 11])
def test_values_and_gradients_are_those_of_a_convolution(side: int, size: int) -> None:
    given = made(side, size)
    assert_same(in_strips(*given, side), reference(*given, side), given)


def test_mapped_over_models_and_bags() -> None:
    (rows, _), (_, kernel) = made(5, 3, 2, 3), made(5, 3, 2)

    def mapped(function):
        def one(x, w):
            return function(x, w, 5)

        yield vmap(lambda x, w: vmap(one, (0, None))(x, w))(rows, kernel)
        yield vmap(lambda x: vmap(one)(x, kernel), 1, 1)(rows)

    for ours, theirs in zip(mapped(in_strips), mapped(reference), strict=True):
        assert_same(ours, theirs, (rows, kernel))


@pytest.mark.parametrize("dims", list(product((0, None), repeat=2))[:-1])
def test_gradients_inside_vmap_are_those_of_each(dims: tuple[int | None, ...]) -> None:
    given = [each.detach() if dim == 0 else each[0].detach() for each, dim in zip(made(5, 3, 3), dims, strict=True)]
    ours, theirs = (
        vmap(grad(lambda *each, f=f: (f(*each, 5) ** 2).sum(), argnums=(0, 1)), dims)(*given)
        for f in (in_strips, reference)
    )
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-10)
