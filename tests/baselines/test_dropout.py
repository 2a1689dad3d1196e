"""The dropout layer: what it draws, and that torch's transforms see it as they see torch's own."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.func import vmap

import milbench_baselines
from milbench.errors import UsageError
from milbench.registry import load_models
from milbench_baselines.layers.attention_branches import AttentionBranches
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.gated_attention import GatedAttention


def ones_through(p: float, shape: tuple[int, ...], *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    torch.manual_seed(seed)
    return Dropout(p).train()(torch.ones(shape, dtype=dtype))


@pytest.mark.parametrize("p", [0.1, 0.25, 0.4, 0.999])
def test_the_share_of_zeros_is_p_and_the_rest_is_scaled_so_that_the_expectation_is_exact(p: float) -> None:
    mask = ones_through(p, (1000, 1000))
    kept = 1 - round(p * 65536) / 65536
    assert mask.unique().tolist() == [0, 1 / kept]
    share = float((mask == 0).double().mean())
    assert abs(share - p) < 5 * (p * (1 - p) / mask.numel()) ** 0.5 + 8e-6


def test_lanes_of_a_word_rows_and_columns_are_independent() -> None:
    """Correlations of 250,000 words' four lanes, and of neighbouring rows, stay within five standard errors of none."""
    mask = ones_through(0.25, (1000, 1000))
    for variables in (mask.reshape(-1, 4).T, mask[:8], mask[:, :8].T):
        off_diagonal = torch.corrcoef(variables) - torch.eye(len(variables))
        assert off_diagonal.abs().max() < 5 / variables.shape[1] ** 0.5


def test_a_seed_draws_the_same_mask_and_the_next_pass_another() -> None:
    first = ones_through(0.5, (7, 9), seed=3)
    torch.manual_seed(3)
    layer = Dropout(0.5).train()
    assert torch.equal(layer(torch.ones(7, 9).double()), first)
    assert not torch.equal(layer(torch.ones(7, 9).double()), first)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (5, 7), (2, 3, 4), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_any_shape_and_float_type_is_kept(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    dropped = ones_through(0.25, shape, dtype=dtype)
    assert dropped.shape == shape
    assert dropped.dtype == dtype
    assert set(dropped.flatten().tolist()) <= {0.0, torch.tensor(4 / 3, dtype=dtype).item()}


def test_all_float_types_draw_one_mask() -> None:
    double = ones_through(0.4, (50, 50)) > 0
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(ones_through(0.4, (50, 50), dtype=dtype) > 0, double)


def test_under_autocast_the_mask_follows_its_input() -> None:
    layer, x = nn.Sequential(nn.Linear(8, 8), Dropout(0.5)).train(), torch.ones(4, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x)
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16
    assert torch.isfinite(layer[0].weight.grad).all()


@pytest.mark.parametrize("layer", [Dropout(0.5).eval(), Dropout(0).train()])
def test_in_evaluation_and_without_dropout_it_is_the_identity_and_draws_nothing(layer: Dropout) -> None:
    x, state = torch.randn(3, 5), torch.get_rng_state()
    assert layer(x) is x
    assert torch.equal(layer.mask((3, 5), x), torch.ones(3, 5))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_mask_is_what_a_pass_applies_and_its_gradient() -> None:
    layer, x = Dropout(0.3).train(), torch.randn(6, 5, requires_grad=True)
    torch.manual_seed(1)
    mask = layer.mask((6, 5), x)
    torch.manual_seed(1)
    out = layer(x)
    assert torch.equal(out, x * mask)
    assert torch.equal(torch.autograd.grad(out.sum(), x)[0], mask)


@pytest.mark.parametrize("shape", [(12, 8), (5, 7)])
def test_members_of_a_stack_share_the_mask_that_one_alone_draws_and_bags_do_not(shape: tuple[int, ...]) -> None:
    layer, x = Dropout(0.5).train(), torch.ones(3, 4, *shape)
    of_bags = vmap(layer, randomness="different")
    torch.manual_seed(2)
    stacked = vmap(of_bags, randomness="same")(x)
    torch.manual_seed(2)
    alone = of_bags(x[0])
    assert all(torch.equal(member, alone) for member in stacked)
    assert len({tuple(bag.flatten().tolist()) for bag in alone}) == 4


def test_bags_and_members_that_draw_for_themselves_are_independent() -> None:
    layer, x = Dropout(0.5).train(), torch.ones(3, 4, 50, 51).double()
    torch.manual_seed(0)
    of_all = vmap(vmap(layer, randomness="different"), randomness="different")(x).reshape(12, -1)
    assert (torch.corrcoef(of_all) - torch.eye(12)).abs().max() < 5 / of_all.shape[1] ** 0.5


def test_bags_that_share_a_mask_get_the_one_that_a_bag_alone_draws() -> None:
    layer, x = Dropout(0.5).train(), torch.ones(4, 5, 3)
    torch.manual_seed(2)
    together = vmap(layer, randomness="same")(x)
    torch.manual_seed(2)
    alone = layer(x[0])
    assert all(torch.equal(bag, alone) for bag in together)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_a_share_that_cannot_be_left_out_is_refused(p: float) -> None:
    with pytest.raises(UsageError, match="from 0 to below 1"):
        Dropout(p)


@pytest.mark.parametrize("p", [-1.0, 1.5, 2.0])
@pytest.mark.parametrize("gate", [True, False])
def test_the_attention_refuses_a_rate_that_was_given_not_what_two_branches_make_of_it(p: float, gate: bool) -> None:
    for make in (partial(GatedAttention, 4, 3), partial(AttentionBranches, 4, 3, 2, gate=gate)):
        with pytest.raises(UsageError, match=f"dropout is {p},"):
            make(dropout=p)


def test_no_model_uses_torchs_slow_layer() -> None:
    models = [m for m in load_models().values() if m.__module__.startswith(milbench_baselines.__name__)]
    made = [model(12, 1) for model in models]
    assert any(isinstance(part, Dropout) for model in made for part in model.modules())
    assert not any(isinstance(part, nn.Dropout) for model in made for part in model.modules())


@pytest.mark.parametrize("draw", ["_one_each", "_four_a_word"])
def test_a_member_of_a_stack_gets_the_masks_that_it_would_get_alone(draw: str) -> None:
    """Both ways of drawing, of which the first is for GPUs."""
    layer, x = Dropout(0.4), torch.ones(3, 5, 7)
    torch.manual_seed(0)
    alone = [getattr(layer, draw)((5, 7), x), getattr(layer, draw)((5, 7), x)]
    torch.manual_seed(0)
    stacked = torch.func.vmap(
        lambda row: torch.stack([row * getattr(layer, draw)((5, 7), row) for _ in range(2)]), randomness="same"
    )(x)
    for member in stacked:
        assert torch.equal(member, torch.stack(alone))
    assert alone[0].unique().tolist() == pytest.approx([0, 1 / 0.6], abs=1e-4)
