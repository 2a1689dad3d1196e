"""Work in chunks of rows gives what the whole gives, with gradients, inside vmap, and keeps nothing in between."""

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

from milbench_baselines.layers import row_chunks
from milbench_baselines.layers.row_chunks import of_row_chunks

ROWS, PLACES, SHARED = torch.randn(11, 4).double(), torch.arange(11).flip(0) % 5, torch.randn(5, 4).double()


def mixed(rows: Tensor, places: Tensor, shared: Tensor) -> Tensor:
    return (rows * shared[places]).exp() + shared.sum(dim=0)


def chunked(rows: Tensor, shared: Tensor) -> Tensor:
    return of_row_chunks(mixed, (rows, PLACES), (shared,), entries_per_row=4)


def whole(rows: Tensor, shared: Tensor) -> Tensor:
    return mixed(rows, PLACES, shared)


@pytest.fixture(params=[1, 4, 11 * 4, 2**21], ids=["a row", "one row", "all rows", "more than all"], autouse=True)
def _entries(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_chunks, "ENTRIES", request.param)


def test_values_and_gradients_are_those_of_the_whole() -> None:
    for index in (0, 1):
        ours, theirs = (grad(lambda *given, f=f: (f(*given) ** 2).sum(), argnums=index) for f in (chunked, whole))
        torch.testing.assert_close(ours(ROWS, SHARED), theirs(ROWS, SHARED))
    torch.testing.assert_close(chunked(ROWS, SHARED), whole(ROWS, SHARED))


@pytest.mark.parametrize("dims", [(0, None), (None, 0), (0, 0)])
def test_many_at_once_have_the_gradients_of_each(dims: tuple[int | None, int | None]) -> None:
    rows = torch.stack([ROWS, -ROWS]) if dims[0] == 0 else ROWS
    shared = torch.stack([SHARED, SHARED / 2]) if dims[1] == 0 else SHARED
    ours, theirs = (
        vmap(grad(lambda *given, f=f: (f(*given) ** 2).sum(), argnums=(0, 1)), dims)(rows, shared)
        for f in (chunked, whole)
    )
    torch.testing.assert_close(ours, theirs)


def test_only_the_inputs_are_kept() -> None:
    kept: list[int] = []
    rows, shared = ROWS.clone().requires_grad_(), SHARED.clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        chunked(rows, shared)
    assert set(kept) == {rows.data_ptr(), PLACES.data_ptr(), shared.data_ptr()}


def test_a_backward_under_autocast_has_the_dtypes_of_its_inputs() -> None:
    rows, shared = ROWS.bfloat16().requires_grad_(), SHARED.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        out = chunked(rows, shared)
    out.sum().backward()
    assert rows.grad is not None
    assert out.dtype == rows.grad.dtype == torch.bfloat16
