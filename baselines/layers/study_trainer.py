"""The M4 repository's trainer, official recipe of the models that live there."""

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
"""Bigyehahaha/M4@192a77b: one slide a step, no clipping, no early stopping, strictly best mean validation AUROC."""
