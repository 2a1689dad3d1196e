"""What one process does with one pass: claim its trials, load, train them together, predict, write.

The few lines that join trainer and store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from time import perf_counter

import pandas as pd
import torch

import milbench
from milbench.engines.checkpoint import load_checkpoint, save_checkpoint
from milbench.engines.cost import energy_counter, energy_limit, energy_used
from milbench.engines.model_memory import learner_bytes, step_cost
from milbench.engines.record import Measured, failure_record, predictions_table, trial_record
from milbench.errors import DataError, MilbenchError, StoreError
from milbench.machine.peak_memory import forget_peak
from milbench.models import MILModel
from milbench.registry import load_models
from milbench.serving.cohort_features import LEARNERS_SHARE, CohortFeatures, features_of, forget_features
from milbench.serving.fold_data import FoldData, fold_data, load_split
from milbench.store.files import writing
from milbench.store.run import Run
from milbench.training.evaluation import Predictions
from milbench.training.learner import Learner
from milbench.training.precision import check_precision, float32_products
from milbench.training.selection import Epoch
from milbench.training.trainer import predict_all, train
from milbench.trials.job import Group, Job, Pass, Status, groups_of
from milbench.trials.plan import Trial, canonical_json

CHECKPOINTS = "checkpoints"


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
        forget_features()  # files may be mended and models, which may have written into what is held
        yield from (Status(job, "refused", 0.0, str(error)) for job in left.values())
    except Exception as error:  # noqa: BLE001 - memory that runs out between two models' work, for instance
        yield from (_failed(run, job, error) for job in left.values())


def _in_memory_together(groups: Sequence[Group]) -> Iterator[list[Group]]:
    """Groups whose weights, gradients, moments and best weights fit into memory at once: each such list reads every bag."""
    first = groups[0][0]
    _prepare(first, torch.device(first.device))
    store = features_of(first)
    room = left = store.learner_bytes
    taken: list[Group] = []
    for group in groups:
        needed = learner_bytes(group, store.cohort.in_features)
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
    learner: Learner
    resumed_seconds: float

    @property
    def checkpoint(self) -> Path:
        """Where its checkpoint lies, named after all that decides what it would hold."""
        return self.group[0].run / CHECKPOINTS / f"{self.identity[:32]}.safetensors"

    @property
    def identity(self) -> str:
        """Of the trials, of the code as far as it is known, and of the machine's settings that decide the last digits."""
        job = self.group[0]
        decides = [torch.__version__, milbench.__version__, torch.device(job.device).type, job.threads]
        decides += [trial.source_sha256 for trial in self.trials]
        return hashlib.sha256(canonical_json([*(trial.key for trial in self.trials), decides]).encode()).hexdigest()


def compute(run: Run, groups: Sequence[Group]) -> Iterator[Status]:
    """Train the groups in one pass over the data; each job's status when its result is on disk.

    Trials of a stack whose model raised are tried again one by one, so that only the guilty are blamed.
    """
    first, started = groups[0][0], perf_counter()
    device = torch.device(first.device)
    _prepare(first, device)
    with float32_products(first.trial.precision):
        store = features_of(first)
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
            if stacked.learner.error is None:
                yield from _written(run, stacked, {role: sides[id(stacked)] for role, sides in said.items()}, clock)
                stacked.checkpoint.unlink(missing_ok=True)
    yield from _one_by_one(run, [stacked for stacked in stacks if stacked.learner.error is not None])


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
        cost=step_cost(job, store.cohort.in_features) if store.step_bytes else None,
        budget_bytes=ceil(store.step_bytes * (1 - LEARNERS_SHARE)),  # never rounded to 0, which is no limit
        scaler=data.scaler,
    )
    stacked = Stacked(group, trials, data, learner, 0.0)
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
                if stacked.learner.error is None:
                    save_checkpoint(stacked.learner, stacked.checkpoint, stacked.identity)
        last = perf_counter()

    if stacks:
        slides = store.cohort.slides["slide_id"].tolist()
        train([s.learner for s in stacks], slides, store.features, seed=job.trial.seed, after_epoch=checkpoint)


# ---- results -------------------------------------------------------------------------------------


def _predict(stacks: Sequence[Stacked], store: CohortFeatures) -> dict[str, dict[int, Predictions]]:
    """What the chosen weights say, by role and stack; only now are test slides read."""
    said: dict[str, dict[int, Predictions]] = {}
    for role in ("val", "test"):
        sides, slides = [s.data.sides[role] for s in stacks], store.cohort.slides["slide_id"].tolist()
        each = predict_all([s.learner for s in stacks], sides, slides, store.features)
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
        return stacked.learner.seconds - stacked.resumed_seconds

    def of(self, stacked: Stacked, inference: Predictions) -> Measured:
        """What one trial of the stack took."""
        learner, n = stacked.learner, len(stacked.trials)
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
            shortage=learner.step_memory.shortage,
        )


def _written(run: Run, stacked: Stacked, said: dict[str, Predictions], clock: _Clock) -> Iterator[Status]:
    """Put each trial's result, or its failure, on disk."""
    learner, measured = stacked.learner, clock.of(stacked, said["test"])
    n_slides = {role: len(table) for role, table in stacked.data.slides.items()}
    for job in stacked.group:
        number = stacked.trials.index(job.trial)
        member, trial = learner.progress[number], job.trial
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
            yield _failed(run, job, stacked.learner.error or MilbenchError("unknown"))
            continue
        for job in stacked.group:
            yield from compute(run, [(replace(job, stacked=False, others=()),)])
