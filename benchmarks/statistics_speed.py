"""Time of the whole analysis of a Table 2: 5 cohorts × 10 genes × 9 models × 5 folds, 10,000 draws.

Labels are the study's own where `--labels` holds them (all_brca.csv ...), a fifth of the patients drawn as the test
side; else cohorts of the same sizes with the prevalences of `STATED`. Scores are simulated. The reference is what one
would write first: a loop over draws that calls scikit-learn's `roc_auc_score`, timed on a slice of the same task.

    python benchmarks/statistics_speed.py --labels ../shared/data/tcga_labels
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from milbench.stats.analysis import analyse
from milbench.stats.crossed import draw_within_classes, fold_scores, generator
from milbench.stats.grid import TaskScores, grids
from milbench.store.run import Run
from milbench.store.run_writing import write_header, write_trial

STATED = {"brca": 188, "crc": 113, "gbmlgg": 160, "luad": 93, "ucec": 100}  # test patients
PREVALENCES = np.linspace(0.4, 0.08, 10)
MODELS = ("max", "mean", "amil", "dsmil", "transmil", "mmoe", "mmoe_mp", "m4", "joint")
MULTI = MODELS[5:]
FOLDS = range(5)


def label_tables(folder: Path | None, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """Test side of every cohort: case_id, slide_id, one column per gene."""
    tables = {}
    for name, n_patients in STATED.items():
        if folder is not None:
            table = pd.read_csv(folder / f"all_{name}.csv")
            cases = np.unique(table["case_id"])
            tables[name] = table[table["case_id"].isin(rng.choice(cases, len(cases) // 5, replace=False))]
        else:
            ids = [f"{name}{patient}" for patient in range(n_patients)]
            genes = {f"g{g}": (rng.random(n_patients) < share).astype(int) for g, share in enumerate(PREVALENCES)}
            tables[name] = pd.DataFrame({"case_id": ids, "slide_id": ids, **genes})
    return tables


def write_run(path: Path, tables: dict[str, pd.DataFrame]) -> Run:
    """A finished run of all models with simulated scores, through the store's own writer."""
    run, plan, jobs = Run(path), {}, []
    for dataset, table in tables.items():
        genes = list(table.columns[2:])
        for model in MODELS:
            for fold in FOLDS:
                for tasks in [genes] if model in MULTI else [[gene] for gene in genes]:
                    slot = f"{dataset}/{model}/{'all' if len(tasks) > 1 else tasks[0]}/fold{fold}"
                    plan[slot] = f"{slot}-seed42"
                    jobs.append((slot, dataset, model, fold, tasks))
    facts = {
        name: {"models": list(MODELS), "tasks": list(table.columns[2:]), "control_tasks": []}
        for name, table in tables.items()
    }
    write_header(run, {}, {}, facts, plan)
    for slot, dataset, model, fold, tasks in jobs:
        info = {"key": hashlib.sha256(slot.encode()).hexdigest(), "dataset": dataset, "model": model, "fold": fold,
                "model_title": model, "seed": 42}  # fmt: skip
        write_trial(
            run, plan[slot], info, _predictions(tables[dataset], slot, tasks), pd.DataFrame({"epoch": [0]}), None
        )
    return run


def _predictions(table: pd.DataFrame, slot: str, tasks: list[str]) -> pd.DataFrame:
    rng = generator(0, slot)
    targets = table[tasks].to_numpy(dtype=float).T  # [T, S]
    parts = [
        pd.DataFrame(
            {
                "slide_id": np.tile(table["slide_id"], len(tasks)),
                "patient_id": np.tile(table["case_id"], len(tasks)),
                "role": role,
                "task": np.repeat(tasks, len(table)),
                "target": targets.ravel(),
                "probability": 1 / (1 + np.exp(-(targets + rng.standard_normal(targets.shape)).ravel())),
            }
        )
        for role in ("val", "test")
    ]
    return pd.concat(parts, ignore_index=True)


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
        tables = label_tables(options.labels, np.random.default_rng(0))
        run = write_run(Path(folder) / "run", tables)
        start = time.perf_counter()
        analysis = analyse([run], draws=options.draws)
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        sizes = ", ".join(f"{name} {len(table)}" for name, table in tables.items())
        small = f"{int(analysis.tasks['too_small'].sum())} of {len(analysis.tasks)} tasks too small for an interval"
        print(f"test slides: {sizes}; {len(run.trials())} trials, {len(analysis.cells)} (task, model) cells; {small}")
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
