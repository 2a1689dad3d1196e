"""Which conclusions about multi-task models a search of twelve configurations changes, on three simulated cohorts.

    python benchmarks/tuned_conclusions.py            # prints the table of the committed numbers; fails if the docs say others
    python benchmarks/tuned_conclusions.py --write    # makes cohorts and runs (about 6 minutes of one core), writes file and docs

The cohorts are of the preset `shared` with four of UCEC's genes, whose tasks share most of their signal: 300 slides of 16
patches, a third of the patients for training, a sixth for validation and half for testing. Intervals are those of the report (docs/statistics.md).
Numbers go to benchmarks/results/tuned_conclusions.csv: one row per settings, cohort (or all) and model, or pair of models.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from marked_table import MarkedTable, main
from tuned_beats_default import refuse_unequal_budgets

from milbench.simulate.design import UCEC, make_design
from milbench.simulate.write import Simulation, simulate, write_cohort
from milbench.stats.analysis import analyse
from milbench.stats.by_cohort import ALL
from milbench.stats.search import spent, trials_of_search
from milbench.store.run import open_run
from milbench.store.run_folder import TUNING, UNTUNED

ROOT = Path(__file__).parents[1]
PLACE = MarkedTable(
    "tuned_conclusions.py", ROOT / "docs" / "tuning.md", ROOT / "benchmarks" / "results" / "tuned_conclusions.csv"
)

GENES = ("ARID1A", "CTCF", "KMT2B", "PTEN")
DESIGN = make_design(
    "shared",
    (
        ("slides", 300), ("tasks", list(GENES)), ("prevalences", [UCEC[gene][0] for gene in GENES]),
        ("loadings", [UCEC[gene][1] for gene in GENES]), ("patches", 16), ("patches_sd", 0.0),
    ),
)  # fmt: skip
SEEDS = (0, 1, 2)
MODELS = ("max_pooling", "amil", "mmoe_amil", "m4")
REFERENCE = "amil"
CONFIGURATIONS = 12
TRAINER = {"lr": 0.002, "epochs": 12, "bags_per_step": 4, "weight_decay": 1e-4}
SIDES = ("train", "train", "val", "test", "test", "test")


def measured(folder: Path) -> pd.DataFrame:
    """Rows of the result file, from cohorts and runs in `folder`; runs that are there go on."""
    runs = [searched(folder / f"seed{seed}", seed) for seed in SEEDS]
    parts = {"default": [run / UNTUNED for run in runs], "tuned": runs}
    rows = pd.concat([compared(paths).assign(settings=name) for name, paths in parts.items()], ignore_index=True)
    return rows.assign(optimum=optimum())


def optimum() -> float:
    """Mean of the best possible scores over tasks and cohorts."""
    return float(np.mean([simulate(DESIGN, seed).oracle.joint for seed in SEEDS]))


def searched(folder: Path, seed: int) -> Path:
    """The folder of a finished tuned run on the cohort of a data seed."""
    write_small(simulate(DESIGN, seed), folder)
    run, words = folder / "run", ["--tune", str(CONFIGURATIONS), "--tune-test", "--workers", "1", "--no-tracking"]
    command = [
        sys.executable, "-m", "milbench", "run", "--cohort", str(folder / "cohort"), "--splits", str(folder / "split.csv"),
        "--folds", "0", "--run", str(run), "--models", *MODELS, *words, "--set", "engine.stack=off", "engine.device=cpu",
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    refuse_unequal_budgets(per_training(spent(trials_of_search(open_run(run / TUNING), per_task=False))))
    return run


def per_training(costs: pd.DataFrame) -> pd.DataFrame:
    """Costs with the bag-steps of one training: a single-task model is trained once per task."""
    return costs.assign(bag_steps=costs["bag_steps"] / costs["n_trainings"])


def write_small(simulation: Simulation, folder: Path) -> None:
    """The cohort with its recipe, and its split beside it."""
    write_cohort(simulation, folder / "cohort")
    path = folder / "cohort" / "cohort.yaml"
    declared = {**yaml.safe_load(path.read_text()), "trainer": TRAINER}
    path.write_text(yaml.safe_dump(declared, sort_keys=False))
    patients = simulation.labels.slides["patient_id"].drop_duplicates()
    roles = [SIDES[number % len(SIDES)] for number in range(len(patients))]
    pd.DataFrame({"patient_id": patients, "fold_0": roles}).to_csv(folder / "split.csv", index=False)


def compared(paths: Sequence[Path]) -> pd.DataFrame:
    """Mean test score of every model and the differences of `PAIRS`, by cohort and over all, with the report's intervals."""
    analysis = analyse([open_run(path) for path in paths], reference=REFERENCE)
    scores = pd.concat([analysis.cohorts, analysis.overall.assign(dataset=ALL)])[
        ["dataset", "model", "score", "low", "high"]
    ]
    pairs = analysis.pairs[["dataset", "model_a", "model_b", "delta", "low", "high"]]
    turned = pairs.rename(columns={"model_a": "model_b", "model_b": "model_a", "low": "high", "high": "low"})
    turned[["delta", "low", "high"]] *= -1
    named = pd.concat([pairs, turned]).rename(columns={"model_a": "model", "model_b": "minus", "delta": "score"})
    wanted = named[[pair in PAIRS for pair in zip(named["model"], named["minus"], strict=True)]]
    return pd.concat([scores.assign(minus=""), wanted], ignore_index=True)


PAIRS = (("m4", "amil"), ("mmoe_amil", "amil"), ("max_pooling", "amil"), ("m4", "mmoe_amil"))


def table(rows: pd.DataFrame) -> str:
    """Markdown: models and differences over all cohorts, then M4 minus AMIL on each, with default and with tuned settings."""
    keyed = rows.fillna({"minus": ""}).set_index(["dataset", "model", "minus", "settings"])
    cohorts = [name for name in rows["dataset"].unique() if name != ALL]
    lines = [f"| mean test AUROC of {len(cohorts)} cohorts | default | tuned |", "|---|---|---|"]
    lines += [_line(keyed, model, (ALL, model, "")) for model in MODELS]
    lines += [_line(keyed, f"{model} − {minus}", (ALL, model, minus), sign="+") for model, minus in PAIRS]
    lines += [_line(keyed, f"m4 − amil, `{name}` alone", (name, "m4", "amil"), sign="+") for name in cohorts]
    best = f"{rows['optimum'].iloc[0]:.3f}"
    return "\n".join([*lines, f"| the best score that is possible | {best} | {best} |"])


def _line(keyed: pd.DataFrame, title: str, key: tuple[str, str, str], sign: str = "") -> str:
    return f"| {title} | {_cell(keyed.loc[(*key, 'default')], sign)} | {_cell(keyed.loc[(*key, 'tuned')], sign)} |"


def _cell(row: pd.Series, sign: str) -> str:
    return f"{row['score']:{sign}.3f} ({row['low']:{sign}.3f} to {row['high']:{sign}.3f})"


if __name__ == "__main__":
    main(__doc__, PLACE, measured, table)
