"""A survival task learned by a Cox loss: the gradient and the loss of a step are those of its slides together."""

import numpy as np
import pytest
import torch
from endpoints_for_tests import BINARY, COX, SCORE, efron_by_definition, learner_of, tiny
from stacks_for_tests import TRAIN, InMemory, trained
from torch import Tensor

from milbench.endpoints.cox import cox_loss
from milbench.endpoints.losses import task_losses
from milbench.layout import Patches
from milbench.training.bag_groups import IndexedBag
from milbench.training.cox_tasks import CoxBatch, CoxTasks
from milbench.training.evaluation import Evaluation
from milbench.training.learner import Learner
from milbench.trials.recipe import Recipe

ALL_IN_ONE = Recipe(lr=0.02, epochs=3, bags_per_step=len(TRAIN))
MIXED = (BINARY, COX, SCORE)


def bags() -> list[IndexedBag]:
    features = InMemory().bags
    return [IndexedBag(index, index, Patches(features[slide])) for index, slide in enumerate(TRAIN)]


def one_step(each: Learner) -> Tensor:
    """Losses [S]; gradients are in place."""
    each.begin_epoch()
    return each._forward_backward(bags())


@pytest.mark.parametrize("endpoints", [(COX,), MIXED], ids=["alone", "mixed"])
def test_a_step_has_loss_and_gradient_of_its_slides_together(endpoints: tuple) -> None:
    each = learner_of(endpoints, [0], ALL_IN_ONE, start=tiny(*endpoints, dropout=0.0))
    losses = one_step(each)
    gradients = {name: p.grad.clone() for name, p in each.weights.named_parameters().items()}

    expected, by_name = by_definition(each, endpoints, list(range(len(TRAIN))))
    assert losses.item() == pytest.approx(expected, rel=1e-12)
    for name, gradient in by_name.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-9, atol=1e-12)


def by_definition(each: Learner, endpoints: tuple, slides: list[int]) -> tuple[float, dict[str, Tensor]]:
    """Loss of a step on these training slides, and gradients over their number, from the whole step's formula."""
    twin, side, place = tiny(*endpoints, dropout=0.0), each.train, endpoints.index(COX)
    logits = torch.stack([twin(InMemory().bags[TRAIN[slide]]).logits for slide in slides])
    targets, known = side.targets[0, slides].clone(), side.known[0, slides]
    of_cox = efron_by_definition(logits[:, each.cox.logits[0]], targets[:, place]) * known[:, place].sum()
    targets[:, place] = 0
    others = sum((task_losses(twin.outputs, z, t) * k).sum() for z, t, k in zip(logits, targets, known, strict=True))
    ((of_cox + others) / len(slides)).backward()
    return (of_cox + others).item(), {name: p.grad for name, p in twin.named_parameters()}


@pytest.mark.parametrize("endpoints", [(COX,), MIXED], ids=["alone", "mixed"])
def test_a_slide_that_a_step_sees_twice_counts_twice(endpoints: tuple) -> None:
    each = learner_of(endpoints, [0], ALL_IN_ONE, start=tiny(*endpoints, dropout=0.0))
    drawn, features = [*range(len(TRAIN)), 2, 2, 5], InMemory().bags
    each.begin_epoch()
    losses = each._forward_backward(
        [IndexedBag(i, place, Patches(features[TRAIN[i]])) for place, i in enumerate(drawn)]
    )
    gradients = {name: p.grad.clone() for name, p in each.weights.named_parameters().items()}

    expected, by_name = by_definition(each, endpoints, drawn)
    assert losses.item() == pytest.approx(expected, rel=1e-12)
    for name, gradient in by_name.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("limits", ["none", "one at a time", "recomputed"])
