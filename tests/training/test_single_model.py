"""One model, bags in memory: it learns, selects on validation only, and repeats itself bit for bit."""

import copy
import math

import numpy as np
import pytest
import torch
from models_for_tests import Explodes, Tiny, TinyMulti

from milbench.errors import MilbenchError
from milbench.training.optimizers import make_optimizer
from milbench.training.single_model import Bags, evaluate, fit, predict
from milbench.trials.recipe import Recipe

CPU = torch.device("cpu")
RECIPE = Recipe(lr=0.05, epochs=4, bags_per_step=3)


def make_bags(n: int, *, seed: int, n_tasks: int = 1, sizes: tuple[int, ...] = (4, 4, 7)) -> Bags:
    """Bags whose label is whether their mean is above zero."""
    generator = torch.Generator().manual_seed(seed)
    shift = torch.randn(n, generator=generator)
    features = [torch.randn(sizes[i % len(sizes)], 5, generator=generator) + shift[i] for i in range(n)]
    targets = (shift > 0).float()[:, None].repeat(1, n_tasks)
    return Bags(features, targets, torch.ones(n, n_tasks))


def tiny(dropout: float = 0.1) -> Tiny:
    torch.manual_seed(0)
    return Tiny(5, 1, dropout=dropout)


def test_training_learns_what_can_be_learned() -> None:
    model = tiny()
    result = fit(model, Recipe(lr=0.02, epochs=12), make_bags(60, seed=1), make_bags(30, seed=2), seed=1, device=CPU)
    assert result.history[-1].train_loss < 0.7 * result.history[0].train_loss
    assert result.history[result.chosen_epoch].val_auroc > 0.9


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    def run(seed: int) -> np.ndarray:
        model = tiny()
        fit(model, RECIPE, make_bags(20, seed=1), make_bags(10, seed=2), seed=seed, device=CPU)
        return predict(model, make_bags(10, seed=3), device=CPU).probabilities

    assert run(7).tobytes() == run(7).tobytes()
    assert run(7).tobytes() != run(8).tobytes()


def test_bags_that_go_through_together_give_the_losses_of_bags_alone() -> None:
    model, bags = tiny(dropout=0.0), make_bags(12, seed=1)
    alone = [
        evaluate(model, Bags(bags.features[i : i + 1], bags.targets[i : i + 1], bags.known[i : i + 1]), CPU)
        for i in range(12)
    ]
    loss, probabilities = evaluate(model, bags, CPU)
    assert loss == pytest.approx(np.mean([value for value, _ in alone]), abs=1e-6)
    np.testing.assert_allclose(probabilities, np.concatenate([p for _, p in alone]), atol=1e-6)


def test_one_step_is_the_plain_loop_written_out() -> None:
    bags, recipe = make_bags(3, seed=1), Recipe(lr=0.05, epochs=1, bags_per_step=3)
    ours, plain = tiny(dropout=0.0), tiny(dropout=0.0)
    fit(ours, recipe, bags, make_bags(4, seed=2), seed=0, device=CPU)
    optimizer = torch.optim.Adam(plain.parameters(), lr=0.05, weight_decay=4e-5)
    logits = torch.cat([plain(features).logits for features in bags.features])
    torch.nn.functional.binary_cross_entropy_with_logits(logits, bags.targets[:, 0]).backward()
    optimizer.step()
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("n_bags", [1, 2, 5])
def test_the_gradient_of_a_step_is_the_mean_of_those_of_its_bags(n_bags: int) -> None:
    """Of any sizes: what trainers of one bag at a time call accumulating gradients."""

    class Spy(torch.optim.SGD):
        def step(self, closure: None = None) -> None:  # type: ignore[override]
            seen.append([p.grad.clone() for p in model.parameters()])

    model, bags, seen = tiny(dropout=0.0), make_bags(n_bags, seed=1), list[list[torch.Tensor]]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("milbench.training.learner.make_optimizer", lambda named, *_, **__: Spy(named.values(), lr=1.0))
        fit(model, Recipe(epochs=1, bags_per_step=n_bags), bags, bags, seed=0, device=CPU)
    each = []
    for features, target in zip(bags.features, bags.targets, strict=True):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(features).logits, target)
        each.append(torch.autograd.grad(loss, list(model.parameters())))
    (step,) = seen
    for ours, gradients in zip(step, zip(*each, strict=True), strict=True):
        torch.testing.assert_close(ours, torch.stack(gradients).mean(dim=0), rtol=1e-5, atol=1e-7)


