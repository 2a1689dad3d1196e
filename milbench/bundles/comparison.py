"""Comparison: models of several people on one split, in one table, under the same draws of patients and folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from milbench.bundles.other_settings import told_settings
from milbench.bundles.same_question import Side, reasons_against, shared_tasks
from milbench.endpoints.endpoint import KINDS, Kind
from milbench.errors import StoreError
from milbench.report.kinds import TOO_SMALL_NOTES, bag_of, metric_note
from milbench.report.score_tables import TOO_SMALL, interval, number
from milbench.report.tables import DAGGER, Cell, Row, Table
from milbench.stats.analysis import Analysis, analyse_grids
from milbench.stats.follow_up import follow_ups
from milbench.stats.grid import Grid, grid_of
from milbench.store.trial import StoredTrial

BETWEEN = " · "
"""Between the label of a side and the name of its model, in tables."""


@dataclass(frozen=True, eq=False)
class Compared:
    """One cohort and one kind of task.

    Attributes
    ----------
    table : models × mean and tasks, best mean first.
    analysis : with every pair of models.
    left_out : tasks that not all sides trained.
    """

    dataset: str
    kind: Kind
    table: Table
    analysis: Analysis
    left_out: tuple[str, ...]


def compare(sides: Sequence[Side], draws: int, datasets: Sequence[str] = ()) -> list[Compared]:
    """The comparison of two sides or more on each cohort that all of them have.

    Parameters
    ----------
    draws : of the bootstrap over patients and folds.
    datasets : cohorts to compare on; none = all that are shared.

    Raises
    ------
    StoreError : no cohort is shared, or splits, labels, test sides, folds or seeds differ: the reasons name patients.
    """
    shared = [name for name in sides[0].datasets if all(name in side.datasets for side in sides)]
    chosen = [name for name in shared if not datasets or name in datasets]
    if not chosen:
        told = "; ".join(f"{side.label}: {', '.join(side.datasets) or 'no finished trial'}" for side in sides)
        raise StoreError(f"no cohort is in all of them ({told}). Compare runs of the same cohorts.")
    reasons = [
        f"{dataset}: {reason}"
        for dataset in chosen
        for side in sides[1:]
        for reason in reasons_against(sides[0], side, dataset)
    ]
    if reasons:
        raise StoreError(
            "these cannot be compared: "
            + "; ".join(reasons)
            + ". Train on one split and one label table, then compare."
        )
    return [one for dataset in chosen for one in compare_on(sides, dataset, draws)]


def compare_on(sides: Sequence[Side], dataset: str, draws: int) -> list[Compared]:
    """The comparison on one cohort, for each kind of task; the sides must ask the same question."""
    tasks, endpoints = shared_tasks(sides, dataset), sides[0].endpoints(dataset)
    found = []
    for kind in KINDS:
        mine = [task for task in tasks if endpoints[task].kind == kind]
        if mine:
            grid = _grid(sides, dataset, kind)
            analysis = analyse_grids([grid], reference="", draws=draws, complete_cases=True)
            left_out = tuple(task for task in grid.tasks if task not in mine)
            _refuse_gaps(analysis, dataset, mine)
            facts = sides[0].run.datasets[dataset]
            table = _table(analysis, dataset, str(facts["title"]), mine, left_out, bag_of([facts]))
            table = replace(table, caption=f"{table.caption}{told_settings(sides, dataset)}")
            found.append(Compared(dataset, kind, table, analysis, left_out))
    return found


def _grid(sides: Sequence[Side], dataset: str, kind: Kind) -> Grid:
    """The scores of all sides, each model under the label of its side; seeds are numbered, since they are nobody's but theirs."""
    named: list[tuple[str, StoredTrial]] = []
    titles: dict[str, str] = {}
    for side in sides:
        seeds = side.places(dataset, "seed")
        for trial in side.trials(dataset):
            if all(fitted.kind != kind for fitted in trial.endpoint_of.values()):
                continue
            name = f"{side.label}{BETWEEN}{trial.info['model']}"
            titles[name] = f"{side.label}{BETWEEN}{trial.info['model_title']}"
            numbered = {**trial.info, "seed": seeds.index(trial.info["seed"])}
            named.append((name, replace(trial, info=numbered)))
    grid = grid_of(dataset, sides[0].run.datasets[dataset], named, titles, kind)
    if kind != "survival":
        return grid
    return replace(grid, follow_up=follow_ups(sides[0].run, dataset, grid.tasks, grid.folds))


