"""DSMIL against the official code's numbers, and its options."""

import numpy as np
import pytest
import torch
from golden_rules import Golden, gradients_of
from outputs_for_tests import EVERY, SINGLE, targets_for
from torch.utils._python_dispatch import TorchDispatchMode
from vmap_rules import (
    assert_many_bags_equal_one_by_one,
    assert_stacked_copies_equal_each_alone,
    assert_training_works_together,
)

from milbench.endpoints.answers import answers_of
from milbench.endpoints.endpoint import Endpoint
from milbench.endpoints.fitted import FittedEndpoint
from milbench.endpoints.outputs import Outputs
from milbench.errors import BagError, CheckpointError, UsageError
from milbench_baselines.dsmil import DSMIL, FEW_IN_STEP
from milbench_baselines.layers.critical_attention import attended_in_blocks

FILES = ["dsmil_c1", "dsmil_c2", "dsmil_c3_passv", "dsmil_c1_linear"]
OPTIONS = [{}, {"transforms_values": True, "dropout": 0.5}, {"embeds": True, "nonlinear_query": False}]


def small(n_tasks: int = 1, **options) -> DSMIL:
    return DSMIL(12, n_tasks, **{"hidden": 8, "attention": 4, **options})


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("n", [1, 2, 7, 100, 257])
def test_outputs_are_the_official_ones(file, n):
    golden = Golden(file)
    model = DSMIL.from_official(golden.state_dict())
    for dtype, suffix, tolerance in ((torch.float32, "", 1e-5), (torch.float64, "64", 1e-7)):
        output = model.to(dtype)(golden.bag(n).to(dtype))
        for ours, key in (
            (output.logits, "y"),
            (output.attention.T, "attn"),
            (output.aux["instance_logits"], "inst"),
        ):
            expected = torch.from_numpy(golden[f"{key}{suffix}/{n}"])
            torch.testing.assert_close(ours.detach(), expected, atol=tolerance, rtol=0)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("n", [7, 100])
def test_loss_and_gradients_are_the_official_ones(file, n):
    golden = Golden(file)
    model = DSMIL.from_official(golden.state_dict()).double()
    label = torch.from_numpy(golden["label"]).double()
    loss = model.loss(model(golden.bag(n).double()), label, torch.ones_like(label))
    assert loss.item() == pytest.approx(golden[f"loss64/{n}"].item(), abs=1e-7)
    names = golden.official_names(DSMIL.from_official)
    assert golden.gradient_error(f"{n}_f64", gradients_of(model, loss, names)) < 1e-7


def test_the_parameter_count_is_the_official_one():
    assert sum(p.numel() for p in DSMIL(2048, 1).parameters()) == 282_882


@pytest.mark.parametrize("options", OPTIONS)
def test_many_at_once_equal_one_by_one(options):
    assert_many_bags_equal_one_by_one(small(3, **options), 9)
    assert_stacked_copies_equal_each_alone(lambda: small(2, **options), 9)
    assert_training_works_together(lambda: small(patch_dropout=0.3, **options), 9)


