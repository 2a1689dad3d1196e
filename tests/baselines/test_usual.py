"""Layers that somebody listens to, or has put in another's place, are called: every model, large and small bags, alone and in a stack."""

from __future__ import annotations

import copy
import gc
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from milbench.layout import Patches
from milbench.models import MILModel
from milbench.training.weights import ParameterStack
from milbench_baselines.amil import AMIL
from milbench_baselines.dsmil import DSMIL
from milbench_baselines.dtfd_mil import DTFDMIL
from milbench_baselines.layers import usual
from milbench_baselines.layers.dropout import Dropout
from milbench_baselines.layers.products import Linear
from milbench_baselines.m4 import M4
from milbench_baselines.max_pooling import MaxPooling
from milbench_baselines.mean_pooling import MeanPooling
from milbench_baselines.mmoe import MMoEAMIL, MMoEMPAMIL
from milbench_baselines.transmil import TransMIL

D, S = 12, 3
SMALL = {"hidden": 16, "attention": 8}
MODELS: dict[str, Callable[[], MILModel]] = {
    "mean": lambda: MeanPooling(D, 1, hidden=16),
    "max": lambda: MaxPooling(D, 1, hidden=16),
    "amil": lambda: AMIL(D, 1, **SMALL),
    "dsmil": lambda: DSMIL(D, 1, attention=8),
    "dtfd": lambda: DTFDMIL(D, 1, **SMALL),
    "transmil": lambda: TransMIL(D, 1, hidden=16, heads=1, landmarks=8),
    "mmoe_amil": lambda: MMoEAMIL(D, 3, **SMALL, experts=2),
    "mmoe_mp_amil": lambda: MMoEMPAMIL(D, 3, **SMALL, experts=2),
    "m4": lambda: M4(D, 3, **SMALL, experts=2),
}
STACKED = [name for name, make in MODELS.items() if int(make().outputs) == 1]

SIZES = [9, 100, 200, 5000]


def made(name: str) -> MILModel:
    torch.manual_seed(0)
    return MODELS[name]().double().eval()


def bag_of(n: int) -> Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(n), dtype=torch.float64)


def parts_of(model: MILModel) -> dict[str, nn.Module]:
    """Modules below the model that its forward goes through, by name."""
    return {
        name: part
        for name, part in model.named_modules()
        if name
        and not isinstance(part, nn.ModuleList)
        and name not in ("embed", "value")[: 2 * isinstance(model, DSMIL)]  # which are identities
    }


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
    stack = ParameterStack(models, "float32", torch.device("cpu"))
    stack.model.eval()
    calls: list[int] = []
    if listens:  # after the stack was made
        stack.model.get_submodule(ACTIVATIONS[name]).register_forward_hook(lambda *_: calls.append(1))
    bags = [Patches(bag_of(n)) for n in (8, 8)]
    ones = torch.ones(S, 2, 1, dtype=torch.float64)
    _, logits = stack.losses_and_logits(bags, ones, ones, at_once=S)
    expected = torch.stack([torch.stack([model(bag.features).logits for bag in bags]) for model in models])
    torch.testing.assert_close(logits, expected)
    assert bool(calls) is listens


class Doubling(nn.Conv2d):
    def _conv_forward(self, given: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return 2 * super()._conv_forward(given, weight, bias)


class Middle(nn.Module):
    """In the place of TransMIL's convolution of the values."""

    kernel_size = 3

    def forward(self, values: Tensor) -> Tensor:
        return values[:, :, 1:-1]


def of_another_make(layer: nn.Module) -> Iterator[nn.Module]:
    """Layers that fit in this one's place, and compute what functions of whole layers do not."""
    if isinstance(layer, nn.Linear):
        yield nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is None)
    if isinstance(layer, nn.LayerNorm):
        yield nn.LayerNorm(layer.normalized_shape, bias=False)
        yield nn.LayerNorm(layer.normalized_shape, elementwise_affine=False)
        yield nn.LayerNorm(layer.normalized_shape, eps=0.1)
    if isinstance(layer, nn.Conv1d):
        yield nn.Conv1d(layer.in_channels, layer.out_channels, layer.kernel_size, bias=False)
    if isinstance(layer, nn.Conv2d):
        made = {
            "kernel_size": layer.kernel_size,
            "padding": layer.padding,
            "groups": layer.groups,
            "bias": layer.bias is not None,
        }
        others = [{"bias": layer.bias is None}]
        others += [{"padding_mode": "replicate"}] * any(layer.padding)
        others += [{"groups": 1}, {"padding": "same"} if any(layer.padding) else {}] * (layer.groups > 1)
        for other in others:
            yield nn.Conv2d(layer.in_channels, layer.out_channels, **{**made, **other})
        yield Doubling(layer.in_channels, layer.out_channels, **made)


