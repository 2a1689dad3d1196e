"""Mean and max pooling against the formula written in NumPy."""

import numpy as np
import pytest
import torch
from outputs_for_tests import EVERY, MIXED, SINGLE
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from milbench.endpoints.answers import answers_of
from milbench.errors import UsageError
from milbench.models import BagOutput
from milbench_baselines.max_pooling import MaxPooling
from milbench_baselines.mean_pooling import MeanPooling

BAG = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))


def by_hand(model: MeanPooling | MaxPooling, pool: np.ufunc) -> tuple[np.ndarray, np.ndarray]:
    """Logits of pooling the patches' logits, and of pooling their embeddings."""
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    h = np.maximum(BAG.numpy() @ weights["embed.0.weight"].T + weights["embed.0.bias"], 0)
    w, b = weights["head.weight"].T, weights["head.bias"]
    return pool(h @ w + b, axis=0), pool(h, axis=0) @ w + b


@pytest.mark.parametrize(("model", "pool"), [(MeanPooling, np.mean), (MaxPooling, np.max)])
def test_pooling_is_the_formula(model: type[MeanPooling | MaxPooling], pool: np.ufunc) -> None:
    for level, expected in (("instance", 0), ("embedding", 1)):
        torch.manual_seed(1)
        made = model(6, 2, hidden=5, level=level).eval()
        np.testing.assert_allclose(made(BAG).logits.detach().numpy(), by_hand(made, pool)[expected], atol=1e-6)


def test_for_the_mean_both_levels_coincide_and_for_the_maximum_they_do_not() -> None:
    for model, coincide in ((MeanPooling, True), (MaxPooling, False)):
        outputs = []
        for level in ("instance", "embedding"):
            torch.manual_seed(1)
            outputs.append(model(6, 2, hidden=5, level=level).eval()(BAG).logits)
        assert torch.allclose(*outputs, atol=1e-6) is coincide


def test_without_embedding_the_raw_features_are_classified() -> None:
    model = MaxPooling(6, 1, embedding=False).eval()
    expected = (BAG @ model.head.weight.T + model.head.bias).max()
    torch.testing.assert_close(model(BAG).logits[0], expected)


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(UsageError, match="Did you mean 'instance'"):
        MeanPooling(6, 1, level="instances")


def training(n_tasks: int = 3, **options: object) -> MaxPooling:
    torch.manual_seed(1)
    return MaxPooling(6, n_tasks, **{"hidden": 5, "dropout": 0.4, **options}).train().double()


def plain_logits(model: MaxPooling, bag: Tensor, mask: Tensor) -> Tensor:
    """Max pooling [T] with every patch in the graph, the embedding's factors [N, hidden] given."""
    weights = dict(model.named_parameters())
    h = (bag @ weights["embed.0.weight"].T + weights["embed.0.bias"]).relu() * mask
    return (h @ weights["head.weight"].T + weights["head.bias"]).amax(dim=0)


def mask_after(seed: int, model: MaxPooling, n: int) -> Tensor:
    """The mask of a pass that starts at this state of the generator."""
    torch.manual_seed(seed)
    return model.dropout.mask((n, 5), like=torch.empty((), dtype=torch.float64))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_in_training_logits_and_gradients_are_those_of_the_whole_bag(dropout: float) -> None:
    model, bag = training(dropout=dropout), torch.randn(50, 6, generator=torch.Generator().manual_seed(4)).double()
    weight = torch.tensor([1.0, -2.0, 0.5]).double()  # so that every task's gradient shows
    expected = plain_logits(model, bag, mask_after(7, model, 50))
    torch.manual_seed(7)
    logits = model(bag).logits
    torch.testing.assert_close(logits, expected, atol=1e-13, rtol=0)
    ours, theirs = (torch.autograd.grad((y**2 * weight).sum(), list(model.parameters())) for y in (logits, expected))
    assert all(bool(gradient.any()) for gradient in theirs)
    torch.testing.assert_close(ours, theirs, atol=1e-13, rtol=1e-13)


def test_in_training_several_copies_on_several_bags_get_what_each_gets_alone() -> None:
    copies = [training() for _ in range(2)]
    with torch.no_grad():
        copies[1].head.weight.neg_()  # another patch is the highest
    bags = torch.randn(4, 9, 6, generator=torch.Generator().manual_seed(4)).double()
    stacked = {name: torch.stack([dict(c.named_parameters())[name] for c in copies]) for name in copies[0].state_dict()}

    def loss(weights: dict[str, Tensor], bag: Tensor) -> Tensor:
        return functional_call(copies[0], weights, (bag,)).logits.square().sum()

    def of_bags(weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return vmap(grad(loss), in_dims=(None, 0), randomness="different")(weights, bags)

    torch.manual_seed(3)
    together = vmap(of_bags, randomness="same")(stacked)
    torch.manual_seed(3)
    masks = vmap(lambda bag: copies[0].dropout.mask((9, 5), like=bag), randomness="different")(bags)
    for c, model in enumerate(copies):
        for b, (bag, mask) in enumerate(zip(bags, masks, strict=True)):
            model.zero_grad()
            plain_logits(model, bag, mask).square().sum().backward()
            for name, parameter in model.named_parameters():
                torch.testing.assert_close(together[name][c, b], parameter.grad, atol=1e-12, rtol=0)


def test_what_training_keeps_for_the_gradient_does_not_grow_with_the_bag() -> None:
    kept: dict[int, int] = {}
    for n in (10, 1000):
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.nbytes) or t, lambda t: t):
            training()(torch.randn(n, 6).double()).logits.sum().backward()
        kept[n] = sum(sizes)
    assert 0 < kept[1000] == kept[10]