def test_the_chosen_weights_are_those_of_the_strictly_best_validation_epoch() -> None:
    validation = make_bags(9, seed=2)
    model = tiny()
    result = fit(model, Recipe(lr=0.05, epochs=8), make_bags(20, seed=1), validation, seed=3, device=CPU)
    scores = [row.val_auroc for row in result.history]
    assert result.chosen_epoch == scores.index(max(scores))
    assert evaluate(model, validation, CPU)[0] == pytest.approx(result.history[result.chosen_epoch].val_loss, abs=1e-6)


def test_the_lowest_validation_loss_selects_where_the_recipe_says_so() -> None:
    recipe = Recipe(lr=0.05, epochs=8, select_by="val_loss")
    result = fit(tiny(), recipe, make_bags(20, seed=1), make_bags(9, seed=2), seed=3, device=CPU)
    losses = [row.val_loss for row in result.history]
    assert result.chosen_epoch == losses.index(min(losses))


def test_patience_stops_early() -> None:
    recipe = Recipe(lr=0.0001, epochs=50, patience=2)
    result = fit(tiny(), recipe, make_bags(6, seed=1), make_bags(9, seed=2), seed=3, device=CPU)
    assert len(result.history) < 50
    assert len(result.history) == result.chosen_epoch + 1 + 3


def test_a_training_too_short_for_select_after_keeps_the_last_epoch_and_says_so() -> None:
    recipe = Recipe(epochs=5, select_after=0.985, select_by="val_loss")
    result = fit(tiny(), recipe, make_bags(6, seed=1), make_bags(9, seed=2), seed=3, device=CPU)
    assert result.chosen_epoch == 4
    assert result.selected_by == "last epoch (select_after leaves no other)"


def test_one_class_in_validation_keeps_the_last_epoch_and_says_so() -> None:
    validation = make_bags(6, seed=2)._replace(targets=torch.ones(6, 1))
    result = fit(tiny(), RECIPE, make_bags(20, seed=1), validation, seed=3, device=CPU)
    assert math.isnan(result.history[0].val_auroc)
    assert result.chosen_epoch == RECIPE.epochs - 1
    assert "undefined" in result.selected_by


def test_unknown_labels_do_not_move_the_weights() -> None:
    bags = make_bags(8, seed=1, n_tasks=2)
    torch.manual_seed(0)
    first = TinyMulti(5, 2, dropout=0.0)
    second = copy.deepcopy(first)
    known = bags.known.clone()
    known[:, 1] = 0
    flipped = bags.targets.clone()
    flipped[:, 1] = 1 - flipped[:, 1]
    for model, targets in ((first, bags.targets), (second, flipped)):
        fit(model, RECIPE, Bags(bags.features, targets, known), make_bags(4, seed=2, n_tasks=2), seed=0, device=CPU)
    for mine, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_loss_that_is_not_finite_stops_with_the_mend() -> None:
    torch.manual_seed(0)
    with pytest.raises(MilbenchError, match=r"epoch 1.*trainer\.lr"):
        fit(Explodes(5, 1), RECIPE, make_bags(6, seed=1), make_bags(4, seed=2), seed=0, device=CPU)


def test_float16_features_train_in_float32() -> None:
    bags = make_bags(8, seed=1)
    half = bags._replace(features=[features.half() for features in bags.features])
    result = fit(tiny(), RECIPE, half, half, seed=0, device=CPU)
    assert np.isfinite(result.history[-1].train_loss)


def test_vectors_do_not_decay_where_the_recipe_spares_them() -> None:
    groups = make_optimizer(dict(tiny().named_parameters()), Recipe(weight_decay=0.5, decay_vectors=False)).param_groups
    assert {(group["weight_decay"], p.ndim) for group in groups for p in group["params"]} == {(0.5, 2), (0.0, 1)}


def test_clipping_bounds_each_part_of_the_model_separately() -> None:
    """With plain SGD-like bookkeeping left aside, the gradients that the optimiser sees are what counts."""
    seen: list[float] = []

    class Spy(torch.optim.Adam):
        def step(self, closure: None = None) -> None:  # type: ignore[override]
            for part in model.children():
                seen.append(float(torch.cat([p.grad.flatten() for p in part.parameters()]).norm()))

    model = tiny(dropout=0.0)
    bags = make_bags(6, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("milbench.training.learner.make_optimizer", lambda named, *_, **__: Spy(named.values()))
        fit(model, Recipe(epochs=1, bags_per_step=6, clip_norm=0.01), bags, bags, seed=0, device=CPU)
    assert len(seen) == 2
    assert all(norm == pytest.approx(0.01, rel=1e-3) for norm in seen)
