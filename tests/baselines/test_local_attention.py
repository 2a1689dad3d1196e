"""Attention to the nearest patches against its definition."""

import pytest
import torch
from layouts_for_tests import grid_layout
from torch import Tensor
from torch.func import grad, vmap

from milbench_baselines.layers import local_attention as layer

LIMIT, HEADS, WIDTH = 1.0, 2, 12


def by_definition(q: Tensor, k: Tensor, v: Tensor, neighbours: Tensor) -> Tensor:
    """Every patch and head by itself, with all neighbours' rows gathered."""
    n, size = len(q), WIDTH // HEADS
    q, k, v = (each.reshape(n, HEADS, size) for each in (q, k, v))
    scores = torch.einsum("nhd,nkhd->nhk", q, k[neighbours]) / size**0.5
    weights = scores.clamp(-LIMIT, LIMIT).exp()
    mixed = torch.einsum("nhk,nkhd->nhd", weights, v[neighbours])
    return (mixed / weights.sum(dim=-1, keepdim=True)).flatten(1)


def ours(q: Tensor, k: Tensor, v: Tensor, neighbours: Tensor) -> Tensor:
    return layer.local_attention(q, k, v, neighbours, heads=HEADS, limit=LIMIT)


def tensors(n: int, k: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], Tensor]:
    """Queries, keys and values of n patches, and their neighbours."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randn(n, WIDTH, generator=generator, dtype=dtype).requires_grad_() for _ in range(3)]
    return rows, grid_layout(n, k, seed).neighbours.long()


def weighed(results: Tensor) -> Tensor:
    """A scalar that no permutation leaves as it is."""
    return (results * torch.arange(results.numel(), dtype=results.dtype).reshape(results.shape).cos()).sum()


@pytest.mark.parametrize("gathered", [1, 100, 2**19])
@pytest.mark.parametrize(("n", "k"), [(1, 4), (3, 4), (40, 6)])
def test_results_and_gradients_are_those_of_the_definition(monkeypatch, n, k, gathered):
    monkeypatch.setitem(layer.GATHERED, "cpu", gathered)
    rows, neighbours = tensors(n, k)
    torch.testing.assert_close(ours(*rows, neighbours), by_definition(*rows, neighbours))
    wanted = torch.autograd.grad(weighed(by_definition(*rows, neighbours)), rows)
    torch.testing.assert_close(torch.autograd.grad(weighed(ours(*rows, neighbours)), rows), wanted)


def test_many_bags_and_many_models_at_once_give_what_each_gives_alone():
    bags = [tensors(20, 5, seed) for seed in range(6)]
    q, k, v = (torch.stack([rows[i] for rows, _ in bags]).detach().reshape(2, 3, 20, WIDTH) for i in range(3))
    neighbours = torch.stack([near for _, near in bags[:3]])

    def gradient(*own: Tensor) -> tuple[Tensor, ...]:
        return grad(lambda *each: weighed(ours(*each)), argnums=(0, 1, 2))(*own)

    for f in (ours, gradient):
        together = vmap(vmap(f), in_dims=(0, 0, 0, None))(q, k, v, neighbours)
        alone = [[f(q[s, b], k[s, b], v[s, b], neighbours[b]) for b in range(3)] for s in range(2)]
        for part, found in enumerate(together if f is gradient else (together,)):
            each = [[one[part] if f is gradient else one for one in row] for row in alone]
            torch.testing.assert_close(found, torch.stack([torch.stack(row) for row in each]))
    shared = vmap(ours, in_dims=(0, None, None, None))(q[:, 0], k[0, 0], v[0, 0], neighbours[0])
    torch.testing.assert_close(shared[1], ours(q[1, 0], k[0, 0], v[0, 0], neighbours[0]))


def test_the_same_step_gives_the_same_bits():
    rows, neighbours = tensors(300, 16, dtype=torch.float32)
    first, second = (torch.autograd.grad(weighed(ours(*rows, neighbours)), rows) for _ in range(2))
    assert all(map(torch.equal, first, second))


def test_only_queries_keys_values_and_neighbours_are_kept():
    rows, neighbours = tensors(50, 16)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape), lambda _: None):
        ours(*rows, neighbours)
    assert kept == [(50, WIDTH)] * 3 + [(50, 16)]


def test_bfloat16_is_summed_in_float32():
    rows, neighbours = tensors(40, 16, dtype=torch.bfloat16)
    found = ours(*rows, neighbours)
    found.sum().backward()
    assert found.dtype == torch.bfloat16
    assert all(each.grad.dtype == torch.bfloat16 for each in rows)
    exact = by_definition(*(each.float() for each in rows), neighbours)
    torch.testing.assert_close(found, exact.bfloat16(), rtol=0.01, atol=1e-3)


def test_what_patches_get_is_the_mean_of_the_weights_on_them():
    rows, neighbours = tensors(30, 5)
    weights = layer.local_weights(*rows[:2], neighbours, heads=HEADS, limit=LIMIT)
    got = layer.received(weights, neighbours)
    every = torch.zeros(HEADS, 30, 30, dtype=torch.float64)
    every.scatter_(2, neighbours.expand(HEADS, -1, -1), weights.detach())
    torch.testing.assert_close(got.detach(), every.mean(dim=1))
    torch.testing.assert_close(got.sum(dim=1), torch.ones(HEADS, dtype=torch.float64))
