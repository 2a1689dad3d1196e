"""Weights of tasks that move: their numbers, their gradients, and what a model learns under them."""

import numpy as np
import pytest
import torch
from endpoints_for_tests import BINARY, CLASSES, COX, SCORE, learner_of, tiny
from stacks_for_tests import CPU, TRAIN, InMemory, trained

from milbench.endpoints.losses import task_losses
from milbench.layout import Patches
from milbench.training.bag_groups import IndexedBag
from milbench.training.learner import Learner
from milbench.training.task_weights import NAME, TaskWeights
from milbench.trials.recipe import Recipe

MIXED = (BINARY, CLASSES, SCORE)
UNCERTAINTY = Recipe(lr=0.02, epochs=3, bags_per_step=4, task_weights="uncertainty", weight_decay=0.5)
DWA = Recipe(lr=0.02, epochs=4, bags_per_step=4, task_weights="dwa")


def one_step(each: Learner) -> torch.Tensor:
    features = InMemory().bags
    each.begin_epoch()
    return each._forward_backward(
        [IndexedBag(index, index, Patches(features[slide])) for index, slide in enumerate(TRAIN)]
    )


def test_uncertainty_has_the_loss_and_gradients_of_its_formula() -> None:
    each = learner_of(MIXED, [0], UNCERTAINTY, start=tiny(*MIXED, dropout=0.0))
    assert each.task_weights.s is not None
    each.task_weights.s.data = torch.tensor([[0.3, -0.5, 1.0]])
    losses = one_step(each)

    twin, features, s = tiny(*MIXED, dropout=0.0), InMemory().bags, torch.tensor([0.3, -0.5, 1.0]).requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for slide, targets, known in zip(TRAIN, each.train.targets[0], each.train.known[0], strict=True):
        of_tasks = task_losses(twin.outputs, twin(features[slide]).logits, targets)
        total = total + (known * of_tasks / (2 * s.exp()) + (known > 0) * s / 2).sum()
    (total / len(TRAIN)).backward()
    assert losses.item() == pytest.approx(total.item(), rel=1e-6)
    torch.testing.assert_close(each.task_weights.s.grad[0], s.grad, rtol=1e-5, atol=1e-6)
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(each.weights.named_parameters()[name].grad, parameter.grad, rtol=1e-5, atol=1e-7)


def test_a_slide_that_a_step_sees_twice_pulls_twice() -> None:
    each, features = learner_of(MIXED, [0], UNCERTAINTY), InMemory().bags  # dropout differs between the visits
    each.begin_epoch()
    total = each._forward_backward(
        [IndexedBag(i, place, Patches(features[TRAIN[i]])) for place, i in enumerate((0, 1, 0, 4))]
    )
    n_known = (each.train.known[0, [0, 1, 0, 4]] > 0).sum(dim=0)
    of_tasks = (n_known / 2 - 4 * each.task_weights.s.grad[0].double()).sum()  # each at s = 0, where weights are 1/2
    assert total.item() == pytest.approx(of_tasks.item(), rel=1e-6)


def test_the_optimiser_moves_s_without_weight_decay() -> None:
    each = learner_of(MIXED, [0], UNCERTAINTY)
    (group,) = [
        group for group in each.optimizer.param_groups if any(p is each.task_weights.s for p in group["params"])
    ]
    assert group["weight_decay"] == 0
    trained(each)
    assert (each.task_weights.s.detach().abs() > 1e-3).all()
    weights = np.array(each.progress[0].task_weights)
    assert weights.shape == (3, 3)
    np.testing.assert_allclose(weights[-1], (torch.exp(-each.task_weights.s) / 2)[0].detach(), rtol=1e-6)


def test_a_cox_task_pulls_s_by_its_own_loss_and_not_by_what_stands_in_for_it() -> None:
    each = learner_of((BINARY, COX), [0], UNCERTAINTY, start=tiny(BINARY, COX, dropout=0.0))
    one_step(each)
    n_known = (each.train.known[0, :, 1] > 0).sum()
    features = InMemory().bags
    batch = each._cox_batch([IndexedBag(index, index, Patches(features[slide])) for index, slide in enumerate(TRAIN)])
    weighted = (batch.losses * each.train.known)[0, :, 1].sum() / 2  # 1 / (2 exp(0))
    expected = (n_known / 2 - weighted) / len(TRAIN)
    assert each.task_weights.s.grad[0, 1].item() == pytest.approx(expected.item(), rel=1e-5)


