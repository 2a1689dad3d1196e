"""The cohort that a process works on: its features, where they stay, and what memory is left for training."""

from __future__ import annotations

import gc
from typing import NamedTuple

import torch

from milbench.cohorts.cohort import Cohort
from milbench.datasets.source import CohortSource
from milbench.errors import DataError
from milbench.machine.allocator import tune_allocator
from milbench.process.memory import total_memory
from milbench.serving.feature_store import FeatureStore
from milbench.serving.fold_data import CHANGED, Scalers
from milbench.serving.residency import PROCESS_BYTES, Residency, choose_residency, feature_bytes, largest_bag
from milbench.trials.job import Job

STEP_SHARE = 0.5
"""Share of a worker's memory that training steps may use; the rest is for features."""

LEARNERS_SHARE = 0.3
"""Share of that for weights and what the optimiser keeps, of all trials of a pass; the rest is for what a step keeps."""

SMALL_BAG = 2000
"""Patches up to which a step's memory is not worth estimating, unless a budget was stated."""


class CohortFeatures(NamedTuple):
    """A cohort and its features, as this process holds them.

    Attributes
    ----------
    scalers : of folds, by mode and training slides.
    step_bytes : memory that training may use beside features; 0 = no limit for its steps.
    learner_bytes : the part of it that weights and optimisers of all trials of a pass may use.
    whole_cohort_fits : whether all bags stay, once they were read.
    """

    cohort: Cohort
    features: FeatureStore
    step_bytes: int
    learner_bytes: int
    scalers: Scalers
    whole_cohort_fits: bool = True


_held: dict[tuple[object, ...], CohortFeatures] = {}
"""The cohort that this process works on; one, since its features may fill all memory that there is."""


def features_of(job: Job) -> CohortFeatures:
    """The job's cohort with a feature store that serves all passes of this process."""
    key = (job.source, job.trial.fingerprint, job.device, job.memory_bytes, job.workers, job.gpu_workers)
    if key not in _held:
        _held.clear()  # first, so that its memory counts as free
        gc.collect()
        if torch.device(job.device).type == "cuda":
            torch.cuda.empty_cache()  # what torch keeps for itself does not count as free
        _held[key] = _read(*key)
    return _held[key]


def forget_features() -> None:
    """Read the cohort anew where it is next asked for."""
    _held.clear()


def _read(
    source: CohortSource, fingerprint: str, device: str, memory_bytes: int, workers: int, gpu_workers: int
) -> CohortFeatures:
    cohort = source.load()
    if cohort.fingerprint != fingerprint:
        raise DataError(CHANGED.format(f"cohort '{cohort.name}'"))
    found = held(cohort, device, memory_bytes, workers=workers, gpu_workers=gpu_workers)
    tune_allocator(from_disk=not found.whole_cohort_fits)
    return found


def held(
    cohort: Cohort, device: str, memory_bytes: int = 0, *, workers: int = 1, gpu_workers: int = 0
) -> CohortFeatures:
    """The cohort with a feature store that keeps as many bags as this process has room for."""
    residency, step_bytes = residency_of(cohort, device, memory_bytes, workers=workers, gpu_workers=gpu_workers)
    store = FeatureStore(
        cohort.load,
        device=torch.device(device),
        device_bytes=residency.device_bytes,
        host_bytes=residency.host_bytes,
        most_ahead=residency.most_ahead,
        ahead_bytes=residency.ahead_bytes,
    )
    place = torch.device(device)
    room = step_bytes or _training_bytes(place, memory_bytes, _sharing(place, workers, gpu_workers))
    learners = int(room * LEARNERS_SHARE)
    return CohortFeatures(cohort, store, step_bytes, learners, {}, whole_cohort_fits=residency.whole_cohort_fits)


def residency_of(
    cohort: Cohort, device: str, memory_bytes: int, *, workers: int, gpu_workers: int
) -> tuple[Residency, int]:
    """Places of the cohort's features in each worker, and memory that a training step may use; 0 = no limit."""
    place = torch.device(device)
    step_bytes = _step_bytes(cohort, place, memory_bytes, _sharing(place, workers, gpu_workers))
    reserved = step_bytes if memory_bytes or place.type == "cuda" else 0  # else the share for features is set apart
    all_bytes = feature_bytes(cohort)
    return choose_residency(
        all_bytes,
        device=place,
        workers=workers,
        memory_bytes=memory_bytes,
        step_bytes=reserved,
        gpu_workers=gpu_workers,
        bag_bytes=all_bytes // max(len(cohort.slides), 1),
    ), step_bytes


def _sharing(device: torch.device, workers: int, gpu_workers: int) -> int:
    """How many workers share the device's memory."""
    return (gpu_workers or workers) if device.type == "cuda" else workers


def _step_bytes(cohort: Cohort, device: torch.device, memory_bytes: int, sharing: int) -> int:
    """Memory of a worker for training beside features; 0 = no limit, where bags are small and nothing is stated."""
    if not memory_bytes and largest_bag(cohort) <= SMALL_BAG:
        return 0
    return _training_bytes(device, memory_bytes, sharing)


def _training_bytes(device: torch.device, memory_bytes: int, sharing: int) -> int:
    """Share of the memory for training: of one worker, in the GPU's memory or in the stated or the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * STEP_SHARE / sharing)
    of_all = memory_bytes or total_memory()
    return max(1, int((of_all / sharing - PROCESS_BYTES) * STEP_SHARE))
