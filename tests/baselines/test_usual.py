"""Layers that somebody listens to, or has put in another's place, are called: every model, large and small bags, alone and in a stack."""

from __future__ import annotations

import copy
import gc
import weakref
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from usual_models import MODELS, SIZES, STACKED, S, assert_answers, bag_of, made, parts_of, stack_of

from milbench_baselines.layers import usual
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.products import Linear


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n", SIZES)
def test_hooks_on_every_layer_are_called_and_change_nothing_else(name: str, n: int) -> None:
    model, bag = made(name), bag_of(n)
    expected = model(bag).logits
    called: dict[str, list[str]] = {"before": [], "after": []}
    parts = parts_of(model)
    for part_name, part in parts.items():
        part.register_forward_pre_hook(lambda *_, own=part_name: called["before"].append(own))
        part.register_forward_hook(lambda *_, own=part_name: called["after"].append(own))
    torch.testing.assert_close(model(bag).logits, expected)
    assert set(called["before"]) == set(called["after"]) == set(parts)


@pytest.mark.filterwarnings(
    "ignore:Full backward hook is firing"
)  # the bag, which a first layer is given, has no gradient
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n", SIZES)
def test_a_backward_hook_on_any_one_layer_is_called(name: str, n: int) -> None:
    model, bag = made(name), bag_of(n)
    ones = torch.ones(model.n_tasks, dtype=torch.float64)
    for part_name, part in parts_of(model).items():
        called: list[str] = []
        handle = part.register_full_backward_hook(lambda *_, own=part_name, called=called: called.append(own))
        model.loss(model(bag), ones, ones).backward()
        handle.remove()
        assert called, part_name


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n", SIZES)
def test_a_hook_on_any_one_layer_changes_the_answer_as_its_result_does(name: str, n: int) -> None:
    """A hook that doubles what a layer gives does what a layer does that gives twice as much."""
    model, bag = made(name), bag_of(n)
    for part_name, part in parts_of(model).items():
        if not isinstance(part, (nn.Linear, nn.Conv2d)):
            continue
        doubled = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in doubled.get_submodule(part_name).parameters():
                parameter *= 2
        handle = part.register_forward_hook(lambda _, __, result: 2 * result)
        torch.testing.assert_close(model(bag).logits, doubled(bag).logits, msg=part_name)
        handle.remove()


ACTIVATIONS = {
    "mean": "embed.1", "max": "embed.1", "amil": "expert.embed.1", "dsmil": "query.1", "dtfd": "reduction.1", "transmil": "embed.1",
    "mmoe_amil": "experts.1.embed.1", "mmoe_mp_amil": "experts.1.embed.1", "m4": "experts.1.embed.1",
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n", SIZES)
def test_an_activation_in_another_ones_place_is_used(name: str, n: int) -> None:
    model, bag = made(name), bag_of(n)
    hooked = copy.deepcopy(model)
    hooked.get_submodule(ACTIVATIONS[name]).register_forward_hook(lambda _, given, __: torch.tanh(given[0]))
    before = model(bag).logits
    model.set_submodule(ACTIVATIONS[name], nn.Tanh())
    after = model(bag).logits
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, hooked(bag).logits)


@pytest.mark.parametrize("name", STACKED)
@pytest.mark.parametrize("listens", [False, True])
def test_an_activation_in_another_ones_place_is_used_in_a_stack(name: str, *, listens: bool) -> None:
    models = []
    for seed in range(S):
        torch.manual_seed(seed)
        model = MODELS[name]().double()
        model.set_submodule(ACTIVATIONS[name], nn.Tanh())
        models.append(model.eval())
    stack = stack_of(models)
    calls: list[int] = []
    if listens:  # after the stack was made
        stack.model.get_submodule(ACTIVATIONS[name]).register_forward_hook(lambda *_: calls.append(1))
    assert_answers(stack, models)
    assert bool(calls) is listens


