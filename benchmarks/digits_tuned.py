"""What tuning changes on `digits`: test scores with one rate for all models, with each model's own settings, and for longer.

    python benchmarks/digits_tuned.py            # prints the tables of the committed numbers; fails if the docs say others
    python benchmarks/digits_tuned.py --write    # runs all of it (about 10 minutes on two cores), writes file and docs

Numbers go to benchmarks/results/digits_tuned.csv: one row per setting, model and task, means over the folds of the default run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
from marked_table import MarkedTable, main

from milbench.stats.scores import score_table
from milbench.store.run import open_run

ROOT = Path(__file__).parents[1]
PLACE = MarkedTable(
    "digits_tuned.py", ROOT / "docs" / "digits.md", ROOT / "benchmarks" / "results" / "digits_tuned.csv"
)

ONE_RATE, TUNED, LONGER = "one rate for all", "tuned", "tuned, 24 epochs"
RUNS = {
    ONE_RATE: ["--set", "tuning.cohort=false"],
    TUNED: [],
    LONGER: ["--set", "trainer.epochs=24", "--models", "amil", "mmoe_amil", "mmoe_mp_amil", "m4"],
}
SHARED = ("both_0_2", "both_4_6")
"""Tasks that share their digits with others: what multi-task learning is for."""


def measured(folder: Path) -> pd.DataFrame:
    """Rows of the result file, from runs in `folder`; runs that are there go on."""
    frames = []
    for number, (setting, words) in enumerate(RUNS.items()):
        run = folder / f"setting{number}"
        command = [sys.executable, "-m", "milbench", "run", "--no-tracking", "--run", str(run), *words]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        frames.append(score_table([open_run(run)]).assign(setting=setting))
    keys = ["setting", "model", "title", "task", "is_control"]
    return pd.concat(frames).groupby(keys, sort=False)["score"].mean().reset_index()


def tables(rows: pd.DataFrame) -> str:
    """Markdown: models x settings, then the tasks that share digits."""
    signal = rows[~rows["is_control"].astype(bool)]
    means = signal.groupby(["title", "setting"], sort=False)["score"].mean().unstack()[list(RUNS)]
    lines = ["| mean test AUROC | " + " | ".join(RUNS) + " |", "|---" * (1 + len(RUNS)) + "|"]
    lines += [f"| {title} | " + " | ".join(map(_text, values)) + " |" for title, *values in means.itertuples()]
    longer = signal[signal["setting"].isin([TUNED, LONGER]) & signal["task"].isin(SHARED)]
    grid = longer.pivot_table(index="title", columns=["task", "setting"], values="score", sort=False).dropna()
    columns = [(task, setting) for task in SHARED for setting in (TUNED, LONGER)]
    lines += ["", "| tasks that share digits | " + " | ".join(f"`{task}`, {setting}" for task, setting in columns) + " |",
              "|---" * (1 + len(columns)) + "|"]  # fmt: skip
    lines += [
        f"| {title} | " + " | ".join(_text(grid.loc[title, column]) for column in columns) + " |"
        for title in grid.index
    ]
    return "\n".join(lines)


def _text(score: float) -> str:
    return "-" if pd.isna(score) else f"{score:.3f}"


if __name__ == "__main__":
    main(__doc__, PLACE, measured, tables)
