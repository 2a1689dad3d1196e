"""Tables of scores: the study's Tables 2 and 3, AUROC by task, differences from the reference, training spread."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from milbench.endpoints.endpoint import Kind
from milbench.report.baselines import TITLES
from milbench.report.kinds import COUNTED, counted
from milbench.report.tables import DAGGER, Cell, Row, Table
from milbench.stats.metric import AUROC, PrimaryMetric

ABLATION = ("amil", "mmoe_amil", "mmoe_mp_amil", "m4")
"""Rows of the study's Table 3, each adding one part."""

TOO_SMALL = "n too small"
"""What stands in place of an interval where fewer than ten test patients are positive, or negative."""

ALPHA = 0.05


def model_table(
    name: str,
    caption: str,
    cohorts: pd.DataFrame,
    overall: pd.DataFrame,
    titles: Mapping[str, str],
    leads: Mapping[str, bool],
    baselines: pd.DataFrame,
    metric: PrimaryMetric = AUROC,
) -> Table:
    """Models × cohorts, and their average where there are several; the rows that need no image stand below.

    Parameters
    ----------
    cohorts, overall : of `milbench.stats.Analysis`.
    titles : how each dataset is called, in the order of the columns.
    leads : by dataset and "all": whether the best model's lead over the runner-up survives; it gets a dagger.
    baselines : dataset, task, name, score, over the tasks that count.
    """
    columns = [*titles, "all"] if len(titles) > 1 else list(titles)
    # printed for these cohorts as they are: drawing five cohorts too covers 90 % only (docs/statistics.md)
    average = overall.assign(
        dataset="all", n_missing=0, n_cells=0, low=overall["low_fixed"], high=overall["high_fixed"]
    )
    frame = pd.concat([cohorts, average], ignore_index=True)
    models = dict(zip(cohorts["model"], cohorts["title"], strict=True))
    grid = {
        column: _column(frame[frame["dataset"] == column], models, lead=leads.get(column, False)) for column in columns
    }
    rows = [Row(title, tuple(grid[column][model] for column in columns)) for model, title in models.items()]
    rows += _baseline_rows(baselines, columns)
    headers = tuple("Average" if column == "all" else titles[column] for column in columns)
    everything = pd.concat([cohorts, overall.assign(dataset="all")], ignore_index=True)
    data = everything[everything["dataset"].isin(columns)]
    written = metric.as_written(pd.concat([data, _baseline_data(baselines)]))
    return Table(name, caption, "Method", headers, tuple(rows), written)


def spread_table(
    name: str, caption: str, cohorts: pd.DataFrame, titles: Mapping[str, str], metric: PrimaryMetric = AUROC
) -> Table:
    """Models × cohorts: mean ± standard deviation over folds and seeds, which is training variability."""
    by_place = {(row.model, row.dataset): row for row in cohorts.itertuples()}
    models = dict(zip(cohorts["model"], cohorts["title"], strict=True))
    rows = [
        Row(title, tuple(_spread(by_place.get((model, dataset))) for dataset in titles))
        for model, title in models.items()
    ]
    return Table(name, caption, "Method", tuple(titles.values()), tuple(rows), metric.as_written(cohorts))


def task_table(
    name: str,
    caption: str,
    cells: pd.DataFrame,
    tasks: pd.DataFrame,
    baselines: pd.DataFrame,
    metric: PrimaryMetric = AUROC,
    kind: Kind = "binary",
) -> Table:
    """Models × tasks of one dataset, controls included; under each task its test patients: of binary ones the positives."""
    models = dict(zip(cells["model"], cells["title"], strict=True))
    facts = {row.task: row for row in tasks.itertuples()}
    grid = {
        task: _column(
            cells[cells["task"] == task], models, lead=False, too_small=bool(fact.too_small), medals=not fact.is_control
        )
        for task, fact in facts.items()
    }
    rows = [Row(title, tuple(grid[task][model] for task in facts)) for model, title in models.items()]
    for label, title in _known(baselines).items():
        values = baselines[baselines["name"] == label].set_index("task")["score"]
        numbers = tuple(Cell(number(values.get(task, math.nan))) for task in facts)
        rows.append(Row(title, numbers, rule=len(rows) == len(models)))
    rows.append(Row(COUNTED[kind], tuple(Cell(*counted(kind, fact)) for fact in facts.values()), rule=True))
    return Table(name, caption, "Method", tuple(facts), tuple(rows), metric.as_written(cells))


def against_table(
    name: str, caption: str, against: pd.DataFrame, titles: Mapping[str, str], metric: PrimaryMetric = AUROC
) -> Table:
    """Models × tasks of one dataset: difference from the reference, its interval, a dagger where it survives Holm."""
    tasks = list(dict.fromkeys(against["task"]))
    by_place = {(row.model, row.task): row for row in against.itertuples()}
    models = list(dict.fromkeys(against["model"]))
    rows = [Row(titles[model], tuple(_difference(by_place.get((model, task))) for task in tasks)) for model in models]
    return Table(name, caption, "Method", tuple(tasks), tuple(rows), metric.as_written(against))


