"""DTFD-MIL against the official code's numbers, tier by tier, and its options."""

import numpy as np
import pytest
import torch
from golden_rules import Golden, gradients_of
from outputs_for_tests import EVERY, SINGLE, targets_for
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from vmap_rules import (
    assert_many_bags_equal_one_by_one,
    assert_stacked_copies_equal_each_alone,
    assert_training_works_together,
)

from milbench.endpoints.answers import answers_of
from milbench.errors import BagError, CheckpointError, UsageError
from milbench_baselines.dtfd_mil import DTFDMIL
from milbench_baselines.layers.pseudo_bags import members_of_parts, sizes_of_parts

FILES = ["dtfd_res0", "dtfd_res1"]
DISTILLATIONS = ["AFS", "MaxS", "MaxMinS"]
ONE = torch.ones(1).double()


def official(file: str, distillation: str, **options) -> tuple[Golden, DTFDMIL]:
    golden = Golden(file)
    total = golden.meta["total_instance"][distillation]
    options = {"distillation": distillation, "total_instances": total, "small_bags": "official", **options}
    return golden, DTFDMIL.from_official(golden.state_dict(), **options)


def small(**options) -> DTFDMIL:
    return DTFDMIL(12, 1, **{"hidden": 8, "attention": 4, "total_instances": 8, **options})


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("distillation", DISTILLATIONS)
@pytest.mark.parametrize("n", [1, 2, 7, 100, 257])
def test_outputs_are_the_official_ones_empty_pseudo_bags_included(file, distillation, n):
    golden, model = official(file, distillation)
    order = torch.from_numpy(golden[f"perm/{n}"])
    for dtype, suffix, tolerance in ((torch.float32, "", 1e-5), (torch.float64, "64", 1e-12)):
        with torch.no_grad():
            output = model.to(dtype).forward_grouped(golden.bag(n).to(dtype), [order])
        for ours, key in (
            (output.aux["slide_logits"][0], "y"),
            (output.aux["pseudo_logits"], "sub"),
            (output.aux["distilled"], "pseudo"),
        ):
            expected = torch.from_numpy(golden[f"{key}{suffix}/{distillation}/{n}"])
            torch.testing.assert_close(ours, expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("distillation", DISTILLATIONS)
@pytest.mark.parametrize(("clip", "tag"), [(None, ""), (5.0, "_clip5"), (0.05, "_clip0.05")])
def test_losses_and_gradients_at_both_official_steps(file, distillation, clip, tag):
    golden, model = official(file, distillation)
    model.double()
    output = model.forward_grouped(golden.bag(100).double(), [torch.from_numpy(golden["perm/100"])])
    tiers = [golden[f"loss_tier{tier}/{distillation}/100"].item() for tier in (1, 2)]
    loss = model.loss(output, ONE, ONE)
    label = torch.ones(4, dtype=torch.long)
    assert cross_entropy(output.aux["pseudo_logits"], label).item() == pytest.approx(tiers[0], abs=2e-6)
    assert cross_entropy(output.aux["slide_logits"], label[:1]).item() == pytest.approx(tiers[1], abs=2e-6)
    assert loss.item() == pytest.approx(sum(tiers), abs=2e-6)
    gradients = gradients_of(model, loss, golden.official_names(DTFDMIL.from_official))
    if clip is not None:
        for part in model.children():  # as the trainer does: each part alone
            clip_grad_norm_(part.parameters(), clip)
    assert golden.gradient_error(f"{distillation}/100{tag}", gradients) < 2e-6


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("n", [7, 100])
def test_tier_one_attention_is_the_official_one_in_patch_order(file, n):
    golden, model = official(file, "AFS")
    order = golden[f"perm/{n}"]
    expected = np.empty(n)
    for part in np.array_split(order, 4):
        scores = np.exp(golden[f"attn_raw/{n}"][part].astype(float))
        expected[part] = scores / scores.sum()
    with torch.no_grad():
        ours = model.forward_grouped(golden.bag(n), [torch.from_numpy(order)]).attention
    np.testing.assert_allclose(ours[0].numpy(), expected, atol=1e-6)


def test_detaching_equals_two_optimisers_that_drop_the_leak():
    """The joint loss gives tier 1 the gradients of its own loss alone, and tier 2 those of its own on attached rows."""
    torch.manual_seed(0)
    model, x = small().train().double(), torch.randn(20, 12).double()
    order = [torch.randperm(20)]
    model.loss(model.forward_grouped(x, order), ONE, ONE).backward()
    joint = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    output = model.forward_grouped(x, order)
    cross_entropy(output.aux["pseudo_logits"], torch.ones(4, dtype=torch.long)).backward()
    alone = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in alone} == {"reduction", "attention", "classifier"}
    for name, gradient in alone.items():
        torch.testing.assert_close(joint[name], gradient)
    h = model.reduction(x)
    parts = [h[part] for part in order[0].tensor_split(4)]
    attached = torch.stack([model.attention(part).softmax(dim=0) @ part for part in parts])
    model.zero_grad()
    cross_entropy(model.tier_two(attached)[None], torch.ones(1, dtype=torch.long)).backward()
    assert model.reduction[0].weight.grad.abs().max() > 0  # the leak that the official code computes and drops
    for name, parameter in model.tier_two.named_parameters():
        torch.testing.assert_close(joint[f"tier_two.{name}"], parameter.grad)


