"""Drawings of tuning: what a smaller search would have found, and how far validation scores of chosen settings can be trusted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from milbench.report.contents import Contents
from milbench.report.curves import BAND
from milbench.report.looks import styles
from milbench.report.panel_grid import Room, legend_right, panel_grid
from milbench.report.tuning_tables import validates_by_auroc, validation_is
from milbench.stats.metric import PrimaryMetric
from milbench.stats.scores import score_table, summary
from milbench.stats.search import BudgetCurve
from milbench.store.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Drawing = tuple[str, "Figure", str]
"""Stem, figure and caption."""

TUNING_FIGURES = ("budget", "optimism")

HOLLOW = (
    " Hollow: the same with default settings, joined by a line; a model without such a mark kept its default settings."
)

HOLLOW_IS = "default settings"
"""In the legend."""

ROOM = Room(width=3.3, height=2.7, left=0.75, bottom=0.6, top=0.4, right=1.75)
FEWEST_TO_DRAW = 2
"""Configurations below which a curve has one point."""


def tuning_drawings(contents: Contents, name: str) -> Iterator[Drawing]:
    """The figures of one cohort that only a tuned run has."""
    search, title, metric = contents.searches[name], contents.dataset_titles[name], contents.metric
    found = {model: search.curve(model) for model in contents.model_titles}
    curves = {model: curve for model, curve in found.items() if curve is not None and not np.isnan(curve.score).all()}
    if curves and search.configurations >= FEWEST_TO_DRAW:
        figure = budget_figure(
            curves, contents.model_titles, f"{title}: budget of the search", metric, contents.highlight,
            one_scale=validates_by_auroc(contents, name),
        )  # fmt: skip
        yield contents.name_of("budget", name), figure, budget_caption(contents, name, curves)
    points = optimism(contents, name)
    if len(points):
        figure = optimism_figure(points, f"{title}: validation and test", metric, contents.highlight)
        compared = HOLLOW if contents.untuned else ""
        caption = (
            f"Validation against test {metric.title} of the chosen settings on {title}: means over signal tasks, of the same "
            f"trainings.{compared} Below the dashed line the validation side promised more than the test side kept. Epoch and "
            "settings are chosen on the validation side, so some of that is to be expected."
        )
        yield contents.name_of("optimism", name), figure, caption


def budget_caption(contents: Contents, name: str, curves: Mapping[str, BudgetCurve]) -> str:
    """How the curves came about."""
    search, metric = contents.searches[name], contents.metric.title
    tested = any(_has_test(curve) for curve in curves.values())
    if search.per_task:
        spread = "Line: mean over tasks, which are tuned apart; there is no band, because their draws are not shared."
    else:
        spread = (
            "Line: expectation; band: one standard deviation over draws, cut off at scores that no draw can have. It closes where "
            "no configuration is left to draw, and does not say how another search would have ended."
        )
    test = (
        f" Right: test {metric} of the configuration that is chosen on the validation side."
        if tested
        else " No test side of the search is predicted: add --tune-test to see the test score by budget."
    )
    return (
        f"What a smaller search on {contents.dataset_titles[name]} would have found: best validation score of the default "
        f"settings and others, drawn without replacement from the {search.configurations} configurations that were tried. "
        f"{spread} Validation score: {validation_is(contents, name)}; it rises with the budget by construction.{test}"
    )


def budget_figure(
    curves: Mapping[str, BudgetCurve],
    titles: Mapping[str, str],
    title: str,
    metric: PrimaryMetric,
    highlight: str = "",
    *,
    one_scale: bool = False,
) -> Figure:
    """Expected best score by number of configurations, one line per model with its band; test scores in a second panel.

    Parameters
    ----------
    titles : title by model, in the order of the legend.
    one_scale : validation and test scores are of one metric, so both panels have the same axis and show the optimism.
    """
    panels = [("score", "best validation score")]
    if any(_has_test(curve) for curve in curves.values()):
        panels.append(("test", f"test {metric.title} of the same configuration"))
    room = ROOM.beside([titles[model] for model in titles if model in curves])
    figure, axes = panel_grid([name for name, _ in panels], title, room)
    looks = styles(list(titles), highlight)
    for panel, (part, label) in zip(axes, panels, strict=True):
        for model in (model for model in titles if model in curves):
            _line(panel, curves[model], part, looks[model], titles[model], metric)
        panel.set_xlabel("configurations per model, default first", fontsize=9)
        panel.set_title(label, fontsize=9, pad=4, y=1.0)
        panel.set_xticks(_ticks(max(len(curve.score) for curve in curves.values())))
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
        _at_least(panel.get_ylim, panel.set_ylim)
    if one_scale:
        ends = [end for panel in axes for end in panel.get_ylim()]
        for panel in axes:
            panel.set_ylim(min(ends), max(ends))
    axes[0].set_ylabel("expected score", fontsize=9)
    legend_right(figure, room)
    return figure


def _ticks(n: int) -> list[int]:
    """Round numbers of configurations, and 1: the default alone, which everything is compared with."""
    from matplotlib.ticker import MaxNLocator

    return [1, *(int(tick) for tick in MaxNLocator(nbins=7, integer=True).tick_values(1, n) if 1 < tick <= n)]


SMALLEST_SPAN = 0.02
"""Height of an axis of scores at least: differences of thousandths must not fill a panel."""


def _at_least(get: Any, put: Any) -> None:
    low, high = get()
    missing = max(SMALLEST_SPAN - (high - low), 0) / 2
    put(low - missing, high + missing)


def _has_test(curve: BudgetCurve) -> bool:
    return not np.isnan(curve.test).all()


def _line(axes: Any, curve: BudgetCurve, part: str, look: Mapping[str, Any], title: str, metric: PrimaryMetric) -> None:
    mean, sd = getattr(curve, part), getattr(curve, f"{part}_sd")
    numbers = np.arange(1, len(mean) + 1)
    style = {**look, "markevery": max(1, len(mean) // 8)}
    axes.plot(numbers, mean, label=title, **style)
    if not np.isnan(sd).all():
        low, high = _reachable(curve, part, metric)
        axes.fill_between(
            numbers,
            np.maximum(mean - sd, low),
            np.minimum(mean + sd, high),
            color=look["color"],
            alpha=BAND,
            linewidth=0,
        )


def _reachable(curve: BudgetCurve, part: str, metric: PrimaryMetric) -> tuple[float, float]:
    """The lowest and highest score that a draw can have.

    Of validation scores these are the default's and the best of all. The test score may lie anywhere on its scale.
    """
    if part == "test":
        return metric.worst, metric.best
    first, last = curve.score[0], curve.score[-1]
    return (-np.inf if np.isnan(first) else float(first)), (np.inf if np.isnan(last) else float(last))


def optimism(contents: Contents, name: str) -> pd.DataFrame:
    """Mean validation and test score over signal tasks: model, title, settings (default or tuned), val, test.

    Both are of the stored predictions of the same trainings, so tasks and metric are the same.
    """
    parts = [("tuned", contents)] + ([("default", contents.untuned)] if contents.untuned else [])
    frames = [_val_and_test(one, name).assign(settings=settings) for settings, one in parts]
    return pd.concat(frames, ignore_index=True).dropna(subset=["val", "test"])


def _val_and_test(contents: Contents, name: str) -> pd.DataFrame:
    runs: list[Run] = [run for run in contents.runs if name in run.datasets]
    out = {task for dataset, task in contents.analysis.left_out if dataset == name}
    tables = (score_table(runs, contents.kind, "val"), contents.scores)
    val, test = (
        summary(table[(table["dataset"] == name) & ~table["task"].isin(out)]).set_index("model") for table in tables
    )
    both = pd.DataFrame({"title": test["title"], "val": val["mean"], "test": test["mean"]})
    return both.rename_axis("model").reset_index()


def optimism_figure(points: pd.DataFrame, title: str, metric: PrimaryMetric, highlight: str = "") -> Figure:
    """One filled mark per model, and a hollow one for its default settings, with the line on which both scores are equal.

    Parameters
    ----------
    points : rows of `optimism`.
    """
    titles = dict(zip(points["model"], points["title"], strict=True))
    room = Room(width=3.3, height=3.3, left=0.75, bottom=0.6, top=0.15, right=1.9).beside(titles.values())
    figure, (axes,) = panel_grid([""], title, room)
    looks = styles(list(titles), highlight)
    for model, rows in points.groupby("model", sort=False):
        _mark(axes, rows.set_index("settings"), looks[str(model)], titles[model])
    if (points["settings"] == "default").any():
        axes.plot([], [], linestyle="", marker="o", markersize=7, color="0.4", markerfacecolor="white", label=HOLLOW_IS)
    low, high = points[["val", "test"]].min().min(), points[["val", "test"]].max().max()
    margin = max(0.06 * (high - low), SMALLEST_SPAN / 2)
    ends = (low - margin, high + margin)
    axes.plot(ends, ends, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    axes.set(xlim=ends, ylim=ends)
    axes.set_xlabel(f"validation {metric.title}", fontsize=9)
    axes.set_ylabel(f"test {metric.title}", fontsize=9)
    axes.locator_params(nbins=5)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    legend_right(figure, room)
    return figure


def _mark(axes: Any, rows: pd.DataFrame, look: Mapping[str, Any], title: str) -> None:
    """The two marks of a model, joined if there are two."""
    axes.plot(rows["val"], rows["test"], color=look["color"], linewidth=0.8, zorder=2)
    for settings in (name for name in ("default", "tuned") if name in rows.index):  # what kept the default is filled
        row, filled = rows.loc[settings], settings == "tuned"
        axes.plot(
            [row["val"]], [row["test"]], linestyle="", marker=look["marker"], markersize=7, color=look["color"], zorder=3,
            markerfacecolor=look["color"] if filled else "white", label=title if filled else None,
        )  # fmt: skip