def _refuse_gaps(analysis: Analysis, dataset: str, tasks: Sequence[str]) -> None:
    """StoreError if a model lacks a fold or seed of a task that all sides trained."""
    gaps = [task for name, task in analysis.left_out if name == dataset and task in tasks]
    if gaps:
        cells = analysis.cells[analysis.cells["task"].isin(gaps) & (analysis.cells["n_missing"] > 0)]
        lacking = ", ".join(f"{row.title} on {row.task}" for row in cells.itertuples())
        raise StoreError(f"{dataset}: not every model has every fold and seed: {lacking}. Finish those runs first.")


def _table(
    analysis: Analysis, dataset: str, title: str, tasks: Sequence[str], left_out: Sequence[str], bag: str
) -> Table:
    """Models × mean and tasks, best mean first; below each number its interval."""
    metric = analysis.metric
    means = analysis.cohorts.sort_values("score", ascending=False, kind="stable")
    cells = {(row.model, row.task): row for row in analysis.cells.itertuples()}
    small = set(analysis.tasks.loc[analysis.tasks["too_small"].astype(bool), "task"])
    lead = DAGGER if _lead_survives(analysis, list(means["model"])) else ""
    top = list(dict.fromkeys(number(score) for score in means["score"]))[:2]
    rows: list[Row] = []
    for row in means.itertuples():
        printed = number(row.score)
        mean = Cell(printed + (lead if not rows else ""), interval(row.low, row.high), _style(printed, top))
        rows.append(
            Row(
                str(row.title), (mean, *(_cell(cells.get((row.model, task)), is_small=task in small) for task in tasks))
            )
        )
    name = f"compare_{dataset}" if analysis.kind == "binary" else f"compare_{dataset}_{analysis.kind}"
    without = f" Left out, since not all trained them: {', '.join(left_out)}." if left_out else ""
    notes = "".join(f" {note}" for note in (metric_note(analysis.kind, bag), TOO_SMALL_NOTES[analysis.kind]) if note)
    caption = (
        f"Test {metric.title} on {title}. Below each number: 95 % interval of a bootstrap over shared test patients and folds, "
        f"the same {analysis.n_draws:,} draws for all models. † = the first model's lead over the second survives Holm's "
        f"correction over all pairs (5 %).{notes}{without}"
    )
    data = pd.concat([means.assign(task="mean"), analysis.cells], ignore_index=True)
    return Table(name, caption, "Model", ("Mean", *tasks), tuple(rows), metric.as_written(data), kind=analysis.kind)


def _lead_survives(analysis: Analysis, order: list[str]) -> bool:
    pairs, top = analysis.pairs, set(order[:2])
    rows = pairs[pairs["model_a"].isin(top) & pairs["model_b"].isin(top)]
    return len(top) == 2 and bool((rows["p_holm"] < 0.05).any())


def _style(printed: str, top: Sequence[str]) -> str:
    """Whether the mean is the best or second as printed; ties share."""
    return dict(zip(top, ("best", "second"), strict=False)).get(printed, "")


def _cell(row: object, *, is_small: bool) -> Cell:
    if row is None:
        return Cell()
    below = TOO_SMALL if is_small else interval(row.low, row.high)  # type: ignore[attr-defined]
    return Cell(number(row.score), below)  # type: ignore[attr-defined]
