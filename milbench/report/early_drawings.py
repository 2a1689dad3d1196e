"""Early drawings: figures of one cohort that need its scores and trials and no statistics, so that copies draw them ahead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from milbench.report import figures
from milbench.report.contents import Outline
from milbench.report.curve_drawings import ToDraw, curve_drawings


class Early(NamedTuple):
    """Figures of one cohort and kind that need no statistics: of its scores, and its curves."""

    scores: Sequence[ToDraw]
    curves: Sequence[ToDraw]


def early_drawings(outline: Outline, name: str) -> Early:
    """Those of a cohort."""
    return Early(list(_of_scores(outline, name)), list(curve_drawings(outline, name)))


def _of_scores(outline: Outline, name: str) -> Iterator[ToDraw]:
    metric, title = outline.metric, outline.dataset_titles[name]
    rows = outline.scores[(outline.scores["dataset"] == name) & outline.scores["score"].notna()]
    signal = rows[~rows["is_control"].astype(bool)]
    if len(signal):
        head = f"{title}: test {metric.title} over tasks, folds and seeds"
        make = partial(figures.box, signal, head, metric)
        yield outline.name_of("box", name), make, f"Test {metric.title} on {title}. {BOX}"
    if 3 <= signal["task"].nunique() <= figures.MOST_SPOKES:
        head = f"{title}: mean test {metric.title} by task"
        make = partial(figures.radar, signal, head, outline.highlight, metric)
        yield outline.name_of("radar", name), make, f"Mean test {metric.title} by task on {title}. {RADAR}"


BOX = (
    "One dot per trained (task, fold, seed); control tasks left out. Box: quartiles; line: median. The spread is of tasks "
    "and trainings, not an interval."
)
RADAR = (
    "Control tasks left out. The legend gives the area of each polygon as a fraction of the largest possible; it depends "
    "on the order of the tasks and is a reading aid, not a metric."
)
