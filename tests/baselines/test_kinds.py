"""What holds for every model and every kind of task."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from baselines_for_tests import MODELS, bag, make
from layouts_for_tests import answer, inputs
from outputs_for_tests import EVERY, MIXED, SINGLE, targets_for
from torch import Tensor
from vmap_rules import (
    assert_many_bags_equal_one_by_one,
    assert_stacked_copies_equal_each_alone,
    assert_training_works_together,
)

from milbench.endpoints.endpoint import KINDS
from milbench.endpoints.outputs import Outputs
from milbench.engines.cost import multiply_adds
from milbench.errors import UsageError
from milbench.models import MILModel
from milbench.training.activations import saved_bytes
from milbench.training.contract import findings_of
from milbench.training.precision import arithmetic, as_float32

ONE_TASK = ("transmil", "dtfd_mil", "clam_sb", "clam_mb", "acmil", "ilra", "rrt_mil", "wikg")
CASES = [(name, kind) for name in MODELS for kind in EVERY if kind != "mixed" or name not in ONE_TASK]
IN_THE_QUICK_SUITE = ("classes", "bins", "mixed")
"""Kinds that the quick suite tries with every model; it tries all of them with the study's nine. The others take a minute."""

of_every_kind = pytest.mark.parametrize(
    ("name", "kind"),
    [
        (name, kind)
        if MODELS[name].info.study or kind in IN_THE_QUICK_SUITE
        else pytest.param(name, kind, marks=pytest.mark.slow)
        for name, kind in CASES
    ],
)


def seeded(name: str, kind: str, seed: int = 0, **options: object) -> MILModel:
    torch.manual_seed(seed)
    return make(name, EVERY[kind], **options)


def loss_of(model: MILModel, features: Tensor, known: Tensor | None = None, turn: int = 0) -> Tensor:
    targets = targets_for(model.outputs, turn).to(features.dtype)
    return model.loss(answer(model, features), targets, torch.ones_like(targets) if known is None else known)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["binary", "classes", "grades"])
def test_smoothed_labels_have_the_mean_loss_of_their_classes_in_training_alone(name: str, kind: str) -> None:
    model = seeded(name, kind)
    n_classes = len(model.outputs.endpoints[0].endpoint.classes) or 2
    output, known = answer(model.train(), bag(7)), torch.ones(model.n_tasks)

    def loss(label: int) -> float:
        return model.loss(output, torch.full((model.n_tasks,), float(label)), known).item()

    of_classes = [loss(label) for label in range(n_classes)]
    model.training_smoothing = 0.3
    assert loss(1) == pytest.approx(0.7 * of_classes[1] + 0.3 * np.mean(of_classes), rel=1e-5)
    model.eval()
    assert loss(1) == of_classes[1]


@pytest.mark.parametrize("name", MODELS)
def test_the_model_learns_every_kind(name: str) -> None:
    assert MODELS[name].info.kinds == KINDS


@of_every_kind
def test_there_are_as_many_finite_logits_as_the_tasks_need(name: str, kind: str) -> None:
    model = seeded(name, kind)
    for n in (1, 2, 7, 50):
        logits = answer(model, bag(n)).logits
        assert logits.shape == (int(EVERY[kind]),)
        assert torch.isfinite(logits).all()


@of_every_kind
@pytest.mark.parametrize("n", [1, 7])
def test_every_parameter_gets_a_finite_gradient(name: str, kind: str, n: int) -> None:
    model = seeded(name, kind).train()
    loss_of(model, bag(n)).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


@of_every_kind
def test_the_model_keeps_the_rules_of_a_plug_in(name: str, kind: str) -> None:
    small = {"hidden": 16} | ({"landmarks": 4, "heads": 2} if name == "transmil" else {})
    assert findings_of(MODELS[name], 12, EVERY[kind], small) == []


@of_every_kind
def test_many_bags_and_many_copies_at_once_give_what_each_gives_alone(name: str, kind: str) -> None:
    assert_many_bags_equal_one_by_one(seeded(name, kind), 7)
    assert_stacked_copies_equal_each_alone(lambda: make(name, EVERY[kind]), 7)
    assert_training_works_together(lambda: make(name, EVERY[kind]), 7)


