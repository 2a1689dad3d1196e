"""The embedded cohort is what its page says: sizes, prevalences, layout, truth."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from milbench.datasets import dataset
from milbench.datasets.digits import CONJUNCTIONS, CONTROL, GRID, PRESENCE, SHARE_OF_3, TASKS, make_digits

BAGS = make_digits()
LABELS = BAGS.slides[list(TASKS)].to_numpy()


def test_the_catalogue_tells_its_size() -> None:
    entry = dataset("digits")
    cohort = entry.load(None, allow_missing=False)
    assert (len(cohort.slides), cohort.slides["patient_id"].nunique(), cohort.tasks) == (
        entry.n_slides,
        entry.n_patients,
        entry.tasks,
    )
    assert cohort.control_tasks == (CONTROL,)


def test_every_patch_is_a_real_image_of_the_digit_it_shows() -> None:
    source = load_digits()
    known = {
        digit: {row.tobytes() for row in (source.data[source.target == digit] / 16).astype(np.float32)}
        for digit in range(10)
    }
    for bag, digits in zip(BAGS.features[:40], BAGS.digits[:40], strict=True):
        assert all(patch.tobytes() in known[digit] for patch, digit in zip(bag, digits, strict=True))


def test_a_scikit_learn_that_keeps_its_file_elsewhere_gives_the_same_cohort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert make_digits().features.tobytes() == BAGS.features.tobytes()


def test_the_same_seed_gives_the_same_cohort_and_another_seed_another() -> None:
    assert make_digits().features.tobytes() == BAGS.features.tobytes()
    assert make_digits(1).features.tobytes() != BAGS.features.tobytes()
    assert (
        dataset("digits").load(None, allow_missing=False).fingerprint
        == dataset("digits").load(None, allow_missing=False).fingerprint
    )


def test_prevalences_run_from_about_15_to_60_percent() -> None:
    patients = BAGS.slides.drop_duplicates("patient_id")[list(TASKS)].mean()
    for task, presence in PRESENCE.items():
        assert patients[task] == pytest.approx(presence.prevalence, abs=0.005)
    assert 0.12 < patients.min() < 0.20
    assert patients.max() == pytest.approx(0.60, abs=0.005)


def test_presences_are_correlated_and_the_control_with_nothing() -> None:
    correlation = BAGS.slides.drop_duplicates("patient_id")[list(TASKS)].corr()
    assert correlation.loc["has_0", "has_2"] > 0.2
    assert correlation.loc["has_0", "has_9"] < -0.1
    assert correlation[CONTROL].drop(CONTROL).abs().max() < 0.05


def test_labels_follow_from_what_the_bag_shows() -> None:
    for column, task in enumerate(TASKS):
        positive = LABELS[:, column] == 1
        if task in PRESENCE:
            shown = (BAGS.digits == PRESENCE[task].digit).sum(axis=1)
            assert (shown == positive * PRESENCE[task].witnesses).all()
        elif task in CONJUNCTIONS:
            first, second = (LABELS[:, TASKS.index(part)] for part in CONJUNCTIONS[task])
            assert (positive == (first * second == 1)).all()
    threes = (BAGS.digits == 3).sum(axis=1)
    many = LABELS[:, TASKS.index("many_3")] == 1
    assert threes[many].min() > threes[~many].max()
    assert threes[many].mean() / threes[~many].mean() == pytest.approx(SHARE_OF_3[True] / SHARE_OF_3[False], rel=0.05)


def test_a_block_differs_from_its_absence_by_layout_alone() -> None:
    rasters = (BAGS.digits == 1).reshape(-1, GRID, GRID)
    assert (rasters.sum(axis=(1, 2)) == 4).all()
    neighbours = sum(
        (rasters & np.roll(np.roll(padded, dy, 1), dx, 2)[:, 1:-1, 1:-1]).sum(axis=(1, 2))
        for padded in [np.pad(rasters, ((0, 0), (1, 1), (1, 1)))]
        for dy in (-1, 0, 1)
        for dx in (-1, 0, 1)
        if (dy, dx) != (0, 0)
    )
    block = LABELS[:, TASKS.index("block_1")] == 1
    assert (neighbours[block] == 12).all()
    assert (neighbours[~block] == 0).all()


def test_truth_marks_the_evidence() -> None:
    for task, presence in PRESENCE.items():
        assert (BAGS.truth[..., TASKS.index(task)] == (BAGS.digits == presence.digit)).all()
    assert not BAGS.truth[..., TASKS.index(CONTROL)].any()
    block = BAGS.truth[..., TASKS.index("block_1")].sum(axis=1)
    assert (block == 4 * (LABELS[:, TASKS.index("block_1")] == 1)).all()


def test_a_bag_has_a_raster_of_coordinates_in_the_order_of_its_patches() -> None:
    cohort = dataset("digits").load(None, allow_missing=False)
    bag = cohort.load("digits-0000")
    assert bag.coords.tolist()[:2] == [[0, 0], [8, 0]]
    assert bag.coords.tolist()[-1] == [40, 40]
    assert bag.instance_labels.shape == (36, 10)


def test_patients_share_their_labels() -> None:
    assert (BAGS.slides.groupby("patient_id")[list(TASKS)].nunique() == 1).all().all()
    assert set(BAGS.slides["patient_id"].value_counts()) == {1, 2, 3}
