"""barspoon against the official code's numbers, and its options."""

from functools import cache

import numpy as np
import pytest
import torch
from golden_rules import Golden
from layouts_for_tests import answer, inputs, layout_of_places
from outputs_for_tests import EVERY, MIXED, targets_for
from torch import Tensor, nn
from vmap_rules import (
    assert_many_bags_equal_one_by_one,
    assert_stacked_copies_equal_each_alone,
    assert_training_works_together,
)

from milbench.errors import CheckpointError, UsageError
from milbench.layout import Layout
from milbench.training.optimizers import make_optimizer
from milbench.trials.recipe import recipe_for
from milbench_baselines.barspoon import Barspoon, position_code

FILES, SIZES = ("barspoon_t3", "barspoon_t3_nope"), (1, 2, 7, 100, 257)
PRECISIONS = [(torch.float32, "", 1e-5), (torch.float64, "64", 1e-10)]
VARIANTS = ("", "missing/", "probe/")


@cache
def weights_of(file: str) -> dict[str, Tensor]:
    """Official weights: 14.7 million random numbers."""
    return Golden(file).state_dict()


def official(file: str, dtype: torch.dtype) -> tuple[Golden, Barspoon]:
    golden = Golden(file)
    return golden, load(golden, weights_of(file)).to(dtype)


def load(golden: Golden, weights: dict[str, Tensor]) -> Barspoon:
    cfg = golden.meta["cfg"]
    return Barspoon.from_official(weights, targets=cfg["targets"], positions=cfg["positional_encoding"])


def layout(golden: Golden, n: int, padding: int = 0) -> Layout:
    """The file's places, and rows of padding at (0, 0)."""
    coords = torch.from_numpy(golden[f"in_coords/{n}"].astype(np.float32))
    return Layout(torch.cat([coords, torch.zeros(padding, 2)]), torch.empty(n + padding, 0, dtype=torch.int64))


def losses(golden: Golden, model: Barspoon, n: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Losses of the file's variants: class weights are those of the tasks' labels, a missing label's weight is 0."""
    output = model(golden.bag(n).to(dtype), layout(golden, n))
    label, weights = torch.from_numpy(golden["label"]), torch.tensor(golden.meta["class_weights"], dtype=dtype)
    known = weights[torch.arange(3), label]
    first, second = output.aux["head_logits"].reshape(3, 2).unbind(dim=1)
    return {
        "": model.loss(output, label.to(dtype), known),
        "missing/": model.loss(output, label.to(dtype), known * torch.tensor([1, 0, 1])),
        "probe/": (first - 0.5 * second).sum(),
    }


def relative(ours: Tensor, golden: np.ndarray) -> float:
    """Largest difference, relative to max(1, largest entry)."""
    theirs = torch.from_numpy(golden)
    return float((ours.detach() - theirs).abs().max() / theirs.abs().max().clamp(min=1))


def small(outputs: int = 3, **options: object) -> Barspoon:
    return Barspoon(12, outputs, **{"hidden": 16, "heads": 2, "feed_forward": 8, **options})


# ---- official numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(("dtype", "suffix", "tolerance"), PRECISIONS)
def test_outputs_and_losses_are_the_official_ones(file, dtype, suffix, tolerance):
    golden, model = official(file, dtype)
    for n in SIZES:
        bag = golden.bag(n).to(dtype)
        output = model(bag, layout(golden, n))
        y = golden[f"y{suffix}/{n}"]
        assert relative(output.aux["head_logits"].reshape(3, 2), y) < tolerance
        assert relative(output.logits, y[:, 1] - y[:, 0]) < 2 * tolerance
        assert relative(model.embed(bag)[0], golden[f"tok0_proj{suffix}/{n}"]) < tolerance
        for variant, loss in losses(golden, model, n, dtype).items():  # of logits that reach 37
            assert loss.item() == pytest.approx(golden[f"loss{suffix}/{variant}{n}"].item(), abs=50 * tolerance)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(("dtype", "suffix", "tolerance"), PRECISIONS)
def test_official_padding_is_a_bag_with_zero_rows_at_the_origin(file, dtype, suffix, tolerance):
    golden, model = official(file, dtype)
    for n in SIZES:
        padded = torch.cat([golden.bag(n), torch.zeros(5, 64)]).to(dtype)
        ours = model(padded, layout(golden, n, padding=5)).aux["head_logits"].reshape(3, 2)
        assert relative(ours, golden[f"y_pad5{suffix}/{n}"]) < tolerance


def gradient_error(file: str, variant: str, n: int, dtype: torch.dtype) -> float:
    """Deviation of all gradients of one loss, as a fraction of the largest official l2."""
    golden, model = official(file, dtype)
    names = official_names(golden)
    losses(golden, model, n, dtype)[variant].backward()
    gradients: dict[str, Tensor | None] = {names[own]: p.grad for own, p in model.named_parameters() if own in names}
    for target, own in zip(("KRAS", "TP53", "MSI_H"), model.class_tokens.grad, strict=True):
        gradients[f"model.class_tokens.{target}"] = own
    return golden.gradient_error(f"{variant}{n}{'_f64' if dtype == torch.float64 else ''}", gradients)


def test_gradients_of_the_official_loss_are_the_official_ones():
    assert gradient_error("barspoon_t3", "", 7, torch.float64) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("n", [7, 100])
def test_gradients_of_all_losses_are_the_official_ones(file, variant, n):
    assert gradient_error(file, variant, n, torch.float64) < 1e-10
    # the file's own float32 gradients are up to 1.7e-5 away from its float64 gradients
    assert gradient_error(file, variant, n, torch.float32) < 5e-5


def official_names(golden: Golden) -> dict[str, str]:
    """Official name of each of our parameters except the class tokens, which are one tensor here."""
    marked = {name: torch.full_like(t, i) for i, (name, t) in enumerate(weights_of("barspoon_t3").items())}
    loaded = load(golden, marked).named_parameters()
    return {own: golden.names[int(p.detach().flatten()[0])] for own, p in loaded if own != "class_tokens"}


def test_parameter_counts_are_the_official_ones():
    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in Barspoon(width, tasks).parameters()) for width in (1024, 2048) for tasks in (1, 10)
        ]
    assert counts == [15_239_170, 15_253_012, 15_763_458, 15_777_300]


