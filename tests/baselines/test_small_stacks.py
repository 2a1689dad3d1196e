"""Stacks of models on small bags: the short cut past vmap finds the same losses, logits, gradients and random numbers."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from milbench.endpoints.losses import task_losses, weighted_bce
from milbench.endpoints.outputs import Outputs
from milbench.errors import BagError
from milbench.layout import Patches
from milbench.models import BagOutput, MILModel
from milbench.training.weights import ParameterStack, weights_of
from milbench_baselines.amil import AMIL
from milbench_baselines.dsmil import DSMIL
from milbench_baselines.dtfd_mil import DTFDMIL
from milbench_baselines.layers.row_blocks import FEW
from milbench_baselines.layers.small_bags import FEWER, MOST, NUMBERS, WIDEST
from milbench_baselines.m4 import M4
from milbench_baselines.max_pooling import MaxPooling
from milbench_baselines.mean_pooling import MeanPooling
from milbench_baselines.transmil import TransMIL

D, S = 12, 3
MODELS: dict[str, Callable[[], MILModel]] = {
    "mean": lambda: MeanPooling(D, 1, hidden=10, dropout=0.4),
    "mean, two tasks": lambda: MeanPooling(D, 2, hidden=9, dropout=0.0),
    "max": lambda: MaxPooling(D, 1, hidden=10, dropout=0.4),
    "max, two tasks": lambda: MaxPooling(D, 2, hidden=9, dropout=0.3),
    "amil": lambda: AMIL(D, 1, hidden=10, attention=5, dropout=0.4),
    "amil, two tasks": lambda: AMIL(D, 2, hidden=10, attention=5, dropout=0.0),
    "dsmil": lambda: DSMIL(D, 1, attention=6),
    "dsmil, linear query": lambda: DSMIL(D, 1, attention=6, patch_dropout=0.4, nonlinear_query=False),
    "dtfd": lambda: DTFDMIL(D, 1, hidden=10, attention=4, pseudo_bags=1),
    "dtfd, dropout": lambda: DTFDMIL(D, 1, hidden=10, attention=4, dropout=0.4, tier_two_dropout=0.3),
}
ONE_HEAD = {"hidden": 16, "heads": 1, "landmarks": 8}
TRANSMIL: dict[str, Callable[[], MILModel]] = {
    "transmil": lambda: TransMIL(D, 1, **ONE_HEAD, dropout=0.4),
    "transmil, no convolution": lambda: TransMIL(D, 1, **ONE_HEAD, dropout=0.0, value_residual=0),
}
LEFT_TO_VMAP: dict[str, Callable[[], MILModel]] = {
    "mean of features": lambda: MeanPooling(D, 1, embedding=False),
    "max of embeddings": lambda: MaxPooling(D, 1, hidden=10, level="embedding"),
    "wide": lambda: AMIL(D, 1, hidden=WIDEST + 1, attention=5),
    "dsmil of embeddings": lambda: DSMIL(D, 1, hidden=10, attention=6, embeds=True),
    "dsmil, two tasks": lambda: DSMIL(D, 2, attention=6),
    "dsmil, both streams": lambda: DSMIL(D, 1, attention=6, average_streams=True),
    "dsmil, values": lambda: DSMIL(D, 1, attention=6, transforms_values=True),
    "transmil, two heads": lambda: TransMIL(D, 1, **{**ONE_HEAD, "heads": 2}),
    "transmil, wide": lambda: TransMIL(D, 1, **{**ONE_HEAD, "hidden": WIDEST + 1}),
    "transmil, cropped": lambda: TransMIL(D, 1, **ONE_HEAD, crop="legacy"),
    "dtfd, MaxS": lambda: DTFDMIL(D, 1, hidden=10, attention=4, distillation="MaxS"),
    "dtfd, residual": lambda: DTFDMIL(D, 1, hidden=10, attention=4, residual_layers=1),
    "dtfd, unequal pseudo-bags": lambda: DTFDMIL(D, 1, hidden=10, attention=4, pseudo_bags=7),
}


def stack_of(make: Callable[[], MILModel], *, training: bool = True) -> ParameterStack:
    torch.manual_seed(1)
    stack = ParameterStack([make().double() for _ in range(S)], "float32", torch.device("cpu"))
    stack.model.train(training)
    return stack


def bags_of(n_bags: int, n: int) -> list[Patches]:
    generator = torch.Generator().manual_seed(n)
    return [Patches(torch.randn(n, D, generator=generator, dtype=torch.float64)) for _ in range(n_bags)]


def labels_of(stack: ParameterStack, n_bags: int) -> tuple[Tensor, Tensor]:
    shape = (S, n_bags, stack.model.n_tasks)
    generator = torch.Generator().manual_seed(2)
    numbers = torch.rand(2, *shape, generator=generator, dtype=torch.float64)
    return (numbers[0] < 0.5).double(), (numbers[1] < 0.8).double()


def found(stack: ParameterStack, bags: list[Patches]) -> tuple[list[Tensor], Tensor]:
    """Losses, logits and gradients of a step in which each bag counts differently, and the generator's state after it."""
    torch.manual_seed(3)
    for parameter in stack.parameters.values():
        parameter.grad = None
    losses, logits = stack._together(slice(0, S), bags, *labels_of(stack, len(bags)))
    (losses * torch.arange(1.0, 1 + losses.numel()).view(losses.shape)).sum().backward()
    return [losses, logits, *(p.grad for p in stack.parameters.values())], torch.get_rng_state()


