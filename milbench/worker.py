"""What one process does with one pass: claim its trials, load, train them together, predict, write.

The few lines that join trainer and store.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Literal, NamedTuple

import pandas as pd
import psutil
import torch

from milbench.activations import ActivationCost, activation_cost
from milbench.allocator import tune_allocator
from milbench.checkpoint import load_checkpoint, save_checkpoint
from milbench.cohort import Cohort
from milbench.cost import energy_counter, energy_limit, energy_used
from milbench.errors import DataError, MilbenchError, StoreError
from milbench.feature_store import FeatureStore
from milbench.fold_data import CHANGED, FoldData, Scalers, fold_data, load_split
from milbench.learner import Learner, Predictions
from milbench.machine import resolve_device
from milbench.models import MILModel
from milbench.peak import forget_peak
from milbench.plan import Trial, canonical_json
from milbench.precision import check_precision, float32_products
from milbench.record import Measured, failure_record, predictions_table, trial_record
from milbench.registry import load_models
from milbench.residency import PROCESS_BYTES, Residency, choose_residency, feature_bytes, largest_bag
from milbench.selection import Epoch
from milbench.source import CohortSource
from milbench.store import Run, writing
from milbench.trainer import Seat, predict_all, train

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Job:
    """A trial and all that a process needs to compute it.

    Attributes
    ----------
    others : finished trials that differ from this one in their task only; they are trained along where `stacked`, so
        that the last digits do not depend on which of them were done before.
    stacked : whether such trials take their steps together.
    workers, gpu_workers : how many share this machine's memory, and how many this one's GPU (0 = all).
    memory_bytes : what all workers of a machine may use together; 0 = what is free.
    checkpoint_seconds : shortest time between two checkpoints.
    """

    run: Path
    trial: Trial
    source: CohortSource
    plugins: tuple[Path, ...] = ()
    threads: int = 1
    device: str = "cpu"
    keep_weights: bool = True
    others: tuple[Trial, ...] = ()
    stacked: bool = True
    workers: int = 1
    gpu_workers: int = 0
    memory_bytes: int = 0
    checkpoint_seconds: float = 60.0


Pass = tuple[Job, ...]
"""Jobs that one process computes together: the unit of scheduling. They share cohort, split, scaling and seed."""

Group = tuple[Job, ...]
"""Jobs of a pass that are trained as one stack; one job alone where they are not stacked."""


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


def at_home(pass_: Pass, device: str, workers: int, gpu_workers: int) -> Pass:
    """The pass with what only the machine that computes it can tell: its device, and how many share its memory."""
    device = resolve_device(device)
    return tuple(replace(job, device=device, workers=workers, gpu_workers=gpu_workers) for job in pass_)


def run_pass(pass_: Pass) -> list[Status]:
    """Status of every job of a pass, in its order; results and failures are on disk when this returns."""
    run, statuses = Run(pass_[0].run), dict[str, Status]()
    with ExitStack() as held:
        todo: list[Group] = []
        for group in groups_of(pass_):
            if not _claimed(run, group, held):
                statuses |= {job.trial.key: Status(job, "busy", 0.0) for job in group}
                continue
            done = {job.trial.key for job in group if run.trial(job.trial.id) is not None}
            statuses |= {job.trial.key: Status(job, "already", 0.0) for job in group if job.trial.key in done}
            left = [job for job in group if job.trial.key not in done]
            finished = tuple(job.trial for job in group if job.trial.key in done)
            if left:
                todo.append(tuple(replace(job, others=(*job.others, *finished)) for job in left))
        if todo:
            statuses |= {status.job.trial.key: status for status in _computed(run, todo)}
    return [statuses[job.trial.key] for job in pass_]


def groups_of(pass_: Pass) -> list[Group]:
    """The jobs that are trained as one stack, in the order of the first of each."""
    groups: dict[str, list[Job]] = {}
    for job in pass_:
        groups.setdefault(job.trial.stack_key if job.stacked else job.trial.key, []).append(job)
    return [tuple(group) for group in groups.values()]


def _claimed(run: Run, group: Group, held: ExitStack) -> bool:
    """Whether this process now holds all trials of the group; some are as good as none."""
    with ExitStack() as trying:
        if not all(trying.enter_context(run.claim(job.trial.key)) for job in group):
            return False
        held.enter_context(trying.pop_all())
        return True


def _computed(run: Run, groups: Sequence[Group]) -> Iterator[Status]:
    """Statuses of all jobs of the groups; what bad data or a full disk leave undone is refused, whatever else fails it."""
    left = {job.trial.key: job for group in groups for job in group}
    try:
        for affordable in _in_memory_together(groups):
            for status in compute(run, affordable):
                del left[status.job.trial.key]
                yield status
    except (DataError, StoreError) as error:
        yield from (Status(job, "refused", 0.0, str(error)) for job in left.values())
    except Exception as error:  # noqa: BLE001 - memory that runs out between two models' work, for instance
        yield from (_failed(run, job, error) for job in left.values())


def _in_memory_together(groups: Sequence[Group]) -> Iterator[list[Group]]:
    """Groups whose weights, gradients, moments and best weights fit into memory at once: each such list reads every bag."""
    first = groups[0][0]
    _prepare(first, torch.device(first.device))
    store = _features(first)
    room = left = store.learner_bytes
    taken: list[Group] = []
    for group in groups:
        needed = _learner_bytes(group, store.cohort.in_features)
        if taken and needed > left:
            yield taken
            taken, left = [], room
        taken.append(group)
        left -= needed
    yield taken


# ---- training ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stacked:
    """A group with its learner.

    Attributes
    ----------
    trials : of the group's jobs and of those that are trained along, in an order that depends on nothing else.
    resumed_seconds : what the learner had taken when this process took it up.
    """

    group: Group
    trials: tuple[Trial, ...]
    data: FoldData
    seat: Seat
    resumed_seconds: float

    @property
    def checkpoint(self) -> Path:
        """Where its checkpoint lies, named after all that decides what it would hold."""
        return self.group[0].run / CHECKPOINTS / f"{self.identity[:32]}.safetensors"

    @property
    def identity(self) -> str:
        """Of the trials, and of the machine's settings that decide the last digits."""
        job = self.group[0]
        decides = [torch.__version__, torch.device(job.device).type, job.threads]
        return hashlib.sha256(canonical_json([*(trial.key for trial in self.trials), decides]).encode()).hexdigest()