def answer_and_gradients(model: MILModel, bag: Tensor) -> list[Tensor]:
    ones = torch.ones(model.n_tasks, dtype=torch.float64)
    model.zero_grad()
    output = model(bag)
    model.loss(output, ones, ones).backward()
    return [output.logits.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("n", [9, 200, 1500])
def test_a_layer_of_another_make_computes_what_its_module_does(name: str, n: int) -> None:
    bag, n_made = bag_of(n), 0
    for part_name, part in parts_of(made(name)).items():
        for other in of_another_make(part):
            model = made(name)
            model.set_submodule(part_name, other.double())
            found = answer_and_gradients(model, bag)
            for each in parts_of(model).values():  # whose modules are then called
                each.register_forward_hook(lambda *_: None)
            torch.testing.assert_close(found, answer_and_gradients(model, bag), msg=f"{part_name}: {other}")
            n_made += 1
    assert n_made >= 2


@pytest.mark.parametrize("name", STACKED)
def test_a_layer_of_another_make_is_called_in_a_stack(name: str) -> None:
    bags, ones = [Patches(bag_of(n)) for n in (8, 8)], torch.ones(S, 2, 1, dtype=torch.float64)
    for part_name, part in parts_of(made(name)).items():
        for place in range(len(list(of_another_make(part)))):
            models = []
            for seed in range(S):
                torch.manual_seed(seed)
                model = MODELS[name]()
                model.set_submodule(part_name, list(of_another_make(part))[place])
                models.append(model.double().eval())
            stack = ParameterStack(models, "float32", torch.device("cpu"))
            stack.model.eval()
            _, logits = stack.losses_and_logits(bags, ones, ones, at_once=S)
            expected = torch.stack([torch.stack([model(bag.features).logits for bag in bags]) for model in models])
            torch.testing.assert_close(logits, expected, msg=f"{part_name}: {place}")


@pytest.mark.parametrize(
    ("name", "part", "parameter"), [("amil", "expert.embed.0", "bias"), ("m4", "experts.0.norm", "weight")]
)
@pytest.mark.parametrize("n", [9, 1500])
def test_a_parameter_that_is_taken_out_is_noticed(name: str, part: str, parameter: str, n: int) -> None:
    model, bag = made(name), bag_of(n)
    model(bag)
    setattr(model.get_submodule(part), parameter, None)
    found = answer_and_gradients(model, bag)
    model.get_submodule(part).register_forward_hook(lambda *_: None)
    torch.testing.assert_close(found, answer_and_gradients(model, bag))


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("n", SIZES)
def test_values_that_are_convolved_alone_are_not_left_out(heads: int, n: int) -> None:
    torch.manual_seed(0)
    model = TransMIL(D, 1, hidden=16, heads=heads, landmarks=8, value_residual=1).double().eval()
    bag = bag_of(n)
    found = answer_and_gradients(model, bag)
    for layer in (model.layer1, model.layer2):
        layer.attn.res_conv.register_forward_hook(lambda *_: None)
    torch.testing.assert_close(found, answer_and_gradients(model, bag))


def test_what_is_no_convolution_may_be_in_its_place() -> None:
    torch.manual_seed(0)
    model = TransMIL(D, 1, hidden=16, heads=4, landmarks=8, value_residual=3).double().eval()
    with torch.no_grad():
        for layer in (model.layer1, model.layer2):
            layer.attn.res_conv.weight.copy_(torch.tensor([0.0, 1.0, 0.0])[:, None])
    found = model(bag_of(200)).logits
    model.layer1.attn.res_conv = Middle()
    torch.testing.assert_close(model(bag_of(200)).logits, found)


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