# ---- official checkpoints ------------------------------------------------------------------------


def test_targets_stand_in_the_order_of_the_heads_unless_it_is_given():
    golden = Golden("barspoon_t3")
    weights = weights_of("barspoon_t3")  # in the order of the alphabet: KRAS, MSI_H, TP53
    given, found = load(golden, weights), Barspoon.from_official(weights)
    bag, places = golden.bag(7), layout(golden, 7)
    # the order of the class tokens decides how float32 sums are rounded, by how much depends on the processor
    torch.testing.assert_close(found(bag, places).logits[[0, 2, 1]], given(bag, places).logits, rtol=1e-5, atol=1e-4)
    bare = {name.removeprefix("model."): tensor for name, tensor in weights.items()}
    assert torch.equal(load(golden, bare)(bag, places).logits, given(bag, places).logits)


def test_a_head_of_three_logits_answers_classes():
    weights = dict(weights_of("barspoon_t3"))
    weights |= {"model.heads.TP53.weight": torch.ones(3, 512), "model.heads.TP53.bias": torch.ones(3)}
    model = Barspoon.from_official(weights)
    assert [task.kind for task in model.outputs.endpoints] == ["binary", "binary", "multiclass"]
    told = Barspoon.from_official(weights, targets=["TP53", "KRAS", "MSI-H"])
    assert [task.kind for task in told.outputs.endpoints] == ["multiclass", "binary", "binary"]


@pytest.mark.parametrize("name", ["class_tokens.KRAS", "heads.KRAS.weight", "transformer_encoder.layers.1.norm2.bias"])
def test_a_checkpoint_with_a_missing_tensor_is_refused_by_name(name):
    weights = dict(weights_of("barspoon_t3"))
    del weights[f"model.{name}"]
    with pytest.raises(CheckpointError, match=r"KRAS|encoder\.1\.norm2\.bias"):
        Barspoon.from_official(weights)


def test_class_tokens_of_another_width_are_refused():
    weights = {**weights_of("barspoon_t3"), "model.class_tokens.KRAS": torch.ones(513)}
    with pytest.raises(CheckpointError, match=r"class_tokens\.KRAS' has shape \(513,\), expected \(512,\)"):
        Barspoon.from_official(weights)


def test_checkpoints_of_other_models_are_refused():
    with pytest.raises(CheckpointError, match=r"heads\.TARGET"):
        Barspoon.from_official({"fc.weight": torch.ones(2)})
    with pytest.raises(CheckpointError, match="left over"):
        Barspoon.from_official({**weights_of("barspoon_t3"), "model.norm.bias": torch.ones(512)})


# ---- positions -----------------------------------------------------------------------------------


def test_the_code_of_a_place_is_sines_of_both_axes_then_cosines():
    code = position_code(torch.tensor([[3.0, 50.0]]), 16)[0]
    frequencies = 100_000.0 ** -(torch.arange(4).double() / 16)
    x, y = 3 * frequencies, 50 * frequencies
    torch.testing.assert_close(code, torch.cat([x.sin(), y.sin(), x.cos(), y.cos()]))


def test_float32_and_float64_agree_far_out_on_the_slide():
    golden = Golden("barspoon_t3")
    model = load(golden, weights_of("barspoon_t3"))
    bag, places = golden.bag(100), layout(golden, 100)
    far = Layout(places.coords + 50_000, places.neighbours)
    single = model(bag, far).logits.double()
    torch.testing.assert_close(single, model.double()(bag.double(), far).logits, atol=5e-4, rtol=0)


