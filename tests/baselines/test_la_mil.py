"""LA-MIL and GA-MIL against the official code's numbers, and their options."""

from functools import cache

import numpy as np
import pytest
import torch
from golden_rules import Golden, gradients_of
from layouts_for_tests import answer, grid_layout, inputs, layout_of_places
from outputs_for_tests import EVERY
from torch import Tensor
from vmap_rules import (
    assert_many_bags_equal_one_by_one,
    assert_stacked_copies_equal_each_alone,
    assert_training_works_together,
)

from milbench.errors import BagError, CheckpointError, UsageError
from milbench.layout import Layout, nearest
from milbench.trials.arguments import refuse_odd_arguments
from milbench_baselines.la_mil import LAMIL

FILES, SIZES = ("lamil_t3", "gamil_t3"), (1, 2, 7, 100, 257)
PRECISIONS = [(torch.float32, "", 3e-5), (torch.float64, "64", 1e-10)]  # processors round float32 products differently


def places(golden: Golden, n: int) -> np.ndarray:
    """The file's places, which are random numbers below 1; our rule tells places apart to 1/1024."""
    drawn = np.random.default_rng([golden.meta["fill_seed"], n, 2]).random((n, 2)).astype(np.float32)
    return drawn.astype(float) * 2**20


def layout(golden: Golden, model: LAMIL, n: int) -> Layout:
    found = layout_of_places(places(golden, n), model.n_neighbours)
    return Layout(found.coords, found.neighbours.long())


@cache
def weights_of(file: str) -> dict[str, Tensor]:
    return Golden(file).state_dict()


def official(file: str, **options: object) -> tuple[Golden, LAMIL]:
    golden = Golden(file)
    return golden, LAMIL.from_official(weights_of(file), **options)


def relative(ours: Tensor, golden: np.ndarray) -> float:
    """Largest difference, relative to max(1, largest entry)."""
    theirs = torch.from_numpy(golden)
    return float((ours.detach() - theirs).abs().max() / theirs.abs().max().clamp(min=1))


def small(**options: object) -> LAMIL:
    return LAMIL(12, 3, **{"hidden": 16, "heads": 2, "first_neighbours": 3, "second_neighbours": 5, **options})


# ---- official numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize("n", SIZES)
def test_the_official_neighbours_are_ours(n):
    golden = Golden("lamil_t3")
    found = nearest(places(golden, n), 64)
    assert np.array_equal(found[:, :16], golden[f"in_nbr1/{n}"])
    assert np.array_equal(found, golden[f"in_nbr2/{n}"])


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(("dtype", "suffix", "tolerance"), PRECISIONS)
def test_outputs_and_losses_are_the_official_ones(file, dtype, suffix, tolerance):
    golden, model = official(file)
    model.to(dtype)
    label = torch.from_numpy(golden["label"]).to(dtype)
    for n in SIZES:
        output = model(golden.bag(n).to(dtype), layout(golden, model, n))
        assert relative(output.logits, golden[f"y{suffix}/{n}"]) < tolerance
        assert relative(output.aux["slide"], golden[f"slide_feat{suffix}/{n}"]) < tolerance
        loss = model.loss(output, label, torch.ones_like(label)) / 3  # the file's loss is the mean over the tasks
        assert loss.item() == pytest.approx(golden[f"loss{suffix}/{n}"].item(), abs=tolerance)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("n", [7, 100])