def test_the_order_of_the_patches_does_not_matter():
    model, x, order = small(2).eval().double(), torch.randn(30, 12).double(), torch.randperm(30)
    a, b = model(x), model(x[order])
    torch.testing.assert_close(a.logits, b.logits, atol=1e-12, rtol=0)
    torch.testing.assert_close(a.attention[:, order], b.attention, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_it_answers_in_its_own_precision_with_attention_that_sums_to_one(dtype, n):
    output = small(2, embeds=True, transforms_values=True).eval().to(dtype)(torch.randn(n, 12, dtype=dtype))
    assert output.logits.dtype == dtype
    assert output.attention.shape == (2, n)
    torch.testing.assert_close(output.attention.sum(dim=1).float(), torch.ones(2), atol=0.02, rtol=0)


def test_an_unknown_label_weighs_nothing():
    model, x = small(2).eval(), torch.randn(6, 12)
    known = torch.tensor([1.0, 0.0])
    a, b = (model.loss(model(x), torch.tensor([1.0, hidden]), known) for hidden in (0.0, 1.0))
    assert torch.equal(a, b)
    assert model.loss(model(x), torch.zeros(2), torch.zeros(2)) == 0


def test_averaged_streams_predict_the_mean_probability():
    torch.manual_seed(0)
    output = small(average_streams=True).eval().double()(torch.randn(6, 12).double())
    expected = (output.aux["top_logits"].sigmoid() + output.aux["bag_logits"].sigmoid()) / 2
    torch.testing.assert_close(output.logits.sigmoid(), expected)
    assert not torch.allclose(output.logits, output.aux["bag_logits"])


def test_dropped_patches_are_the_asked_share_and_only_in_training():
    model, x = small(patch_dropout=0.25), torch.randn(20, 12)
    assert int((model.train()(x).attention == 0).sum()) == 5
    assert int((model.eval()(x).attention == 0).sum()) == 0
    assert torch.isfinite(small(patch_dropout=0.9).train()(x[:1]).logits).all()


def test_orthogonal_start_has_orthonormal_rows_and_zero_biases():
    model = small(init="orthogonal")
    weight = model.query[0].weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(4), atol=1e-5, rtol=0)
    assert all(not p.any() for name, p in model.named_parameters() if name.endswith("bias"))
    with pytest.raises(UsageError, match="orthogonal"):
        small(init="orthogonl")


def test_a_misfit_checkpoint_is_refused_by_name():
    weights = Golden("dsmil_c1").state_dict()
    for change, named in (
        ({"i_classifier.fc.0.bias": None}, "missing.*score.bias"),
        ({"extra.weight": torch.ones(1)}, "left over.*extra.weight"),
        ({"b_classifier.fcc.weight": torch.ones(1, 1, 63)}, r"b_classifier.fcc.weight.*\(1, 1, 63\)"),
        ({"i_classifier.fc.0.weight": None}, "i_classifier.fc.0.weight"),
    ):
        changed = {name: tensor for name, tensor in (weights | change).items() if tensor is not None}
        with pytest.raises(CheckpointError, match=named):
            DSMIL.from_official(changed)


def test_an_empty_bag_is_refused():
    with pytest.raises(BagError, match="empty"):
        small()(torch.empty(0, 12))


# ---- tasks of other kinds ------------------------------------------------------------------------


def of_kind(kind: str, **options) -> DSMIL:
    torch.manual_seed(0)
    return DSMIL(12, EVERY[kind], hidden=8, attention=4, **options).eval().double()


BAG = torch.randn(6, 12, generator=torch.Generator().manual_seed(2)).double()


def test_classes_are_sigmoids_that_are_divided_by_their_sum():
    output = of_kind("classes")(BAG)
    sigmoids = output.aux["bag_logits"].sigmoid()
    assert output.attention.shape == (4, 6)
    torch.testing.assert_close(output.logits.softmax(dim=0), sigmoids / sigmoids.sum())


def test_the_loss_of_classes_is_the_official_one_of_a_one_hot_label():
    golden = Golden("dsmil_c3_passv")
    three = FittedEndpoint(Endpoint("multiclass", ("a", "b", "c")), "ce")
    classes = DSMIL.from_official(golden.state_dict(), n_outputs=Outputs([three])).double()
    columns = DSMIL.from_official(golden.state_dict()).double()
    bag, one = golden.bag(7).double(), torch.ones(1).double()
    torch.testing.assert_close(
        classes(bag).aux["bag_logits"].detach(), torch.from_numpy(golden["y64/7"]), atol=1e-7, rtol=0
    )
    for place, one_hot in enumerate(torch.eye(3).double()):
        theirs = columns.loss(columns(bag), one_hot, torch.ones(3).double())
        torch.testing.assert_close(classes.loss(classes(bag), one * place, one), theirs)


@pytest.mark.parametrize("kind", [kind for kind in SINGLE if kind not in ("classes", "grade", "risk")])
def test_averaged_streams_answer_the_mean_of_both_answers(kind):
    output = of_kind(kind, average_streams=True)(BAG)
    streams = torch.stack((output.aux["top_logits"], output.aux["bag_logits"])).detach().numpy()
    ours = answers_of(SINGLE[kind], output.logits[None].detach().numpy())[0]
    np.testing.assert_allclose(ours, answers_of(SINGLE[kind], streams).mean(axis=0), atol=1e-12)
    torch.testing.assert_close(of_kind(kind)(BAG).logits, output.aux["bag_logits"])


