"""Time of the whole analysis of a Table 2: 5 cohorts × 10 genes × 9 models × 5 folds, 10,000 draws.

Labels are the study's own where `--labels` holds them (all_brca.csv ...), a fifth of the patients drawn as the test
side; else made ones (`made_study.py`). Scores are made. The reference is what one
would write first: a loop over draws that calls scikit-learn's `roc_auc_score`, timed on a slice of the same task.

    python benchmarks/statistics_speed.py --labels ../shared/data/tcga_labels
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from made_study import write_run
from sklearn.metrics import roc_auc_score

from milbench.stats.analysis import analyse
from milbench.stats.crossed import draw_within_classes, fold_scores
from milbench.stats.grid import TaskScores, grids


def naive(task: TaskScores, weights: np.ndarray) -> np.ndarray:
    """AUROC of the first model and fold in every draw, one call of scikit-learn each."""
    scores = task.scores[0, 0, 0]
    return np.array([
        roc_auc_score(np.repeat(task.targets, w), np.repeat(scores, w)) for w in weights[:, task.patients]
    ])  # fmt: skip


def main() -> None:
    """Print seconds of the analysis, and the ratio to the naive loop with the largest difference from it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--draws", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder) / "run", options.labels)
        start = time.perf_counter()
        analysis = analyse([run], draws=options.draws)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        sizes = ", ".join(f"{grid.dataset} {grid.n_patients}" for grid in grids([run]))
        small = f"{int(analysis.tasks['too_small'].sum())} of {len(analysis.tasks)} tasks too small for an interval"
        print(f"test patients: {sizes}; {len(run.trials())} trials, {len(analysis.cells)} (task, model) cells; {small}")
        print(
            f"analyse, {options.draws} draws, reading and every metric included: {seconds:.1f} s, peak memory {peak:.2f} GiB"
        )
        _against_naive(grids([run])[0], options.draws)


def _against_naive(grid: object, draws: int) -> None:
    task = grid.task(grid.tasks[0])
    weights = draw_within_classes(np.random.default_rng(0), task.patient_label, draws)
    start = time.perf_counter()
    matrix = fold_scores(task, weights)
    ours = (time.perf_counter() - start) / matrix.size
    start = time.perf_counter()
    loop = naive(task, weights[:500])
    theirs = (time.perf_counter() - start) / len(loop)
    print(f"one AUROC of one draw, {len(task.targets)} slides: matrix form {ours * 1e6:.3f} µs, loop over "
          f"roc_auc_score {theirs * 1e6:.0f} µs, ratio {theirs / ours:.0f}")  # fmt: skip
    print(f"largest difference between the two: {np.abs(loop - matrix[:500, 0, 0]).max():.1e}")


if __name__ == "__main__":
    main()