def compute(run: Run, groups: Sequence[Group]) -> Iterator[Status]:
    """Train the groups in one pass over the data; each job's status when its result is on disk.

    Trials of a stack whose model raised are tried again one by one, so that only the guilty are blamed.
    """
    first, started = groups[0][0], perf_counter()
    device = torch.device(first.device)
    _prepare(first, device)
    with float32_products(first.trial.precision):
        store = _features(first)
        stacks: list[Stacked] = []
        for group in groups:
            try:
                stacks.append(_set_up(run, group, store, device))
            except (DataError, StoreError):
                raise
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a model does is a result, not a crash
                yield from (_failed(run, job, error) for job in group)
        loaded, energy = perf_counter(), energy_counter(device)
        _train(run, stacks, store, first)
        used = energy_used(energy, energy_counter(device), wraps_at=energy_limit(device))
        said = _predict(stacks, store)
        clock = _Clock(stacks, started, loaded, perf_counter(), used)
        for stacked in stacks:
            if stacked.seat.crash is None:
                yield from _written(run, stacked, {role: sides[id(stacked)] for role, sides in said.items()}, clock)
                stacked.checkpoint.unlink(missing_ok=True)
    yield from _one_by_one(run, [stacked for stacked in stacks if stacked.seat.crash is not None])