@pytest.mark.parametrize("positions", [True, False])
def test_places_matter_if_patches_know_them(positions):
    torch.manual_seed(0)
    model, bag = small(positions=positions).eval(), torch.randn(9, 12)
    assert torch.equal(answer(model, bag, seed=1).logits, answer(model, bag, seed=2).logits) != positions


# ---- contract, losses, maps, options -------------------------------------------------------------


def test_layers_of_a_stack_start_alike_and_as_torch_starts_them():
    torch.manual_seed(0)
    model = Barspoon(12, 2, hidden=64, feed_forward=128)
    for stack in (model.encoder, model.decoder):
        first, second = (list(layer.parameters()) for layer in stack)
        assert all(map(torch.equal, first, second))
        assert all(a is not b for a, b in zip(first, second, strict=True))
    theirs = nn.TransformerEncoderLayer(64, 8, 128)
    ours = model.encoder[0]
    for own, official_ in (
        (ours.attention.in_proj.weight, theirs.self_attn.in_proj_weight),
        (ours.attention.out_proj.weight, theirs.self_attn.out_proj.weight),
        (ours.feed_forward.linear1.weight, theirs.linear1.weight),
        (ours.feed_forward.linear2.bias, theirs.linear2.bias),
    ):
        assert own.std().item() == pytest.approx(official_.std().item(), rel=0.15)
    assert not ours.attention.in_proj.bias.any()
    assert not ours.attention.out_proj.bias.any()
    assert 0 <= model.class_tokens.min() < 0.1
    assert 0.9 < model.class_tokens.max() < 1


def test_a_training_pass_drops_out_and_its_seed_decides_what():
    torch.manual_seed(0)
    model, bag = small().train(), torch.randn(9, 12)

    def logits(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return answer(model, bag).logits

    assert torch.equal(logits(1), logits(1))
    assert not torch.equal(logits(1), logits(2))
    assert torch.equal(answer(small(dropout=0.0), bag).logits.isfinite(), torch.ones(3, dtype=torch.bool))


def test_each_task_has_the_official_cross_entropy_of_its_own_head():
    torch.manual_seed(0)
    model, bag = small(MIXED).eval().double(), torch.randn(9, 12).double()
    output, targets = answer(model, bag), targets_for(MIXED, 1)
    assert [head.out_features for head in model.heads] == [2, 4, 1, 4, 2, 2, 1]
    by_task = model.task_losses(output.logits, targets)
    heads = output.aux["head_logits"].split([head.out_features for head in model.heads])
    for task in (0, 1, 5):
        wanted = nn.functional.cross_entropy(heads[task], targets[task].long())
        torch.testing.assert_close(by_task[task], wanted)


@pytest.mark.parametrize("options", [{}, {"positions": False}, {"encoder_layers": 1, "decoder_layers": 3}])
def test_many_at_once_equal_one_by_one(options):
    torch.manual_seed(0)
    assert_many_bags_equal_one_by_one(small(**options), 7)
    assert_stacked_copies_equal_each_alone(lambda: small(**options), 7)
    assert_training_works_together(lambda: small(**options), 7)


def test_the_map_is_the_last_layers_attention_of_each_tasks_token():
    torch.manual_seed(0)
    model = small(EVERY["mixed"]).eval()
    bag = inputs(model, torch.randn(9, 12))
    maps, attention = model.attention_maps(*bag), model(*bag).attention.detach()
    tasks = [task for task, _ in model.outputs.maps]
    assert torch.equal(maps.per_task, attention[tasks])
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(7))
    assert model.attention_rows() == tuple(f"task {task}" for task in range(7))


@pytest.mark.parametrize("n", [1, 2, 9])
def test_patches_at_one_place_give_finite_answers(n):
    model = small().train()
    found = layout_of_places(np.full((n, 2), 1e6), 0)
    output = model(torch.randn(n, 12), Layout(found.coords, found.neighbours.long()))
    model.loss(output, torch.ones(3), torch.ones(3)).backward()
    assert output.logits.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(("options", "named"), [({"heads": 3}, "3 heads"), ({"hidden": 6}, "multiple of 4")])
def test_options_that_make_no_sense_are_refused(options, named):
    with pytest.raises(UsageError, match=named):
        small(**options)
    small(hidden=6, positions=False)


def test_the_official_recipe_is_understood_and_moves_every_weight():
    recipe = recipe_for(Barspoon, "official", {}, {})
    assert (recipe.bag_patches, recipe.bags_per_step, recipe.clip_norm, recipe.patience) == (4096, 32, 0.5, 15)
    torch.manual_seed(0)
    model = small()
    optimizer = make_optimizer(dict(model.named_parameters()), recipe)
    before = [p.detach().clone() for p in model.parameters()]
    model.loss(answer(model, torch.randn(9, 12)), torch.ones(3), torch.ones(3)).backward()
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert all(moved)
