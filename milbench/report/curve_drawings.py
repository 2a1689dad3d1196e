"""Curve drawings: ROC and training of one cohort, which need stored trials and no statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from milbench.report import curves
from milbench.report.contents import Outline
from milbench.store.trial import StoredTrial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ToDraw = tuple[str, Callable[[], "Figure"], str]
"""Stem, what makes the figure, and caption."""


def curve_drawings(outline: Outline, name: str) -> Iterator[ToDraw]:
    """The curves of one cohort and kind."""
    trials, title = outline.trials_of(name), outline.dataset_titles[name]
    present = {trial.info["model"] for trial in trials}
    titles = {model: text for model, text in outline.model_titles.items() if model in present}
    tasks = outline.tasks.get(name, ())
    if outline.kind == "binary" and len(tasks) <= curves.MOST_PANELS:
        drawn = curves.roc_curves(trials)
        shown = [task for task in tasks if any((task, model) in drawn for model in titles)]
        if shown:
            head = f"{title}: ROC of the test side by task"
            make = partial(curves.roc_figure, drawn, shown, titles, head, outline.highlight)
            yield f"roc_{name}", make, f"ROC curves of the test side of {title} by task. {curves.ROC_NOTE}"
    scored = any(trial.endpoints for trial in trials)
    panels, note = (curves.SCORE_PANELS, curves.SCORE_NOTE) if scored else (curves.PANELS, curves.TRAINING_NOTE)
    of_kind = "" if outline.kind == "binary" else f", tasks of kind {outline.kind}"
    head = f"{title}: training{of_kind}"
    make = partial(_training, trials, titles, head, outline.highlight, panels)
    yield outline.name_of("training", name), make, f"Training on {title}{of_kind}. {note}"


def _training(
    trials: Sequence[StoredTrial],
    titles: Mapping[str, str],
    head: str,
    highlight: str,
    panels: Sequence[tuple[str, str, float]],
) -> Figure:
    return curves.training_figure(curves.histories_of(trials), titles, head, highlight, panels)