def _prepare(job: Job, device: torch.device) -> None:
    """Threads, and repeatable arithmetic on a GPU; the CPU's is repeatable at a fixed number of threads."""
    torch.set_num_threads(job.threads)
    forget_peak()
    try:
        check_precision(job.trial.precision, device)
    except MilbenchError as error:
        raise DataError(str(error)) from error  # every trial of the run would fail alike: stop it
    if device.type == "cuda":
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        torch.cuda.reset_peak_memory_stats(device)


def _set_up(run: Run, group: Group, store: CohortFeatures, device: torch.device) -> Stacked:
    """The group's learner, at its start or where its checkpoint left it."""
    job = group[0]
    trials = tuple(sorted((*(job.trial for job in group), *(job.others if job.stacked else ())), key=lambda t: t.slot))
    split = load_split(run.split_file(job.trial.dataset), job.trial.split_sha256)
    data = fold_data(store.cohort.slides, split, trials, store.features, store.scalers)
    models = [build(trial, store.cohort.in_features, job.plugins) for trial in trials]
    learner = Learner(
        models,
        job.trial.recipe,
        data.sides["train"],
        data.sides["val"],
        seed=job.trial.seed,
        device=device,
        precision=job.trial.precision,
        cost=_cost(job, store.cohort.in_features) if store.step_bytes else None,
        budget_bytes=ceil(store.step_bytes * (1 - LEARNERS_SHARE)),  # never rounded to 0, which is no limit
    )
    stacked = Stacked(group, trials, data, Seat(learner, data.scaler), 0.0)
    load_checkpoint(learner, stacked.checkpoint, stacked.identity)
    return replace(stacked, resumed_seconds=learner.seconds)


def build(trial: Trial, in_features: int, plugins: tuple[Path, ...] = ()) -> MILModel:
    """The trial's model, its weights drawn from the trial's seed."""
    torch.manual_seed(trial.seed)
    return load_models(plugins)[trial.model](in_features, len(trial.tasks), **trial.hyperparameters)


def _train(run: Run, stacks: Sequence[Stacked], store: CohortFeatures, job: Job) -> None:
    """Train all stacks, writing a checkpoint of each now and then."""
    last = perf_counter()

    def checkpoint() -> None:
        nonlocal last
        if perf_counter() - last < job.checkpoint_seconds:
            return
        with writing(run.path):
            for stacked in stacks:
                if stacked.seat.crash is None:
                    save_checkpoint(stacked.seat.learner, stacked.checkpoint, stacked.identity)
        last = perf_counter()

    if stacks:
        slides = store.cohort.slides["slide_id"].tolist()
        train([s.seat for s in stacks], slides, store.features, seed=job.trial.seed, after_epoch=checkpoint)


# ---- results -------------------------------------------------------------------------------------


def _predict(stacks: Sequence[Stacked], store: CohortFeatures) -> dict[str, dict[int, Predictions]]:
    """What the chosen weights say, by role and stack; only now are test slides read."""
    said: dict[str, dict[int, Predictions]] = {}
    for role in ("val", "test"):
        sides, slides = [s.data.sides[role] for s in stacks], store.cohort.slides["slide_id"].tolist()
        each = predict_all([s.seat for s in stacks], sides, slides, store.features)
        said[role] = {id(s): seen for s, seen in zip(stacks, each, strict=True) if seen is not None}
    return said


class _Clock:
    """Shares out the time of a pass: its own work to each learner, the rest evenly; inside a stack all evenly."""

    def __init__(
        self, stacks: Sequence[Stacked], started: float, loaded: float, ended: float, joules: float | None
    ) -> None:
        own = sum(self._own(stacked) for stacked in stacks)
        self.n_trials = max(1, sum(len(stacked.trials) for stacked in stacks))
        self.load = (loaded - started) / self.n_trials
        self.rest = max(0.0, ended - loaded - own) / self.n_trials
        self.joules, self.trained = joules, max(ended - loaded, 1e-9)

    @staticmethod
    def _own(stacked: Stacked) -> float:
        return stacked.seat.learner.seconds - stacked.resumed_seconds

    def of(self, stacked: Stacked, inference: Predictions) -> Measured:
        """What one trial of the stack took."""
        learner, n = stacked.seat.learner, len(stacked.trials)
        train_seconds = learner.seconds / n + self.rest
        share = (self._own(stacked) / n + self.rest) / self.trained
        return Measured(
            load_seconds=self.load,
            train_seconds=train_seconds,
            wall_seconds=self.load + train_seconds,
            step_seconds=learner.step_seconds / n,
            inference_seconds=inference.seconds,
            energy_joules=None if self.joules is None else self.joules * share,
            stack=n,
            shortage=learner.shortage,
        )


