"""What one process does with one trial: load, train, predict, write. Joins trainer and store."""

from __future__ import annotations

import resource
import socket
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache, lru_cache
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from milbench.cohort import Cohort
from milbench.cost import cost_record, energy_counter, energy_limit, energy_used, multiply_adds
from milbench.errors import DataError, StoreError
from milbench.machine import resolve_device
from milbench.models import MILModel
from milbench.plan import Trial
from milbench.registry import load_models
from milbench.scaling import FeatureScaler
from milbench.source import CohortSource
from milbench.splits import Split
from milbench.store import Run
from milbench.trainer import Bags, Fit, Prediction, fit, predict

PROC_STATUS, PROC_CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")

CACHE_SHARE = 0.4
"""Share of the memory free at start that all workers together may fill with features."""


@dataclass(frozen=True)
class Job:
    """A trial and all that a process needs to compute it."""

    run: Path
    trial: Trial
    source: CohortSource
    plugins: tuple[Path, ...] = ()
    threads: int = 1
    device: str = "cpu"
    keep_weights: bool = True
    cache_bytes: int = 0


Pass = tuple[Job, ...]
"""Jobs that one process computes together: the unit of scheduling."""


class Status(NamedTuple):
    """What became of a job.

    Attributes
    ----------
    state : "done"; "already" (finished earlier or by another process); "busy" (another process holds it);
        "failed" (recorded, the run goes on); "refused" (bad input or disk: the run must stop);
        "skipped" (its model failed too often).
    message : one line that says why, where it did not end well.
    """

    job: Job
    state: Literal["done", "already", "busy", "failed", "refused", "skipped"]
    seconds: float
    message: str = ""


def run_pass(pass_: Pass) -> list[Status]:
    """Status of every job of a pass, in its order; results and failures are on disk when this returns."""
    return [run_job(job) for job in pass_]


def run_job(job: Job) -> Status:
    """Status of `job`, whose result or failure is on disk when this returns."""
    started, run = perf_counter(), Run(job.run)
    with run.claim(job.trial.key) as mine:
        if not mine:
            return Status(job, "busy", 0.0)
        if run.trial(job.trial.id) is not None:
            return Status(job, "already", 0.0)
        try:
            _compute(job, run)
        except (DataError, StoreError) as error:
            return Status(job, "refused", perf_counter() - started, str(error))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a model does is a result, not a crash
            run.write_failure(job.trial.key, failure_record(job.trial, error))
            return Status(job, "failed", perf_counter() - started, f"{type(error).__name__}: {error}")
        run.clear_failure(job.trial.key)
    return Status(job, "done", perf_counter() - started)


def at_home(pass_: Pass, device: str, workers: int) -> Pass:
    """The pass with what only the machine that computes it can tell: its device, and its share of the memory."""
    device = resolve_device(device)
    return tuple(replace(job, device=device, cache_bytes=cache_bytes(workers)) for job in pass_)


def failure_record(trial: Trial, error: BaseException) -> dict[str, Any]:
    """What is kept of a failed trial."""
    return {
        "id": trial.id,
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
        "peak_bytes": peak_bytes(torch.device("cpu")),
        "finished_at": _now(),
    }


def _compute(job: Job, run: Run) -> None:
    torch.set_num_threads(job.threads)
    forget_peak()
    device = torch.device(job.device)
    _prepare(device)
    trial, started = job.trial, perf_counter()
    memory = _memory(job.source, trial.fingerprint, job.cache_bytes)
    split = _split(run.split_file(trial.dataset), trial.split_sha256)
    data = _fold_data(memory.cohort, split, trial, memory)
    model = build(trial, memory.cohort.in_features, job.plugins)
    loaded, energy_before = perf_counter(), energy_counter(device)
    result = fit(model, trial.recipe, data["train"].bags, data["val"].bags, seed=trial.seed, device=device)
    energy = energy_used(energy_before, energy_counter(device), wraps_at=energy_limit(device))
    said = {role: predict(model, data[role].bags, device=device) for role in ("val", "test")}
    predictions = pd.concat([_table(role, data[role], trial.tasks, said[role].probabilities) for role in said])
    info = _info(job, model, result, data, loaded - started, perf_counter() - started)
    info["cost"] = _cost(trial, model, result, data, said["test"], energy)  # last: it must not raise the peak
    weights = {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()} if job.keep_weights else None
    run.write_trial(trial.id, info, predictions, pd.DataFrame(result.history), weights)


