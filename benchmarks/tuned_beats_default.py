"""What a search of eight configurations changes on cohorts whose best possible score is known, over 20 data seeds.

    python benchmarks/tuned_beats_default.py            # prints the table of the committed numbers; fails if the docs say others
    python benchmarks/tuned_beats_default.py --write    # runs the searches (about 7 minutes of one core), writes file and docs

Each cohort is a small one of the preset `witness`: one task, 120 slides of 16 patches, 40 for training, 20 for validation and 60
for testing. The searches predict the test side of every configuration (`--tune-test`), which no choice reads. So one
training gives a configuration's validation score and its test score. The script stops if two models had unequal budgets.

Defaults are of two kinds: the rate that suits these cohorts, and that of the M4 study, which is far too low for them.
Numbers go to benchmarks/results/tuned_beats_default.csv: one row per default, model, data seed and configuration.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from marked_table import MarkedTable, main
from rich.console import Console
from scipy.stats import t as student

from milbench.metrics import auroc
from milbench.runs.benchmark import run_benchmark
from milbench.runs.config import make_config
from milbench.runs.preparation import Benchmark, prepare
from milbench.runs.progress import Progress
from milbench.runs.tuning import choose, searches
from milbench.simulate.design import make_design
from milbench.simulate.write import Simulation, simulate, write_cohort
from milbench.stats.search import spent, trials_of_search, tried
from milbench.stats.searched_tests import scores_by_configuration

ROOT = Path(__file__).parents[1]
PLACE = MarkedTable(
    "tuned_beats_default.py", ROOT / "docs" / "tuning.md", ROOT / "benchmarks" / "results" / "tuned_beats_default.csv"
)

TASK = "A"
DESIGN = make_design(
    "witness",
    (
        ("slides", 120), ("tasks", [TASK]), ("prevalences", [0.5]), ("patches", 16), ("patches_sd", 0.0),
        ("witness_shares", [0.125]),
    ),
)  # fmt: skip
SEEDS = range(20)
CONFIGURATIONS = 8
TRAINER = {"epochs": 12, "bags_per_step": 4, "weight_decay": 1e-4}
DEFAULTS: dict[str, tuple[float, tuple[str, ...]]] = {
    "suits": (0.003, ("mean_pooling", "max_pooling", "amil", "dsmil")),
    "too low": (0.0001, ("amil",)),
}
"""Rate of configuration 0, and the models that are searched with it."""

SIDES = ("train", "train", "val", "test", "test", "test")
"""Dealt out in turn among slides of one label: a large test side costs little and makes scores certain."""


def measured(folder: Path) -> pd.DataFrame:
    """Rows of the result file, from searches in `folder`; a search that is there goes on."""
    return pd.concat([searched(folder / name.replace(" ", "-"), name) for name in DEFAULTS], ignore_index=True)


def searched(folder: Path, default: str) -> pd.DataFrame:
    """Rows of one kind of default."""
    rate, models = DEFAULTS[default]
    simulations = {f"sim-witness-{seed}": simulate(DESIGN, seed) for seed in SEEDS}
    for name, simulation in simulations.items():
        write_small(simulation, folder, name, rate)
    settings = {
        "models": list(models), "cohorts": [str(folder / name) for name in simulations], "folds": [0],
        "splits": str(folder / "splits"), "run": str(folder / "run"), "keep_weights": False,
        "engine": {"workers": 1, "device": "cpu", "stack": "off"}, "tracking": {"enabled": False},
        "tuning": {"configurations": CONFIGURATIONS, "test": True},
    }  # fmt: skip
    base = prepare(make_config(None, [], settings))
    (search,) = searches(base)
    outcome = run_benchmark(search, Progress(Console(file=io.StringIO())))
    if outcome.failed or outcome.refused or outcome.left:
        raise SystemExit(f"{folder}: {outcome}")
    bounds = {name: best_on_test(simulation) for name, simulation in simulations.items()}
    rows = rows_of(base, search)
    known = {name: float(simulation.oracle.carrier[0]) for name, simulation in simulations.items()}
    return rows.assign(
        default=default, optimum=rows["dataset"].map(known), on_test=rows["dataset"].map(bounds),
        seed=rows["dataset"].str.rpartition("-")[2].astype(int),
    ).drop(columns="dataset")  # fmt: skip


def write_small(simulation: Simulation, folder: Path, name: str, rate: float) -> None:
    """The cohort with its split and the default rate."""
    write_cohort(simulation, folder / name)
    path = folder / name / "cohort.yaml"
    declared = {**yaml.safe_load(path.read_text()), "trainer": {"lr": rate, **TRAINER}}
    path.write_text(yaml.safe_dump(declared, sort_keys=False))
    (folder / "splits").mkdir(exist_ok=True)
    split_of(simulation).to_csv(folder / "splits" / f"{name}.csv", index=False)


def split_of(simulation: Simulation) -> pd.DataFrame:
    """The split table: as many positive slides on every side as its share."""
    patients = simulation.labels.slides.groupby("patient_id", sort=False)[TASK].first()
    place = patients.groupby(patients).cumcount() % len(SIDES)
    return pd.DataFrame({"patient_id": patients.index, "fold_0": [SIDES[number] for number in place]})


def best_on_test(simulation: Simulation) -> float:
    """What a perfect reader of the patches reaches on the very slides of the test side."""
    slides = simulation.labels.slides
    roles = split_of(simulation).set_index("patient_id")["fold_0"]
    test = (slides["patient_id"].map(roles) == "test").to_numpy()
    return auroc(slides.loc[test, TASK].to_numpy(float), simulation.carriers[test, 0].astype(float))


def rows_of(base: Benchmark, search: Benchmark) -> pd.DataFrame:
    """One row per cohort, model and configuration, with both scores and what was spent on it."""
    refuse_unequal_budgets(spent(trials_of_search(search.run, per_task=False)))
    keys = ["dataset", "model", "configuration"]
    validation = tried(search.run, per_task=False)[[*keys, "score", "bag_steps"]].rename(
        columns={"score": "validation"}
    )
    test = scores_by_configuration(search.run, "binary", per_task=False)[[*keys, "score"]]
    rows = validation.merge(test.rename(columns={"score": "test"}), on=keys, validate="one_to_one").sort_values(keys)
    chosen = {(place.dataset, place.model): c.configuration.number for place, c in choose(base, search).items()}
    numbers = [chosen[place] for place in zip(rows["dataset"], rows["model"], strict=True)]
    return rows.assign(chosen=rows["configuration"] == numbers)


def refuse_unequal_budgets(costs: pd.DataFrame) -> None:
    """SystemExit if a search of one model took more bags than that of another."""
    unequal = costs.groupby("dataset")["bag_steps"].nunique() > 1
    if unequal.any():
        raise SystemExit(f"searches on {', '.join(unequal.index[unequal])} had unequal budgets:\n{costs.to_string()}")


def table(rows: pd.DataFrame) -> str:
    """Markdown: one row per default and model, means over data seeds with 95 % t intervals of paired differences."""
    lines = [
        "| default rate, model | test, default | test, tuned | tuned − default | validation − test, default "
        "| validation − test, tuned | kept the default |",
        "|---" * 7 + "|",
    ]
    for (default, model), mine in rows.groupby(["default", "model"], sort=False):
        one = paired(mine)
        differences = (
            one["tuned"] - one["default"], one["default_promised"] - one["default"], one["promised"] - one["tuned"],
        )  # fmt: skip
        cells = [f"{one['default'].mean():.3f}", f"{one['tuned'].mean():.3f}", *map(with_interval, differences)]
        lines.append(f"| {default}, {model} | " + " | ".join(cells) + f" | {int(one['kept'].sum())} of {len(one)} |")
    bound = f"{rows.drop_duplicates('seed')['on_test'].mean():.3f}"
    lines.append(f"| the best answers, same test sides | {bound} | {bound} | | | | |")
    return "\n".join(lines)


def paired(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per data seed: test scores of the default and the chosen settings, and what validation promised of both."""
    default = rows[rows["configuration"] == 0].set_index("seed")
    chosen = rows[rows["chosen"].astype(bool)].set_index("seed")
    return pd.DataFrame({
        "default": default["test"], "tuned": chosen["test"], "promised": chosen["validation"],
        "default_promised": default["validation"], "on_test": default["on_test"], "kept": chosen["configuration"] == 0,
    })  # fmt: skip


def interval(values: Any) -> tuple[float, float, float]:
    """Mean and 95 % t interval over data seeds."""
    found = np.asarray(values, dtype=float)
    half = student.ppf(0.975, len(found) - 1) * found.std(ddof=1) / len(found) ** 0.5
    return float(found.mean()), float(found.mean() - half), float(found.mean() + half)


def with_interval(values: Any) -> str:
    mean, low, high = interval(values)
    return f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"


if __name__ == "__main__":
    main(__doc__, PLACE, measured, table)
