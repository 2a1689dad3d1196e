"""ILRA-MIL against the official code's numbers, and its options."""

import pytest
import torch
from golden_rules import Golden
from torch import Tensor, nn
from two_logit_goldens import assert_official
from vmap_rules import (
    assert_many_bags_equal_one_by_one,
    assert_stacked_copies_equal_each_alone,
    assert_training_works_together,
)

from milbench.errors import CheckpointError, UsageError
from milbench.training.activations import saved_bytes
from milbench.trials.recipe import recipe_for
from milbench_baselines.ilra import ILRA, Block

FILES = {"ilra_k1_ln": 1e-5, "ilra_k2_noln": 1e-4, "ilra_k4_ln": 1e-5}
"""Tolerance in float32; without LayerNorm rounding grows with the activations."""

PARTS = {
    "lat1": lambda output: output.aux["latents"][0],
    "tok0_gab1": lambda output: output.aux["layer1"][0],
    "tok0_gab2": lambda output: output.aux["layer2"][0],
    "slide_feat": lambda output: output.aux["bag"],
}


def small(**options: object) -> ILRA:
    torch.manual_seed(0)
    return ILRA(12, 1, **{"hidden": 16, "heads": 2, **options}).eval().double()  # type: ignore[arg-type]


def bag(n: int) -> Tensor:
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(n)).double()


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_losses_and_gradients_are_the_official_ones(file: str, dtype: torch.dtype) -> None:
    tolerance = FILES[file] if dtype == torch.float32 else 1e-10
    assert_official(Golden(file), ILRA.from_official, dtype, tolerance, PARTS)


@pytest.mark.parametrize(("in_features", "count"), [(1024, 3_687_682), (2048, 4_736_258)])
def test_the_parameter_count_is_the_official_one(in_features: int, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in ILRA(in_features, 1).parameters()) == count


def plainly(block: Block, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Equations (1) to (4) with torch's own attention, which projects every row; and its weights per head."""
    q = block.query(queries)
    mixed, weights = block.attention(
        q[:, None], block.key(keys)[:, None], block.value(keys)[:, None], average_attn_weights=False
    )
    o = block.norm0(q + mixed[:, 0])
    o = block.norm1(o + block.feed(o).relu())
    return o if block.gate is None else o * nn.functional.silu(block.gate(queries)), weights[0]


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("rank", [1, 3])
def test_latents_in_place_of_patches_are_projected_to_the_same_end(rank: int, *, gated: bool) -> None:
    torch.manual_seed(rank)
    down, up = (Block(*widths, 16, heads=4, layer_norm=True, gated=gated).double() for widths in ((16, 12), (12, 16)))
    for block in (down, up):
        nn.init.normal_(block.attention.in_proj_bias)
        nn.init.normal_(block.attention.out_proj.bias)
    latents, x = torch.randn(rank, 16).double(), bag(9)
    rows, attention = down.few_ask(latents, x)
    expected, weights = plainly(down, latents, x)
    torch.testing.assert_close(rows, expected)
    torch.testing.assert_close(attention, weights)
    torch.testing.assert_close(up.many_ask(x, latents), plainly(up, x, latents)[0])


def test_with_one_latent_its_keys_get_a_zero_gradient_and_with_two_they_learn() -> None:
    for rank in (1, 2):
        model = small(rank=rank)
        model(bag(7)).logits.sum().backward()
        key = model.layers[0].up.key.weight.grad  # type: ignore[union-attr]
        assert (float(key.abs().max()) > 0) == (rank == 2)  # type: ignore[union-attr, operator]


def test_a_step_keeps_a_few_rows_per_patch_whatever_the_rank() -> None:
    wide = ILRA(256, 1, hidden=64)
    per_patch = (saved_bytes(wide, 256, 2000) - saved_bytes(wide, 256, 1000)) / 1000
    assert per_patch < 4 * 64 * 40
    more = ILRA(256, 1, hidden=64, rank=4)
    assert saved_bytes(more, 256, 2000) < 1.35 * saved_bytes(wide, 256, 2000)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("layer_norm", [True, False])
def test_many_at_once_equal_one_by_one(rank: int, *, layer_norm: bool) -> None:
    for n in (1, 7):
        assert_many_bags_equal_one_by_one(small(rank=rank, layer_norm=layer_norm), n)
        assert_stacked_copies_equal_each_alone(lambda: small(rank=rank, layer_norm=layer_norm), n)
    assert_training_works_together(lambda: small(rank=rank, layer_norm=layer_norm).float(), 7)


def test_the_map_is_the_mean_over_heads_of_the_pooling() -> None:
    model = small()
    maps, attention = model.attention_maps(bag(9)), model(bag(9)).attention
    assert attention is not None
    assert maps.experts == ("head 0", "head 1")
    torch.testing.assert_close(maps.per_expert, attention.detach())
    torch.testing.assert_close(maps.per_task[0], attention.detach().mean(dim=0))


def test_weights_start_as_xavier_says_and_biases_as_torch_does() -> None:
    torch.manual_seed(0)
    model = ILRA(1024, 1, rank=2)
    for layer in (model.layers[1].up.query, model.pooling.block.attention.out_proj):  # type: ignore[union-attr]
        assert float(layer.weight.detach().std()) == pytest.approx((2 / 512) ** 0.5, rel=0.02)
    assert float(model.layers[0].down.key.bias.detach().abs().max()) == pytest.approx(1024**-0.5, rel=0.05)  # type: ignore[union-attr]
    bound = (6 / (256 * 2 + 256)) ** 0.5
    assert float(model.layers[0].latent.detach().abs().max()) == pytest.approx(bound, rel=0.02)  # type: ignore[operator]


def test_the_official_recipe_keeps_its_last_epoch_and_its_rate_ends_at_zero() -> None:
    recipe = recipe_for(ILRA, "official", {}, {})
    assert [epoch for epoch in range(recipe.epochs) if recipe.can_select(epoch)] == [99]
    assert recipe.lr_factor(recipe.epochs) == 0


def test_options_and_checkpoints_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="3 heads"):
        small(heads=3)
    with pytest.raises(UsageError, match="0 heads"):
        small(heads=0)
    with pytest.raises(UsageError, match="n_tasks=2"):
        ILRA(12, 2)
    weights = Golden("ilra_k1_ln").state_dict()
    del weights["pooling.S"]
    with pytest.raises(CheckpointError, match=r"missing.*pooling\.seed"):
        ILRA.from_official(weights)


def test_an_official_checkpoint_of_three_classes_answers_with_its_three_logits() -> None:
    golden = Golden("ilra_k1_ln")
    weights = golden.state_dict()
    for part in ("weight", "bias"):
        both = weights[f"classifier.{part}"]
        weights[f"classifier.{part}"] = torch.cat([both, both.sum(dim=0, keepdim=True)])
    model, y = ILRA.from_official(weights), torch.from_numpy(golden["y/100"])
    assert model.outputs.kinds == {"multiclass"}
    torch.testing.assert_close(model(golden.bag(100)).logits.detach(), torch.cat([y, y.sum()[None]]), atol=5e-5, rtol=0)
