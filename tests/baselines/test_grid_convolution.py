"""Depthwise convolutions of some rows of a grid, by oneDNN and tap by tap: values, gradients, and the way that oneDNN goes."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from milbench_baselines.layers import grid_convolution, grid_taps
from milbench_baselines.layers.grid_convolution import add_gradient_of_kernel, convolved
from milbench_baselines.layers.grid_taps import row_blocks

needs_onednn = pytest.mark.skipif(
    not grid_convolution.is_convolved_fast(torch.float32),
    reason="oneDNN does not know this processor, so taps are all there is",
)


def window_of(cells: Tensor, rows: slice, size: int) -> Tensor:
    """What a kernel of `size` reads for some rows of cells [k, k, C], with zeros around the grid."""
    reach = size // 2
    return pad(cells, (0, 0, reach, reach, reach, reach))[rows.start : rows.stop + 2 * reach].contiguous()


@pytest.mark.parametrize("size", [1, 3, 5, 7, 9])
@pytest.mark.parametrize(("side", "channels"), [(1, 4), (2, 16), (6, 20), (11, 7), (23, 48)])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-11), pytest.param(torch.float32, 1e-5, marks=needs_onednn)], ids=str
)
def test_rows_are_convolved_and_their_kernels_get_their_gradient(
    size: int, side: int, channels: int, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid_taps, "NUMBERS_OF_A_BLOCK", 90)  # some rows, and fewer within them
    torch.manual_seed(size)
    kernel = torch.randn(channels, 1, size, size, dtype=torch.float64, requires_grad=True)
    cells, of_out = torch.randn(2, side, side, channels, dtype=torch.float64)
    bias = torch.randn(channels, dtype=torch.float64)
    expected = conv2d(cells.permute(2, 0, 1)[None], kernel, bias, padding=size // 2, groups=channels)[0].permute(
        1, 2, 0
    )
    (of_kernel,) = torch.autograd.grad(expected, kernel, of_out)
    given, found, parts = kernel.detach().to(dtype), torch.zeros(kernel.shape, dtype=dtype), []
    for rows in row_blocks(side, channels):
        window = window_of(cells.to(dtype), rows, size)
        parts.append(convolved(window, given, bias.to(dtype)))
        assert parts[-1].is_contiguous()
        torch.testing.assert_close(convolved(window, given) + bias.to(dtype), parts[-1], atol=tolerance, rtol=tolerance)
        add_gradient_of_kernel(found, window, of_out[rows].to(dtype))
    torch.testing.assert_close(torch.cat(parts), expected.detach().to(dtype), atol=tolerance * size**2, rtol=tolerance)
    torch.testing.assert_close(found, of_kernel.to(dtype), atol=tolerance * size**2, rtol=tolerance)


@needs_onednn
def test_onednn_reads_the_channels_where_they_lie() -> None:
    window = torch.randn(1, 5, 8, 32)
    out = conv2d(grid_convolution._planes(window), torch.randn(32, 1, 3, 3), groups=32)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert not out.is_contiguous()
    assert grid_convolution._planes(window).data_ptr() == window.data_ptr()


@needs_onednn
def test_the_same_rows_give_the_same_bits() -> None:
    torch.manual_seed(0)
    window, of_out, kernel = torch.randn(16, 30, 128), torch.randn(10, 24, 128), torch.randn(128, 1, 7, 7)

    def both() -> tuple[Tensor, Tensor]:
        total = torch.zeros_like(kernel)
        add_gradient_of_kernel(total, window, of_out)
        return convolved(window, kernel), total

    for first, again in zip(both(), both(), strict=True):
        assert torch.equal(first, again)
