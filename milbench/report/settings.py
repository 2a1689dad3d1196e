"""Settings: one table of how all numbers came about, instead of a paragraph under every other table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from milbench.cohorts.tuned import TunedSettings
from milbench.report.captions import distinct, settings_as_they_ran, short_commit, tuned_in_words
from milbench.report.searches import configurations_of, is_tuned
from milbench.report.tables import SETTINGS, Cell, Row, Table
from milbench.store.feature_facts import in_words
from milbench.store.run import Run
from milbench.store.trial import endpoints_of

CAPTION = "How the numbers came about. Settings of training and of models are those that a cohort sets for all models."
CHOSEN = (
    "Tuned settings differ between models: what was chosen for each stands in trial.json and in the table of tuning."
)
"""Of cohorts whose settings a search chose."""


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
    caption = f"{CAPTION} {CHOSEN}" if "settings of models" in names else CAPTION
    return Table(SETTINGS, caption, "Setting", tuple(titles.values()), rows, data)


def _settings(runs: Sequence[Run], name: str, facts: Mapping[str, Any]) -> dict[str, str]:
    """What one cohort was run with."""
    mine = [run for run in runs if name in run.datasets]
    infos = [trial.info for run in mine for trial in run.trials() if trial.info["dataset"] == name]
    commits = [short_commit(commit) for run in mine if (commit := run.environment.get("git"))]
    controls = facts.get("control_tasks", [])
    return {
        "slides": f"{facts['n_slides']:,}",
        "patients": f"{facts['n_patients']:,}",
        **({"bag": str(facts["bag"])} if "bag" in facts else {}),
        **(in_words(facts["features"]) if facts.get("features") else {}),
        "splits": str(facts["splits"]),
        "protocol": distinct(info["protocol"] for info in infos),
        **_tuned(mine, facts),
        "folds": distinct(info["fold"] for info in infos),
        "seeds": distinct(info["seed"] for info in infos),
        "epochs": distinct(info["recipe"]["epochs"] for info in infos),
        **({"features scaled by": str(facts["scaling"])} if facts["scaling"] != "none" else {}),
        **settings_as_they_ran(facts, infos),
        **({"tasks that are not binary": _learned(infos)} if any(info.get("endpoints") for info in infos) else {}),
        **({"left out of means": ", ".join(controls)} if controls else {}),
        "milbench": distinct(run.environment.get("milbench", "unknown") for run in mine),
        **({"commit": distinct(commits)} if commits else {}),
    }


def _tuned(runs: Sequence[Run], facts: Mapping[str, Any]) -> dict[str, str]:
    """How many configurations the settings of models were chosen from; nothing if they were not chosen."""
    if facts.get("tuned"):
        return {
            "settings of models": f"{tuned_in_words(facts['tuned'])}, by an earlier search ({facts['tuned']['made']})"
        }
    found = [str(TunedSettings(configurations_of(run), {})) for run in runs if is_tuned(run)]
    return {"settings of models": distinct(found)} if found else {}


def _learned(infos: Iterable[Mapping[str, Any]]) -> str:
    """Kind and loss of every task that is not binary: "os (survival, nll, 4 bins)"."""
    found: dict[str, set[str]] = {}
    for info in infos:
        for task, fitted in zip(info["tasks"], endpoints_of(info), strict=False):
            bins = f", {fitted.n_bins} bins" if fitted.loss == "nll" else ""
            if fitted.kind != "binary":
                found.setdefault(task, set()).add(f"{fitted.kind}, {fitted.loss}{bins}")
    return "; ".join(f"{task} ({' or '.join(sorted(found[task]))})" for task in found)