@pytest.mark.parametrize(("dtype", "tag", "tolerance"), [(torch.float32, "", 1e-5), (torch.float64, "_f64", 1e-10)])
def test_gradients_are_the_official_ones(file, n, dtype, tag, tolerance):
    golden, model = official(file, dead_layer=True)
    model.to(dtype)
    label = torch.from_numpy(golden["label"]).to(dtype)
    loss = model.loss(model(golden.bag(n).to(dtype), layout(golden, model, n)), label, torch.ones_like(label)) / 3
    names = golden.official_names(lambda weights: LAMIL.from_official(weights, dead_layer=True))
    assert golden.gradient_error(f"{n}{tag}", gradients_of(model, loss, names)) < tolerance


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(("dtype", "suffix", "tolerance"), PRECISIONS)
def test_the_last_layers_attention_is_the_official_one(n, dtype, suffix, tolerance):
    golden, model = official("gamil_t3")
    model.to(dtype)
    before = model.layers[0](model.embed(golden.bag(n).to(dtype)), torch.empty(n, 0))
    q, k, _ = model.layers[1]._heads(before)
    first = (q[:, :1] @ k.mT / 8).softmax(dim=-1)[:, 0]
    assert relative(first, golden[f"att_last_row0{suffix}/{n}"]) < tolerance


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(("dtype", "suffix", "tolerance"), PRECISIONS)
def test_without_attention_layers_it_is_the_official_code_without_graphs(n, dtype, suffix, tolerance):
    """No option leaves the layers out, so the parts are called one by one."""
    golden, model = official("lamil_t3")
    model.to(dtype)
    logits = model.head(model.embed(golden.bag(n).to(dtype)).mean(dim=0))
    assert relative(logits, golden[f"y_nograph{suffix}/{n}"]) < tolerance


def count(model: LAMIL) -> int:
    return sum(p.numel() for p in model.parameters())


def test_parameter_counts_are_the_official_ones():
    assert [count(LAMIL(width, 1)) for width in (1024, 2048)] == [2_623_489, 3_147_777]
    assert count(LAMIL(1024, 2)) == 2_624_002
    assert [count(LAMIL(width, 1, reach="global", dead_layer=True)) for width in (1024, 2048)] == [2_625_537, 3_149_825]
    assert count(LAMIL(1024, 1, reach="global")) == 2_625_537 - 2_048


def test_ga_mils_dead_layers_change_no_output():
    golden, without = official("gamil_t3")
    with_dead = LAMIL.from_official(weights_of("gamil_t3"), dead_layer=True)
    bag, places = golden.bag(7), layout(golden, without, 7)
    assert torch.equal(with_dead(bag, places).logits, without(bag, places).logits)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["missing", "left over", "shape"])
def test_a_checkpoint_that_does_not_fit_is_refused_by_name(file, damage):
    weights = dict(weights_of(file))
    if damage == "missing":
        del weights["mlp_head.bias"]
    elif damage == "left over":
        weights["layers.2.O.bias"] = torch.ones(512)
    else:
        weights["mlp_head.bias"] = torch.ones(77)
    with pytest.raises(CheckpointError, match=damage):
        LAMIL.from_official(weights)


def test_the_logits_of_a_checkpoint_answer_what_they_are_said_to():
    weights = weights_of("lamil_t3")
    assert LAMIL.from_official(weights).n_tasks == 3
    assert LAMIL.from_official(weights, n_outputs=EVERY["grades"]).outputs.kinds == {"ordinal"}


# ---- neighbours ----------------------------------------------------------------------------------


def test_each_layer_reads_its_own_number_of_neighbours():
    assert small().n_neighbours == 5
    assert small(first_neighbours=9).n_neighbours == 9
    assert small(reach="global").n_neighbours == 0
    torch.manual_seed(0)
    model, bag = small().eval().double(), torch.randn(30, 12).double()
    full = grid_layout(30, 5)
    far = full.neighbours.clone()
    far[:, 3:] = torch.arange(30)[:, None]  # what lies beyond the first three
    model.layers[1].n_neighbours = 3
    assert torch.equal(model(bag, full).logits, model(bag, Layout(full.coords, far)).logits)
    model.layers[1].n_neighbours = 5
    assert not torch.allclose(model(bag, full).logits, model(bag, Layout(full.coords, far)).logits)


def test_a_far_patch_moves_no_row_within_two_layers():
    torch.manual_seed(0)
    model, bag = small().eval().double(), torch.randn(40, 12).double()
    line = layout_of_places(np.stack([np.arange(40), np.zeros(40)], axis=1), 5)
    other = bag.clone()
    other[0] += 1
    maps = [model.attention_maps(x, Layout(line.coords, line.neighbours.long())).per_task for x in (bag, other)]
    assert torch.equal(maps[0][:, 10:], maps[1][:, 10:])
    assert not torch.equal(maps[0][:, :2], maps[1][:, :2])


