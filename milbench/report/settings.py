"""Settings: one table of how all numbers came about, instead of a paragraph under every other table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from milbench.report.captions import distinct, settings_as_they_ran, short_commit
from milbench.report.tables import SETTINGS, Cell, Row, Table
from milbench.store.run import Run

CAPTION = "How the numbers came about. Settings of training and of models are those that a cohort sets for all models."


def settings_table(runs: Sequence[Run], datasets: Mapping[str, Any], titles: Mapping[str, str]) -> Table:
    """Settings × cohorts; a setting that no cohort has is left out.

    Parameters
    ----------
    datasets : facts by name, as the runs hold them.
    titles : how each cohort is called, in the order of the columns.
    """
    columns = {name: _settings(runs, name, datasets[name]) for name in titles}
    names = list(dict.fromkeys(key for column in columns.values() for key in column))
    rows = tuple(Row(name, tuple(Cell(columns[dataset].get(name, "–")) for dataset in titles)) for name in names)
    data = pd.DataFrame(
        [(dataset, key, value) for dataset, column in columns.items() for key, value in column.items()],
        columns=["dataset", "setting", "value"],
    )
    return Table(SETTINGS, CAPTION, "Setting", tuple(titles.values()), rows, data)


def _settings(runs: Sequence[Run], name: str, facts: Mapping[str, Any]) -> dict[str, str]:
    """What one cohort was run with."""
    mine = [run for run in runs if name in run.datasets]
    infos = [trial.info for run in mine for trial in run.trials() if trial.info["dataset"] == name]
    commits = [short_commit(commit) for run in mine if (commit := run.environment.get("git"))]
    controls = facts.get("control_tasks", [])
    return {
        "slides": f"{facts['n_slides']:,}",
        "patients": f"{facts['n_patients']:,}",
        "splits": str(facts["splits"]),
        "protocol": distinct(info["protocol"] for info in infos),
        "folds": distinct(info["fold"] for info in infos),
        "seeds": distinct(info["seed"] for info in infos),
        "epochs": distinct(info["recipe"]["epochs"] for info in infos),
        **({"features scaled by": str(facts["scaling"])} if facts["scaling"] != "none" else {}),
        **settings_as_they_ran(facts, infos),
        **({"left out of means": ", ".join(controls)} if controls else {}),
        "milbench": distinct(run.environment.get("milbench", "unknown") for run in mine),
        **({"commit": distinct(commits)} if commits else {}),
    }
