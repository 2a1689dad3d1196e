"""Small bags: experts and TransMIL's layers as single functions do what their modules do, in values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from milbench.models import BagOutput
from milbench_baselines import m4, max_pooling, mean_pooling, mmoe, transmil
from milbench_baselines.amil import AMIL
from milbench_baselines.layers import attention_expert, mp_amil
from milbench_baselines.m4 import M4
from milbench_baselines.max_pooling import MaxPooling
from milbench_baselines.mean_pooling import MeanPooling
from milbench_baselines.mmoe import MMoEAMIL, MMoEMPAMIL
from milbench_baselines.transmil import TransMIL

WIDTH, BAGS, MODELS = 12, 3, 2
SIZES = {"hidden": 16, "attention": 8, "dropout": 0.2}
MAKERS: dict[str, Any] = {
    "mean_pooling": lambda: MeanPooling(WIDTH, 3, hidden=16, dropout=0.2),
    "max_pooling": lambda: MaxPooling(WIDTH, 3, hidden=16, dropout=0.2),
    "amil": lambda: AMIL(WIDTH, 3, **SIZES),
    "mmoe_amil": lambda: MMoEAMIL(WIDTH, 3, experts=3, **SIZES),
    "mmoe_mp_amil": lambda: MMoEMPAMIL(WIDTH, 3, experts=2, **SIZES),
    "m4": lambda: M4(WIDTH, 3, experts=3, **SIZES),
    "transmil": lambda: TransMIL(WIDTH, 1, hidden=16, heads=1, landmarks=8, dropout=0.2),
    "transmil without convolution": lambda: TransMIL(WIDTH, 1, hidden=16, heads=1, landmarks=4, value_residual=0),
}


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = MAKERS[name]().double()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def as_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small bags go the way of all others."""
    of_models = [(module, "is_small") for module in (mean_pooling, max_pooling, m4, mmoe, transmil)]
    for module, name in (
        (mp_amil, "is_small"),
        (attention_expert, "is_small"),
        (transmil, "is_one_matrix"),
        *of_models,
    ):
        monkeypatch.setattr(module, name, lambda *_: False)


def shown(output: BagOutput) -> Tensor:
    """The attention, or without one the patches' logits."""
    return output.aux["instance_logits"].detach() if output.attention is None else output.attention


def of_stack(model: nn.Module, weights: dict[str, Tensor], bags: Tensor) -> list[Tensor]:
    """Logits, attention, and gradients of a stack of models that take all bags together."""

    def of_bag(own: dict[str, Tensor], bag: Tensor) -> tuple[Tensor, Tensor]:
        output = functional_call(model, own, (bag,))
        return output.logits, shown(output)

    torch.manual_seed(1)  # of dropout
    of_bags = vmap(of_bag, in_dims=(None, 0), randomness="different")
    logits, attention = vmap(of_bags, in_dims=(0, None), randomness="same")(weights, bags)
    wanted = logits.square().sum() + (attention.square().sum() if attention.requires_grad else 0)
    return [logits, attention, *torch.autograd.grad(wanted, list(weights.values()))]


def of_one_bag(model: nn.Module, bag: Tensor) -> list[Tensor]:
    """Logits, attention, and gradients of the bag and of the weights."""
    torch.manual_seed(1)
    bag = bag.clone().requires_grad_()
    output = model(bag)
    return [output.logits, shown(output), *torch.autograd.grad(output.logits.sum(), [bag, *model.parameters()])]


@pytest.mark.parametrize("n_patches", [1, 3, 30, 36, 49])
@pytest.mark.parametrize("name", MAKERS)
def test_small_bags_give_the_values_and_gradients_of_the_modules(
    name: str, n_patches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, bags = made(name), torch.randn(BAGS, n_patches, WIDTH, dtype=torch.float64)
    weights = {
        key: torch.stack([p.detach() + 0.05 * i for i in range(MODELS)]).requires_grad_()
        for key, p in model.named_parameters()
    }
    found = of_stack(model, weights, bags) + of_one_bag(model, bags[0])
    as_modules(monkeypatch)
    expected = of_stack(model, weights, bags) + of_one_bag(model, bags[0])
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", MAKERS)
def test_gradients_of_each_bag_can_be_taken_inside_vmap(name: str) -> None:
    model, bags = made(name).eval(), torch.randn(BAGS, 9, WIDTH, dtype=torch.float64)
    weights = {key: p.detach() for key, p in model.named_parameters()}

    def loss(own: dict[str, Tensor], bag: Tensor) -> Tensor:
        logits: Tensor = functional_call(model, own, (bag,)).logits
        return logits.square().sum()

    together = vmap(grad(loss), in_dims=(None, 0))(weights, bags)
    alone = [grad(loss)(weights, bag) for bag in bags]
    for key, stacked in together.items():
        torch.testing.assert_close(stacked, torch.stack([own[key] for own in alone]), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("module", "name"), [(m4, "m4"), (mmoe, "mmoe_amil")])
@pytest.mark.parametrize("n_bags", [1, 3])
def test_gates_towers_and_mixtures_are_one_function_with_the_gradients_of_the_modules_through_logits_and_gates(
    module: Any, name: str, n_bags: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, bags, calls = made(name), torch.randn(n_bags, 9, WIDTH, dtype=torch.float64), []

    def of_all(asked_for: str) -> list[Tensor]:
        torch.manual_seed(1)
        of_bag = lambda bag: (model(bag).logits, model(bag).aux["gates"])  # noqa: E731
        logits, gates = vmap(of_bag, randomness="different")(bags)
        wanted = {
            "logits": logits.square().sum(),
            "gates": gates.square().sum(),
            "both": (logits.sum(1) * gates.amax()).sum(),
        }
        gradients = torch.autograd.grad(wanted[asked_for], list(model.parameters()), materialize_grads=True)
        return [logits, gates, *gradients]

    usual = module.mixed_small
    monkeypatch.setattr(module, "mixed_small", lambda *given: calls.append(given) or usual(*given))
    found = [of_all(asked_for) for asked_for in ("logits", "gates", "both")]
    assert len(calls) == 6
    as_modules(monkeypatch)
    expected = [of_all(asked_for) for asked_for in ("logits", "gates", "both")]
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    assert len(calls) == 6


@pytest.mark.parametrize(("n_patches", "is_one"), [(36, True), (65, False)])
def test_positions_of_a_small_grid_are_one_function_inside_vmap(
    n_patches: int, is_one: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, bags, sides = made("transmil"), torch.randn(2, n_patches, WIDTH, dtype=torch.float64), []
    usual = transmil.placed_small
    monkeypatch.setattr(transmil, "placed_small", lambda *given: sides.append(given[-1]) or usual(*given))
    together = vmap(lambda bag: model(bag).logits, randomness="different")(bags)
    assert sides == ([6] if is_one else [])
    assert together.shape == (2, 1)
    model(bags[0])
    assert sides == ([6] if is_one else [])