def test_both_passes_of_a_step_draw_the_same_dropout(limits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    each = learner_of((COX,), [0, 1, 2], ALL_IN_ONE)
    each.step_memory.at_once = 3 if limits == "none" else 1
    each.step_memory.must_recompute = limits == "recomputed"
    batches: list[CoxBatch] = []
    original = CoxTasks.of_batch

    def noted(*args: object) -> CoxBatch:
        batches.append(original(*args))
        return batches[-1]

    monkeypatch.setattr(CoxTasks, "of_batch", noted)
    uses = each.random.uses
    losses = one_step(each)
    expected = (each.train.known * batches[0].losses).sum(dim=(1, 2))  # of the first pass's logits
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=1e-12)
    assert each.random.uses == uses + 1, "a resumed training counts one use per step"


def test_a_step_continues_the_random_numbers_of_the_last() -> None:
    each = learner_of((COX,), [0], ALL_IN_ONE)
    first, second = one_step(each), one_step(each)
    assert first.item() != second.item()


@pytest.mark.parametrize("endpoints", [(COX,), MIXED], ids=["alone", "mixed"])
def test_trials_that_step_together_learn_what_each_learns_alone(endpoints: tuple) -> None:
    recipe = Recipe(lr=0.02, epochs=3, bags_per_step=4)
    (together,) = trained(learner_of(endpoints, range(3), recipe))
    for member in range(3):
        (alone,) = trained(learner_of(endpoints, [member], recipe))
        assert together.progress[member].cox_steps_without_event == alone.progress[0].cox_steps_without_event
        for ours, its in zip(together.progress[member].history, alone.progress[0].history, strict=True):
            np.testing.assert_allclose(ours, its, rtol=1e-9)
        for name, values in alone.best.items():
            torch.testing.assert_close(together.best[name][member], values[0], rtol=1e-7, atol=1e-9)


def test_steps_without_an_event_teach_nothing_and_are_counted() -> None:
    each = learner_of((COX,), [0], Recipe(lr=0.02, epochs=2, bags_per_step=3))
    each.train = each.train._replace(targets=-each.train.targets.abs())
    each.begin_epoch()
    assert each._forward_backward(bags()[:3]).item() == 0
    assert all((p.grad == 0).all() for p in each.weights.named_parameters().values())
    trained(each)
    assert each.progress[0].cox_steps_without_event == [2 * 3]
    assert [row.train_loss for row in each.progress[0].history] == [0, 0]


def test_learning_lowers_the_loss_of_the_training_slides() -> None:
    (each,) = trained(
        learner_of((COX,), [1], Recipe(lr=0.05, epochs=30, bags_per_step=9), start=tiny(COX, dropout=0.0))
    )
    history = each.progress[0].history
    assert history[-1].train_loss < 0.8 * history[0].train_loss


@pytest.mark.parametrize("endpoints", [(COX,), MIXED], ids=["alone", "mixed"])
def test_the_validation_loss_is_that_of_the_whole_side(endpoints: tuple) -> None:
    each = learner_of(endpoints, [0, 1], ALL_IN_ONE)
    side, place = each.validation, endpoints.index(COX)
    each.weights.model.eval()
    evaluation: Evaluation = each._evaluation(each.weights, side)
    features = InMemory().bags
    for slide in side.slide_ids:
        evaluation.add(slide, Patches(features[slide]))
    said = evaluation.finish()
    for row in range(2):
        logits, targets, known = torch.from_numpy(said.logits[row]), side.targets[row].clone(), side.known[row]
        expected = cox_loss(logits[:, each.cox.logits[0]], targets[:, place]).loss * known[:, place]
        targets[:, place] = 0
        others = torch.stack(
            [
                (task_losses(each.weights.model.outputs, z, t) * k).sum()
                for z, t, k in zip(logits, targets, known, strict=True)
            ]
        )
        torch.testing.assert_close(said.losses[row], others + expected, rtol=1e-12, atol=1e-12)


def test_models_without_a_cox_task_have_none() -> None:
    each = learner_of((BINARY, SCORE), [0], ALL_IN_ONE)
    assert not each.cox
    targets = each.train.targets
    assert each.cox.without_targets(targets) is targets