# ---- tasks of other kinds ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SINGLE)
def test_one_patch_gives_all_logits_of_the_maximum(kind: str) -> None:
    torch.manual_seed(1)
    model = MaxPooling(6, EVERY[kind], hidden=5).eval().double()
    alone = np.stack([model(patch[None].double()).logits.detach().numpy() for patch in BAG])  # [N, W]
    answers = answers_of(SINGLE[kind], alone)
    rank = answers.max(axis=1) if kind == "classes" else answers[:, 0]
    np.testing.assert_allclose(model(BAG.double()).logits.detach(), alone[rank.argmax()], atol=1e-12)
    highest = model.attention_maps(BAG.double()).per_task.amax(dim=0).argmax()
    assert int(highest) == int(rank.argmax())


def test_tasks_of_several_kinds_have_a_highest_patch_each() -> None:
    torch.manual_seed(1)
    model = MaxPooling(6, MIXED, hidden=5).eval().double()
    logits = model(BAG.double()).logits
    scores = model(BAG.double()).aux["instance_logits"]
    for endpoint, own in zip(MIXED.endpoints, MIXED.slices, strict=True):
        answers = answers_of(endpoint, scores[:, own].detach().numpy())
        rank = answers.max(axis=1) if endpoint.kind == "multiclass" else answers[:, 0]
        torch.testing.assert_close(logits[own], scores[rank.argmax(), own])


@pytest.mark.parametrize("kind", EVERY)
def test_in_training_the_maximum_of_any_kind_has_the_gradients_of_the_whole_bag(kind: str) -> None:
    torch.manual_seed(1)
    model, bag = MaxPooling(6, EVERY[kind], hidden=5, dropout=0.0).double(), BAG.double()
    weight = torch.linspace(-1, 2, int(EVERY[kind])).double()
    found = []
    for is_training in (True, False):  # evaluation keeps every patch in the graph
        logits = model.train(is_training)(bag).logits
        found.append((logits, torch.autograd.grad((logits**2 * weight).sum(), list(model.parameters()))))
    torch.testing.assert_close(*found, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("kind", EVERY)
def test_the_mean_is_that_of_every_logit(kind: str) -> None:
    torch.manual_seed(1)
    model = MeanPooling(6, EVERY[kind], hidden=5).eval()
    torch.testing.assert_close(model(BAG).logits, model(BAG).aux["instance_logits"].mean(dim=0))


def test_a_map_of_a_class_is_the_logit_of_its_probability() -> None:
    torch.manual_seed(1)
    maps = MeanPooling(6, EVERY["classes"], hidden=5).eval().attention_maps(BAG)
    torch.testing.assert_close(maps.per_task.sigmoid().sum(dim=0), torch.ones(9))


@pytest.mark.parametrize("pooling", [MeanPooling, MaxPooling])
@pytest.mark.parametrize("n", [9, 2000])
def test_a_loss_of_the_patches_own_logits_reaches_the_weights(pooling: type[MeanPooling | MaxPooling], n: int) -> None:
    class Sparse(pooling):  # type: ignore[misc, valid-type]
        def loss(self, output: BagOutput, target: Tensor, known: Tensor) -> Tensor:
            return output.aux["instance_logits"].square().mean()

    torch.manual_seed(1)
    model, bag = Sparse(6, 1, hidden=5, dropout=0.0).double().train(), torch.randn(n, 6, dtype=torch.float64)
    names, label = [name for name, _ in model.named_parameters()], torch.ones(1, dtype=torch.float64)
    h = (bag @ model.embed[0].weight.T + model.embed[0].bias).relu()
    expected = torch.autograd.grad(
        (h @ model.head.weight.T + model.head.bias).square().mean(), list(model.parameters())
    )

    def loss(*weights: Tensor) -> Tensor:
        return model.loss(functional_call(model, dict(zip(names, weights, strict=True)), (bag,)), label, label)

    alone = torch.autograd.grad(loss(*model.parameters()), list(model.parameters()))
    copies = [torch.stack([weight.detach()] * 2).requires_grad_() for weight in model.parameters()]
    stacked = torch.autograd.grad(vmap(loss, randomness="same")(*copies).sum(), copies)
    for one, both, by_hand in zip(alone, stacked, expected, strict=True):
        torch.testing.assert_close(one, by_hand)
        torch.testing.assert_close(both[1], by_hand)


def _appended(model):
    model.embed.append(nn.Tanh())


def _without_relu(model):
    del model.embed[1]


def _without_embedding(model):
    model.embed = nn.Linear(12, 256)


def _torchs_dropout(model):
    model.dropout = nn.Dropout(0.0)


def _without_bias(model):
    model.embed[0] = nn.Linear(12, 256, bias=False)


def _head_without_bias(model):
    model.head = nn.Linear(256, 2, bias=False)


@pytest.mark.parametrize(
    "change", [_appended, _without_relu, _without_embedding, _torchs_dropout, _without_bias, _head_without_bias]
)
@pytest.mark.parametrize("made", [MeanPooling, MaxPooling])
@pytest.mark.parametrize("n", [5, 1500])
def test_parts_that_somebody_put_in_are_used(made, change, n):
    """Functions of whole layers take the usual parts alone."""
    model, bag = made(12, 2, hidden=256, dropout=0.0).double(), torch.randn(n, 12).double()
    change(model.double())
    model.double().train()
    rows = model.embed(bag)
    expected = model.pool(nn.functional.linear(rows, model.head.weight, model.head.bias))
    torch.testing.assert_close(model(bag).logits, expected)
    ours, plain = (torch.autograd.grad(each.sum(), list(model.parameters())) for each in (model(bag).logits, expected))
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(model.eval()(bag).logits, expected)
