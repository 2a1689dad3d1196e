"""What bf16 changes in the results: the same trainings in float32 and in bf16, test AUROC compared in pairs.

    python benchmarks/precision.py --seeds 42 43 44 [--runs FOLDER] [more flags of `milbench run`]

A unit is one fold and seed: its mean difference bf16 - float32 over the tasks with signal. The interval is a bootstrap of
units, 95 %. With --runs the run folders stay, and a second call goes on where the first one stopped.
On a processor without bfloat16 instructions bf16 is emulated: the results are what it gives, its seconds are not.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from milbench.stats.crossed import draw_counts, generator, interval
from milbench.stats.scores import score_table
from milbench.store.run import open_run

RESULTS = Path(__file__).parent / "results" / "precision.csv"
BASE, OTHER = "float32", "bf16"
MODELS = ("amil", "mmoe_amil", "mean_pooling")


def main() -> None:
    """Run both precisions, print the table and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--folds", nargs="+", default=["0", "1", "2"])
    parser.add_argument("--seeds", nargs="+", default=["42", "43", "44"])
    parser.add_argument("--runs", type=Path, help="where the two runs are kept (default: a temporary folder)")
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options, more = parser.parse_known_args()
    with tempfile.TemporaryDirectory(prefix="precision-") as temporary:
        runs = options.runs or Path(temporary)
        for precision in (BASE, OTHER):
            train(precision, runs / precision, options, more)
        table = compare(scores_in(runs / BASE), scores_in(runs / OTHER), options.draws)
    print(table.to_string(index=False, float_format="{:+.5f}".format))
    table.to_csv(options.out, index=False, lineterminator="\n", float_format="%.6f")


def train(precision: str, run: Path, options: argparse.Namespace, more: list[str]) -> None:
    """`milbench run` in a process of its own, as a user calls it; raises CalledProcessError where it fails."""
    program = str(Path(sys.executable).with_name("milbench"))
    what = ["--models", *options.models, "--folds", *options.folds, "--seeds", *options.seeds]
    where = ["--run", str(run), "--no-tracking", "--no-weights"]
    subprocess.run([program, "run", "--precision", precision, *what, *where, *more], check=True)


def scores_in(run: Path) -> pd.Series:
    """Test AUROC of the tasks with signal, from stored predictions, by model, dataset, task, fold and seed."""
    scores = score_table([open_run(run)])
    signal = scores[~scores["is_control"].astype(bool)]
    return signal.set_index(["model", "dataset", "task", "fold", "seed"])["score"]


def compare(base: pd.Series, other: pd.Series, draws: int) -> pd.DataFrame:
    """Mean paired difference other - base of every model.

    Parameters
    ----------
    base, other : AUROC by model, dataset, task, fold and seed, of the same trials; undefined ones (NaN) count in neither.

    Returns
    -------
    DataFrame : model, base and other (mean AUROC over units), difference, low, high, n_units, n_tasks.
    """
    if not base.sort_index().index.equals(other.sort_index().index):
        raise SystemExit("the two runs hold different trials: finish both, with the same models, folds and seeds.")
    pairs = pd.DataFrame({"base": base, "other": other}).dropna()
    rows = []
    for model, cells in pairs.groupby("model", sort=False):
        units = cells.groupby(["fold", "seed"]).mean()
        differences = (units["other"] - units["base"]).to_numpy()
        counts = draw_counts(generator(0, "precision", str(model)), len(units), draws)
        low, high = interval(counts @ differences / len(units))
        rows.append((model, *units.mean(), np.mean(differences), low, high, len(units),
                     len(cells.groupby(["dataset", "task"]))))  # fmt: skip
    return pd.DataFrame(rows, columns=["model", BASE, OTHER, "difference", "low", "high", "n_units", "n_tasks"])


if __name__ == "__main__":
    main()