@of_every_kind
def test_the_order_of_patches_does_not_matter_where_the_model_says_so(name: str, kind: str) -> None:
    model, features = seeded(name, kind).double(), bag(23).double()
    order = torch.randperm(23, generator=torch.Generator().manual_seed(1))
    shuffled = answer(model, features[order], order=order).logits
    same = torch.allclose(shuffled, answer(model, features).logits, atol=1e-12, rtol=0)
    assert same or MODELS[name].info.order_matters


@of_every_kind
def test_the_loss_is_linear_in_the_weights_of_the_known_tasks(name: str, kind: str) -> None:
    model, features = seeded(name, kind).double(), bag(9).double()
    n = model.n_tasks
    first, second = torch.linspace(0.5, 2, n).double(), torch.linspace(3, 1, n).double()
    both = loss_of(model, features, 2 * first + second)
    torch.testing.assert_close(both, 2 * loss_of(model, features, first) + loss_of(model, features, second))
    if n > 1:
        first[0] = 0
        torch.testing.assert_close(loss_of(model, features, 3 * first), 3 * loss_of(model, features, first))


@pytest.mark.parametrize("name", [name for name in MODELS if name not in ONE_TASK])
def test_an_unknown_task_among_other_kinds_moves_nothing_of_its_own(name: str) -> None:
    model = seeded(name, "mixed")
    for task in range(MIXED.n_tasks):
        known = torch.ones(MIXED.n_tasks)
        known[task] = 0
        losses = []
        for wild in (-3.0, 2.0):
            targets = targets_for(MIXED).float()
            targets[task] = wild
            losses.append(model.loss(answer(model, bag(9)), targets, known))
        assert torch.equal(*losses)


@of_every_kind
def test_other_float_types_work_throughout(name: str, kind: str) -> None:
    for dtype in (torch.float64, torch.bfloat16):
        assert answer(seeded(name, kind).to(dtype), bag(9).to(dtype)).logits.dtype == dtype


@of_every_kind
def test_a_step_in_bfloat16_has_a_finite_loss_and_gradients(name: str, kind: str) -> None:
    model = seeded(name, kind).train()
    with arithmetic("bf16", torch.device("cpu")):
        output = answer(model, bag(9))
    targets = targets_for(model.outputs).float()
    loss = model.loss(as_float32(output), targets, torch.ones_like(targets))
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@of_every_kind
def test_memory_and_work_of_the_model_are_counted(name: str, kind: str) -> None:
    small = {"hidden": 16} | ({"landmarks": 4, "heads": 2} if name == "transmil" else {})
    work = multiply_adds(MODELS[name], 12, EVERY[kind], small)
    assert work is not None
    assert work > 0
    assert saved_bytes(seeded(name, kind), 12, 25) > 0
    assert saved_bytes(seeded(name, kind), 12, 25, recomputed=True) > 0


@of_every_kind
def test_maps_have_a_row_per_task_and_class(name: str, kind: str) -> None:
    model = seeded(name, kind)
    for n in (1, 7):
        maps = model.attention_maps(*inputs(model, bag(n)))
        for values in (maps.per_task, *maps.alternatives.values()):
            assert values.shape == (len(model.outputs.maps), n)
            assert torch.isfinite(values).all()
            assert not values.requires_grad
        if maps.is_distribution:
            torch.testing.assert_close(maps.per_task.sum(dim=1), torch.ones(len(maps.per_task)))
        torch.testing.assert_close(maps.logits, answer(model, bag(n)).logits.detach())


# ---- learning ------------------------------------------------------------------------------------


def slides(count: int = 6, n: int = 6) -> list[Tensor]:
    """Bags in three sorts: the more of it, the further along the first two features."""
    generator = torch.Generator().manual_seed(2)
    shift = torch.zeros(count, 1, 12)
    shift[:, 0, 0], shift[:, 0, 1] = torch.arange(count) % 3 * 2.0, (torch.arange(count) % 3 == 1) * 2.0
    return list(torch.randn(count, n, 12, generator=generator) + shift)


