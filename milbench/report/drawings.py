"""Drawings: the figures of a report as PNG and PDF."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from milbench.endpoints.endpoint import Kind
from milbench.process.cores import usable_cores
from milbench.process.forked import Task, begun
from milbench.report import comparisons, figures
from milbench.report.contents import Contents
from milbench.report.curve_drawings import ToDraw
from milbench.report.early_drawings import early_drawings
from milbench.report.figures_ahead import NOTHING_AHEAD, Ahead
from milbench.report.gain import gain_figure, gain_sentence
from milbench.report.kind_drawings import kind_drawings
from milbench.report.told_apart import told_apart
from milbench.report.tuning_drawings import tuning_drawings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARETO_COSTS = ("all_tasks_seconds", "multiply_adds")


class Drawn(NamedTuple):
    """A figure that lies in the report's folder as PNG and PDF.

    Attributes
    ----------
    stem : of its files, and its LaTeX label.
    caption : what a reader must know to read it.
    kind : of the tasks that it speaks of.
    """

    stem: str
    caption: str
    kind: Kind


HEAVY = ("comparison_matrix", "roc", "training", "confusion", "calibration", "predicted", "kaplan_meier", "radar")
"""Stems of figures that take longest; they are begun first, so that no process is left with one at the end."""


@contextmanager
def drawing(
    contents: Sequence[Contents], out: Path, ahead: Ahead = NOTHING_AHEAD, *, processes: int | None = None
) -> Iterator[list[Drawn]]:
    """Inside, every figure that the contents allow, kind by kind, is being saved in `out`; when it is left, all are.

    Parameters
    ----------
    ahead : figures that are drawn already, or are being drawn; they are among those that are yielded, and not saved.
    processes : how many save figures side by side, this one when the block is left; None = one per core. The files do not
        depend on it.
    """
    with figures.plain_names():
        made = _to_draw(contents, ahead)
        with saving([(make, out / drawn.stem) for drawn, make in made if drawn.stem not in ahead.stems], processes):
            yield [drawn for drawn, _ in made]


def undrawn(contents: Sequence[Contents]) -> list[Drawn]:
    """Every figure that `drawing` would save, in its order; nothing is saved."""
    with figures.plain_names():
        return [drawn for drawn, _ in _to_draw(contents, NOTHING_AHEAD)]


def _to_draw(contents: Sequence[Contents], ahead: Ahead) -> list[tuple[Drawn, Callable[[], Figure]]]:
    """What a report shows, with what makes it."""
    return [
        (Drawn(stem, caption, one.kind), make)
        for one in contents
        for stem, make, caption in chain(_by_dataset(one, ahead), _over_all(one))
    ]


def saving(
    drawings: Sequence[tuple[Callable[[], Figure], Path]], processes: int | None = None
) -> AbstractContextManager[None]:
    """Inside, PNG and PDF of every figure at its stem are made and saved in processes side by side; the longest first."""
    order = sorted(drawings, key=lambda drawing: _lightness(drawing[1].name))
    tasks = [Task(f"figure {stem.name}", partial(_save, make, stem)) for make, stem in order]
    return begun(tasks, processes or usable_cores())


def _save(make: Callable[[], Figure], stem: Path) -> None:
    figures.write(figures.formats(make()), stem)


def _lightness(stem: str) -> int:
    """Place among `HEAVY`, or after all."""
    return next((place for place, heavy in enumerate(HEAVY) if stem.startswith(heavy)), len(HEAVY))


def _by_dataset(contents: Contents, ahead: Ahead) -> Iterator[ToDraw]:
    for name, title in contents.dataset_titles.items():
        early = ahead.early.get((contents.kind, name)) or early_drawings(contents, name)
        yield from early.scores
        yield from _pareto(contents, name, title)
        yield from early.curves
        if contents.kind != "binary":
            yield from _made(kind_drawings(contents, name))
        if name in contents.searches:
            yield from _made(tuning_drawings(contents, name))


def _made(drawings: Iterator[tuple[str, Figure, str]]) -> Iterator[ToDraw]:
    """Figures that are made here, where their numbers are; copies save them."""
    for stem, figure, caption in drawings:
        yield stem, partial(_itself, figure), caption


def _itself(figure: Figure) -> Figure:
    return figure


def _pareto(contents: Contents, name: str, title: str) -> Iterator[ToDraw]:
    metric = contents.metric
    cohorts, costs = (frame[frame["dataset"] == name] for frame in (contents.analysis.cohorts, contents.costs))
    for cost in PARETO_COSTS:
        both = comparisons.scores_and_costs(cohorts, costs, cost)
        if len(both):
            label = comparisons.COST_AXES[cost][0]
            models = list(cohorts["model"])
            yield (
                contents.name_of(f"pareto_{cost}", name),
                partial(comparisons.pareto_figure, both, models, cost, title, contents.highlight, metric),
                f"Mean test {metric.title} on {title} against {label}. {PARETO}{_of_all_kinds(contents, name)}",
            )


def _of_all_kinds(contents: Contents, name: str) -> str:
    """What the costs are of, where a cohort has tasks of several kinds."""
    trials = [trial for run in contents.runs for trial in run.trials() if trial.info["dataset"] == name]
    kinds = {fitted.kind for trial in trials for fitted in trial.endpoint_of.values()}
    return " The cost is of the tasks of every kind." if len(kinds) > 1 else ""


PARETO = "Bars: 95 % intervals of the crossed bootstrap. The line joins models that no other beats in both."


def _over_all(contents: Contents) -> Iterator[ToDraw]:
    ranks, verdict, titles = contents.analysis.ranks, told_apart(contents.analysis), contents.model_titles
    if ranks is not None and verdict is not None:
        if len(ranks.mean_ranks) >= 3:
            yield (
                contents.name_of("critical_difference"),
                partial(comparisons.critical_difference, ranks, titles, verdict, contents.highlight),
                f"Mean ranks of the models. {' '.join(comparisons.rank_notes(ranks, verdict))}",
            )
        yield (
            contents.name_of("comparison_matrix"),
            partial(comparisons.comparison_matrix, ranks, titles, verdict),
            f"All pairs of models. {comparisons.matrix_note(ranks, verdict)}",
        )
    if contents.gain is not None:
        make = partial(gain_figure, contents.gain, titles, contents.dataset_titles)
        yield "gain", make, gain_sentence(contents.gain, titles)