@pytest.mark.parametrize("distillation", DISTILLATIONS)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_small_bags_by_default_have_one_patch_a_pseudo_bag_and_no_empty_one(distillation, n):
    golden, capped = official("dtfd_res0", distillation, small_bags="cap")
    _, padded = official("dtfd_res0", distillation)
    order = [torch.randperm(n)]
    with torch.no_grad():
        a, b = (model.forward_grouped(torch.randn(n, 64), order) for model in (capped, padded))
    assert a.aux["pseudo_logits"].shape == (n, 2)
    assert b.aux["pseudo_logits"].shape == (4, 2)
    bias = torch.from_numpy(golden.state_dict()["classifier.fc.bias"].numpy())
    torch.testing.assert_close(b.aux["pseudo_logits"][n:], bias.expand(4 - n, 2))
    torch.testing.assert_close(a.attention, torch.ones(1, n))
    assert len(b.aux["distilled"]) == (4 if distillation == "AFS" else len(a.aux["distilled"]))


def test_both_small_bag_rules_agree_from_four_patches_on():
    (_, capped), (_, padded) = official("dtfd_res0", "AFS", small_bags="cap"), official("dtfd_res0", "AFS")
    for n in (4, 5, 100):
        x = torch.randn(n, 64)
        assert torch.equal(capped(x).logits, padded(x).logits)


@pytest.mark.parametrize("n", [1, 3, 4, 5, 11, 36, 101])
@pytest.mark.parametrize("parts", [1, 4, 7])
def test_pseudo_bags_are_numpys_array_split_of_the_order(n, parts):
    order = np.random.default_rng(n).permutation(n)
    member = members_of_parts(torch.from_numpy(order), parts)
    expected = [set(part) for part in np.array_split(order, parts) if len(part)]
    assert sizes_of_parts(n, parts) == [len(part) for part in expected]
    assert [set(row.nonzero()[:, 0].tolist()) for row in member] == expected


@pytest.mark.parametrize("distillation", DISTILLATIONS)
@pytest.mark.parametrize("n", [2, 8, 11])
def test_many_at_once_equal_one_by_one(distillation, n):
    options = {"distillation": distillation, "residual_layers": 1, "regroupings": 2}
    assert_many_bags_equal_one_by_one(small(**options), n)
    assert_stacked_copies_equal_each_alone(lambda: small(**options), n)
    assert_training_works_together(lambda: small(dropout=0.3, tier_two_dropout=0.3, **options), n)


def test_grouping_is_random_in_training_even_between_bags_trained_together():
    torch.manual_seed(0)
    model, x = small().train(), torch.randn(12, 12)
    assert not torch.equal(model(x).attention, model(x).attention)
    together = torch.func.vmap(lambda bag: model(bag).attention, randomness="different")(x.expand(2, 12, 12))
    assert not torch.equal(together[0], together[1])


def test_grouping_is_fixed_in_evaluation_and_touches_no_generator():
    model, x = small().eval(), torch.randn(12, 12)
    state = torch.get_rng_state()
    assert torch.equal(model(x).attention, model(x).attention)
    assert torch.equal(state, torch.get_rng_state())


def test_regroupings_average_probabilities():
    torch.manual_seed(0)
    model, x = small(regroupings=3).eval().double(), torch.randn(9, 12).double()
    output = model(x)
    expected = output.aux["slide_logits"].softmax(dim=1)[:, 1].mean()
    assert output.aux["slide_logits"].shape == (3, 2)
    torch.testing.assert_close(output.logits.sigmoid()[0], expected)


@pytest.mark.parametrize("label", [0, 1])
def test_the_loss_is_the_official_two_class_cross_entropy_of_both_tiers(label):
    model, x = small().eval().double(), torch.randn(9, 12).double()
    output = model(x)
    expected = sum(
        cross_entropy(output.aux[key], torch.full((len(output.aux[key]),), label))
        for key in ("pseudo_logits", "slide_logits")
    )
    torch.testing.assert_close(model.loss(output, ONE * label, ONE), expected)
    assert model.loss(output, ONE, 0 * ONE) == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("distillation", DISTILLATIONS)