def build(trial: Trial, in_features: int, plugins: tuple[Path, ...] = ()) -> MILModel:
    """The trial's model, its weights drawn from the trial's seed."""
    torch.manual_seed(trial.seed)
    return load_models(plugins)[trial.model](in_features, len(trial.tasks), **trial.hyperparameters)


def _prepare(device: torch.device) -> None:
    """Ask the GPU for repeatable arithmetic; the CPU's is repeatable at a fixed number of threads."""
    if device.type == "cuda":
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        torch.cuda.reset_peak_memory_stats(device)


# ---- data ----------------------------------------------------------------------------------------


CHANGED = (
    "{} changed while the run was going on. Start the command again; "
    "trials of the former data stay in the folder but leave the tables."
)


class Side(NamedTuple):
    """One side of a fold: its slides, in the cohort's order, and what the trainer sees of them."""

    slides: pd.DataFrame
    bags: Bags


class FeatureMemory:
    """Features by slide, kept in memory up to a number of bytes, read again beyond it."""

    def __init__(self, cohort: Cohort, max_bytes: int) -> None:
        self.cohort, self.free = cohort, max_bytes
        self.kept: dict[str, Tensor] = {}

    def __getitem__(self, slide_id: str) -> Tensor:
        kept = self.kept.get(slide_id)
        if kept is not None:
            return kept
        features = self.cohort.load(slide_id).features
        if features.nbytes <= self.free:
            self.kept[slide_id] = features
            self.free -= features.nbytes
        return features


class ScaledFeatures(Sequence[Tensor]):
    """Features of some slides, scaled as the training slides ask for."""

    def __init__(self, memory: FeatureMemory, slide_ids: Sequence[str], scaler: FeatureScaler) -> None:
        self.memory, self.slide_ids, self.scaler = memory, slide_ids, scaler

    def __len__(self) -> int:
        return len(self.slide_ids)

    def __getitem__(self, index: Any) -> Any:
        return self.scaler(self.memory[self.slide_ids[index]])


@lru_cache(maxsize=4)
def _memory(source: CohortSource, fingerprint: str, max_bytes: int) -> FeatureMemory:
    cohort = source.load()
    if cohort.fingerprint != fingerprint:
        raise DataError(CHANGED.format(f"cohort '{cohort.name}'"))
    return FeatureMemory(cohort, max_bytes)


@lru_cache(maxsize=16)
def _split(path: Path, sha256: str) -> Split:
    split = Split.from_csv(path)
    if split.sha256 != sha256:
        raise DataError(CHANGED.format(path))
    return split


@lru_cache(maxsize=4)
def _scaler(memory: FeatureMemory, mode: str, slide_ids: tuple[str, ...]) -> FeatureScaler:
    return FeatureScaler(mode).fit(memory[slide] for slide in slide_ids)


def _fold_data(cohort: Cohort, split: Split, trial: Trial, memory: FeatureMemory) -> dict[str, Side]:
    sides = {role: split.slides(cohort.slides, trial.fold, role) for role in ("train", "val", "test")}
    scaler = _scaler(memory, trial.feature_scaling, tuple(sides["train"]["slide_id"]))
    return {role: Side(slides, _bags(slides, trial.tasks, memory, scaler)) for role, slides in sides.items()}


