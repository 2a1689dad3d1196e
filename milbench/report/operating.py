"""Operating points: sensitivity at a fixed specificity and the reverse, with thresholds from validation slides."""

from __future__ import annotations

import pandas as pd

from milbench.cohorts.bag_names import SLIDE, told_of
from milbench.report.tables import Cell, Row, Table

COLUMNS = {
    "sensitivity_at_specificity_90": "sensitivity at 90 % specificity",
    "specificity_reached": "specificity reached",
    "specificity_at_sensitivity_90": "specificity at 90 % sensitivity",
    "sensitivity_reached": "sensitivity reached",
}
CAPTION = (
    "Operating points on {}, slides: means over tasks, folds and seeds ± standard deviation over folds and seeds. Thresholds "
    "are chosen on validation slides, where they give 90 % specificity, or 90 % sensitivity; reached is what they give on "
    "the test side. Control tasks left out."
)


def operating_table(name: str, scores: pd.DataFrame, title: str, bag: str = SLIDE) -> Table:
    """Models × operating points of one dataset.

    Parameters
    ----------
    scores : of `milbench.stats.Analysis`, of one dataset.
    bag : what a bag is called.
    """
    mine = scores[(scores["level"] == "slide") & ~scores["is_control"].astype(bool)]
    runs = mine.groupby(["model", "title", "fold", "seed"], sort=False)[list(COLUMNS)].mean().reset_index()
    data = runs.groupby(["model", "title"], sort=False)[list(COLUMNS)].agg(["mean", "std"])
    rows = [
        Row(str(found[1]), tuple(_cell(row[column, "mean"], row[column, "std"]) for column in COLUMNS))
        for found, row in zip(data.index, data.to_dict("records"), strict=True)
    ]
    data.columns = [f"{column}_{what}" for column, what in data.columns]
    return Table(
        name, told_of(bag, CAPTION).format(title), "Method", tuple(COLUMNS.values()), tuple(rows), data.reset_index()
    )


def _cell(mean: float, sd: float) -> Cell:
    if pd.isna(mean):
        return Cell()
    return Cell(f"{mean:.3f}" if pd.isna(sd) else f"{mean:.3f} ± {sd:.3f}")
