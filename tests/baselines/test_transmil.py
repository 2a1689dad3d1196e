"""TransMIL against the official code's numbers, and its options."""

import pytest
import torch
from golden_rules import Golden, gradients_of
from outputs_for_tests import EVERY
from torch.nn.functional import cross_entropy
from vmap_rules import (
    assert_many_bags_equal_one_by_one,
    assert_stacked_copies_equal_each_alone,
    assert_training_works_together,
)

from milbench.endpoints.evidence import evidence
from milbench.errors import BagError, CheckpointError, UsageError
from milbench.training.activations import saved_bytes
from milbench_baselines.layers.nystrom_attention import NystromAttention
from milbench_baselines.transmil import TransMIL

CROPS = {"transmil_ny0014": "aligned", "transmil_ny009": "legacy"}


def official(file: str) -> tuple[Golden, TransMIL]:
    golden = Golden(file)
    return golden, TransMIL.from_official(golden.state_dict(), crop=CROPS[file])


def small(**options) -> TransMIL:
    return TransMIL(12, 1, **{"hidden": 16, "heads": 4, "landmarks": 4, **options})


@pytest.mark.parametrize("file", CROPS)
@pytest.mark.parametrize(("dtype", "suffix", "tolerance"), [(torch.float32, "", 1e-5), (torch.float64, "64", 1e-12)])
def test_outputs_are_the_official_ones(file, dtype, suffix, tolerance):
    golden, model = official(file)
    model.to(dtype)
    for n in (1, 2, 7, 100, 257):
        with torch.no_grad():
            output = model(golden.bag(n).to(dtype))
        aux, y = output.aux, torch.from_numpy(golden[f"y{suffix}/{n}"])
        torch.testing.assert_close(aux["head_logits"], y, atol=tolerance, rtol=0)
        torch.testing.assert_close(output.logits, y[1:] - y[:1], atol=2 * tolerance, rtol=0)
        for stage, key in (
            (aux["after_layer1"][0], "cls_after_layer1"),
            (aux["after_position"][1], "tok1_after_ppeg"),
            (aux["bag"], "cls_after_norm"),
        ):  # tokens reach 24, so their tolerance is a fraction of the largest entry
            expected = torch.from_numpy(golden[f"{key}{suffix}/{n}"])
            torch.testing.assert_close(stage, expected, atol=tolerance * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("file", CROPS)
@pytest.mark.parametrize("n", [7, 257])
def test_loss_and_gradients_are_the_official_ones(file, n):
    golden, model = official(file)
    model.double()
    label = torch.from_numpy(golden["label"]).double()
    loss = model.loss(model(golden.bag(n).double()), label, torch.ones_like(label))
    assert loss.item() == pytest.approx(golden[f"loss64/{n}"].item(), abs=1e-12)
    names = golden.official_names(TransMIL.from_official)
    assert golden.gradient_error(f"{n}_f64", gradients_of(model, loss, names)) < 1e-12


def test_the_parameter_count_is_the_official_one():
    assert sum(p.numel() for p in TransMIL(1024, 1).parameters()) == 2_672_146


def test_the_two_crops_differ_by_far():
    golden, aligned = official("transmil_ny0014")
    legacy = TransMIL.from_official(golden.state_dict(), crop="legacy")
    x = golden.bag(100)
    assert abs(float((aligned(x).logits - legacy(x).logits).detach())) > 0.1


@pytest.mark.parametrize("crop", ["aligned", "legacy"])
def test_many_at_once_equal_one_by_one(crop):
    assert_many_bags_equal_one_by_one(small(crop=crop), 7)
    assert_stacked_copies_equal_each_alone(lambda: small(crop=crop), 7)
    assert_training_works_together(lambda: small(crop=crop), 7)


@pytest.mark.parametrize("label", [0, 1])
def test_the_loss_is_the_official_two_class_cross_entropy(label):
    model, x = small().eval().double(), torch.randn(5, 12).double()
    output = model(x)
    ours = model.loss(output, torch.tensor([float(label)]).double(), torch.ones(1).double())
    torch.testing.assert_close(ours, cross_entropy(output.aux["head_logits"], torch.tensor(label)))


def test_the_class_tokens_attention_is_what_mixes_the_values():
    """Without the convolution, the class token's row is attention @ values; checked on the whole padded sequence."""
    torch.manual_seed(0)
    layer = NystromAttention(16, heads=4, landmarks=4, value_residual=0).eval().double()
    tokens = torch.randn(8, 16).double()  # a multiple of the landmarks: nothing is padded
    out, attention = layer(tokens, rows=1)
    values = layer.to_qkv(tokens)[:, 32:].reshape(8, 4, 4)
    mixed = torch.einsum("hn,nhd->hd", attention, values).flatten()
    torch.testing.assert_close(layer.to_out(mixed), out[0])


def test_with_a_landmark_per_token_it_is_plain_softmax_attention():
    torch.manual_seed(0)
    layer = NystromAttention(16, heads=4, landmarks=8, value_residual=0, iterations=30).eval().double()
    tokens = torch.randn(8, 16).double()
    q, k, v = layer.to_qkv(tokens).reshape(8, 3, 4, 4).permute(1, 2, 0, 3)
    exact = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    out, attention = layer(tokens)[0], layer(tokens, rows=1)[1]
    torch.testing.assert_close(out, layer.to_out(exact.transpose(0, 1).flatten(1)), atol=1e-8, rtol=0)
    torch.testing.assert_close(attention, (q[:, :1] @ k.mT / 2).softmax(-1)[:, 0], atol=1e-8, rtol=0)


def test_the_first_rows_alone_are_the_first_rows_of_all():
    for crop in ("aligned", "legacy"):
        layer = NystromAttention(16, heads=4, landmarks=4, crop=crop).eval().double()
        tokens = torch.randn(7, 16).double()
        torch.testing.assert_close(layer(tokens, rows=1)[0], layer(tokens)[0][:1])
        assert layer(tokens)[1].shape == (4, 0), "no attention where nobody asked for it"


def test_repeated_patches_give_their_attention_back_to_the_patch():
    """Five patches fill a 3 x 3 grid with four repeats; told apart, the nine columns fold onto five."""
    torch.manual_seed(0)
    model, x = small().eval().double(), torch.randn(5, 12).double()
    folded = model(x).attention
    spread = model(torch.cat((x, x[:4]))).attention
    torch.testing.assert_close(folded[:, :4], spread[:, :4] + spread[:, 5:])
    torch.testing.assert_close(folded[:, 4], spread[:, 4])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_it_answers_in_its_own_precision(dtype, n):
    model = small().eval().to(dtype)
    output = model(torch.randn(n, 12, dtype=dtype))
    assert output.logits.dtype == dtype
    assert torch.isfinite(output.logits).all()
    assert output.attention.shape == (len(model.attention_rows()), n)


@pytest.mark.parametrize(
    ("options", "named"), [({"heads": 3}, "3 heads"), ({"crop": "algned"}, "aligned"), ({"value_residual": 4}, "odd")]
)
def test_options_that_make_no_sense_are_refused(options, named):
    with pytest.raises(UsageError, match=named):
        small(**options)


def test_several_tasks_and_empty_bags_are_refused():
    with pytest.raises(UsageError, match="n_tasks=2"):
        TransMIL(12, 2)
    with pytest.raises(BagError, match="empty"):
        small()(torch.empty(0, 12))


def test_a_misfit_checkpoint_is_refused_by_name():
    weights = Golden("transmil_ny0014").state_dict()
    del weights["norm.bias"]
    with pytest.raises(CheckpointError, match=r"missing.*norm\.bias"):
        TransMIL.from_official(weights)


# ---- tasks of other kinds ------------------------------------------------------------------------


def test_an_official_checkpoint_of_three_classes_answers_with_its_three_logits():
    golden = Golden("transmil_ny0014")
    weights = golden.state_dict()
    weights["_fc2.weight"] = torch.cat([weights["_fc2.weight"], weights["_fc2.weight"].sum(dim=0, keepdim=True)])
    weights["_fc2.bias"] = torch.cat([weights["_fc2.bias"], weights["_fc2.bias"].sum(dim=0, keepdim=True)])
    model = TransMIL.from_official(weights)
    y = torch.from_numpy(golden["y/100"])
    assert model.outputs.kinds == {"multiclass"}
    torch.testing.assert_close(model(golden.bag(100)).logits.detach(), torch.cat([y, y.sum()[None]]), atol=1e-5, rtol=0)
    told = TransMIL.from_official(weights, n_outputs=EVERY["grades"])
    assert told.outputs.kinds == {"ordinal"}
    with pytest.raises(CheckpointError, match=r"_fc2\.weight.*expected \(4, 512\)"):
        TransMIL.from_official(weights, n_outputs=EVERY["classes"])


@pytest.mark.parametrize("kind", ["classes", "thresholds", "bins"])
def test_gradient_times_input_is_that_of_the_evidence_of_each_map(kind):
    torch.manual_seed(0)
    model = TransMIL(12, EVERY[kind], hidden=16, heads=4, landmarks=4).eval().double()
    bag, step, patch = torch.randn(7, 12).double(), 1e-6, 3
    maps = model.attention_maps(bag)
    nudged = [bag.clone() for _ in range(2)]
    nudged[0][patch] *= 1 + step
    nudged[1][patch] *= 1 - step
    first, second = (evidence(model.outputs, model(x).logits).detach() for x in nudged)
    slopes = (first - second) / (2 * step)
    torch.testing.assert_close(maps.alternatives["gradient x input"][:, patch], slopes, rtol=1e-5, atol=1e-8)


def test_a_step_keeps_no_matrix_of_tokens_and_landmarks():
    """A step that kept its three, A1 and A3 of the first layer and A3 of the second, needed 21,008 bytes a patch."""
    model = TransMIL(64, 1, hidden=128, heads=4, landmarks=256)
    few, many = (saved_bytes(model, 64, n) for n in (32**2, 64**2))
    assert (many - few) / (64**2 - 32**2) < 0.6 * 21_008