@pytest.mark.parametrize("n", [1, 9])
def test_it_answers_in_its_own_precision(dtype, distillation, n):
    output = small(distillation=distillation).eval().to(dtype)(torch.randn(n, 12, dtype=dtype))
    assert output.logits.dtype == dtype
    assert torch.isfinite(output.logits).all()
    assert output.attention.shape == (1, n)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"distillation": "MAS"}, "MaxS"),
        ({"small_bags": "drop"}, "official"),
        ({"distillation": "MaxS", "total_instances": 3}, "total_instances=3"),
        ({"pseudo_bags": 0}, "pseudo_bags=0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, named):
    with pytest.raises(UsageError, match=named):
        small(**options)


def test_several_tasks_and_empty_bags_are_refused():
    with pytest.raises(UsageError, match="n_tasks=2"):
        DTFDMIL(12, 2)
    with pytest.raises(BagError, match="empty"):
        small()(torch.empty(0, 12))


def test_a_misfit_checkpoint_is_refused_by_name():
    weights = Golden("dtfd_res0").state_dict()
    weights["attCls.classifier.fc.weight"] = torch.ones(2, 31)
    with pytest.raises(CheckpointError, match=r"attCls.classifier.fc.weight.*\(2, 31\)"):
        DTFDMIL.from_official(weights)


# ---- tasks of other kinds ------------------------------------------------------------------------


def of_kind(kind: str, **options) -> DTFDMIL:
    torch.manual_seed(0)
    return DTFDMIL(12, EVERY[kind], **{"hidden": 8, "attention": 4, "total_instances": 8, **options}).eval().double()


OTHERS = [kind for kind in SINGLE if kind != "binary"]
BAG = torch.randn(14, 12, generator=torch.Generator().manual_seed(2)).double()


@pytest.mark.parametrize("kind", [kind for kind in OTHERS if kind not in ("grade", "risk")])
def test_regroupings_answer_the_mean_of_their_answers(kind):
    output = of_kind(kind, regroupings=3)(BAG)
    each = answers_of(SINGLE[kind], output.aux["slide_logits"].detach().numpy())
    assert each.shape[0] == 3
    np.testing.assert_allclose(
        answers_of(SINGLE[kind], output.logits[None].detach().numpy())[0], each.mean(axis=0), atol=1e-12
    )


def test_a_cox_risk_is_the_sum_of_both_tiers():
    output = of_kind("risk", regroupings=3)(BAG)
    tiers = (output.aux["slide_logits"].mean(dim=0), output.aux["pseudo_logits"].mean(dim=0))
    torch.testing.assert_close(output.logits, sum(tiers))


@pytest.mark.parametrize("kind", OTHERS)
def test_both_tiers_take_the_tasks_loss(kind):
    model, targets, one = of_kind(kind), targets_for(EVERY[kind]), torch.ones(1).double()
    output = model(BAG)
    pseudo = torch.stack([model.task_losses(logits, targets)[0] for logits in output.aux["pseudo_logits"]])
    slide = model.task_losses(output.aux["slide_logits"][0], targets)[0]
    assert len(pseudo) == 4
    torch.testing.assert_close(model.loss(output, targets, 3 * one), 3 * (pseudo.mean() + slide))


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("distillation", ["MaxS", "MaxMinS"])
def test_distilled_patches_have_the_likeliest_class_or_the_highest_grade_value_or_risk(kind, distillation):
    model = of_kind(kind, distillation=distillation, pseudo_bags=1, total_instances=2)
    output = model.forward_grouped(BAG, [torch.arange(14)])
    h = model.reduction(BAG)
    cam = ((output.attention[0][:, None] * h) @ model.classifier.linear.weight.T).detach().numpy()
    answers = cam if kind == "grade" else answers_of(SINGLE[kind], cam)  # a grade's stored answer is clipped
    order = np.argsort(answers.max(axis=1) if kind == "classes" else answers[:, 0])
    chosen = [*order[:-3:-1], *(order[1::-1] if distillation == "MaxMinS" else [])]
    torch.testing.assert_close(output.aux["distilled"], h[chosen].detach())


def test_instance_scores_of_classes_have_a_row_each():
    maps = of_kind("classes").attention_maps(BAG)
    assert torch.equal(maps.per_task[0], maps.per_task[3])
    torch.testing.assert_close(maps.alternatives["instance scores"].sigmoid().sum(dim=0), torch.ones(14).double())


def test_an_official_checkpoint_of_three_classes_answers_as_its_last_layer():
    weights = Golden("dtfd_res0").state_dict()
    for part in ("classifier.fc", "attCls.classifier.fc"):
        weights[f"{part}.weight"] = torch.cat([weights[f"{part}.weight"], -weights[f"{part}.weight"][:1]])
        weights[f"{part}.bias"] = torch.tensor([0.1, 0.2, 0.3])
    model, bag = DTFDMIL.from_official(weights), Golden("dtfd_res0").bag(7)
    assert model.outputs.endpoints[0].endpoint.classes == ("class 0", "class 1", "class 2")
    two = DTFDMIL.from_official(Golden("dtfd_res0").state_dict())
    ours, theirs = model(bag).aux["pseudo_logits"], two(bag).aux["pseudo_logits"]
    first, second = (Golden("dtfd_res0").state_dict()["classifier.fc.bias"][place] for place in (0, 1))
    torch.testing.assert_close(ours[:, 0] - 0.1, theirs[:, 0] - first)
    torch.testing.assert_close(ours[:, 1] - 0.2, theirs[:, 1] - second)
    torch.testing.assert_close(ours[:, 2] - 0.3, -(theirs[:, 0] - first))
    grades = DTFDMIL.from_official(weights, n_outputs=EVERY["grades"])
    assert torch.equal(grades(bag).logits, model(bag).logits)
    assert grades.outputs.kinds == {"ordinal"}
