"""A tensor file holds the values that were in memory, however they lay there."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from milbench.formats import tensor_file
from milbench.formats.tensor_file import write_tensors

GRID = torch.arange(12.0).reshape(3, 4)

LAID_OUT: dict[str, Tensor] = {
    "transposed": GRID.t(),
    "every second column": GRID[:, ::2],
    "expanded": torch.tensor([1.0, 2.0, 3.0]).expand(4, 3),
    "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    "a number": torch.tensor(2.5),
    "empty": torch.empty(0, 3),
    "bfloat16": GRID.t().bfloat16(),
    "not a number": torch.tensor([[1.0, float("nan")], [0.0, -0.0]]).t(),
}


@pytest.mark.parametrize("name", LAID_OUT)
def test_values_read_back_in_their_order_whatever_their_place_in_memory(tmp_path: Path, name: str) -> None:
    write_tensors(tmp_path / "x.safetensors", {"w": LAID_OUT[name]})
    torch.testing.assert_close(
        load_file(tmp_path / "x.safetensors")["w"], LAID_OUT[name], rtol=0, atol=0, equal_nan=True
    )


def test_tensors_that_share_memory_are_written_each_in_full(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x.safetensors", {"tied": GRID, "also": GRID, "part": GRID[1]}, {"note": "kept"})
    stored = load_file(tmp_path / "x.safetensors")
    assert torch.equal(stored["tied"], GRID)
    assert torch.equal(stored["also"], GRID)
    assert torch.equal(stored["part"], GRID[1])


def test_a_file_that_reads_back_otherwise_is_refused_by_the_tensors_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensor_file, "load_file", lambda _: {"w": GRID + 1, "b": GRID})
    with pytest.raises(OSError, match=r"x\.safetensors holds other values of w than were written"):
        write_tensors(tmp_path / "x.safetensors", {"w": GRID, "b": GRID})
