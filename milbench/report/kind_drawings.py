"""Drawings of tasks that are not binary: what each kind is looked at with, beside the figures that all kinds share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from milbench.cohorts.bag_names import told_of
from milbench.endpoints.endpoint import Kind
from milbench.report import calibration, confusion, curves, predicted_values
from milbench.report.answered import Panel, answers_by_slide, panels
from milbench.report.contents import Contents
from milbench.report.risk_groups import NOTE as RISK_NOTE
from milbench.report.risk_groups import pooled, risk_groups, survival_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Drawing = tuple[str, "Figure", str]
"""Stem, figure and caption."""

SOME = " There are too many models to show: of each task the one with the highest mean score is drawn."


def kind_drawings(contents: Contents, name: str) -> Iterator[Drawing]:
    """The figures of one cohort and kind that other kinds do not have."""
    for draw in _BY_KIND[contents.kind]:
        yield from draw(contents, name)


def _tasks(contents: Contents, name: str) -> list[str]:
    tasks = contents.analysis.tasks
    return list(tasks.loc[tasks["dataset"] == name, "task"])


def _titles(contents: Contents, name: str) -> dict[str, str]:
    """Title by model, of those with a trial on the cohort."""
    present = {trial.info["model"] for trial in contents.trials_of(name)}
    return {model: text for model, text in contents.model_titles.items() if model in present}


def _scores(contents: Contents, name: str) -> dict[Panel, float]:
    """Mean test score by task and model."""
    cells = contents.analysis.cells
    mine = cells[cells["dataset"] == name]
    return dict(zip(zip(mine["task"], mine["model"], strict=True), mine["score"].astype(float), strict=True))


def _heads(contents: Contents, name: str) -> dict[Panel, str]:
    """Title of a panel by task and model, with the score that the tables print."""
    titles, metric = contents.model_titles, contents.metric.title
    return {
        (task, model): f"{task}, {titles[model]}\n{metric} {'–' if np.isnan(score) else f'{score:.3f}'}"
        for (task, model), score in _scores(contents, name).items()
    }


def _shown(
    contents: Contents, name: str, known: Mapping[Panel, object], n_trainings: int = 1
) -> tuple[list[Panel], str]:
    """Panels of a figure, and a sentence where some are left out."""
    models = list(_titles(contents, name))
    every = [(task, model) for task in _tasks(contents, name) for model in models if (task, model) in known]
    tasks = list(dict.fromkeys(task for task, _ in every))
    shown = [panel for panel in panels(tasks, models, _scores(contents, name), n_trainings) if panel in known]
    return shown, SOME if len(shown) < len(every) else ""


def _class_roc(contents: Contents, name: str) -> Iterator[Drawing]:
    drawn = curves.class_roc_curves(contents.trials_of(name))
    titles = _titles(contents, name)
    heads = list(dict.fromkeys(head for head, _ in drawn))
    order = {task: place for place, task in enumerate(_tasks(contents, name))}
    heads.sort(key=lambda head: order.get(head.rsplit(": ", 1)[0], len(order)))
    if heads and len(heads) <= curves.MOST_PANELS:
        title = contents.dataset_titles[name]
        figure = curves.roc_figure(
            drawn, heads, titles, f"{title}: ROC of each class against the rest", contents.highlight
        )
        caption = f"ROC curves of the test side of {title}, each class against all others. {curves.ROC_NOTE}"
        yield contents.name_of("roc", name), figure, caption


def _confusion(contents: Contents, name: str) -> Iterator[Drawing]:
    tested = answers_by_slide(contents.trials_of(name), contents.kind)
    shown, some = _shown(contents, name, tested)
    title = contents.dataset_titles[name]
    figure = confusion.confusion_figure(tested, shown, _heads(contents, name), f"{title}: labels against calls")
    note = told_of(contents.bag_of(name), confusion.NOTE).format(confusion.CALLED[contents.kind])
    yield contents.name_of("confusion", name), figure, f"Confusion matrices of the test side of {title}. {note}{some}"


def _values(contents: Contents, name: str) -> Iterator[Drawing]:
    tested = answers_by_slide(contents.trials_of(name), contents.kind)
    shown, some = _shown(contents, name, tested)
    title = contents.dataset_titles[name]
    heads = _heads(contents, name)
    parts = [predicted_values.Scatter(*panel, heads[panel], tested[panel]) for panel in shown]
    figure = predicted_values.scatter_figure(parts, f"{title}: measured and predicted")
    note = told_of(contents.bag_of(name), predicted_values.NOTE)
    caption = f"Predicted against measured values of the test side of {title}. {note}{some}"
    yield contents.name_of("predicted", name), figure, caption


def _survival(contents: Contents, name: str) -> Iterator[Drawing]:
    groups = risk_groups(contents.trials_of(name))
    titles = contents.model_titles
    known = {panel: pooled(trainings) for panel, trainings in groups.items()}
    if not known:  # trials of an older version recorded no risks of training patients
        return
    shown, some = _shown(contents, name, known, max(map(len, known.values())))
    title = contents.dataset_titles[name]
    parts = [("\n".join(panel), f"{panel[0]}, {titles[panel[1]]}", one) for panel in shown for one in known[panel]]
    figure = survival_figure(parts[: curves.MOST_PANELS], f"{title}: Kaplan-Meier curves by predicted risk")
    several = any(len({one.seed for one in trainings}) > 1 for trainings in groups.values())
    once = " Only the first seed is drawn." if several else ""
    yield (
        contents.name_of("kaplan_meier", name),
        figure,
        f"Kaplan-Meier curves of the test side of {title}. {RISK_NOTE}{once}{some}",
    )


def _calibration(contents: Contents, name: str) -> Iterator[Drawing]:
    trials, kind = contents.trials_of(name), contents.kind
    points = (
        calibration.survival_points(trials)
        if kind == "survival"
        else calibration.points_of(kind, answers_by_slide(trials, kind))
    )
    known = {task for (task, _), rows in points.items() if len(rows)}
    tasks = [task for task in _tasks(contents, name) if task in known]
    if tasks and len(tasks) <= curves.MOST_PANELS:
        title = contents.dataset_titles[name]
        figure = calibration.calibration_figure(
            points, tasks, _titles(contents, name), kind, f"{title}: calibration", contents.highlight
        )
        yield (
            contents.name_of("calibration", name),
            figure,
            f"Calibration on the test side of {title}. {told_of(contents.bag_of(name), calibration.NOTES[kind])}",
        )


_BY_KIND: Mapping[Kind, tuple[Callable[[Contents, str], Iterator[Drawing]], ...]] = {
    "binary": (),
    "multiclass": (_class_roc, _confusion, _calibration),
    "ordinal": (_confusion, _calibration),
    "regression": (_values, _calibration),
    "survival": (_survival, _calibration),
}
