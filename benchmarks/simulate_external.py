"""External scores on simulated cohorts of one world: another draw, another prevalence, one scanner with an offset.

    python benchmarks/simulate_external.py            # fails where the table of docs/simulate.md is not that of the committed scores
    python benchmarks/simulate_external.py --write    # trains and scores anew: three minutes of one core

The commands are those of the page. "As drawn" is what the labels' own carriers reach, as a perfect reader of the patches would.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
from marked_table import MarkedTable, main

from milbench.metrics import auroc

ROOT = Path(__file__).parents[1]
PLACE = MarkedTable(
    "simulate_external.py", ROOT / "docs" / "simulate.md", ROOT / "benchmarks" / "results" / "simulate_external.csv"
)
OWN, PRESET = "own", "diffuse"
COHORTS: dict[str, tuple[str, ...]] = {
    OWN: (),
    "other": ("--seed", "1", "--world-seed", "0"),
    "rare": ("--seed", "2", "--world-seed", "0", "--set", "prevalences=0.15"),
    "scanner": ("--seed", "3", "--world-seed", "0", "--set", "sites=1", "site_sd=1"),
}
"""The run's own cohort and the external ones, with the flags that make each."""
MODELS = ("mean_pooling", "amil")


def measured(folder: Path) -> pd.DataFrame:
    """cohort, task, model, auroc, balanced_accuracy, as_drawn, optimum; what is there in `folder` is not made again."""
    for name, words in COHORTS.items():
        milbench(folder, "data", "simulate", PRESET, "--out", name, *words)
    milbench(folder, "run", "--cohort", OWN, "--models", *MODELS, "--run", "run", "--workers", "1", "--no-tracking")
    milbench(folder, "evaluate", "run", "--cohort", *list(COHORTS)[1:])
    scores = [scores_of(folder / "run" / "external" / f"sim-{PRESET}-{seed}") for seed in range(1, len(COHORTS))]
    own = scores[0].assign(auroc=scores[0]["internal_auroc"], balanced_accuracy=float("nan"))
    rows = [
        frame.assign(cohort=name, as_drawn=frame["task"].map(as_drawn(folder, name)), optimum=optimum(folder / name))
        for name, frame in zip(COHORTS, [own, *scores], strict=True)
    ]
    columns = ["cohort", "task", "model", "auroc", "balanced_accuracy", "as_drawn", "optimum"]
    return pd.concat(rows, ignore_index=True)[columns]


def milbench(folder: Path, *words: str) -> None:
    """The command as a reader types it."""
    subprocess.run([sys.executable, "-m", "milbench", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def scores_of(external: Path) -> pd.DataFrame:
    """task, model, internal_auroc, auroc and balanced_accuracy, means over trainings, from the files of an evaluation."""
    scores = pd.read_csv(external / "external.csv").rename(columns={"external_auroc": "auroc"})
    metrics = pd.read_csv(external / "external_metrics.csv").rename(
        columns={"balanced_accuracy_mean": "balanced_accuracy"}
    )
    return scores.merge(metrics[["task", "model", "balanced_accuracy"]], on=["task", "model"])


def as_drawn(folder: Path, name: str) -> dict[str, float]:
    """AUROC of the carriers by task: on the test side of the run's own cohort, on all slides of an external one."""
    labels = pd.read_csv(folder / name / "labels.csv").set_index("slide_id")
    carriers = pd.read_csv(folder / name / "carriers.csv").set_index("slide_id").loc[labels.index]
    if name == OWN:
        roles = pd.read_csv(folder / "run" / "splits" / f"sim-{PRESET}-0.csv").set_index("patient_id")["fold_0"]
        labels = labels[labels["case_id"].map(roles) == "test"]  # all folds test the same slides
    tasks = [column for column in labels.columns if column != "case_id"]
    return {
        task: auroc(labels[task].to_numpy(float), carriers.loc[labels.index, task].to_numpy(float)) for task in tasks
    }


def optimum(cohort: Path) -> float:
    """The best mean AUROC that any model can have."""
    return float(json.loads((cohort / "truth.json").read_text())["oracle_auc"]["carrier"]["macro"])


def table(rows: pd.DataFrame) -> str:
    """Markdown: a row per cohort, means over tasks."""
    heads = ["", "optimum", "as drawn", *MODELS, *(f"balanced accuracy, {model}" for model in MODELS)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, of_cohort in rows.groupby("cohort", sort=False):
        means = of_cohort.groupby("model")[["auroc", "balanced_accuracy", "as_drawn", "optimum"]].mean()
        values = [
            *means.loc[MODELS[0], ["optimum", "as_drawn"]],
            *means.loc[[*MODELS], "auroc"],
            *means.loc[[*MODELS], "balanced_accuracy"],
        ]
        title = f"internal (test side of `{OWN}`)" if name == OWN else f"`{name}`"
        lines.append(f"| {title} | " + " | ".join("" if pd.isna(value) else f"{value:.3f}" for value in values) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(__doc__, PLACE, measured, table)