def _written(run: Run, stacked: Stacked, said: dict[str, Predictions], clock: _Clock) -> Iterator[Status]:
    """Put each trial's result, or its failure, on disk."""
    learner, measured = stacked.seat.learner, clock.of(stacked, said["test"])
    n_slides = {role: len(table) for role, table in stacked.data.slides.items()}
    for job in stacked.group:
        number = stacked.trials.index(job.trial)
        member, trial = learner.members[number], job.trial
        if member.failure:
            yield _failed(run, job, MilbenchError(member.failure))
            continue
        model = learner.model_of(number)
        tables = [
            predictions_table(
                role, stacked.data.slides[role], trial.tasks, stacked.data.sides[role].labels(number),
                seen.probabilities[number],
            )
            for role, seen in said.items()
        ]  # fmt: skip
        info = trial_record(
            trial, model, member, measured, n_slides=n_slides, device=learner.device, threads=job.threads
        )
        weights = {name: tensor.cpu().numpy() for name, tensor in model.state_dict().items()}
        history = pd.DataFrame(member.history, columns=list(Epoch._fields))
        run.write_trial(trial.id, info, pd.concat(tables), history, weights if job.keep_weights else None)
        run.clear_failure(trial.key)
        yield Status(job, "done", measured.wall_seconds)


def _failed(run: Run, job: Job, error: BaseException) -> Status:
    run.write_failure(job.trial.key, failure_record(job.trial, error))
    return Status(job, "failed", 0.0, f"{type(error).__name__}: {error}")


def _one_by_one(run: Run, crashed: Sequence[Stacked]) -> Iterator[Status]:
    """Failures of trials whose model raised; those of a stack are first tried by themselves."""
    for stacked in crashed:
        if len(stacked.trials) == 1:
            (job,) = stacked.group
            yield _failed(run, job, stacked.seat.crash or MilbenchError("unknown"))
            continue
        for job in stacked.group:
            yield from compute(run, [(replace(job, stacked=False, others=()),)])


# ---- features ------------------------------------------------------------------------------------


class CohortFeatures(NamedTuple):
    """A cohort and its features, as this process holds them.

    Attributes
    ----------
    scalers : of folds, by mode and training slides.
    step_bytes : memory that training may use beside features; 0 = no limit for its steps.
    learner_bytes : the part of it that weights and optimisers of all trials of a pass may use.
    """

    cohort: Cohort
    features: FeatureStore
    step_bytes: int
    learner_bytes: int
    scalers: Scalers


STEP_SHARE = 0.5
"""Share of a worker's memory that training steps may use; the rest is for features."""

LEARNERS_SHARE = 0.3
"""Share of that for weights and what the optimiser keeps, of all trials of a pass; the rest is for what a step keeps."""

COPIES_OF_WEIGHTS = 5
"""Weights, gradients, two moments, the best epoch's weights."""

SMALL_BAG = 2000
"""Patches up to which a step's memory is not worth estimating, unless a budget was stated."""


_held: dict[tuple[object, ...], CohortFeatures] = {}
"""The cohort that this process works on; one, since its features may fill all memory that there is."""


