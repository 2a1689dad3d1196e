"""Drawings of an external evaluation: every figure shows the run's own test side and the external cohort side by side.

::

    binary      external_roc, external_calibration
    multiclass  the same of each class against the rest, external_confusion
    ordinal     external_confusion, external_calibration
    regression  external_predicted, external_calibration
    survival    external_kaplan_meier, external_calibration
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from milbench.cohorts.bag_names import SLIDE, told_of
from milbench.endpoints.endpoint import Kind
from milbench.external.analysis import Compared, own_trials
from milbench.external.evaluate import External
from milbench.external.scored import ScoredTrial
from milbench.report import calibration, confusion, curves
from milbench.report.answered import Answered, Panel, answers_by_slide, answers_of_trainings
from milbench.report.curves import MOST_PANELS
from milbench.report.drawings import Drawn
from milbench.report.figures import plain_names, save
from milbench.report.kind_drawings import Drawing
from milbench.report.kinds import name_of
from milbench.report.predicted_values import Scatter, scatter_figure
from milbench.report.risk_groups import ensemble_groups, survival_figure
from milbench.store.files import writing
from milbench.store.trial import StoredTrial

INTERNAL, EXTERNAL = "internal", "external"
COLUMNS = 4
"""Panels beside each other: an even number, so that the two sides of a task never part."""

OF_TRAININGS = (
    "Every test slide counts once per training that tested it, with the answer of that training, so both sides show one "
    "model and not a mean of models."
)
OF_MEANS = (
    "A slide has the mean answer of all trainings that tested it. If folds have test sides of their own, an external slide "
    "has more of them, and its mean scatters less. The number above a panel is the mean over trainings on both sides."
)
NOTES: Mapping[Kind, str] = {
    **calibration.NOTES,
    "multiclass": "Share of slides that have the class against its probability, in ten bins of equal width. A dot grows with its slides.",
    "ordinal": "Share of slides whose expected grade is right once rounded, against the probability of that grade, in ten "
               "bins of equal width. A dot grows with its slides.",
    "regression": "Mean label against mean prediction, in up to ten groups of equal size by prediction.",
}  # fmt: skip
"""What a calibration figure shows of the answers of each kind."""

SURVIVAL_NOTE = (
    "Test patients by their risk: high risk is above the median risk of the training patients. If several trainings tested a "
    "patient, the mean over them counts, in standard deviations of each training's own training risks. No test patient "
    "moves the cut. Ticks: censored patients. Below: patients at risk. The log-rank p describes the curves."
)


@dataclass(frozen=True, eq=False)
class Sides:
    """Tasks of one kind on both test sides.

    Attributes
    ----------
    kind : of the tasks.
    both : what was compared.
    trials : with their test side, by "internal" and "external".
    title : of the run's cohort and the external one.
    bag : what a bag is, "slide" or "patient".
    """

    kind: Kind
    both: Compared
    trials: Mapping[str, Sequence[StoredTrial]]
    title: str
    bag: str = SLIDE

    @cached_property
    def tasks(self) -> list[str]:
        """In the order of the tables."""
        return list(dict.fromkeys(self.both.external.cells["task"]))

    @cached_property
    def titles(self) -> dict[str, str]:
        """Title by model."""
        cells = self.both.external.cells
        return dict(zip(cells["model"], cells["title"], strict=True))

    def head(self, task: str, model: str, side: str) -> str:
        """Title of a panel of one model, with the score that the tables print."""
        analysis = getattr(self.both, side)
        found = analysis.cells[(analysis.cells["task"] == task) & (analysis.cells["model"] == model)]["score"]
        score = float("nan") if found.empty else float(found.iloc[0])
        text = "–" if pd.isna(score) else f"{score:.3f}"
        return f"{task}, {self.titles[model]}\n{side}: {analysis.metric.title} {text}"

    def by_side(self, make: Callable[[Sequence[StoredTrial]], Mapping[Panel, Any]]) -> dict[Panel, Any]:
        """What `make` finds by (task, model), by ("task, side", model)."""
        found = {side: make(trials) for side, trials in self.trials.items()}
        return {
            (_panel(task, side), model): value
            for side, of_side in found.items()
            for (task, model), value in of_side.items()
        }

    def panels(self, known: Mapping[Panel, object]) -> list[tuple[str, str, str]]:
        """Task, model and side of each panel of one model, where there is something to draw."""
        every = ((task, model, side) for task in self.tasks for model in self.titles for side in self.trials)
        return [place for place in every if (_panel(place[0], place[2]), place[1]) in known]


def _panel(task: str, side: str) -> str:
    return f"{task}, {side}"


def draw_sides(
    external: External, trials: Sequence[ScoredTrial], found: Mapping[Kind, Compared], out: Path
) -> list[Drawn]:
    """Every figure, saved in `out` as PNG and PDF.

    Raises
    ------
    StoreError : `out` cannot be written.
    """
    drawn = []
    title = f"{external.source.dataset} and {external.name}"
    with writing(out), plain_names():
        out.mkdir(parents=True, exist_ok=True)
        for kind, both in found.items():
            for stem, figure, caption in drawings(
                Sides(kind, both, {INTERNAL: own_trials(external), EXTERNAL: trials}, title, external.cohort.bag)
            ):
                save(figure, out / stem)
                drawn.append(Drawn(stem, caption, kind))
    return drawn


def drawings(sides: Sides) -> Iterator[Drawing]:
    """The figures of the tasks of one kind."""
    for draw in _BY_KIND[sides.kind]:
        yield from draw(sides)


def _parts(stem: str, places: Sequence[Any]) -> Iterator[tuple[str, Sequence[Any]]]:
    """Stem and panels of each figure; several if one would be too large to read."""
    for number, start in enumerate(range(0, len(places), MOST_PANELS), start=1):
        yield (stem if number == 1 else f"{stem}_{number}"), places[start : start + MOST_PANELS]


def _pairs(sides: Sides, known: Mapping[Panel, object], asked: Sequence[str]) -> list[tuple[str, str]]:
    """Both panels of everything asked of which something is known."""
    seen = {panel for panel, _ in known}
    return [
        (name, _panel(name, side))
        for name in asked
        if any(_panel(name, one) in seen for one in sides.trials)
        for side in sides.trials
    ]


def _classes(sides: Sides) -> list[str]:
    """ "task: class" of every class, in the order of tasks and classes."""
    endpoints = {task: each.endpoint for trial in sides.trials[EXTERNAL] for task, each in trial.endpoint_of.items()}
    return [f"{task}: {name}" for task in sides.tasks for name in endpoints[task].classes]


def _roc(sides: Sides) -> Iterator[Drawing]:
    of_classes = sides.kind == "multiclass"
    lines = sides.by_side(curves.class_roc_curves if of_classes else curves.roc_curves)
    pairs = _pairs(sides, lines, _classes(sides) if of_classes else sides.tasks)
    what = "ROC of each class against the rest" if of_classes else "ROC"
    for stem, places in _parts(name_of("external_roc", sides.kind), pairs):
        figure = curves.roc_figure(
            lines, [panel for _, panel in places], sides.titles, f"{sides.title}: {what}", most_columns=COLUMNS
        )
        yield stem, figure, f"{what} on the test sides of {sides.title}. {curves.ROC_NOTE}"


def _calibration(sides: Sides) -> Iterator[Drawing]:
    def points(trials: Sequence[StoredTrial]) -> Mapping[Panel, Any]:
        if sides.kind == "survival":
            return calibration.survival_points(trials)
        tested = answers_of_trainings(trials, sides.kind)
        if sides.kind == "multiclass":
            return calibration.class_points(tested)
        return calibration.points_of(sides.kind, tested)

    known = {panel: rows for panel, rows in sides.by_side(points).items() if len(rows)}
    pairs = _pairs(sides, known, _classes(sides) if sides.kind == "multiclass" else sides.tasks)
    how = "" if sides.kind == "survival" else f" {OF_TRAININGS}"
    axes = calibration.AXES_OF_A_CLASS if sides.kind == "multiclass" else None
    for stem, places in _parts(name_of("external_calibration", sides.kind), pairs):
        names, panels = zip(*places, strict=True)
        figure = calibration.calibration_figure(
            known, panels, sides.titles, sides.kind, f"{sides.title}: calibration", together=names, names=axes
        )
        note = told_of(sides.bag, f"{NOTES[sides.kind]}{how}")
        yield stem, figure, f"Calibration on the test sides of {sides.title}. {note}"


def _confusion(sides: Sides) -> Iterator[Drawing]:
    tested = sides.by_side(lambda trials: answers_by_slide(trials, sides.kind))
    for stem, places in _parts(name_of("external_confusion", sides.kind), sides.panels(tested)):
        panels = [(task, f"{model}, {side}") for task, model, side in places]
        found = {panel: _of(tested, place) for panel, place in zip(panels, places, strict=True)}
        heads = {panel: sides.head(*place) for panel, place in zip(panels, places, strict=True)}
        figure = confusion.confusion_figure(found, panels, heads, f"{sides.title}: labels against calls")
        note = told_of(sides.bag, f"{confusion.NOTE.format(confusion.CALLED[sides.kind])} {OF_MEANS}")
        yield stem, figure, f"Confusion matrices of the test sides of {sides.title}. {note}"


def _of(tested: Mapping[Panel, Answered], place: tuple[str, str, str]) -> Answered:
    task, model, side = place
    return tested[_panel(task, side), model]


def _predicted(sides: Sides) -> Iterator[Drawing]:
    tested = sides.by_side(lambda trials: answers_by_slide(trials, sides.kind))
    for stem, places in _parts(name_of("external_predicted", sides.kind), sides.panels(tested)):
        panels = [Scatter(place[0], place[1], sides.head(*place), _of(tested, place)) for place in places]
        figure = scatter_figure(panels, f"{sides.title}: measured and predicted")
        caption = f"Predicted against measured values of the test sides of {sides.title}, in the units of the labels."
        yield stem, figure, f"{caption} {told_of(sides.bag, OF_MEANS)}"


def _kaplan_meier(sides: Sides) -> Iterator[Drawing]:
    groups = sides.by_side(ensemble_groups)
    for stem, places in _parts(name_of("external_kaplan_meier", sides.kind), sides.panels(groups)):
        panels = [
            (task, f"{task}, {sides.titles[model]}, {side}", groups[_panel(task, side), model])
            for task, model, side in places
        ]
        figure = survival_figure(
            panels, f"{sides.title}: Kaplan-Meier curves by predicted risk", COLUMNS, same_months=True
        )
        yield stem, figure, f"Kaplan-Meier curves of the test sides of {sides.title}. {SURVIVAL_NOTE}"


_BY_KIND: Mapping[Kind, tuple[Callable[[Sides], Iterator[Drawing]], ...]] = {
    "binary": (_roc, _calibration),
    "multiclass": (_roc, _confusion, _calibration),
    "ordinal": (_confusion, _calibration),
    "regression": (_predicted, _calibration),
    "survival": (_kaplan_meier, _calibration),
}