def test_a_usual_layer_computes_what_its_class_does_and_nobody_listens() -> None:
    class Own(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return -super().forward(x)

    class Named(Linear):
        pass

    assert usual.are_linear(Linear(2, 2), nn.Linear(2, 2), Named(2, 2))
    assert usual.are_linear(torch.nn.utils.parametrizations.weight_norm(Linear(2, 2)))
    assert not usual.are_linear(Own(2, 2))
    assert not usual.are_linear(nn.Identity())
    assert usual.are_dropout(Dropout(0.1))
    assert not usual.are_dropout(nn.Dropout(0.1))
    listened_to = Linear(2, 2)
    for register in ("forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"):
        handle = getattr(listened_to, f"register_{register}")(lambda *_: None)
        assert not usual.are_linear(listened_to), register
        handle.remove()
    assert usual.are_linear(listened_to)
    listened_to.forward = lambda x: -x  # type: ignore[method-assign]  # of this layer alone, as accelerate and others do
    assert not usual.are_linear(listened_to)
    assert not usual.is_made_of(nn.Sequential(listened_to), nn.Sequential, Linear)


@pytest.mark.parametrize(
    "register", ["forward_hook", "forward_pre_hook", "full_backward_hook", "full_backward_pre_hook"]
)
def test_no_layer_is_usual_while_a_hook_on_all_modules_listens(register: str) -> None:
    layer, both = Linear(2, 2), nn.Sequential(Linear(2, 2))
    handle = getattr(nn.modules.module, f"register_module_{register}")(lambda *_: None)
    try:
        assert not usual.are_linear(layer)
        assert not usual.is_made_of(both, nn.Sequential, Linear)
    finally:
        handle.remove()
    assert usual.are_linear(layer)
    assert usual.is_made_of(both, nn.Sequential, Linear)


def test_torchs_counter_of_operations_does_not_change_what_it_counts() -> None:
    layer, both = Linear(2, 2), nn.Sequential(Linear(2, 2))
    with FlopCounterMode(display=False):
        assert nn.modules.module._has_any_global_hook()
        assert usual.are_linear(layer)
        assert usual.is_made_of(both, nn.Sequential, Linear)
        handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
        assert not usual.are_linear(layer)
        handle.remove()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n", SIZES)
def test_a_hook_on_all_modules_hears_every_layer_and_changes_nothing(name: str, n: int) -> None:
    model, bag = made(name), bag_of(n)
    expected, called = model(bag).logits, set()
    handle = nn.modules.module.register_module_forward_hook(lambda module, *_: called.add(id(module)))
    try:
        torch.testing.assert_close(model(bag).logits, expected)
    finally:
        handle.remove()
    assert called >= {id(part) for part in parts_of(model).values()}


def test_a_module_is_made_of_its_parts_in_their_order() -> None:
    def parts() -> nn.Sequential:
        return nn.Sequential(Linear(2, 2), nn.ReLU(), Dropout(0.1))

    kinds = nn.Sequential, Linear, nn.ReLU, Dropout
    assert usual.is_made_of(parts(), *kinds)
    assert not usual.is_made_of(parts()[:2], *kinds)
    for place, other in ((0, nn.Identity()), (1, nn.Tanh()), (2, nn.Dropout(0.1)), (1, nn.Sequential(nn.ReLU()))):
        changed = parts()
        changed[place] = other
        assert not usual.is_made_of(changed, *kinds)
    assert usual.is_made_of(
        nn.Sequential(nn.Linear(2, 2), nn.ReLU(), Dropout(0.1)), *kinds
    )  # torch's own Linear is as good
    without = nn.Module()
    without.layer, without.gone = Linear(2, 2), nn.ReLU()
    without.gone = None  # type: ignore[assignment]
    assert usual.is_made_of(without, nn.Module, Linear)


def test_what_a_module_is_made_of_is_asked_anew_after_each_change() -> None:
    kinds = nn.Sequential, nn.Sequential, Linear, nn.ReLU
    both = nn.Sequential(nn.Sequential(Linear(2, 2), nn.ReLU()))
    inner = both[0]

    def is_usual() -> bool:
        return usual.is_made_of(both, *kinds)

    for _ in range(2):
        assert is_usual()
        handle = inner[0].register_forward_hook(lambda *_: None)
        assert not is_usual()
        handle.remove()
        assert is_usual()
        inner[1]._forward_hooks[-1] = lambda *_: None  # past torch's own functions
        assert not is_usual()
        del inner[1]._forward_hooks[-1]
        assert is_usual()
        inner[0]._forward_pre_hooks = OrderedDict()
        handle = inner[0].register_forward_pre_hook(lambda *_: None)
        assert not is_usual()
        handle.remove()
        relu = inner[1]
        inner[1] = nn.Tanh()
        assert not is_usual()
        inner[1] = relu
        assert is_usual()
        relu.forward = torch.tanh  # type: ignore[method-assign]
        assert not is_usual()
        del relu.forward
        assert is_usual()
        inner[0].inside = nn.ReLU()
        assert not is_usual()
        del inner[0].inside
        assert is_usual()
        inner.append(nn.ReLU())
        assert not is_usual()
        del inner[2]
        relu.__class__ = nn.Tanh
        assert not is_usual()
        relu.__class__ = nn.ReLU
    copied = copy.deepcopy(both)
    copied[0][1].register_forward_hook(lambda *_: None)
    assert not usual.is_made_of(copied, *kinds)
    assert is_usual()


def test_what_was_asked_is_forgotten_with_the_module() -> None:
    module = nn.Sequential(Linear(2, 2))
    assert usual.is_made_of(module, nn.Sequential, Linear)
    gone = weakref.ref(module)
    del module
    gc.collect()
    assert gone() is None
