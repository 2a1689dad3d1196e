"""Cost: what one trained model takes, as counted and measured beside the training, for trial.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from milbench.models import MILModel
from milbench.store.identity import canonical_json
from milbench.training.no_numbers import without_numbers

AT_PATCHES = 1000
"""Patches of the bag that multiply-adds are counted for, the same for every cohort and model."""

RAPL = Path("/sys/class/powercap/intel-rapl:0")
"""Linux's energy counter of the first processor package; many systems let only root read it."""


def multiply_adds(
    model: type[MILModel],
    in_features: int,
    n_outputs: int,
    hyperparameters: Mapping[str, Any],
    *,
    at_patches: int = AT_PATCHES,
) -> int | None:
    """Multiply-adds of one forward pass of a bag of `at_patches` patches; None if the model cannot take such a bag.

    Matrix products, convolutions and attention are counted, as torch does it; sums, activations and norms are not.
    Each process counts each set of arguments once. The random state does not change.

    Parameters
    ----------
    n_outputs : number of logits, an `Outputs` where tasks are not all binary.
    at_patches : if more than `AT_PATCHES`, models that need numbers to count are not counted: that may take minutes.
    """
    return _counted(model, in_features, n_outputs, canonical_json(dict(hyperparameters)), at_patches)


@cache
def _counted(
    model: type[MILModel], in_features: int, n_outputs: int, hyperparameters: str, at_patches: int
) -> int | None:
    arguments = json.loads(hyperparameters)
    for place in (without_numbers, nullcontext) if at_patches <= AT_PATCHES else (without_numbers,):
        try:
            with place():
                return _count(model, in_features, n_outputs, arguments, at_patches)
        except Exception:  # noqa: BLE001, S112 - a trained trial must not fail because counting failed
            continue
    return None


def _count(
    model: type[MILModel],
    in_features: int,
    n_outputs: int,
    hyperparameters: Mapping[str, Any],
    at_patches: int,
) -> int:
    """Half of the floating-point operations that torch counts, which are two per multiply-add."""
    # only the CPU's generator is drawn from: building and counting touch no GPU
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        built = model(in_features, n_outputs, **hyperparameters).eval()
        with FlopCounterMode(display=False) as counter:
            built(*built.inputs(built.bag_like(torch.zeros(at_patches, in_features))))
    return int(counter.get_total_flops()) // 2


def energy_counter(device: torch.device) -> float | None:
    """Joules that the device has used since some moment in the past; None if it does not tell.

    A GPU is asked through `pynvml`, if that is installed, and a processor through RAPL. Both count for the whole device:
    if several trials run on one device at once, each is charged for all of them.
    """
    return _nvidia_joules(device) if device.type == "cuda" else _rapl_joules("energy_uj")


def energy_used(before: float | None, after: float | None, *, wraps_at: float | None = None) -> float | None:
    """Joules between two readings; if the second is lower, the counter started again at `wraps_at`."""
    if before is None or after is None:
        return None
    if after >= before:
        return after - before
    return None if wraps_at is None else after + wraps_at - before


def energy_limit(device: torch.device) -> float | None:
    """Joules at which the device's counter starts again; None if it never does, or does not tell."""
    return None if device.type == "cuda" else _rapl_joules("max_energy_range_uj")


def _rapl_joules(name: str) -> float | None:
    try:
        return int((RAPL / name).read_text()) / 1e6
    except (OSError, ValueError):
        return None


def _nvidia_joules(device: torch.device) -> float | None:
    try:
        nvml = import_module("pynvml")
        nvml.nvmlInit()
        # by its UUID, since CUDA_VISIBLE_DEVICES renumbers torch's devices and not NVIDIA's
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
    except Exception:  # noqa: BLE001 - no package, no driver, an old card: the energy is unknown
        return None


def cost_record(
    *,
    multiply_adds: int | None,
    inference_seconds: NDArray[np.float64],
    n_training_bags: int,
    n_epochs: int,
    step_seconds: float,
    train_seconds: float,
    energy_joules: float | None,
) -> dict[str, Any]:
    """Contents of `cost` in trial.json.

    Parameters
    ----------
    inference_seconds : [S] one per test slide; the median is kept.
    step_seconds, train_seconds : in optimiser steps alone, and with the validation passes.
    """
    return {
        "multiply_adds": multiply_adds,
        "at_patches": AT_PATCHES,
        "inference_seconds": float(np.median(inference_seconds)),
        "bags_per_second": n_training_bags * n_epochs / step_seconds,
        "seconds_per_epoch": train_seconds / n_epochs,
        "energy_joules": energy_joules,
    }
