"""Attention to all patches against its definition, with dropout and without."""

import pytest
import torch
from torch import Tensor
from torch.func import grad, vmap

from milbench_baselines.layers import full_attention as layer
from milbench_baselines.layers.dropout import Dropout

ROOMS = [1, 60, 2**21]
"""Weights that are made at once: one row, a few rows, all bags."""


def tensors(n: int, n_patches: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Queries [2, n, 4], keys and values [2, N, 4]."""
    generator = torch.Generator().manual_seed(seed)
    sizes = (n, n_patches, n_patches)
    return [torch.randn(2, size, 4, generator=generator, dtype=dtype).requires_grad_() for size in sizes]


def weighed(results: Tensor) -> Tensor:
    """A scalar that no permutation leaves as it is."""
    return (results * torch.arange(results.numel(), dtype=results.dtype).reshape(results.shape).cos()).sum()


def factors(q: Tensor, k: Tensor, dropout: Dropout, seed: int) -> Tensor:
    """Factors of dropout [2, n, N] that `full_attention` takes from torch's generator in this state, part by part."""
    torch.manual_seed(seed)
    drawn = int(torch.randint(2**62, (1,)))
    parts = [
        dropout.seeded((2, len(q[0, rows]), k.shape[1]), q, drawn + rows.start)
        for _, rows in layer._parts(q[None], k[None])
    ]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize(("n", "n_patches"), [(1, 1), (7, 7), (3, 9)])
def test_results_and_gradients_are_those_of_the_definition(monkeypatch, n, n_patches, rate, room):
    monkeypatch.setitem(layer.WEIGHTS, "cpu", room)
    q, k, v = rows = tensors(n, n_patches)
    dropout = Dropout(rate)
    kept = factors(q, k, dropout, 5) if rate else 1.0
    wanted = ((q @ k.mT / 2).softmax(dim=-1) * kept) @ v
    torch.manual_seed(5)
    found = layer.full_attention(q, k, v, dropout)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(torch.autograd.grad(weighed(found), rows), torch.autograd.grad(weighed(wanted), rows))


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_a_stack_and_many_bags_give_what_each_gives_alone(monkeypatch, rate, room):
    monkeypatch.setitem(layer.WEIGHTS, "cpu", room)
    dropout, bags = Dropout(rate), [tensors(5, 8, seed) for seed in range(3)]
    together = [torch.stack([rows[i] for rows in bags]).detach() for i in range(3)]

    def gradient(*rows: Tensor) -> tuple[Tensor, ...]:
        return grad(lambda *each: weighed(layer.full_attention(*each, dropout)), argnums=(0, 1, 2))(*rows)

    torch.manual_seed(5)
    stacked = vmap(gradient, randomness="same")(*together)
    for i, rows in enumerate(bags):
        torch.manual_seed(5)
        torch.testing.assert_close([each[i] for each in stacked], list(gradient(*rows)))
    shared = vmap(lambda q: layer.full_attention(q, *bags[0][1:]))(together[0])
    torch.testing.assert_close(shared[2], layer.full_attention(bags[2][0], *bags[0][1:]))


def test_bags_that_draw_for_themselves_get_masks_of_their_own():
    q, k, v = (each.detach().expand(2, *each.shape) for each in tensors(5, 8))
    out = vmap(lambda *rows: layer.full_attention(*rows, Dropout(0.5)), randomness="different")(q, k, v)
    assert not torch.equal(*out)


def test_in_eval_mode_nothing_drops_out_and_nothing_is_drawn():
    rows, state = tensors(5, 8), torch.get_rng_state()
    assert torch.equal(layer.full_attention(*rows, Dropout(0.5).eval()), layer.full_attention(*rows))
    assert torch.equal(torch.get_rng_state(), state)


def test_only_queries_keys_and_values_are_kept():
    rows, kept = tensors(5, 90), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()), lambda _: None):
        layer.full_attention(*rows, Dropout(0.5))
    assert sum(kept) == sum(each.numel() for each in rows) + 1  # the seed


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_bfloat16_stays_bfloat16(rate):
    rows = tensors(5, 8, dtype=torch.bfloat16)
    found = layer.full_attention(*rows, Dropout(rate))
    found.sum().backward()
    assert found.dtype == torch.bfloat16
    assert all(each.grad.dtype == torch.bfloat16 and each.grad.isfinite().all() for each in rows)


def test_what_patches_get_is_the_mean_of_the_weights_on_them(monkeypatch):
    monkeypatch.setitem(layer.WEIGHTS, "cpu", 60)
    q, k, _ = tensors(7, 9)
    torch.testing.assert_close(layer.received(q, k), layer.full_weights(q, k).mean(dim=1))


def test_a_seeded_mask_has_the_rate_and_is_the_same_again():
    like, dropout = torch.zeros(()), Dropout(0.25)
    first = dropout.seeded((400, 500), like, 3)
    assert torch.equal(first, dropout.seeded((400, 500), like, 3))
    assert not torch.equal(first, dropout.seeded((400, 500), like, 4))
    assert (first == 0).float().mean().item() == pytest.approx(0.25, abs=0.005)
    assert first.mean().item() == pytest.approx(1, abs=0.01)
