"""Draws: classes come equally often, orders are uniformly random, patches are drawn anew at each visit."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from endpoints_for_tests import BINARY, CLASSES, SCORE, learner_of
from models_for_tests import Tiny
from stacks_for_tests import CPU, TRAIN, AsTheyAre, InMemory, labels, learner, losses, model_of, trained
from torch import Tensor

from milbench.endpoints.fitted import FittedEndpoint
from milbench.layout import Patches
from milbench.training.draws import PatchDraw, Visit, balanced_chances, in_random_order, visits_with_replacement
from milbench.training.learner import Learner
from milbench.training.side import Side
from milbench.trials.recipe import Recipe

NAN = float("nan")
BALANCED = Recipe(lr=0.02, epochs=3, bags_per_step=4, sampler="balanced")
FEW_PATCHES = Recipe(lr=0.02, epochs=3, bag_patches=4)


def side_of(*tasks: list[float]) -> Side:
    """A side with these labels, one list per task."""
    raw = np.array(tasks, dtype=np.float64).T[None]
    known = torch.from_numpy(~np.isnan(raw)).float()
    slides = tuple(f"s{i}" for i in range(raw.shape[1]))
    return Side(slides, torch.from_numpy(np.nan_to_num(raw)).float(), known, raw)


def chances(side: Side, *endpoints: FittedEndpoint) -> np.ndarray:
    found = balanced_chances(side, endpoints)
    assert found is not None
    return found


# ---- which slides --------------------------------------------------------------------------------


@pytest.mark.parametrize(("endpoint", "counts"), [(BINARY, (90, 10)), (CLASSES, (70, 25, 5))])
def test_classes_come_equally_often(endpoint: FittedEndpoint, counts: tuple[int, ...]) -> None:
    side = side_of([float(label) for label, count in enumerate(counts) for _ in range(count)])
    seen: Counter[float] = Counter()
    for epoch in range(200):
        visits = visits_with_replacement(side.slide_ids, chances(side, endpoint), seed=3, epoch=epoch)
        assert sum(visits.values()) == 100, "an epoch stays as long as it was"
        for slide, count in visits.items():
            seen[side.raw[0, side.slide_ids.index(slide), 0]] += count
    shares = np.array([seen[label] for label in range(len(counts))]) / 20_000
    np.testing.assert_allclose(shares, 1 / len(counts), atol=0.015)  # four standard deviations


def test_the_chance_of_a_slide_is_the_mean_over_its_known_tasks_with_classes() -> None:
    er, subtype, score = [1, 0, 0, 0, NAN, NAN], [0, 0, 2, NAN, NAN, 2], [1.5, 2, 3, 4, 5, 6]
    # er: 4 / (2 · 1) and 4 / (2 · 3); subtype: 4 / (2 · 2), two classes occur
    expected = np.array([(2 + 1) / 2, (2 / 3 + 1) / 2, (2 / 3 + 1) / 2, 2 / 3, 1, 1])
    found = chances(side_of(er, subtype, score), BINARY, CLASSES, SCORE)
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-12)


def test_slides_without_a_label_are_drawn_as_often_as_before() -> None:
    side = side_of([1, 0, 0, 0, 0, 0, 0, 0, NAN, NAN])
    assert chances(side, BINARY)[8:].sum() == pytest.approx(0.2)


def test_a_task_without_classes_has_nothing_to_balance() -> None:
    assert balanced_chances(side_of([1.0, 2.0]), [SCORE]) is None
    visits = learner_of((SCORE,), [0], BALANCED).visits
    assert visits == dict.fromkeys(TRAIN, 1)


def test_draws_depend_on_seed_and_epoch_alone() -> None:
    def drawn(seed: int, epoch: int) -> dict[str, int]:
        return visits_with_replacement(TRAIN, np.full(len(TRAIN), 1 / len(TRAIN)), seed=seed, epoch=epoch)

    assert drawn(1, 0) == drawn(1, 0)
    assert drawn(1, 0) != drawn(1, 1)
    assert drawn(1, 0) != drawn(2, 0)


def test_trials_of_other_labels_never_share_the_draws_of_a_learner() -> None:
    with pytest.raises(ValueError, match="each trial is a learner of its own"):
        learner([0, 1], model_of("mean_pooling"), BALANCED)


# ---- in which order ------------------------------------------------------------------------------


def test_without_second_visits_the_order_is_the_shuffled_one() -> None:
    assert in_random_order(["c", "a", "b"], {"a": 1, "c": 1}, seed=1, epoch=0) == [Visit("c"), Visit("a")]


def test_every_order_of_the_visits_is_equally_likely() -> None:
    rng, seen = np.random.default_rng(0), Counter[str]()
    for epoch in range(3000):
        shuffled = rng.permutation(["a", "b"]).tolist()
        seen["".join(visit.slide_id for visit in in_random_order(shuffled, {"a": 2, "b": 1}, seed=1, epoch=epoch))] += 1
    assert seen.keys() == {"aab", "aba", "baa"}
    np.testing.assert_allclose(list(seen.values()), 1000, atol=105)  # four standard deviations


def test_what_one_learner_takes_comes_in_the_same_order_whatever_others_take() -> None:
    shuffled, mine = list("dbeac"), {"a": 3, "b": 1, "d": 2}
    alone = in_random_order(shuffled, mine, seed=5, epoch=2)
    beside = in_random_order(shuffled, {"a": 4, "b": 2, "c": 5, "d": 2, "e": 1}, seed=5, epoch=2)
    assert [visit for visit in beside if visit.number < mine.get(visit.slide_id, 0)] == alone
    assert [visit.slide_id for visit in beside if not visit.number] == shuffled


def test_a_balanced_learner_sees_its_draws_and_changes_nothing_for_the_one_beside_it() -> None:
    class Remembers(Learner):
        def add(self, slide_id: str, patches: Patches) -> bool:
            seen.append(slide_id)
            return super().add(slide_id, patches)

    def remembering() -> Learner:
        sides = labels([0], TRAIN, 1), labels([0], TRAIN, 1)
        return Remembers([model_of("amil")], BALANCED, *sides, seed=7, device=CPU, scaler=AsTheyAre())

    seen: list[str] = []
    balanced, features = remembering(), InMemory()
    beside, *_ = trained(learner([1], model_of("amil"), Recipe(lr=0.02, epochs=3)), balanced, features=features)
    together = list(seen)
    for epoch in range(3):
        again = remembering()
        again.epoch = epoch
        assert Counter(together[epoch * len(TRAIN) : (epoch + 1) * len(TRAIN)]) == Counter(again.visits)
    seen.clear()
    trained(remembering())
    assert seen == together
    (alone,) = trained(learner([1], model_of("amil"), Recipe(lr=0.02, epochs=3)))
    assert losses(beside.progress[0]) == losses(alone.progress[0])


# ---- which patches -------------------------------------------------------------------------------


def rows(draw: PatchDraw, n: int, slide: str = "s", number: int = 0) -> list[int]:
    drawn = draw.rows(n, Visit(slide, number))
    assert drawn is not None
    return drawn.tolist()


def test_patches_are_drawn_without_replacement_and_stay_in_order() -> None:
    drawn = rows(PatchDraw(7, 0, 20), 50)
    assert len(set(drawn)) == 20
    assert drawn == sorted(drawn)


def test_a_bag_without_more_patches_stays_whole() -> None:
    assert PatchDraw(7, 0, 20).rows(20, Visit("s")) is None


def test_patches_are_drawn_anew_for_every_visit_and_the_same_again() -> None:
    usual = rows(PatchDraw(7, 0, 20), 50)
    assert usual == rows(PatchDraw(7, 0, 20), 50)
    others = [
        rows(PatchDraw(8, 0, 20), 50), rows(PatchDraw(7, 1, 20), 50), rows(PatchDraw(7, 0, 20), 50, "t"),
        rows(PatchDraw(7, 0, 20), 50, number=1),
    ]  # fmt: skip
    assert usual not in others
    assert len({tuple(each) for each in others}) == 4


def test_each_patch_is_equally_likely() -> None:
    seen = Counter(row for epoch in range(1000) for row in rows(PatchDraw(7, epoch, 4), 10))
    np.testing.assert_allclose([seen[row] for row in range(10)], 400, atol=62)  # four standard deviations


def sizes_seen(recipe: Recipe) -> tuple[list[int], list[int]]:
    """Patches of each bag of 9 or 13 that the model was given in training, and in evaluation."""

    class Notes(Tiny):
        def forward(self, features: Tensor) -> object:  # type: ignore[override]
            (in_training if self.training else in_evaluation).append(len(features))
            return super().forward(features)

    in_training: list[int] = []
    in_evaluation: list[int] = []
    torch.manual_seed(1)
    (each,) = trained(learner([0], Notes(6, 1).double(), recipe))
    assert each.error is None, each.error
    return in_training, in_evaluation


def test_training_sees_so_many_patches_and_evaluation_all() -> None:
    in_training, in_evaluation = sizes_seen(FEW_PATCHES)
    assert set(in_training) == {4}
    assert set(in_evaluation) == {9, 13}


def test_a_limit_that_no_bag_reaches_changes_no_bit() -> None:
    (usual,), (limited,) = (
        trained(learner([0, 1], model_of("m4"), Recipe(lr=0.02, epochs=2, bag_patches=most))) for most in (None, 13)
    )
    assert [losses(p) for p in usual.progress] == [losses(p) for p in limited.progress]
    assert all(torch.equal(values, limited.best[name]) for name, values in usual.best.items())


def test_a_bag_is_drawn_once_for_all_learners_that_draw_alike() -> None:
    calls: list[int] = []

    class Counts(AsTheyAre):
        def __call__(self, features: Tensor) -> Tensor:
            calls.append(len(features))
            return features

    shared = Counts()
    learners = [learner([i], model_of("mean_pooling"), Recipe(epochs=1, bag_patches=4)) for i in range(2)]
    for each in learners:
        each.scaler = shared
    trained(*learners)
    assert calls.count(4) == len(TRAIN)
