"""Models that are made of ours with a part of their own: short cuts past modules never compute what the part does not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from milbench.layout import Patches
from milbench.models import BagOutput, MILModel
from milbench.training.weights import ParameterStack
from milbench_baselines.amil import AMIL
from milbench_baselines.dsmil import DSMIL
from milbench_baselines.dtfd_mil import DTFDMIL
from milbench_baselines.m4 import M4
from milbench_baselines.max_pooling import MaxPooling
from milbench_baselines.mean_pooling import MeanPooling
from milbench_baselines.mmoe import MMoEAMIL
from milbench_baselines.transmil import TransMIL

D = 12
SIZES = [20, 200, 300, 1100]


class Doubled(nn.Module):
    """What no short cut knows."""

    def forward(self, x: Tensor, *_: Any) -> Tensor:
        return 2 * x


class EqualGates(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.new_full((2, 3), 0.5)


class M4OfEqualGates(M4):
    def gates(self, mean: Tensor) -> Tensor:
        return mean.new_full((2, 4, 3), 0.5)


def changed(model: MILModel, change: Callable[[Any], None]) -> MILModel:
    change(model)
    return model.double().eval()


def at(path: str, place: int) -> Callable[[Any], None]:
    """Put `Doubled` in the place of a layer."""

    def change(model: Any) -> None:
        model.get_submodule(path)[place] = Doubled()

    return change


def own(name: str, module: nn.Module) -> Callable[[Any], None]:
    return lambda model: setattr(model, name, module)


ACTIVATIONS: dict[str, tuple[Callable[[], MILModel], Callable[[Any], None], str]] = {
    "amil": (lambda: AMIL(D, 2, hidden=10, attention=5, dropout=0.0), at("expert.embed", 1), "expert.embed.1"),
    "mean": (lambda: MeanPooling(D, 1, hidden=8, dropout=0.0), at("embed", 1), "embed.1"),
    "max": (lambda: MaxPooling(D, 1, hidden=8, dropout=0.3), at("embed", 1), "embed.1"),
    "dsmil": (lambda: DSMIL(D, 1, attention=6), at("query", 1), "query.1"),
    "dsmil, last": (lambda: DSMIL(D, 1, attention=6), at("query", 3), "query.3"),
    "dtfd": (lambda: DTFDMIL(D, 1, hidden=10, attention=4), at("reduction", 1), "reduction.1"),
    "mmoe, gates": (lambda: MMoEAMIL(D, 2, hidden=8, attention=4, experts=3), own("gates", EqualGates()), "gates"),
    "transmil": (lambda: TransMIL(D, 1, hidden=8, heads=2, landmarks=4), own("position", Doubled()), "position"),
}


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_part_of_its_own_is_asked_alone_and_in_a_stack(name: str, n: int) -> None:
    make, change, part = ACTIVATIONS[name]
    torch.manual_seed(0)
    models = [changed(make(), change) for _ in range(2)]
    bag, asked = torch.randn(n, D, dtype=torch.float64), []
    for model in models:
        model.get_submodule(part).register_forward_hook(lambda *_: asked.append(1))
    with torch.no_grad():
        alone = [model(bag).logits for model in models]
    assert asked
    stack = ParameterStack(models, "float32", torch.device("cpu"))
    labels = torch.ones(2, 1, models[0].n_tasks, dtype=torch.float64)
    asked.clear()
    with torch.no_grad():
        _, logits = stack._together(slice(0, 2), [Patches(bag)], labels, labels)
    assert asked
    torch.testing.assert_close(logits[:, 0], torch.stack(alone), atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("n", SIZES)
def test_gates_that_a_subclass_computes_itself_count_in_a_stack(n: int) -> None:
    torch.manual_seed(0)
    models = [M4OfEqualGates(D, 2, hidden=8, attention=4, experts=3).double().eval() for _ in range(2)]
    bag, labels = torch.randn(n, D, dtype=torch.float64), torch.ones(2, 1, 2, dtype=torch.float64)
    with torch.no_grad():
        alone = [model(bag).logits for model in models]
        _, logits = ParameterStack(models, "float32", torch.device("cpu"))._together(
            slice(0, 2), [Patches(bag)], labels, labels
        )
    torch.testing.assert_close(logits[:, 0], torch.stack(alone), atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("part", ["", "head", "expert"])
def test_who_listens_to_a_part_by_a_hook_hears_it_in_a_stack_too(part: str) -> None:
    models, heard = [AMIL(D, 1, hidden=10, attention=5).double() for _ in range(2)], []

    def hook(_module: nn.Module, _given: tuple[Any, ...], output: Tensor | BagOutput | tuple[Tensor, ...]) -> None:
        heard.append(output)

    for model in models:
        model.get_submodule(part).register_forward_hook(hook)
    stack = ParameterStack(models, "float32", torch.device("cpu"))
    labels = torch.ones(2, 1, 1, dtype=torch.float64)
    stack.forward_backward(
        [Patches(torch.randn(20, D, dtype=torch.float64))], labels, labels, 1, at_once=2, recompute=False
    )
    assert heard
