"""Host reads: which models' steps a CUDA graph can hold. A device without numbers stands in for the GPU."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
from endpoints_for_tests import BINARY, CLASSES, COX, SCORE, tiny
from graphs_for_tests import NEED_THE_CPU, VALIDATIONS_NEED_THE_CPU, TapeRecorder
from stacks_for_tests import OURS, SMALL
from torch import Tensor

from milbench.endpoints.endpoint import Endpoint
from milbench.endpoints.fitted import FittedEndpoint
from milbench.models import MILModel
from milbench.registry import load_models
from milbench.training.fold_stack import Batch, FoldStack
from milbench.training.host_reads import host_reads
from milbench.training.learner import Learner
from milbench.training.randomness import Randomness
from milbench.training.replays import ReplayMemory
from milbench.training.side import Side
from milbench.training.step_graphs import GraphedStack, ModelGraphs
from milbench.training.weights import OneModel, ParameterStack
from milbench.trials.recipe import Recipe

NOWHERE = torch.device("meta")

GRADES = FittedEndpoint(Endpoint("ordinal", ("1", "2", "3")), "corn")
TIME_BINS = FittedEndpoint(Endpoint("survival"), "nll", edges=(2.0, 4.0))


def small(name: str) -> MILModel:
    cls = load_models()[name]
    known = cls.__init__.__kwdefaults__ or {}
    sizes = {key: value for key, value in SMALL.items() if key in known}
    return cls(6, 4 if cls.info.tasks == "multi" else 1, **sizes)


def of_a_step(model: MILModel, n_patches: int) -> list[str]:
    """What a step on a bag of so many patches needs the CPU for."""
    bag = model.bag_like(torch.zeros(n_patches, model.in_features)).each(lambda tensor: tensor.to(NOWHERE))
    weights = OneModel(model.float().train(), "float32", NOWHERE)
    labels = torch.ones(1, 1, model.n_tasks, device=NOWHERE)
    with host_reads(NOWHERE) as found:
        weights.forward_backward([bag], labels, labels, 1, at_once=1, recompute=False)
    return found


@pytest.mark.parametrize("n_patches", [40, 900])
@pytest.mark.parametrize("name", OURS)
def test_what_a_models_step_needs_the_cpu_for(name: str, n_patches: int) -> None:
    assert of_a_step(small(name), n_patches) == NEED_THE_CPU.get(name, [])


@pytest.mark.parametrize("endpoint", [BINARY, CLASSES, SCORE, COX, GRADES, TIME_BINS], ids=lambda each: each.loss)
def test_no_loss_needs_the_cpu(endpoint: FittedEndpoint) -> None:
    model = tiny(endpoint, BINARY)
    model.training_smoothing = 0.1
    assert of_a_step(model, 9) == []


def test_no_model_of_the_study_needs_the_cpu() -> None:
    assert not [name for name in NEED_THE_CPU if load_models()[name].info.study]


X = torch.zeros(4, 3, device=NOWHERE)


@pytest.mark.parametrize(
    ("work", "told"),
    [
        (lambda: X.sum().item(), "aten::_local_scalar_dense needs numbers"),
        (lambda: bool(X.sum() > 0), "aten::_local_scalar_dense needs numbers"),
        (lambda: X.nonzero(), "aten::nonzero needs numbers"),
        (lambda: X[X > 0], "aten::index needs numbers"),
        (lambda: X.masked_select(X > 0), "aten::masked_select needs numbers"),
        (lambda: X.cpu(), "aten::_to_copy copies to the CPU"),
        (lambda: torch.arange(4).to(NOWHERE), "aten::_to_copy copies from the CPU"),
        (lambda: torch.tensor([1.0, 2.0], device=NOWHERE), "tensor copies numbers of Python"),
        (lambda: X.new_tensor([1.0]), "new_tensor copies numbers of Python"),
        (lambda: X[[0, 2]], "__getitem__ copies numbers of Python"),
        (lambda: X[torch.tensor([0, 2])], "aten::index copies from the CPU"),
        (lambda: torch.rand(3), "aten::rand draws on the CPU"),
        (lambda: random.random(), "draws from NumPy or Python"),
    ],
)
def test_what_a_graph_cannot_hold_is_noted(work: Callable[[], object], told: str) -> None:
    found = watched(work)
    assert told in found


@pytest.mark.parametrize(
    "work",
    [
        lambda: X[X.long()[:, 0]],
        lambda: torch.rand(3, device=NOWHERE),
        lambda: torch.randperm(3, device=NOWHERE),
        lambda: X * torch.tensor(2.0),
        lambda: X.where(X > 0, 1.0).softmax(dim=0),
        lambda: X.argsort(dim=0),
    ],
)
def test_what_a_graph_can_hold_is_not_noted(work: Callable[[], Tensor]) -> None:
    with host_reads(NOWHERE) as found:
        work()
    assert found == []


def watched(work: Callable[[], object]) -> list[str]:
    # work that asks for numbers raises where there are none, after it was noted
    with suppress(RuntimeError, NotImplementedError), host_reads(NOWHERE) as found:
        work()
    return found


def test_the_backward_is_watched_too() -> None:
    class Looks(torch.autograd.Function):
        @staticmethod
        def forward(x: Tensor) -> Tensor:
            return x * 2

        @staticmethod
        def setup_context(ctx: object, inputs: object, output: object) -> None:
            pass

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
            return gradient * (2 if gradient.sum().item() > 0 else 3)

    x = torch.ones(3, requires_grad=True)
    with host_reads(x.device) as found:
        Looks.apply(x).sum().backward()
    assert found == ["aten::_local_scalar_dense needs numbers"]


def test_generators_that_a_recorder_knows_may_be_drawn_from() -> None:
    known, other = torch.Generator(), torch.Generator()
    with host_reads(torch.device("cpu"), [known]) as found:
        torch.rand(3, generator=known)
    assert found == []
    with host_reads(torch.device("cpu"), [known]) as found:
        torch.rand(3, generator=other)
    assert found == ["aten::rand draws from a generator of its own"]


# ---- stacks --------------------------------------------------------------------------------------


def memory() -> ReplayMemory:
    return ReplayMemory(TapeRecorder())


@pytest.mark.parametrize("n_patches", [40, pytest.param(900, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", OURS)
def test_what_steps_and_validations_of_stacks_need_the_cpu_for(name: str, n_patches: int) -> None:
    model = small(name)
    bag = model.bag_like(torch.zeros(n_patches, model.in_features)).each(lambda tensor: tensor.to(NOWHERE))
    plain = ParameterStack([model.float().train()] * 3, "float32", NOWHERE)
    weights = GraphedStack(plain, ModelGraphs(memory(), lambda *_: 0))
    labels = torch.ones(3, 1, model.n_tasks, device=NOWHERE)
    weights.forward_backward([bag], labels, labels, 1, at_once=3, recompute=False)
    assert weights.graphs.steps.needs_cpu_for == NEED_THE_CPU.get(name, [])
    weights.model.eval()
    with torch.no_grad():
        weights.losses_and_logits([bag, bag], labels.expand(3, 2, -1), labels.expand(3, 2, -1), at_once=3)
    assert weights.graphs.evaluations.needs_cpu_for == VALIDATIONS_NEED_THE_CPU.get(name, [])


@pytest.mark.parametrize("is_shared", [True, False], ids=["one bag", "bags of their own"])
@pytest.mark.parametrize("rows", [[0, 1, 2], [0, 2]], ids=["all folds", "some"])
@pytest.mark.parametrize("name", ["m4", "mmoe_amil", "mmoe_mp_amil", "transmil"])
def test_steps_of_folds_do_not_need_the_cpu(
    name: str, rows: list[int], is_shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Randomness.generators
    # the device draws nothing, but has to be given a generator
    monkeypatch.setattr(Randomness, "generators", lambda self: {"meta": real(self)["cpu"], **real(self)})
    model = small(name).float()
    side = Side(("s",), *[torch.ones(1, 1, model.n_tasks)] * 2)
    learners = [
        Learner([copy.deepcopy(model)], Recipe(task_weights="uncertainty"), side, side, seed=7, device=NOWHERE)
        for _ in range(3)
    ]
    stack = FoldStack(learners)
    stack.replays = memory().replays()
    bag = model.bag_like(torch.zeros(40, model.in_features)).each(lambda tensor: tensor.to(NOWHERE))
    bags = [bag if is_shared else bag.each(torch.clone) for _ in rows]
    batches = [Batch.of(learners[row], [("s", own)]) for row, own in zip(rows, bags, strict=True)]
    labels = [learners[row]._labels_of(batch.bags) for row, batch in zip(rows, batches, strict=True)]
    stack._losses_and_gradients(batches, labels, rows)
    assert stack.replays.needs_cpu_for == []
