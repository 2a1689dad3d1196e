"""A run of one planned trial, and that trial's results."""

from __future__ import annotations

import numpy as np
import pandas as pd
from runs_for_tests import describe, info

from milbench.store.run import Run
from milbench.store.run_writing import write_trial
from milbench.store.slot import trial_id_of

PREDICTIONS = pd.DataFrame(
    {"slide_id": ["s1"], "patient_id": ["p1"], "role": ["test"], "task": ["a"], "target": [1.0], "probability": [0.25]}
)
HISTORY = pd.DataFrame({"epoch": [0], "lr": [0.1], "train_loss": [0.5], "val_loss": [0.6], "val_auroc": [0.7]})
INFO = info("toy", "amil", ("a",), 0, n_epochs=1, n_parameters=3)
ID, SLOT = trial_id_of(INFO), "toy/amil/a/fold0-seed42"
TOY = {"toy": describe("toy", ("amil",), ("a",))}


def write(run: Run) -> None:
    """Put the trial in place."""
    write_trial(run, ID, INFO, PREDICTIONS, HISTORY, {"w": np.arange(3, dtype=np.float32)})
