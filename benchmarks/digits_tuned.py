"""What tuning changes on `digits`: test scores with one rate for all models, with each model's own settings, and for longer.

    python benchmarks/digits_tuned.py            # prints the tables of the committed numbers; fails if the docs say others
    python benchmarks/digits_tuned.py --write    # runs all of it (about 10 minutes on two cores), writes file and docs

Numbers go to benchmarks/results/digits_tuned.csv: one row per setting, model and task, means over the folds of the default run.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

from milbench.stats.scores import score_table
from milbench.store.run import open_run

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "digits_tuned.csv"
PAGE = ROOT / "docs" / "digits.md"
MARKS = re.compile(r"(<!-- tuned: benchmarks/digits_tuned.py -->\n).*?(<!-- end of tuned -->)", re.DOTALL)

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


def with_tables(page: str, text: str) -> str:
    """The page with other tables between the marks."""
    replaced, count = MARKS.subn(lambda found: f"{found[1]}{text}\n{found[2]}", page)
    if count != 1:
        raise SystemExit(f"the marks of the tables stand {count} times in {PAGE.name}; expected once")
    return replaced


def main() -> None:
    """Check, or make anew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="run the models, and write their numbers")
    parser.add_argument("--folder", type=Path, help="where the runs lie (default: a folder that is deleted)")
    options = parser.parse_args()
    if options.write:
        with tempfile.TemporaryDirectory() as temporary:
            rows = measured(options.folder or Path(temporary))
        rows.to_csv(RESULT, index=False, float_format="%.5f", lineterminator="\n")
    page, text = PAGE.read_text(encoding="utf-8"), tables(pd.read_csv(RESULT))
    print(text)
    if options.write:
        PAGE.write_text(with_tables(page, text), encoding="utf-8")
    elif with_tables(page, text) != page:
        raise SystemExit(f"{PAGE} says other numbers. python benchmarks/digits_tuned.py --write makes them anew")


if __name__ == "__main__":
    main()