def short_cut(stack: ParameterStack, bags: list[Patches]) -> Any:
    return stack._by_short_cut(list(stack.parameters.values()), bags, *labels_of(stack, len(bags)))


def assert_same(stack: ParameterStack, bags: list[Patches], *, atol: float = 1e-13, rtol: float = 1e-10) -> None:
    """By the short cut, which is taken, and by vmap: values, gradients and random state."""
    assert short_cut(stack, bags) is not None
    ours, state = found(stack, bags)
    stack.has_short_cut = False
    expected, expected_state = found(stack, bags)
    for mine, theirs in zip(ours, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=atol, rtol=rtol)
    assert torch.equal(state, expected_state)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("n_bags", "n"), [(1, 8), (3, 4), (3, 36), (2, FEW)])
@pytest.mark.parametrize("name", MODELS)
def test_the_short_cut_finds_what_vmap_finds(name: str, n_bags: int, n: int, *, training: bool) -> None:
    assert_same(stack_of(MODELS[name], training=training), bags_of(n_bags, n))


@pytest.mark.parametrize("name", [name for name in MODELS if name != "dtfd, dropout"])
@pytest.mark.parametrize("n", [1, 7])
def test_bags_of_few_and_odd_patches_take_the_short_cut_too(name: str, n: int) -> None:
    assert_same(stack_of(MODELS[name]), bags_of(3, n))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("n_bags", "n"), [(1, 1), (3, 2), (2, 7), (3, 36), (1, 49)])
@pytest.mark.parametrize("name", TRANSMIL)
def test_the_short_cut_of_a_grid_of_tokens_finds_what_vmap_finds(
    name: str, n_bags: int, n: int, *, training: bool
) -> None:
    assert_same(stack_of(TRANSMIL[name], training=training), bags_of(n_bags, n), atol=1e-12, rtol=1e-9)


def test_more_tokens_than_one_matrix_takes_are_left_to_vmap() -> None:
    assert short_cut(stack_of(TRANSMIL["transmil"]), bags_of(2, 64)) is None


@pytest.mark.parametrize("name", LEFT_TO_VMAP)
def test_variants_without_a_short_cut_are_left_to_vmap(name: str) -> None:
    stack, bags = stack_of(LEFT_TO_VMAP[name]), bags_of(2, 36)
    assert short_cut(stack, bags) is None
    assert found(stack, bags)[0][0].isfinite().all()


def test_bags_of_many_patches_are_left_to_vmap() -> None:
    assert short_cut(stack_of(MODELS["amil"]), bags_of(2, FEW + 1)) is None


def test_labels_are_smoothed_on_the_short_cut() -> None:
    for name in ("mean", "dsmil", "dtfd"):
        stack, bags = stack_of(MODELS[name]), bags_of(2, 8)
        plain = found(stack, bags)[0][0]
        stack.model.training_smoothing = 0.3
        smoothed = found(stack, bags)[0][0]
        assert stack.model.asked_for_smoothing
        stack.has_short_cut = False
        torch.testing.assert_close(smoothed, found(stack, bags)[0][0])
        assert not torch.allclose(smoothed, plain)


class LouderMean(MeanPooling):
    """A subclass with a loss of its own."""

    def loss(self, output: BagOutput, targets: Tensor, known: Tensor) -> Tensor:
        """Twice the usual."""
        return 2 * super().loss(output, targets, known)


