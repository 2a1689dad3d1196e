"""Drawings: the figures of a report as PNG and PDF."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.report import comparisons, figures
from milbench.report.contents import Contents
from milbench.report.gain import gain_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARETO_COSTS = ("all_tasks_seconds", "multiply_adds")


def draw(contents: Contents, out: Path) -> list[Path]:
    """Every figure that the contents allow, saved in `out`."""
    with figures.plain_names():
        made = chain(_by_dataset(contents), _over_all(contents))
        return [path for stem, figure in made for path in figures.save(figure, out / stem)]


def _by_dataset(contents: Contents) -> Iterator[tuple[str, Figure]]:
    for name, title in contents.dataset_titles.items():
        rows = contents.scores[(contents.scores["dataset"] == name) & contents.scores["auroc"].notna()]
        signal = rows[~rows["is_control"].astype(bool)]
        if len(signal):
            yield f"box_{name}", figures.box(signal, f"{title}: test AUROC over tasks, folds and seeds")
        if 3 <= rows["task"].nunique() <= figures.MOST_SPOKES:
            yield f"radar_{name}", figures.radar(rows, f"{title}: mean test AUROC by task")
        yield from _pareto(contents, name, title)


def _pareto(contents: Contents, name: str, title: str) -> Iterator[tuple[str, Figure]]:
    cohorts, costs = (frame[frame["dataset"] == name] for frame in (contents.analysis.cohorts, contents.costs))
    for cost in PARETO_COSTS:
        figure = comparisons.pareto(cohorts, costs, cost, title)
        if figure is not None:
            yield f"pareto_{cost}_{name}", figure


def _over_all(contents: Contents) -> Iterator[tuple[str, Figure]]:
    ranks = contents.analysis.ranks
    if ranks is not None:
        if len(ranks.mean_ranks) >= 3:
            yield "critical_difference", comparisons.critical_difference(ranks, contents.model_titles)
        yield "comparison_matrix", comparisons.comparison_matrix(ranks, contents.model_titles)
    if contents.gain is not None:
        yield "gain", gain_figure(contents.gain, contents.model_titles, contents.dataset_titles)
