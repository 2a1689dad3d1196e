"""Calibration: whether what models say comes true."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from milbench.endpoints.endpoint import Kind
from milbench.metrics import kaplan_meier
from milbench.report.answered import Answered, Panel, answers_by_patient
from milbench.report.confusion import calls
from milbench.report.looks import MOST_TOGETHER, styles
from milbench.report.panel_grid import MOST_COLUMNS, Room, legend_right, panel_grid
from milbench.store.trial import StoredTrial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

N_BINS = 10
FEWEST_IN_A_GROUP = 10
MOST_GROUPS = 4
"""Of survival: a Kaplan-Meier curve of fewer patients says little."""

NOTES: Mapping[Kind, str] = {
    "binary": "Share of positive slides against the probability, in ten bins of equal width. A dot grows with its slides.",
    "multiclass": (
        "Every test slide with its mean probabilities over folds and seeds. Share of slides whose most probable class is "
        "right, against its probability, in ten bins of equal width. A dot grows with its slides."
    ),
    "ordinal": (
        "Every test slide with its mean probabilities over folds and seeds. Share of slides whose expected grade is right "
        "once rounded, against the probability of that grade, in ten bins of equal width. A dot grows with its slides."
    ),
    "regression": (
        "Every test slide with its mean prediction over folds and seeds, in up to ten groups of equal size by prediction: "
        "mean label against mean prediction."
    ),
    "survival": (
        "Test patients in groups of equal size by the predicted probability to be without event at the middle edge of the training's "
        "time bins: Kaplan-Meier estimate there against the mean prediction, each a mean over folds and seeds. Models "
        "with a Cox loss predict no such probability."
    ),
}
AXES: Mapping[Kind, tuple[str, str]] = {
    "binary": ("probability", "share positive"),
    "multiclass": ("probability of the call", "share right"),
    "ordinal": ("probability of the call", "share right"),
    "regression": ("mean prediction", "mean label"),
    "survival": ("predicted without event", "without event (Kaplan-Meier)"),
}


AXES_OF_A_CLASS = ("probability of the class", "share of the class")


def calls_that_are_right(tested: Answered) -> Floats:
    """Per bin with slides its mean probability, share of right calls and number of slides: [bins, 3]."""
    first = 1 if tested.fitted.kind == "ordinal" else 0
    called = calls(tested).astype(int)
    said = tested.answers[np.arange(len(called)), first + called]
    return shares_in_bins(said, called == tested.targets)


def shares_in_bins(probability: Floats, came_true: NDArray[np.bool_]) -> Floats:
    """Per bin with slides its mean probability, share that came true and number of slides: [bins, 3]."""
    bins = np.minimum((probability * N_BINS).astype(int), N_BINS - 1)
    rows = [
        (probability[bins == place].mean(), came_true[bins == place].mean(), (bins == place).sum())
        for place in np.unique(bins)
    ]
    return np.array(rows, dtype=float).reshape(-1, 3)


def means_of_groups(tested: Answered) -> Floats:
    """Per group of equal size by prediction its mean prediction, mean label and number of slides: [groups, 3]."""
    order = np.argsort(tested.answers[:, 0], kind="stable")
    groups = np.array_split(order, max(1, min(N_BINS, len(order) // FEWEST_IN_A_GROUP))) if len(order) else []
    rows = [(tested.answers[group, 0].mean(), tested.targets[group].mean(), len(group)) for group in groups]
    return np.array(rows, dtype=float).reshape(-1, 3)


def event_free_at_an_edge(tested: Answered) -> Floats:
    """Per group of equal size by predicted survival at the middle edge: predicted, observed there, patients: [groups, 3].

    Observed is NaN where nobody of the group was followed so long.
    """
    edges, place = tested.fitted.edges, len(tested.fitted.edges) // 2
    said = tested.answers[:, 1 + place]
    order = np.argsort(said, kind="stable")
    groups = np.array_split(order, max(1, min(MOST_GROUPS, len(order) // FEWEST_IN_A_GROUP))) if len(order) else []
    rows = []
    for group in groups:
        curve = kaplan_meier(tested.targets[group], tested.events[group])
        rows.append((said[group].mean(), float(curve.at(np.array(edges[place]))), len(group)))
    return np.array(rows, dtype=float).reshape(-1, 3)


def survival_points(trials: Iterable[StoredTrial]) -> dict[Panel, Floats]:
    """By (task, model) the points of `event_free_at_an_edge`, each a mean over trainings; of models that know survival there."""
    found: dict[Panel, list[Floats]] = {}
    for trial in trials:
        for task, tested in answers_by_patient(trial, "survival").items():
            if tested.fitted.edges and len(tested.targets):
                found.setdefault((task, str(trial.info["model"])), []).append(event_free_at_an_edge(tested))
    return {panel: _mean_of(points) for panel, points in found.items()}


def _mean_of(points: Sequence[Floats]) -> Floats:
    """Means over trainings with as many groups as the first, NaN left out; a point that none knows is left out."""
    alike = np.stack([one for one in points if one.shape == points[0].shape])
    known = ~np.isnan(alike).any(axis=2, keepdims=True)
    total = np.where(known, alike, 0).sum(axis=0)
    counts = known.sum(axis=0)
    return np.asarray(total[counts[:, 0] > 0] / counts[counts[:, 0] > 0])


def points_of(kind: Kind, tested: Mapping[Panel, Answered]) -> dict[Panel, Floats]:
    """By (task, model) the points of a kind whose folds share one scale."""
    make = {"regression": means_of_groups, "binary": _positives}.get(kind, calls_that_are_right)
    return {panel: make(one) for panel, one in tested.items()}


def _positives(tested: Answered) -> Floats:
    return shares_in_bins(tested.answers[:, 0], tested.targets == 1)


def class_points(tested: Mapping[Panel, Answered]) -> dict[Panel, Floats]:
    """By ("task: class", model) the points of that class against all others."""
    return {
        (f"{task}: {name}", model): shares_in_bins(one.answers[:, place], one.targets == place)
        for (task, model), one in tested.items()
        for place, name in enumerate(one.fitted.endpoint.classes)
    }


def calibration_figure(
    points: Mapping[Panel, Floats],
    tasks: Sequence[str],
    titles: Mapping[str, str],
    kind: Kind,
    title: str,
    highlight: str = "",
    together: Sequence[str] | None = None,
    names: tuple[str, str] | None = None,
) -> Figure:
    """One panel per task, one line per model, and the diagonal on which all would lie.

    Parameters
    ----------
    titles : title by model, in the order of the legend.
    together : a name per panel; panels of one name have the same ends of their axes. None = each has its own.
    names : along the axes; None = those of the kind.
    """
    size = 1.8 if len(titles) <= MOST_TOGETHER or len(tasks) > MOST_COLUMNS else 2.6  # of many lines on a few panels
    room = Room(size, size, left=0.65, right=1.7, top=0.25).beside(titles.values())
    figure, every = panel_grid(tasks, title, room)
    looks = styles(list(titles), highlight)
    together, (across, upwards) = together or tasks, names or AXES[kind]
    ends_of = {name: _ends([points[task, model] for task, other in zip(tasks, together, strict=True) if other == name
                            for model in titles if len(points.get((task, model), ()))], kind) for name in together}  # fmt: skip
    for axes, task, name in zip(every, tasks, together, strict=True):
        mine = {model: points[task, model] for model in titles if len(points.get((task, model), ()))}
        ends = ends_of[name]
        axes.plot(ends, ends, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
        for model, rows in mine.items():
            _line(axes, rows, looks[model], titles[model], grows=kind not in ("regression", "survival"))
        axes.set(xlim=ends, ylim=ends)
        axes.locator_params(nbins=5)
        axes.set_title(task, fontsize=9, pad=3, y=1.0)
        axes.set_xlabel(across, fontsize=8)
        axes.set_ylabel(upwards, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    legend_right(figure, room)
    return figure


def _ends(lines: Sequence[Floats], kind: Kind) -> tuple[float, float]:
    """Ends of both axes: those of probabilities, or of all values of a score."""
    if kind != "regression" or not lines:
        return -0.02, 1.02
    points = np.concatenate(lines)
    low, high = float(points[:, :2].min()), float(points[:, :2].max())
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _line(axes: Any, points: Floats, look: Mapping[str, Any], title: str, *, grows: bool) -> None:
    style = {key: look[key] for key in ("color", "linewidth", "linestyle", "marker")}
    axes.plot(points[:, 0], points[:, 1], label=title, markersize=2 if grows else look["markersize"], **style)
    if grows:
        axes.scatter(points[:, 0], points[:, 1], s=8 + 6 * np.sqrt(points[:, 2]), color=look["color"], marker=look["marker"],
                     linewidths=0, zorder=3)  # fmt: skip