def test_a_subclass_does_not_inherit_the_short_cut() -> None:
    bags = bags_of(2, 8)
    louder, usual = stack_of(lambda: LouderMean(D, 1, hidden=10)), stack_of(lambda: MeanPooling(D, 1, hidden=10))
    assert not louder.has_short_cut
    torch.testing.assert_close(found(louder, bags)[0][0], 2 * found(usual, bags)[0][0])


def test_frozen_parameters_and_half_precision_are_left_to_vmap() -> None:
    def frozen() -> MILModel:
        model = MODELS["mean"]()
        model.head.bias.requires_grad_(False)
        return model

    assert not stack_of(frozen).has_short_cut
    assert not ParameterStack([MODELS["mean"]()], "bf16", torch.device("cpu")).has_short_cut


def test_a_bag_that_does_not_fit_is_refused_on_the_short_cut() -> None:
    with pytest.raises(BagError, match="patches, 12"):
        short_cut(stack_of(MODELS["mean"]), [Patches(torch.ones(4, D + 1, dtype=torch.float64))])


@pytest.mark.parametrize(
    ("width", "n", "is_in_blocks"),
    [
        (WIDEST + 1, FEWER, False), (WIDEST + 1, FEWER + 1, True),
        (WIDEST, NUMBERS // WIDEST, False), (WIDEST, NUMBERS // WIDEST + 1, True), (8, MOST, False), (8, MOST + 1, True),
    ],
)  # fmt: skip
def test_blocks_begin_where_they_save_time(
    width: int, n: int, monkeypatch: pytest.MonkeyPatch, *, is_in_blocks: bool
) -> None:
    calls = []
    in_blocks = "milbench_baselines.mean_pooling.mean_of_embedding"
    monkeypatch.setattr(in_blocks, lambda x, *_: calls.append(len(x)) or (torch.ones(width), torch.ones(n, 1)))
    MeanPooling(4, 1, hidden=width).train()(torch.randn(n, 4))
    assert bool(calls) == is_in_blocks


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_of_binary_tasks_is_the_weighted_sum_of_their_losses(smoothing: float) -> None:
    logits = torch.randn(5, dtype=torch.float64, requires_grad=True)
    targets, known = torch.tensor([0.0, 1, 1, 0, 1]).double(), torch.tensor([1.0, 0, 1, 2.5, 1]).double()
    ours = weighted_bce(logits, targets, known, smoothing=smoothing)
    expected = (task_losses(Outputs.of(5), logits, targets, smoothing=smoothing) * known).sum()
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (ours, expected)))


def test_known_gets_its_gradient_where_it_wants_one() -> None:
    model, known = MeanPooling(D, 2, hidden=8).eval(), torch.ones(2, requires_grad=True)
    output, targets = model(torch.randn(5, D)), torch.tensor([0.0, 1.0])
    model.loss(output, targets, known).backward()
    torch.testing.assert_close(known.grad, model.task_losses(output.logits, targets).detach())


@pytest.mark.parametrize(("model", "n_models", "n_tasks"), [(AMIL, 10, 1), (DTFDMIL, 10, 1), (M4, 1, 3)])
def test_large_products_of_float32_are_those_of_float64_up_to_rounding(
    model: Callable[..., MILModel], n_models: int, n_tasks: int
) -> None:
    """Models of 64 channels and sixteen bags, whose products oneDNN takes where it is the faster one."""
    made = [model(64, n_tasks, hidden=64, attention=32).train() for _ in range(n_models)]
    features = torch.randn(16, 36, 64, generator=torch.Generator().manual_seed(1))
    results = []
    for dtype in (torch.float32, torch.float64):
        weights = weights_of([copy.deepcopy(each).to(dtype) for each in made], "float32", torch.device("cpu"))
        labels = torch.ones(n_models, 16, n_tasks, dtype=dtype)
        torch.manual_seed(3)
        losses, logits = weights.losses_and_logits(
            [Patches(bag) for bag in features.to(dtype)], labels, labels, at_once=n_models
        )
        losses.sum().backward()
        results.append([losses, logits, *(p.grad for p in weights.named_parameters().values())])
    for single, double in zip(*results, strict=True):
        torch.testing.assert_close(single.double(), double, atol=2e-5, rtol=1e-4)