def test_dwa_follows_the_ratio_of_the_last_two_epochs() -> None:
    weights = TaskWeights("dwa", 2, 3, CPU)
    assert (weights.factors == 1).all()
    weights.begin_epoch([[[1.0, 2.0, 4.0]], [[1.0, 2.0, 4.0]]])
    assert (weights.factors == 1).all()
    weights.begin_epoch([[[9.0, 9.0, 9.0], [1.0, 2.0, 4.0], [1.0, 1.0, 0.0]], [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]])
    shares = np.exp(np.array([1.0, 0.5, 0.0]) / 2)
    np.testing.assert_allclose(weights.factors[0], 3 * shares / shares.sum(), rtol=1e-6)
    np.testing.assert_allclose(weights.factors[1], 1, rtol=1e-6)  # a task without a loss is no reason to move


def test_dwa_books_the_losses_of_tasks_without_its_own_weights() -> None:
    (each,) = trained(learner_of(MIXED, [0], DWA))
    progress = each.progress[0]
    losses, weights = np.array(progress.task_losses), np.array(progress.task_weights)
    assert losses.shape == weights.shape == (4, 3)
    assert (weights[:2] == 1).all()
    assert not np.allclose(weights[2:], 1, atol=1e-4)
    np.testing.assert_allclose(weights.sum(axis=1), 3, rtol=1e-6)
    booked = [row.train_loss for row in progress.history]
    np.testing.assert_allclose((losses * weights).sum(axis=1), booked, rtol=1e-6)


@pytest.mark.parametrize("recipe", [UNCERTAINTY, DWA], ids=["uncertainty", "dwa"])
@pytest.mark.parametrize("endpoints", [MIXED, (BINARY, COX)], ids=["own losses", "with cox"])
def test_trials_that_step_together_learn_what_each_learns_alone(recipe: Recipe, endpoints: tuple) -> None:
    (together,) = trained(learner_of(endpoints, range(3), recipe))
    for member in range(3):
        (alone,) = trained(learner_of(endpoints, [member], recipe))
        np.testing.assert_allclose(together.progress[member].task_weights, alone.progress[0].task_weights, rtol=1e-5)
        for name, values in alone.best.items():
            torch.testing.assert_close(together.best[name][member], values[0], rtol=1e-4, atol=1e-6)


def test_a_trial_that_leaves_takes_its_weights_along() -> None:
    each = learner_of(MIXED, range(3), UNCERTAINTY)
    one_step(each)
    each.optimizer.step()
    before = each.task_weights.s.detach().clone()
    each.shrink_to([0, 2])
    assert (each.task_weights.s == before[[0, 2]]).all()
    assert NAME in each.moved_parameters()
    assert (each.optimizer.state[each.task_weights.s]["exp_avg"] != 0).any()
    trained_on = one_step(each)
    assert trained_on.shape == (2,)


@pytest.mark.parametrize("rule", ["uncertainty", "dwa"])
def test_a_single_task_has_nothing_to_weigh(rule: str) -> None:
    plain, moved = (
        trained(learner_of((BINARY,), [0], Recipe(lr=0.02, epochs=2, task_weights=each)))[0]
        for each in ("constant", rule)
    )
    assert repr(plain.progress) == repr(moved.progress)  # an undefined score is NaN, which equals nothing
    assert moved.progress[0].task_weights == []


def test_memory_that_runs_out_costs_no_gradient_of_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that is tried again must not count its first try."""
    plain, tight = learner_of(MIXED, range(2), UNCERTAINTY), learner_of(MIXED, range(2), UNCERTAINTY)
    expected = one_step(plain)
    real, left = type(tight.weights).forward_backward, [2]

    def full_at_the_second_group(*args: object, **named: object) -> torch.Tensor:
        left[0] -= 1
        if left[0] == 0:
            raise torch.OutOfMemoryError("full")
        return real(*args, **named)

    monkeypatch.setattr(type(tight.weights), "forward_backward", full_at_the_second_group)
    torch.testing.assert_close(one_step(tight), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(tight.task_weights.s.grad, plain.task_weights.s.grad, rtol=1e-5, atol=1e-6)
