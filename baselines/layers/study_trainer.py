"""Official recipe of the models in the M4 repository: its one trainer, as data."""

from __future__ import annotations

from typing import Any

STUDY_TRAINER: dict[str, Any] = {
    "optimizer": "adam",
    "lr": 1e-4,
    "weight_decay": 4e-5,
    "schedule": "cosine",
    "lr_floor": 0.1,
    "epochs": 32,
    "bags_per_step": 1,
    "select_by": "val_auroc",
}
"""Recipe of Bigyehahaha/M4@192a77b.

One slide per step, no clipping, no early stopping. The epoch with the best mean validation AUROC is kept, the first of
equals.
"""
