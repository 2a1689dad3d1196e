"""Curves: ROC by task and training by epoch, each a mean over trainings with a band of one standard deviation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from milbench.report.figures import blank_figure
from milbench.report.looks import MOST_TOGETHER, styles
from milbench.report.panel_grid import legend_height, legend_width
from milbench.store.joined import stacked_histories
from milbench.store.trial import StoredTrial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

FALSE_POSITIVE_RATES = np.linspace(0, 1, 101)
BAND = 0.12
"""Opacity of a band: nine of them must not hide a line."""

MOST_PANELS = 24
"""Tasks beyond which panels are too small to read; the page holds them."""

_BANDS = f"(none with more than {MOST_TOGETHER} models)"
ROC_NOTE = f"Line: mean over folds and seeds at equal false positive rate; band: one standard deviation {_BANDS}."
TRAINING_NOTE = (
    "Losses are per task: that of a model which learns several tasks is divided by their number. Line: mean over tasks in a "
    f"fold and seed, then over folds and seeds that reached the epoch; band: one standard deviation over folds and seeds {_BANDS}. "
    "Models have losses of their own, so compare levels of AUROC only."
)


def roc_points(targets: Floats, probabilities: Floats) -> Floats | None:
    """True positive rate at every one of `FALSE_POSITIVE_RATES`; None where the targets hold one class only."""
    order = np.argsort(-probabilities, kind="stable")
    positive = targets[order] == 1
    if positive.all() or not positive.any():
        return None
    last_of_ties = np.append(np.diff(probabilities[order]) != 0, True)
    hits, alarms = np.cumsum(positive)[last_of_ties], np.cumsum(~positive)[last_of_ties]
    false, true = np.append(0, alarms / alarms[-1]), np.append(0, hits / hits[-1])
    curve = np.interp(FALSE_POSITIVE_RATES, false, true)  # of several points at one rate it takes the last
    curve[0] = true[false == 0].max()
    return np.asarray(curve)


def roc_curves(trials: Iterable[StoredTrial]) -> dict[tuple[str, str], Floats]:
    """By (task, model) the curves of all trainings, [trainings, rates], from the test slides with a known label."""
    found: dict[tuple[str, str], list[Floats]] = {}
    for trial in trials:
        columns = trial.answer_columns()
        rows = columns.where(columns.role.are("test") & ~np.isnan(columns.target) & ~np.isnan(columns.prediction))
        binary = {task for task, fitted in trial.endpoint_of.items() if fitted.kind == "binary"}
        for task in filter(binary.__contains__, rows.task.used()):
            own = rows.task.are(task)
            curve = roc_points(rows.target[own], rows.prediction[own])
            if curve is not None:
                found.setdefault((task, str(trial.info["model"])), []).append(curve)
    return {key: np.stack(curves) for key, curves in found.items()}


def class_roc_curves(trials: Iterable[StoredTrial]) -> dict[tuple[str, str], Floats]:
    """By ("task: class", model) the curves of all trainings, of that class against all others."""
    found: dict[tuple[str, str], list[Floats]] = {}
    for trial in trials:
        for task, fitted in trial.endpoint_of.items():
            if fitted.kind != "multiclass":
                continue
            table = trial.answers()
            rows = table[(table["role"] == "test") & (table["task"] == task) & table["target"].notna()]
            for place, (name, answer) in enumerate(zip(fitted.endpoint.classes, fitted.answers, strict=True)):
                mine = rows[(rows["answer"] == answer) & rows["prediction"].notna()]
                is_class = (mine["target"] == place).to_numpy(dtype=float)
                curve = roc_points(is_class, mine["prediction"].to_numpy(dtype=float))
                if curve is not None:
                    found.setdefault((f"{task}: {name}", str(trial.info["model"])), []).append(curve)
    return {key: np.stack(curves) for key, curves in found.items()}


def roc_figure(
    curves: Mapping[tuple[str, str], Floats],
    tasks: Sequence[str],
    titles: Mapping[str, str],
    title: str,
    highlight: str = "",
    most_columns: int = 0,
) -> Figure:
    """One panel per task, one line per model with its band.

    Parameters
    ----------
    tasks : in the order of the panels.
    titles : title by model, in the order of the legend.
    most_columns : panels beside each other; 0 = four, or three if there are six.
    """
    columns = min(len(tasks), most_columns or (4 if len(tasks) != 6 else 3))
    rows = ceil(len(tasks) / columns)
    size = (
        2.2 * columns + 0.55 + legend_width(titles.values()),
        max(2.35 * rows + 0.75, legend_height(titles.values())),
    )
    figure = blank_figure(size)
    looks, has_bands = styles(list(titles), highlight), len(titles) <= MOST_TOGETHER
    for place, task in enumerate(tasks):
        row, column = divmod(place, columns)
        box = (0.55 + 2.2 * column, size[1] - 0.7 - 2.35 * row - 1.7, 1.8, 1.7)
        axes: Any = figure.add_axes((box[0] / size[0], box[1] / size[1], box[2] / size[0], box[3] / size[1]))
        means = {
            model: _mean_of(FALSE_POSITIVE_RATES, curves[task, model]) for model in titles if (task, model) in curves
        }
        _draw_means(axes, means, looks, titles, 1.0, has_bands=has_bands)
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":", zorder=0)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
        axes.set_title(task, fontsize=9, pad=3, y=1.0)
        axes.tick_params(labelsize=7, labelleft=column == 0)
        if place + columns >= len(tasks):
            axes.set_xlabel("false positive rate", fontsize=8)
        if column == 0:
            axes.set_ylabel("true positive rate", fontsize=8)
    _finish(figure, title, (2.2 * columns + 0.55) / size[0])
    return figure


LOSSES = (("train_loss", "training loss per task", np.inf), ("val_loss", "validation loss per task", np.inf))
SELECTS = "val_auroc"
"""Column of the score that the epoch is chosen by, whatever the kind of the tasks."""

PANELS = (*LOSSES, (SELECTS, "validation AUROC", 1.0))
"""Column of the history, what it is, and the most that it can be."""

SCORE_PANELS = (*LOSSES, (SELECTS, "validation score", 1.0))
"""The same for trainings with a task that is not binary."""

SCORE_IS = (
    "AUROC, macro AUROC, c-index, (1 + r) / 2 or (1 + kappa) / 2, and their mean for a model that learns several tasks"
)
"""What an epoch is chosen by if a task is not binary (docs/endpoints.md)."""

SCORE_NOTE = (
    "Losses are per task, each as trained. Line: mean over tasks in a fold and seed, then over folds and seeds that reached "
    f"the epoch; band: one standard deviation over folds and seeds {_BANDS}. Validation score: {SCORE_IS}. Compare levels of the score only."
)


def histories_of(trials: Iterable[StoredTrial]) -> pd.DataFrame:
    """One row per epoch of every training: model, fold, seed, epoch from 1, and the numbers of `PANELS`.

    The score is called `val_auroc` for tasks of every kind.
    """
    trials = list(trials)
    names = ("model", "fold", "seed")
    histories = stacked_histories(
        trials,
        [{**{name: trial.info[name] for name in names}, "n_tasks": len(trial.info["tasks"])} for trial in trials],
    )
    losses = {name: histories[name] / histories["n_tasks"] for name in ("train_loss", "val_loss")}
    return histories.assign(epoch=histories["epoch"] + 1, **losses).drop(columns="n_tasks")


def training_figure(
    histories: pd.DataFrame,
    titles: Mapping[str, str],
    title: str,
    highlight: str = "",
    panels: Sequence[tuple[str, str, float]] = PANELS,
) -> Figure:
    """Training loss, validation loss and validation score by epoch, one line per model with its band.

    Parameters
    ----------
    histories : of `histories_of`.
    """
    width = PANELS_END + legend_width(titles.values())
    figure = blank_figure((width, max(3.6, legend_height(titles.values()))))
    looks, has_bands = styles(list(titles), highlight), len(titles) <= MOST_TOGETHER
    longest = int(histories["epoch"].max())
    of_models = {model: histories[histories["model"] == model] for model in titles}
    for place, (number, label, most) in enumerate(panels):
        axes: Any = figure.add_axes(((0.62 + 3.08 * place) / width, 0.14, 2.46 / width, 0.72))
        means = {}
        for model, rows in of_models.items():
            values = by_epoch(rows, number)
            if not values.isna().to_numpy().all():
                means[model] = _mean_of(values.columns.to_numpy(dtype=float), values.to_numpy(dtype=float))
        _draw_means(axes, means, looks, titles, most, has_bands=has_bands)
        axes.set_xlabel("epoch", fontsize=9)
        axes.set_title(label, fontsize=10, y=1.0)
        axes.set_xlim(0.6, longest + 0.4)
        if longest <= 10:
            axes.set_xticks(range(1, longest + 1))
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    _finish(figure, title, PANELS_END / width)
    return figure


PANELS_END = 9.46
"""Inches that the three panels of training take."""


def by_epoch(histories: pd.DataFrame, number: str) -> pd.DataFrame:
    """(fold, seed) × epochs: the mean over tasks, NaN after a training's last epoch."""
    return histories.groupby(["fold", "seed", "epoch"])[number].mean().unstack("epoch")