def _features(job: Job) -> CohortFeatures:
    """The job's cohort with a feature store that serves all passes of this process."""
    key = (job.source, job.trial.fingerprint, job.device, job.memory_bytes, job.workers, job.gpu_workers)
    if key not in _held:
        _held.clear()  # first, so that its memory counts as free
        gc.collect()
        if torch.device(job.device).type == "cuda":
            torch.cuda.empty_cache()  # what torch keeps for itself does not count as free
        _held[key] = _read(*key)
    return _held[key]


def _read(
    source: CohortSource, fingerprint: str, device: str, memory_bytes: int, workers: int, gpu_workers: int
) -> CohortFeatures:
    cohort = source.load()
    if cohort.fingerprint != fingerprint:
        raise DataError(CHANGED.format(f"cohort '{cohort.name}'"))
    residency, step_bytes = residency_of(cohort, device, memory_bytes, workers=workers, gpu_workers=gpu_workers)
    tune_allocator(from_disk=not residency.whole_cohort_fits)
    store = FeatureStore(
        lambda slide: cohort.load(slide).features,
        device=torch.device(device),
        device_bytes=residency.device_bytes,
        host_bytes=residency.host_bytes,
    )
    place = torch.device(device)
    room = step_bytes or _training_bytes(place, memory_bytes, _sharing(place, workers, gpu_workers))
    return CohortFeatures(cohort, store, step_bytes, int(room * LEARNERS_SHARE), {})


def residency_of(
    cohort: Cohort, device: str, memory_bytes: int, *, workers: int, gpu_workers: int
) -> tuple[Residency, int]:
    """Where the cohort's features stay in each worker, and what a training step may use; 0 = no limit."""
    place = torch.device(device)
    step_bytes = _step_bytes(cohort, place, memory_bytes, _sharing(place, workers, gpu_workers))
    reserved = step_bytes if memory_bytes or place.type == "cuda" else 0  # else the share for features is set apart
    return choose_residency(
        feature_bytes(cohort),
        device=place,
        workers=workers,
        memory_bytes=memory_bytes,
        step_bytes=reserved,
        gpu_workers=gpu_workers,
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
    """Of the GPU's memory, or the stated or the machine's, which so many workers share."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * STEP_SHARE / sharing)
    of_all = memory_bytes or psutil.virtual_memory().total
    return max(1, int((of_all / sharing - PROCESS_BYTES) * STEP_SHARE))


def _learner_bytes(group: Group, in_features: int) -> int:
    """Of all members of a stack; 0 where the model cannot be made, which will fail where it is recorded."""
    job = group[0]
    n, arguments = len(group) + len(job.others if job.stacked else ()), canonical_json(dict(job.trial.hyperparameters))
    try:
        with torch.random.fork_rng(devices=[]):
            one = _weight_bytes(job.trial.model, in_features, len(job.trial.tasks), arguments, job.plugins)
    except (Exception, SystemExit):  # noqa: BLE001 - a model's own code
        return 0
    return n * COPIES_OF_WEIGHTS * one


@lru_cache(maxsize=32)
def _weight_bytes(model: str, in_features: int, n_tasks: int, hyperparameters: str, plugins: tuple[Path, ...]) -> int:
    built = load_models(plugins)[model](in_features, n_tasks, **json.loads(hyperparameters))
    return sum(p.nbytes for p in built.parameters())


@lru_cache(maxsize=32)
def _activation_cost(
    model: str, in_features: int, n_tasks: int, hyperparameters: str, plugins: tuple[Path, ...]
) -> ActivationCost:
    built = load_models(plugins)[model](in_features, n_tasks, **json.loads(hyperparameters))
    return activation_cost(built)


def _cost(job: Job, in_features: int) -> ActivationCost | None:
    """Memory of a step of the job's model; None where it can't be told, and then no limit holds."""
    trial = job.trial
    arguments = canonical_json(dict(trial.hyperparameters))
    try:
        with torch.random.fork_rng(devices=[]):
            cost: ActivationCost = _activation_cost(trial.model, in_features, len(trial.tasks), arguments, job.plugins)
            return cost
    except Exception:  # noqa: BLE001 - a model that raises will do so in training, where it is recorded
        return None