def leads(cohorts: pd.DataFrame, overall: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, bool]:
    """By dataset and "all": whether the best model's advantage over the runner-up survives Holm over all pairs."""
    frames = {str(name): rows for name, rows in cohorts[cohorts["n_missing"] == 0].groupby("dataset")}
    frames["all"] = overall
    found = {}
    for dataset, rows in frames.items():
        top = rows.dropna(subset=["score"]).sort_values("score", ascending=False, kind="stable")["model"].tolist()[:2]
        mine = pairs[(pairs["dataset"] == dataset) & pairs["model_a"].isin(top) & pairs["model_b"].isin(top)]
        found[dataset] = len(top) == 2 and bool((mine["p_holm"] < ALPHA).any())
    return found


def number(value: float, digits: int = 3) -> str:
    """`value` as printed; a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def interval(low: float, high: float, *, with_sign: bool = False) -> str:
    """ "0.58–0.64"; empty where there is none."""
    if math.isnan(low) or math.isnan(high):
        return ""
    return f"{signed(low)} to {signed(high)}" if with_sign else f"{low:.3f}–{high:.3f}"


def signed(value: float) -> str:
    """With + or a true minus, and neither before nothing."""
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", "−")


def _column(
    rows: pd.DataFrame, models: Mapping[str, str], *, lead: bool, too_small: bool = False, medals: bool = True
) -> dict[str, Cell]:
    """Cells of one column by model: best bold, second underlined, as printed to three decimals; ties share.

    A control task has no medals: nothing is to be won where the labels are random.
    """
    by_model = {row.model: row for row in rows.itertuples()}
    printed = {
        model: round(row.score, 3) for model, row in by_model.items() if not row.n_missing and not math.isnan(row.score)
    }
    top = sorted(set(printed.values()), reverse=True)[:2] if len(models) > 1 and medals else []
    styles = {model: "best" if value == top[0] else "second" for model, value in printed.items() if value in top}
    return {
        model: _score(by_model.get(model), styles.get(model, ""), lead=lead, too_small=too_small) for model in models
    }


def _score(row: Any, style: str, *, lead: bool, too_small: bool) -> Cell:
    if row is None:
        return Cell()
    if row.n_missing:
        return Cell(f"incomplete ({row.n_cells - row.n_missing} of {row.n_cells})")
    if math.isnan(row.score):
        return Cell()
    below = TOO_SMALL if too_small else interval(row.low, row.high)
    return Cell(number(row.score) + (DAGGER if lead and style == "best" else ""), below, style)


def _spread(row: Any) -> Cell:
    if row is None or row.n_missing or math.isnan(row.score):
        return Cell()
    return Cell(number(row.score) if math.isnan(row.sd) else f"{row.score:.3f} ± {row.sd:.3f}")


def _difference(row: Any) -> Cell:
    if row is None or math.isnan(row.delta):
        return Cell()
    below = interval(row.low, row.high, with_sign=True) or TOO_SMALL
    survives = not math.isnan(row.p_holm) and row.p_holm < ALPHA
    return Cell(signed(row.delta) + (DAGGER if survives else ""), below)


def _baseline_rows(baselines: pd.DataFrame, columns: Sequence[str]) -> list[Row]:
    means = _baseline_means(baselines)
    rows: list[Row] = []
    for name, title in _known(baselines).items():
        values = {column: means.get((name, column), math.nan) for column in columns if column != "all"}
        values["all"] = sum(values.values()) / len(values)
        rows.append(Row(title, tuple(Cell(number(values[column])) for column in columns), rule=not rows))
    return rows


def _known(baselines: pd.DataFrame) -> dict[str, str]:
    """Title by name of the baselines that have a number at all: a cohort without barcodes has no sites."""
    defined = set(baselines.loc[baselines["score"].notna(), "name"])
    return {name: title for name, title in TITLES.items() if name in defined}


def _baseline_means(baselines: pd.DataFrame) -> dict[tuple[str, str], float]:
    return {
        (str(name), str(dataset)): float(rows["score"].mean())
        for (name, dataset), rows in baselines.groupby(["name", "dataset"], sort=False)
    }


def _baseline_data(baselines: pd.DataFrame) -> pd.DataFrame:
    rows = [
        {"dataset": dataset, "model": name, "title": TITLES[name], "score": mean}
        for (name, dataset), mean in _baseline_means(baselines).items()
    ]
    return pd.DataFrame(rows, columns=["dataset", "model", "title", "score"])
