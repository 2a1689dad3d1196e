"""Depthwise convolution of small grids by matrix products, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.func import vmap
from torch.nn.functional import conv2d

from milbench_baselines.layers import depthwise as module
from milbench_baselines.layers.depthwise import _in_blocks, along, depthwise

MEMBERS, BAGS = 3, 4


def alone(rows: Tensor, kernel: Tensor, side: int) -> Tensor:
    (out,) = depthwise([rows], [kernel], side)
    return out


def reference(rows: Tensor, kernel: Tensor, side: int) -> Tensor:
    grid = rows.T.reshape(1, -1, side, side)
    return conv2d(grid, kernel, padding=kernel.shape[-1] // 2, groups=len(kernel))[0].flatten(1).T


def made(side: int, size: int, channels: int, *, double: bool = True) -> tuple[Tensor, Tensor]:
    """Rows [S, B, k k, C] and kernels [S, C, 1, s, s]."""
    torch.manual_seed(0)
    dtype = torch.float64 if double else torch.float32
    rows = torch.randn(MEMBERS, BAGS, side * side, channels, dtype=dtype, requires_grad=True)
    return rows, torch.randn(MEMBERS, channels, 1, size, size, dtype=dtype, requires_grad=True)


def assert_same(ours: Tensor, theirs: Tensor, *inputs: Tensor) -> None:
    """Values, and the gradients of a weighted sum of them."""
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    for found, expected in zip(
        torch.autograd.grad((ours * weight).sum(), inputs),
        torch.autograd.grad((theirs * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("side", "size", "channels"), [(1, 3, 2), (3, 7, 5), (6, 7, 64), (5, 5, 1)])
def test_small_grids_give_the_values_and_gradients_of_a_convolution(side: int, size: int, channels: int) -> None:
    rows, kernel = made(side, size, channels)
    ours, theirs = alone(rows[0, 0], kernel[0], side), reference(rows[0, 0], kernel[0], side)
    assert_same(ours, theirs, rows, kernel)


@pytest.mark.parametrize("members_first", [True, False])
def test_mapped_over_members_and_bags(members_first: bool) -> None:
    rows, kernel = made(4, 3, 6)

    def mapped(of_bag: object) -> Tensor:
        def call(r: Tensor, w: Tensor) -> Tensor:
            return of_bag(r, w, 4)  # type: ignore[operator, no-any-return]

        if members_first:
            return vmap(lambda r, w: vmap(call, (0, None))(r, w))(rows, kernel)  # type: ignore[no-any-return]
        return vmap(lambda r: vmap(call)(r, kernel), 1, 1)(rows)  # type: ignore[no-any-return]

    ours, theirs = mapped(alone), mapped(reference)
    assert_same(ours, theirs, rows, kernel)


def test_large_grids_are_convolved(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Tensor:
        raise AssertionError("a matrix of a large grid")

    monkeypatch.setattr(module, "reads", refuse)
    rows, kernel = made(12, 7, 64)
    torch.testing.assert_close(alone(rows[0, 0], kernel[0], 12), reference(rows[0, 0], kernel[0], 12))


def test_under_autocast_the_product_is_float32_and_has_gradients() -> None:
    rows, kernel = made(3, 3, 2, double=False)
    with torch.autocast("cpu", torch.bfloat16):
        out = alone(rows[0, 0], kernel[0], 3)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, reference(rows[0, 0], kernel[0], 3), atol=0.05, rtol=0.02)
    for gradient in torch.autograd.grad(out.sum(), (rows, kernel)):
        assert gradient.dtype == torch.float32


@pytest.mark.parametrize("length", [5, 400])
def test_a_sequence_gives_the_wanted_rows_of_a_convolution(length: int) -> None:
    torch.manual_seed(0)
    rows = torch.randn(2, length, 3, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(2, 33, dtype=torch.float64, requires_grad=True)

    def reference_of(wanted: slice) -> Tensor:
        return conv2d(rows[None], kernel[:, None, :, None], padding=(16, 0), groups=2)[0][:, wanted]

    assert module.goes_as_matrices(2 * 33, length) == (length == 5), "the two lengths are there to try both ways"
    for wanted in (slice(0, length), slice(2, 4)):
        assert_same(along(rows, kernel, wanted), reference_of(wanted), rows, kernel)


@pytest.mark.parametrize("length", [1, 31, 32, 33, 100])
@pytest.mark.parametrize("size", [1, 3, 33, 67])
def test_a_sequence_in_blocks_gives_the_values_and_gradients_of_a_convolution(length: int, size: int) -> None:
    """What GPUs compute, here on a CPU, mapped over members as in a stack."""
    torch.manual_seed(0)
    rows = torch.randn(MEMBERS, 2, length + size - 1, 5, dtype=torch.float64, requires_grad=True)
    kernel = torch.randn(MEMBERS, 2, size, dtype=torch.float64, requires_grad=True)
    expected = torch.stack(
        [conv2d(r[None], k[:, None, :, None], groups=2)[0] for r, k in zip(rows, kernel, strict=True)]
    )
    assert_same(vmap(_in_blocks)(rows, kernel), expected, rows, kernel)
