"""Curves: ROC points against scikit-learn, means and bands over trainings."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from runs_for_tests import MODELS, TASKS, make_run
from sklearn.metrics import roc_auc_score

from milbench.report.curves import (
    FALSE_POSITIVE_RATES,
    by_epoch,
    histories_of,
    roc_curves,
    roc_figure,
    roc_points,
    training_figure,
)


def test_the_curves_area_is_the_auroc() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 4000).astype(float)
    scores = np.round(targets + rng.normal(size=4000), 1)  # with ties
    curve = roc_points(targets, scores)
    assert curve is not None
    assert np.trapezoid(curve, FALSE_POSITIVE_RATES) == pytest.approx(roc_auc_score(targets, scores), abs=2e-3)
    assert (np.diff(curve) >= 0).all()


def bands_of(axes: Any) -> Sequence[Any]:
    """Outlines of the bands of a panel, which are one collection."""
    return [outline for collection in axes.collections for outline in collection.get_paths()]


def test_a_perfect_model_is_at_the_top_from_the_start() -> None:
    curve = roc_points(np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.9, 0.8, 0.2, 0.1]))
    assert curve is not None
    assert (curve == 1).all()


def test_one_class_has_no_curve() -> None:
    assert roc_points(np.ones(3), np.array([0.1, 0.2, 0.3])) is None


def test_every_training_has_a_curve_and_every_task_a_panel(tmp_path: Path) -> None:
    curves = roc_curves(make_run(tmp_path / "toy").trials())
    assert set(curves) == {(task, model) for task in TASKS for model in MODELS}
    assert all(values.shape == (3, len(FALSE_POSITIVE_RATES)) for values in curves.values()), "three folds"
    figure = roc_figure(curves, TASKS, {model: model for model in MODELS}, "toy")
    assert [axes.get_title() for axes in figure.axes] == list(TASKS)
    assert all(len(bands_of(axes)) == len(MODELS) for axes in figure.axes), "a band per model"


def test_a_band_is_one_standard_deviation_around_the_mean_and_never_beyond_0_and_1() -> None:
    curves = {("task", "amil"): np.linspace([0.0, 0.0, 0.2], [1.0, 1.0, 0.9], len(FALSE_POSITIVE_RATES)).T}
    axes = roc_figure(curves, ["task"], {"amil": "AMIL"}, "toy").axes[0]
    corners, half = bands_of(axes)[0].vertices, len(FALSE_POSITIVE_RATES)
    values = curves["task", "amil"]
    low, high = values.mean(axis=0) - values.std(axis=0), values.mean(axis=0) + values.std(axis=0)
    assert corners[:half] == pytest.approx(np.column_stack([FALSE_POSITIVE_RATES, np.maximum(low, 0)]))
    assert corners[half : 2 * half][::-1] == pytest.approx(np.column_stack([FALSE_POSITIVE_RATES, np.minimum(high, 1)]))


def test_bands_lie_in_the_order_of_the_models_and_have_their_colours() -> None:
    curves = {("task", model): np.linspace([0, 0.1], [1, 0.9], 101).T for model in MODELS}
    axes = roc_figure(curves, ["task"], {model: model for model in MODELS}, "toy").axes[0]
    lines = [line.get_color() for line in axes.lines if line.get_label() in MODELS]
    assert [to_hex(color) for color in axes.collections[0].get_facecolor()] == [to_hex(color) for color in lines]


HISTORY = pd.DataFrame(
    {"model": "amil", "fold": [0, 0, 0, 0, 1, 1], "seed": 42, "epoch": [1, 2, 1, 2, 1, 2], "train_loss": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
     "val_loss": 1.0, "val_auroc": 0.5}
)  # fmt: skip


def test_tasks_are_averaged_inside_a_fold_and_seed_before_the_spread_over_folds() -> None:
    assert by_epoch(HISTORY, "train_loss").to_numpy().tolist() == [[2.0, 3.0], [5.0, 6.0]]


def test_epochs_count_from_one_and_losses_are_per_task(tmp_path: Path) -> None:
    trials = make_run(tmp_path / "toy").trials()
    histories = histories_of(trials)
    assert histories["epoch"].min() == 1
    m4 = next(trial for trial in trials if trial.info["model"] == "m4")
    stored = m4.history()["train_loss"].iloc[0] / len(m4.info["tasks"])
    assert stored in histories.loc[histories["model"] == "m4", "train_loss"].tolist()


def test_one_training_has_a_line_and_no_band() -> None:
    figure = training_figure(HISTORY[HISTORY["fold"] == 1], {"amil": "AMIL"}, "toy")
    assert [len(axes.collections) for axes in figure.axes] == [0, 0, 0]
    assert list(figure.axes[0].lines[0].get_xdata()) == [1, 2]