@pytest.mark.parametrize("reach", ["local", "global"])
@pytest.mark.parametrize("n", [1, 2, 4, 9])
def test_one_place_doubled_places_and_few_patches_give_finite_answers(reach, n):
    model = small(reach=reach).train()
    for spots in (np.zeros((n, 2)), np.arange(2 * n).reshape(n, 2) // 4):
        found = layout_of_places(spots, model.n_neighbours)
        output = model(torch.randn(n, 12), Layout(found.coords, found.neighbours.long()))
        model.zero_grad()
        model.loss(output, torch.ones(3), torch.ones(3)).backward()
        assert output.logits.isfinite().all()
        assert all(p.grad.isfinite().all() for p in model.parameters())


def test_huge_features_are_clamped_to_finite_answers():
    model = small().eval()
    output = answer(model, 1e6 * torch.randn(9, 12))
    output.logits.sum().backward()
    assert output.logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


# ---- contract, maps, options ---------------------------------------------------------------------


@pytest.mark.parametrize("reach", ["local", "global"])
def test_many_at_once_equal_one_by_one(reach):
    torch.manual_seed(0)
    assert_many_bags_equal_one_by_one(small(reach=reach), 7)
    assert_stacked_copies_equal_each_alone(lambda: small(reach=reach), 7)
    assert_training_works_together(lambda: small(reach=reach), 7)


@pytest.mark.parametrize("reach", ["local", "global"])
def test_the_same_step_gives_the_same_bits(reach):
    torch.manual_seed(0)
    model, bag = small(reach=reach), torch.randn(200, 12)
    steps = []
    for _ in range(2):
        torch.manual_seed(1)
        model.zero_grad()
        answer(model, bag).logits.sum().backward()
        steps.append([p.grad.clone() for p in model.parameters()])
    assert all(map(torch.equal, *steps))


def test_patch_logits_average_to_the_answer_and_attention_sums_to_one():
    torch.manual_seed(0)
    for reach, first in (("local", "patch logits"), ("global", "attention of the last layer")):
        model = small(reach=reach).eval().double()
        maps = model.attention_maps(*inputs(model, torch.randn(30, 12).double()))
        assert maps.kind == first
        both = {maps.kind: maps.per_task, **maps.alternatives}
        torch.testing.assert_close(both["patch logits"].mean(dim=1), maps.logits)
        attention = both["attention of the last layer"]
        torch.testing.assert_close(attention.sum(dim=1), torch.ones(3, dtype=torch.float64))
        torch.testing.assert_close(maps.per_expert.mean(dim=0), attention[0])


def test_the_attention_of_ga_mil_is_what_mixes_the_values():
    torch.manual_seed(0)
    model, bag = small(reach="global").eval().double(), torch.randn(20, 12).double()
    layer, near = model.layers[1], torch.empty(20, 0, dtype=torch.int64)
    before = model.layers[0](model.embed(bag), near)
    values = layer._heads(before)[2]  # [heads, N, d]
    mixed = torch.einsum("hn,hnd->hd", layer.received(before, near), values).flatten()
    torch.testing.assert_close(layer(before, near).mean(dim=0), before.mean(dim=0) + layer.out(mixed))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"heads": 3}, "3 heads"),
        ({"reach": "glbal"}, "global"),
        ({"hidden": 15}, "width of 15"),
        ({"dropout": 2.5}, "2.5"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, named):
    with pytest.raises(UsageError, match=named):
        small(**options)


def test_no_neighbours_at_all_are_refused():
    with pytest.raises(UsageError, match=r"first_neighbours is 0; expected a number from 1"):
        refuse_odd_arguments(LAMIL, "la_mil", {"first_neighbours": 0})


def test_a_bag_without_its_layout_is_refused():
    with pytest.raises(BagError, match="needs the places"):
        small()(torch.zeros(3, 12))
