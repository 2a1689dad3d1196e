"""Drawings: the figures of a report as PNG and PDF."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from milbench.report import comparisons, figures
from milbench.report.contents import Contents
from milbench.report.gain import gain_figure
from milbench.report.told_apart import told_apart

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
        if 3 <= signal["task"].nunique() <= figures.MOST_SPOKES:
            yield f"radar_{name}", figures.radar(signal, f"{title}: mean test AUROC by task", contents.highlight)
        yield from _pareto(contents, name, title)


def _pareto(contents: Contents, name: str, title: str) -> Iterator[tuple[str, Figure]]:
    cohorts, costs = (frame[frame["dataset"] == name] for frame in (contents.analysis.cohorts, contents.costs))
    for cost in PARETO_COSTS:
        figure = comparisons.pareto(cohorts, costs, cost, title, contents.highlight)
        if figure is not None:
            yield f"pareto_{cost}_{name}", figure


def _over_all(contents: Contents) -> Iterator[tuple[str, Figure]]:
    ranks, verdict, titles = contents.analysis.ranks, told_apart(contents.analysis), contents.model_titles
    if ranks is not None and verdict is not None:
        if len(ranks.mean_ranks) >= 3:
            yield "critical_difference", comparisons.critical_difference(ranks, titles, verdict, contents.highlight)
        yield "comparison_matrix", comparisons.comparison_matrix(ranks, titles, verdict)
    if contents.gain is not None:
        yield "gain", gain_figure(contents.gain, contents.model_titles, contents.dataset_titles)
