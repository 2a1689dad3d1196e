"""`milbench verify` on a bundle of the study's size: 5 cohorts × 10 tasks × 9 models × 5 folds, 1,575 trials with made scores.

    python benchmarks/verify_speed.py [--folder FOLDER]

The verification is a process of its own. The reference is `milbench report` on the same run, which does the same statistics
and draws the figures besides. Wall seconds depend on who else uses the machine; CPU seconds less so.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd

from milbench.store.identity import recorded_key
from milbench.store.question import Question
from milbench.store.run import Run
from milbench.store.run_writing import write_header, write_trial
from milbench.store.slot import slot_name, trial_id_of

STATED = {"brca": 188, "crc": 113, "gbmlgg": 160, "luad": 93, "ucec": 100}
"""Test patients; four times as many train and validate."""
TASKS = tuple(f"g{number}" for number in range(10))
SINGLE = ("max_pooling", "mean_pooling", "amil", "dsmil", "transmil", "dtfd_mil")
MULTI = ("mmoe_amil", "mmoe_mp_amil", "m4")
FOLDS = range(5)
HISTORY = pd.DataFrame({
    "epoch": range(20), "lr": 0.0001, "train_loss": np.linspace(0.7, 0.4, 20), "val_loss": np.linspace(0.7, 0.5, 20),
    "val_auroc": np.linspace(0.5, 0.7, 20),
})  # fmt: skip


def tables(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Labels and roles of a cohort: one slide per patient."""
    rng, n_test = np.random.default_rng([1, len(name)]), STATED[name]
    ids = [f"{name}-{number:04d}" for number in range(5 * n_test)]
    shares = np.linspace(0.4, 0.12, len(TASKS))
    labels = {task: (rng.random(len(ids)) < share).astype(float) for task, share in zip(TASKS, shares, strict=True)}
    place = np.arange(len(ids))
    roles = {
        f"fold_{fold}": np.select([place < n_test, place % len(FOLDS) == fold], ["test", "val"], "train")
        for fold in FOLDS
    }
    return pd.DataFrame({"slide_id": ids, "patient_id": ids, **labels}), pd.DataFrame({"patient_id": ids, **roles})


def predictions(
    labels: pd.DataFrame, roles: pd.DataFrame, tasks: tuple[str, ...], fold: int, seed: int
) -> pd.DataFrame:
    """Made scores of the validation and the test side."""
    rng, parts = np.random.default_rng([seed, fold]), []
    for role in ("val", "test"):
        side = labels[(roles[f"fold_{fold}"] == role).to_numpy()]
        targets = side[list(tasks)].to_numpy()
        parts.append(pd.DataFrame({
            "slide_id": np.repeat(side["slide_id"].to_numpy(), len(tasks)),
            "patient_id": np.repeat(side["patient_id"].to_numpy(), len(tasks)), "role": role,
            "task": np.tile(tasks, len(side)), "target": targets.ravel(),
            "probability": 1 / (1 + np.exp(-(targets + rng.standard_normal(targets.shape)).ravel())),
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def write_run(path: Path) -> Run:
    """The run of the study, through the store's own writer."""
    run, plan, facts, questions = Run(path), {}, {}, {}
    trials = []
    for name in STATED:
        labels, roles = tables(name)
        texts = [table.to_csv(index=False, lineterminator="\n") for table in (labels, roles)]
        labels_sha256, split_sha256 = (hashlib.sha256(text.encode()).hexdigest() for text in texts)
        facts[name] = {
            "title": name.upper(), "models": [*SINGLE, *MULTI], "tasks": list(TASKS), "control_tasks": [],
            "n_slides": len(labels), "n_patients": len(labels), "splits": "m4", "scaling": "none", "model_defaults": {},
            "trainer_defaults": {}, "notes": [], "split_sha256": split_sha256,
        }  # fmt: skip
        questions[name] = Question("f" * 64, split_sha256, "none", labels_sha256)
        for file, text in ((run.label_file(name), texts[0]), (run.split_file(name), texts[1])):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        for rank, model in enumerate([*SINGLE, *MULTI]):
            for fold in FOLDS:
                for number, group in enumerate([TASKS] if model in MULTI else [(task,) for task in TASKS]):
                    record = {
                        "status": "done", "dataset": name, "model": model, "model_title": model, "tasks": list(group),
                        "model_tasks": "multi" if model in MULTI else "single", "fold": fold, "seed": 42, "protocol": "m4",
                        "hyperparameters": {}, "recipe": {"name": "m4", "epochs": 20, "model": {}}, "chosen_epoch": 19,
                        "n_epochs": 20, "n_parameters": 500_000, "wall_seconds": 60.0, "train_seconds": 50.0,
                        "peak_bytes": 10**9, "split_sha256": split_sha256, "fingerprint": "f" * 64,
                        "feature_scaling": "none", "finished_at": "2026-01-02T03:04:05+00:00",
                    }  # fmt: skip
                    record["key"] = recorded_key(record)
                    plan[slot_name(name, model, group, fold, 42)] = trial_id_of(record)
                    trials.append((record, predictions(labels, roles, group, fold, 100 * rank + number)))
    write_header(run, {"models": [*SINGLE, *MULTI]}, {"milbench": "0.1.0"}, facts, plan, questions)
    for record, table in trials:
        write_trial(run, trial_id_of(record), record, table, HISTORY, None)
    return run


def timed(*words: str) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    started = perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "milbench", *words])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"milbench {words[0]} ended with {process.returncode}")
    return perf_counter() - started, used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        folder = Path(made)
        write_run(folder / "study")
        bundled = folder / "study.zip"
        commands = {
            "bundle": ("bundle", str(folder / "study"), "--out", str(bundled), "--licence", "made data"),
            "report": ("report", str(folder / "study"), "--out", str(folder / "report"), "--no-tracking"),
            "verify": ("verify", str(bundled)),
        }
        taken = {}
        for name, words in commands.items():
            taken[name] = timed(*words)
            print(f"{name}: {taken[name][0]:.1f} s wall, {taken[name][1]:.1f} s CPU", flush=True)
        print(f"verify / report, CPU: {taken['verify'][1] / taken['report'][1]:.2f}")
        print(f"zip: {bundled.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
