"""One small finished run whose split, labels and predictions agree, and bundles of it to spoil."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from runs_for_tests import MODELS, describe, info, number

from milbench.bundles.bundle import Wishes, bundle
from milbench.bundles.pseudonyms import Pseudonyms
from milbench.bundles.seal import write_checksums
from milbench.store.files import file_sha256, json_bytes
from milbench.store.question import Question
from milbench.store.run import Run
from milbench.store.run_writing import write_failure, write_header, write_trial
from milbench.store.slot import slot_name, trial_id_of

HAS_ROCRATE = importlib.util.find_spec("rocrate") is not None
TASKS, FOLDS, N_TEST, N_OTHERS = ("TP53", "PIK3CA"), (0, 1), 44, 16
HOST, FOLDER, NOTE = (
    "gpu-node-7",
    "/home/somebody/secret-project",
    "labels from /home/somebody/secret-project/labels.csv",
)
SALT = Pseudonyms(b"\x07" * 32)
DRAWS = 200


def patient(number: int) -> str:
    return f"PAT-{number:04d}"


def slide(number: int) -> str:
    return f"SLIDE-{number:04d}-A"


def labels_of(shift: int = 0) -> pd.DataFrame:
    """Labels of all slides; another shift gives some patients another label."""
    n = N_TEST + N_OTHERS
    columns: dict[str, Any] = {"slide_id": [slide(i) for i in range(n)], "patient_id": [patient(i) for i in range(n)]}
    for task in TASKS:
        columns[task] = [float((i * 7 + number(task)) % 5 < 2) for i in range(n)]
        if shift:
            columns[task][shift] = 1 - columns[task][shift]
    return pd.DataFrame(columns)


def roles_of(swap: tuple[int, int] | None = None) -> pd.DataFrame:
    """The first patients are tested in every fold, the others validate in turn; two may change places."""
    roles = {
        f"fold_{fold}": ["test"] * N_TEST + [("val" if i % 2 == fold else "train") for i in range(N_OTHERS)]
        for fold in FOLDS
    }
    table = pd.DataFrame({"patient_id": [patient(i) for i in range(N_TEST + N_OTHERS)], **roles})
    if swap:
        table.loc[list(swap), "patient_id"] = table.loc[list(swap[::-1]), "patient_id"].to_numpy()
    return table


def make_sound_run(
    path: Path,
    *,
    models: Sequence[str] = ("mean_pooling", "amil", "m4"),
    skill: float = 0.0,
    labels: pd.DataFrame | None = None,
    roles: pd.DataFrame | None = None,
    folds: Sequence[int] = FOLDS,
    failed: bool = False,
) -> Run:
    """A run of one cohort, `toy`, in which every patient stands on one side and every file agrees with the others."""
    labels, roles = labels_of() if labels is None else labels, roles_of() if roles is None else roles
    texts = [table.to_csv(index=False, lineterminator="\n") for table in (labels, roles)]
    labels_sha256, split_sha256 = (hashlib.sha256(text.encode()).hexdigest() for text in texts)
    run, plan, written = Run(path), {}, []
    for rank, model in enumerate(models):
        for fold in folds:
            for group in [TASKS] if MODELS[model][1] == "multi" else [(task,) for task in TASKS]:
                record = info(
                    "toy", model, group, fold, split_sha256=split_sha256, host=HOST, feature_scaling="standard"
                )
                trial_id = trial_id_of(record)
                plan[slot_name("toy", model, group, fold, 42)] = trial_id
                written.append((trial_id, record, predictions(labels, roles, group, fold, rank + skill)))
    facts = {
        **describe("toy", tuple(models), TASKS), "control_tasks": [], "split_sha256": split_sha256,
        "notes": [f"{NOTE}, without {patient(3)}"], "n_slides": len(labels), "n_patients": len(labels),
    }  # fmt: skip
    fingerprint = written[0][1]["fingerprint"]
    question = Question(fingerprint, split_sha256, "standard", labels_sha256)
    config = {"models": list(models), "cohorts": [f"{FOLDER}/toy"], "data_root": FOLDER, "run": f"{FOLDER}/runs/toy",
              "tracking": {"enabled": True, "uri": "https://me:secret@tracking.example"}}  # fmt: skip
    environment = {"git": "0123abc", "milbench": "0.1.0", "python": "3.11", "hostname": HOST}
    if failed:
        plan["toy/dsmil/TP53/fold0-seed42"] = "toy/dsmil/TP53/fold0-seed42-0123abcd"
    write_header(run, config, environment, {"toy": facts}, plan, {"toy": question})
    for file, text in zip((run.label_file("toy"), run.split_file("toy")), texts, strict=True):
        file.write_text(text)
    history = pd.DataFrame(
        {"epoch": [0, 1], "lr": [0.1, 0.05], "train_loss": [0.7, 0.5], "val_loss": [0.8, 0.75], "val_auroc": [0.6, 0.7]}
    )
    for trial_id, record, table in written:
        write_trial(run, trial_id, record, table, history, {"w": np.zeros(1000, dtype=np.float32)})
    if failed:
        failure = {"id": plan["toy/dsmil/TP53/fold0-seed42"], "type": "ValueError", "traceback": f'File "{FOLDER}/x.py"',
                   "message": f"cannot read {FOLDER}/{slide(1)}.pt on {HOST}"}  # fmt: skip
        write_failure(run, "0123abcd" + "0" * 56, failure)
    return run


def predictions(
    labels: pd.DataFrame, roles: pd.DataFrame, tasks: Sequence[str], fold: int, rank: float
) -> pd.DataFrame:
    """Scores whose separation grows with the rank, slide by slide."""
    role_of = roles.set_index("patient_id")[f"fold_{fold}"]
    rows = []
    for role in ("val", "test"):
        for row in labels[labels["patient_id"].map(role_of) == role].itertuples():
            for task in tasks:
                target = getattr(row, task)
                noise = np.random.default_rng(
                    [int(row.slide_id[6:10]), fold, int(rank * 10), number(task)]
                ).standard_normal()
                score = noise + (0.5 + 0.4 * rank) * target
                rows.append((row.slide_id, row.patient_id, role, task, target, 1 / (1 + np.exp(-score))))
    return pd.DataFrame(rows, columns=["slide_id", "patient_id", "role", "task", "target", "probability"])


def wishes(**changed: Any) -> Wishes:
    return Wishes(**{"draws": DRAWS, "crate": HAS_ROCRATE, "title": "A toy study", "licence": "CC0-1.0", **changed})


def make_bundle(run: Run, out: Path, **changed: Any) -> Path:
    bundle(run, out, wishes(**changed))
    return out


def seal_again(bundled: Path) -> None:
    """Make the checksums those of the files as they are now, as whoever covers up a change would."""
    (bundled / "checksums.sha256").unlink(missing_ok=True)
    write_checksums(bundled)


def trial_folder(bundled: Path, start: str) -> Path:
    """Folder of the trial whose id begins so."""
    return next(path.parent for path in sorted(bundled.glob(f"runs/*/trials/{start}*/trial.json")))


def rewrite_predictions(folder: Path, table: pd.DataFrame) -> None:
    """Put other predictions into a trial and its checksum into the record."""
    table.to_parquet(folder / "predictions.parquet", index=False)
    record = json.loads((folder / "trial.json").read_text())
    record["payload_sha256"]["predictions.parquet"] = file_sha256(folder / "predictions.parquet")
    (folder / "trial.json").write_bytes(json_bytes(record))


def config_of(bundled: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(next(bundled.glob("runs/*/run.yaml")).read_text())
    return found
