"""What AMIL and M4 reach on `digits-endpoints`, beside the best score that any model can have.

    python benchmarks/digits_endpoints.py            # prints the table of the committed numbers; fails if the docs say others
    python benchmarks/digits_endpoints.py --write    # runs both models on the folds of the default run, writes file and docs

Numbers go to benchmarks/results/digits_endpoints.csv: one row per model, task and fold, with the optimum, and with what the
best answers reach on the same test side.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from marked_table import MarkedTable, main

from milbench.datasets.digits_endpoints import DIGIT_TASKS, NAME, make_digit_endpoints, optimum, optimum_on
from milbench.endpoints.endpoint import KINDS
from milbench.stats.metric import METRICS
from milbench.stats.scores import score_table
from milbench.store.run import Run, open_run

ROOT = Path(__file__).parents[1]
PLACE = MarkedTable(
    "digits_endpoints.py", ROOT / "docs" / "digits.md", ROOT / "benchmarks" / "results" / "digits_endpoints.csv"
)
MODELS = ("amil", "m4")


def measured(folder: Path) -> pd.DataFrame:
    """Rows of the result file, from a run of both models in `folder`; a run that is there goes on."""
    run = folder / NAME
    words = ["run", "--datasets", NAME, "--models", *MODELS, "--workers", "1", "--no-tracking", "--run", str(run)]
    subprocess.run([sys.executable, "-m", "milbench", *words], check=True, stdout=subprocess.DEVNULL)
    return rows_of(open_run(run))


def rows_of(run: Run) -> pd.DataFrame:
    """model, title, task, fold, score, optimum, on_test: what the best answers reach on the test side."""
    scores = pd.concat([score_table([run], kind) for kind in KINDS])
    best, made = optimum(), make_digit_endpoints()
    roles = pd.read_csv(run.path / "splits" / f"{NAME}.csv", dtype={"patient_id": str}).set_index("patient_id")
    side = {fold: _test_rows(made.bags.slides["patient_id"], roles[f"fold_{fold}"]) for fold in scores["fold"].unique()}
    reached = {fold: optimum_on(made, rows) for fold, rows in side.items()}
    return scores[["model", "title", "task", "fold", "score"]].assign(
        optimum=[best[task].value for task in scores["task"]],
        on_test=[reached[fold][task] for task, fold in zip(scores["task"], scores["fold"], strict=True)],
    )


def _test_rows(patients: pd.Series, roles: pd.Series) -> np.ndarray:
    return np.flatnonzero(patients.map(roles).to_numpy() == "test")


def table(rows: pd.DataFrame) -> str:
    """Markdown: a row per task, means over folds."""
    means = rows.groupby(["task", "title"], sort=False)["score"].mean().unstack()
    facts = rows.groupby("task")[["optimum", "on_test"]].mean()
    lines = [
        "| task | metric | chance | " + " | ".join(means.columns) + " | best answer, same bags | best possible |",
        "|---" * (5 + len(means.columns)) + "|",
    ]
    for task, digit_task in DIGIT_TASKS.items():
        metric = METRICS[digit_task.endpoint.kind]
        scores = (*means.loc[task], facts.loc[task, "on_test"], facts.loc[task, "optimum"])
        numbers = " | ".join(f"{score:.3f}" for score in scores)
        lines.append(f"| `{task}` | {metric.title} | {metric.chance:g} | {numbers} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(__doc__, PLACE, measured, table)