class _Mean(NamedTuple):
    """A model's curve.

    Attributes
    ----------
    x, middle, spread : [n] mean and standard deviation over the trainings.
    n_trainings : how many there are.
    """

    x: Floats
    middle: Floats
    spread: Floats
    n_trainings: int


def _mean_of(x: Floats, values: Floats) -> _Mean:
    """The curve of trainings [trainings, n] at [n] places, of which those without any value are left out."""
    known = ~np.isnan(values).all(axis=0)
    x, values = x[known], values[:, known]
    return _Mean(x, np.nanmean(values, axis=0), np.nanstd(values, axis=0), len(values))


def _draw_means(
    axes: Any,
    means: Mapping[str, _Mean],
    looks: Mapping[str, Mapping[str, Any]],
    titles: Mapping[str, str],
    most: float,
    *,
    has_bands: bool,
) -> None:
    """A line per model; if asked for, a band where there are two trainings or more, never beyond what values can be: 0 to `most`.

    The bands of a panel are one collection: a collection for each takes three times as long to make and to draw.
    """
    from matplotlib.collections import PolyCollection

    bands = {model: _band(mean, most) for model, mean in means.items() if has_bands and mean.n_trainings > 1}
    if bands:
        colors = [looks[model]["color"] for model in bands]
        axes.add_collection(PolyCollection(list(bands.values()), facecolors=colors, alpha=BAND, linewidths=0))
    for model, mean in means.items():
        look = looks[model]
        style = {key: look[key] for key in ("color", "linewidth", "linestyle")}
        marker = {"marker": look["marker"], "markersize": look["markersize"]} if len(mean.x) == 1 else {}
        axes.plot(mean.x, mean.middle, label=titles[model], **style, **marker)


def _band(mean: _Mean, most: float) -> Floats:
    """[2 n, 2] corners of a band: along its lower end, and back along the upper one."""
    ends = np.maximum(mean.middle - mean.spread, 0), np.minimum(mean.middle + mean.spread, most)
    return np.column_stack([np.append(mean.x, mean.x[::-1]), np.append(ends[0], ends[1][::-1])])


def _finish(figure: Figure, title: str, legend_at: float) -> None:
    figure.text(0.5 * legend_at, 0.985, title, ha="center", va="top", fontsize=11)
    handles = {
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        list(handles.values()), list(handles), loc="center left", bbox_to_anchor=(legend_at, 0.5), frameon=False, fontsize=8.5,
        handlelength=3,
    )  # fmt: skip
