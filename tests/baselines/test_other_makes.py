"""Layers of another make in the place of a model's own: with a bias or without, another padding, no weights. They are used as they are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from usual_models import MODELS, SIZES, STACKED, D, S, assert_answers, bag_of, made, parts_of, stack_of

from milbench.models import MILModel
from milbench_baselines.transmil import TransMIL


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
    for part_name, part in parts_of(made(name)).items():
        for place in range(len(list(of_another_make(part)))):
            models = []
            for seed in range(S):
                torch.manual_seed(seed)
                model = MODELS[name]()
                model.set_submodule(part_name, list(of_another_make(part))[place])
                models.append(model.double().eval())
            assert_answers(stack_of(models), models, f"{part_name}: {place}")


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
