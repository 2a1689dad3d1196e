"""What `torch.func` needs of every model: many bags, or many copies, at once give what each gives alone."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from layouts_for_tests import inputs
from torch import Tensor
from torch.func import functional_call, grad, stack_module_state, vmap

from milbench.layout import Layout
from milbench.models import MILModel

Gradients = dict[str, Tensor]


def assert_many_bags_equal_one_by_one(model: MILModel, n: int) -> None:
    """In eval mode: losses, logits, attention and weight gradients of three bags [n, D]."""
    model.eval().double()
    bags, targets = _bags(model, 3, n), torch.tensor([[1.0], [0.0], [1.0]]).double().expand(3, model.n_tasks)
    layouts = [inputs(model, bag, seed=seed)[1:] for seed, bag in enumerate(bags)]

    def one(bag: Tensor, target: Tensor, layout: tuple[Layout, ...]) -> tuple[Tensor, Tensor, Tensor]:
        output = model(bag, *layout)
        attention = output.logits if output.attention is None else output.attention
        return model.loss(output, target, torch.ones_like(target)), output.logits, attention

    together = vmap(one)(bags, targets, _stacked(layouts))
    each = [one(*parts) for parts in zip(bags, targets, layouts, strict=True)]
    alone = [torch.stack(parts) for parts in zip(*each, strict=True)]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)
    _assert_same(_gradients(model, together[0].sum()), _gradients(model, alone[0].sum()))


def assert_stacked_copies_equal_each_alone(make: Callable[[], MILModel], n: int) -> None:
    """In eval mode: losses and weight gradients of three differently initialised copies on one bag [n, D]."""
    copies = [make().eval().double() for _ in range(3)]
    bag, target = _bags(copies[0], 1, n)[0], torch.ones(copies[0].n_tasks).double()
    skeleton = copy.deepcopy(copies[0]).to("meta")

    def loss(weights: Gradients) -> Tensor:
        output = functional_call(skeleton, weights, inputs(skeleton, bag))
        return skeleton.loss(output, target, torch.ones_like(target))

    weights, _ = stack_module_state(copies)  # type: ignore[arg-type]
    together = vmap(grad(loss))(weights)
    for i, model in enumerate(copies):
        alone = _gradients(model, model.loss(model(*inputs(model, bag)), target, torch.ones_like(target)))
        _assert_same({name: g[i] for name, g in together.items()}, alone)


def assert_training_works_together(make: Callable[[], MILModel], n: int) -> None:
    """In train mode, dropout and shuffling on: finite gradients for many bags, and for many copies."""
    copies = [make().train() for _ in range(2)]
    bags, target = _bags(copies[0], 3, n).float(), torch.ones(copies[0].n_tasks)

    def loss(weights: Gradients, bag: Tensor) -> Tensor:
        output = functional_call(copies[0], weights, inputs(copies[0], bag))
        return copies[0].loss(output, target, torch.ones_like(target))

    weights, _ = stack_module_state(copies)  # type: ignore[arg-type]
    of_copies = vmap(grad(loss), in_dims=(0, None), randomness="different")(weights, bags[0])
    of_bags = vmap(grad(loss), in_dims=(None, 0), randomness="different")(dict(copies[0].named_parameters()), bags)
    for gradients in (of_copies, of_bags):
        assert all(torch.isfinite(g).all() for g in gradients.values())
        assert any(g.abs().sum() > 0 for g in gradients.values())


def _bags(model: MILModel, count: int, n: int) -> Tensor:
    return torch.randn(count, n, model.in_features, generator=torch.Generator().manual_seed(n)).double()


def _stacked(layouts: list[tuple[Layout, ...]]) -> tuple[Layout, ...]:
    """Layouts of all bags in tensors [B, ...]; none where the model needs none."""
    return tuple(Layout(*map(torch.stack, zip(*same, strict=True))) for same in zip(*layouts, strict=True))


def _gradients(model: MILModel, loss: Tensor) -> Gradients:
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}


def _assert_same(ours: Gradients, expected: Gradients) -> None:
    assert ours.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-9, rtol=1e-9, msg=lambda m, name=name: f"{name}: {m}")