def test_averaged_streams_of_classes_are_the_mean_of_both_sigmoids():
    output = of_kind("classes", average_streams=True)(BAG)
    both = (output.aux["top_logits"].sigmoid() + output.aux["bag_logits"].sigmoid()) / 2
    torch.testing.assert_close(output.logits.softmax(dim=0), both / both.sum())


def test_a_cox_risk_is_the_mean_of_both_streams():
    output = of_kind("risk")(BAG)
    torch.testing.assert_close(output.logits, (output.aux["top_logits"] + output.aux["bag_logits"]) / 2)


@pytest.mark.parametrize("kind", [kind for kind in SINGLE if kind != "classes"])
def test_half_of_each_streams_loss_counts(kind):
    model, targets, one = of_kind(kind), targets_for(EVERY[kind]), torch.ones(1).double()
    output = model(BAG)
    halves = [model.task_losses(output.aux[stream], targets) / 2 for stream in ("top_logits", "bag_logits")]
    torch.testing.assert_close(model.loss(output, targets, one), sum(halves).sum())


def test_the_loss_is_the_mean_over_the_tasks_that_are_known_whatever_they_weigh():
    model = small(2).eval()
    x, targets = torch.randn(6, 12), torch.tensor([1.0, 0.0])
    light, heavy = (model.loss(model(x), targets, torch.tensor([w, 0.0])) for w in (1.0, 5.0))
    torch.testing.assert_close(heavy, 5 * light)


def test_maps_of_classes_are_their_attention_and_of_grades_a_mean_weighted_by_the_grade():
    for kind, weights in (("thresholds", [1 / 2, 1 / 2]), ("bins", [1 / 4] * 4), ("grades", [0, 1 / 3, 2 / 3])):
        model = of_kind(kind)
        expected = torch.tensor(weights).double() @ model(BAG).attention
        torch.testing.assert_close(model.attention_maps(BAG).per_task[0], expected.detach(), atol=1e-7, rtol=0)
    model = of_kind("classes")
    torch.testing.assert_close(model.attention_maps(BAG).per_task, model(BAG).attention.detach())


def test_rows_of_attention_are_named_by_task_and_logit():
    assert small(2).attention_rows() == ("task 0", "task 1")
    assert of_kind("thresholds").attention_rows() == ("task 0, logit 0", "task 0, logit 1")


class ProductsWithTheBag(TorchDispatchMode):
    """Names of the products of which a factor has as many numbers as the bag."""

    def __init__(self, bag):
        super().__init__()
        self.n, self.names = bag.numel(), []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__.strip("_")
        is_product = name in {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv"}
        if is_product and any(each.numel() == self.n for each in args if isinstance(each, torch.Tensor)):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def test_a_forward_multiplies_a_large_bag_with_the_query_and_all_narrow_rows_and_a_backward_once_more():
    model, bag = DSMIL(256, 1, attention=8), torch.randn(500, 256)
    labels = torch.ones(1)
    with ProductsWithTheBag(bag) as forward:
        loss = model.loss(model(bag), labels, labels)
    with ProductsWithTheBag(bag) as backward:
        loss.backward()
    assert (forward.names, backward.names) == (["addmm", "mm"], ["addmm"])


@pytest.mark.parametrize(("n", "is_in_blocks"), [(FEW_IN_STEP, False), (FEW_IN_STEP + 1, True)])
def test_a_step_of_few_patches_goes_operation_by_operation(n, is_in_blocks, monkeypatch):
    calls = []

    def counted(*given):
        calls.append(len(given[0]))
        return attended_in_blocks(*given)

    monkeypatch.setattr("milbench_baselines.dsmil.attended_in_blocks", counted)
    model = DSMIL(256, 1).train()
    model(torch.randn(n, 256)).logits.sum().backward()
    assert bool(calls) == is_in_blocks
    with torch.no_grad():  # without a graph, blocks start sooner
        model(torch.randn(n, 256))
    assert calls[-1:] == [n]