def _bags(slides: pd.DataFrame, tasks: tuple[str, ...], memory: FeatureMemory, scaler: FeatureScaler) -> Bags:
    labels = slides[list(tasks)].to_numpy(dtype=np.float32)
    known = ~np.isnan(labels)
    targets = torch.from_numpy(np.where(known, labels, 0).astype(np.float32))
    features = ScaledFeatures(memory, slides["slide_id"].tolist(), scaler)
    return Bags(features, targets, torch.from_numpy(known.astype(np.float32)))


# ---- results -------------------------------------------------------------------------------------


def _table(role: str, side: Side, tasks: tuple[str, ...], probabilities: NDArray[np.float64]) -> pd.DataFrame:
    """Predictions in long form, slide by slide."""
    n_slides, n_tasks = probabilities.shape
    return pd.DataFrame(
        {
            "slide_id": np.repeat(side.slides["slide_id"].to_numpy(dtype=object), n_tasks),
            "patient_id": np.repeat(side.slides["patient_id"].to_numpy(dtype=object), n_tasks),
            "role": role,
            "task": np.tile(np.array(tasks, dtype=object), n_slides),
            "target": side.bags.labels().ravel(),
            "probability": probabilities.ravel(),
        }
    )


def _info(
    job: Job, model: MILModel, result: Fit, data: dict[str, Side], load_seconds: float, wall_seconds: float
) -> dict[str, Any]:
    """What trial.json says beside the checksums."""
    trial, device = job.trial, torch.device(job.device)
    return {
        "key": trial.key,
        "status": "done",
        **trial.identity(),
        "dataset": trial.dataset,
        "model_title": model.info.title,
        "model_tasks": model.info.tasks,
        "protocol": trial.recipe.name,
        "source_sha256": trial.source_sha256,
        "chosen_epoch": result.chosen_epoch,
        "selected_by": result.selected_by,
        "n_epochs": len(result.history),
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "n_slides": {role: len(side.slides) for role, side in data.items()},
        "load_seconds": load_seconds,
        "train_seconds": result.seconds,
        "wall_seconds": wall_seconds,
        "peak_bytes": peak_bytes(device),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": job.threads,
        "torch": torch.__version__,
        "host": socket.gethostname(),
        "finished_at": _now(),
    }


def _cost(
    trial: Trial, model: MILModel, result: Fit, data: dict[str, Side], test: Prediction, energy: float | None
) -> dict[str, Any]:
    """What trial.json says below `cost`."""
    return cost_record(
        multiply_adds=multiply_adds(type(model), model.in_features, model.n_tasks, trial.hyperparameters),
        inference_seconds=test.seconds,
        n_training_bags=len(data["train"].slides),
        n_epochs=len(result.history),
        step_seconds=result.step_seconds,
        train_seconds=result.seconds,
        energy_joules=energy,
    )


def peak_bytes(device: torch.device) -> int:
    """Peak memory in bytes since `forget_peak`: allocated on a GPU, resident in this process on a CPU.

    Linux's VmHWM, not `ru_maxrss`: a process started by fork and exec inherits the latter from its parent.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if _high_water():
        return _high_water()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def forget_peak() -> bool:
    """Start measuring anew; False where the system can't, and the peak stays the process's, not the trial's.

    Linux resets VmHWM through `clear_refs`; containers and sandboxes may forbid that, or take it and do nothing.
    """
    before = _high_water()
    try:
        PROC_CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return _high_water() < before


def _high_water() -> int:
    """VmHWM in bytes, 0 on a system that doesn't tell."""
    if not PROC_STATUS.exists():
        return 0
    lines = [line for line in PROC_STATUS.read_text().splitlines() if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) * 1024 if lines else 0


@cache
def cache_bytes(workers: int) -> int:
    """Bytes of features that each of `workers` processes may keep in memory; asked once a process, to stay the same."""
    return int(psutil.virtual_memory().available * CACHE_SHARE / workers)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