def targets_of_slides(outputs: Outputs, sort: int) -> Tensor:
    """Targets [1] by the sort of a slide: class, grade, value and bin go with it."""
    (endpoint,) = outputs.endpoints
    by_kind = {"binary": float(sort == 2), "regression": sort - 1.0, "survival": float((-4, 3, 1)[sort])}
    return torch.tensor([by_kind.get(endpoint.kind, float(sort))])


def cox(logits: Tensor) -> Tensor:
    """Cox's loss of the slides' logits: sort 2 dies first, sort 1 later, sort 0 lives on."""
    time = torch.tensor([3.0 - place % 3 for place in range(len(logits))])
    died = time < 3
    at_risk = torch.where(time >= time[:, None], 0, -torch.inf).to(logits)
    return ((at_risk + logits).logsumexp(dim=1) - logits)[died].mean()


def step_loss(model: MILModel, bags: Sequence[Tensor]) -> Tensor:
    """Loss of one step on all bags; Cox's in two passes, as a step of the trainer takes it."""
    outputs = [answer(model, features) for features in bags]
    targets = [targets_of_slides(model.outputs, place % 3).to(bags[0]) for place in range(len(bags))]
    if model.outputs.endpoints[0].loss == "cox":
        logits = torch.cat([output.logits for output in outputs]).detach().requires_grad_()
        (slopes,) = torch.autograd.grad(cox(logits), logits)
        targets = list(slopes[:, None])
    one = torch.ones(1).to(bags[0])
    losses = [model.loss(output, target, one) for output, target in zip(outputs, targets, strict=True)]
    return torch.stack(losses).sum()


def distance(model: MILModel, bags: Sequence[Tensor]) -> float:
    """How far the answers are from the truth: Cox's loss, else the step's."""
    if model.outputs.endpoints[0].loss == "cox":
        return float(cox(torch.cat([answer(model, features).logits for features in bags])).detach())
    return float(step_loss(model, bags).detach())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", SINGLE)
def test_a_few_steps_bring_the_answers_nearer(name: str, kind: str) -> None:
    model, bags = seeded(name, kind), slides()
    before = distance(model, bags)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)

    def nearer_after(n_steps: int) -> bool:
        for _ in range(n_steps):
            optimizer.zero_grad()
            step_loss(model, bags).backward()
            optimizer.step()
        return distance(model, bags) < 0.9 * before

    assert any(nearer_after(3) for _ in range(4))  # most models need three steps, a few go too far at first


@pytest.mark.parametrize("name", MODELS)
def test_a_step_of_coxs_loss_has_the_gradient_of_the_loss_of_the_answers(name: str) -> None:
    model, bags = seeded(name, "risk").double(), [features.double() for features in slides()]
    outputs, one = [answer(model, features) for features in bags], torch.ones(1).double()
    without_label = sum(model.loss(output, 0 * one, one) for output in outputs)  # such as ACMIL's diversity; else 0
    whole = torch.autograd.grad(
        cox(torch.cat([output.logits for output in outputs])) + without_label,
        list(model.parameters()),
        materialize_grads=True,
    )
    by_bag = torch.autograd.grad(step_loss(model, bags), list(model.parameters()), materialize_grads=True)
    torch.testing.assert_close(by_bag, whole, atol=1e-12, rtol=1e-9)


# ---- one task ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONE_TASK)
def test_models_of_one_task_refuse_several_of_any_kind(name: str) -> None:
    with pytest.raises(UsageError, match=r"answers one task; got n_tasks=7\. Train one model per task"):
        make(name, MIXED)


def test_a_plain_number_is_so_many_binary_tasks() -> None:
    for name, model in MODELS.items():
        n = 1 if name in ONE_TASK else 3
        torch.manual_seed(0)
        plain = make(name, n)
        torch.manual_seed(0)
        told = make(name, Outputs.of(n))
        np.testing.assert_array_equal(answer(plain, bag(7)).logits.detach(), answer(told, bag(7)).logits.detach())
        assert plain.outputs.endpoints == told.outputs.endpoints
        assert model.info.kinds
